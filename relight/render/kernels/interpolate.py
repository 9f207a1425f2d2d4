"""Attributes of corners blended at pixels, and the gradient of that.

Twin: `relight.render.fragments.interpolate`.  Gradients are summed face by face over its pixels, then vertex by vertex
over its corners, always in the same order: no atomics, and the same bits for any number of workers.
"""

from __future__ import annotations

from numba import njit, prange


@njit(parallel=True, cache=True)
def forward(attributes, faces, face, weights, workers, out):
    """attributes: (V, C).  face: (P,).  weights: (P, 3).  Fills out (P, C); 0 where face < 0."""
    pixels, channels = out.shape
    for worker in prange(workers):
        for p in range(pixels * worker // workers, pixels * (worker + 1) // workers):
            f = face[p]
            if f < 0:
                for c in range(channels):
                    out[p, c] = 0
                continue
            v0, v1, v2 = faces[f, 0], faces[f, 1], faces[f, 2]
            w0, w1, w2 = weights[p, 0], weights[p, 1], weights[p, 2]
            for c in range(channels):
                out[p, c] = w0 * attributes[v0, c] + w1 * attributes[v1, c] + w2 * attributes[v2, c]


@njit(parallel=True, cache=True)
def weights_backward(attributes, faces, face, gradient, workers, out):
    """dL/d(weights): out (P, 3)."""
    pixels, channels = gradient.shape
    for worker in prange(workers):
        for p in range(pixels * worker // workers, pixels * (worker + 1) // workers):
            f = face[p]
            for i in range(3):
                total = 0.0
                if f >= 0:
                    for c in range(channels):
                        total += gradient[p, c] * attributes[faces[f, i], c]
                out[p, i] = total


@njit(parallel=True, cache=True)
def corners_backward(order, start, weights, gradient, workers, corners):
    """dL/d(attributes of each corner): corners (F, 3, C); order, start from `triangles.pixels_by_face`."""
    n = start.size - 1
    channels = gradient.shape[1]
    for worker in prange(workers):
        for f in range(worker, n, workers):
            for i in range(3):
                for c in range(channels):
                    corners[f, i, c] = 0.0
            for h in range(start[f], start[f + 1]):
                p = order[h]
                for i in range(3):
                    w = weights[p, i]
                    for c in range(channels):
                        corners[f, i, c] += w * gradient[p, c]


@njit(parallel=True, cache=True)
def sum_corners(faces, start, corners, workers, out):
    """Add corners (F, 3, C) of faces that have pixels into out (V, C); workers share out the channels."""
    n, channels = faces.shape[0], out.shape[1]
    for worker in prange(workers):
        first, last = channels * worker // workers, channels * (worker + 1) // workers
        if first == last:
            continue
        for f in range(n):
            if start[f] == start[f + 1]:
                continue
            for i in range(3):
                for c in range(first, last):
                    out[faces[f, i], c] += corners[f, i, c]
