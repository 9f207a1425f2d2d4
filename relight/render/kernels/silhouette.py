"""Where silhouettes pass between neighbouring pixel centres.

Twin: `relight.render.reference_mesh.find_crossings`.

From the nearer pixel of a pair, walk over the mesh along the segment to the other pixel, face by face, until an edge is
left that has no neighbour or whose neighbour lies on the same side of it on the screen: that edge is the silhouette.
Laine et al. (2020) look at the edges of the nearer pixel's own face only, and so miss most silhouettes of meshes whose
triangles are smaller than a pixel.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from relight.render.kernels.triangles import edge_function

MAX_STEPS = 64
"""Faces walked over between two pixel centres before giving up."""


@njit(forceinline=True)
def _walk(points, faces, opposite, start, x0, y0, x1, y1):
    """Corner (3 face + i) facing the silhouette edge that the segment crosses, or -1; and the last face walked over."""
    f = start
    entry = -1
    for _ in range(MAX_STEPS):
        face = faces[f]
        a, b, c = edge_function(points, face[1], face[2])
        p = points[face[0]]
        determinant = a * p[0] + b * p[1] + c * p[2]
        sign = 1.0 if determinant > 0.0 else -1.0
        leaves = -1
        soonest = np.inf
        ea = eb = ec = 0.0
        for i in range(3):
            if i == entry:
                continue
            a, b, c = edge_function(points, face[(i + 1) % 3], face[(i + 2) % 3])
            at0 = sign * (a * x0 + b * y0 + c)
            at1 = sign * (a * x1 + b * y1 + c)
            if at1 < 0.0:
                t = at0 / (at0 - at1) if at0 > at1 else 0.0
                if t < soonest:
                    soonest, leaves = t, i
                    ea, eb, ec = sign * a, sign * b, sign * c
        if leaves < 0:
            return -1, f
        corner = opposite[f, leaves]
        if corner < 0:
            return 3 * f + leaves, f
        q = points[faces[corner // 3, corner % 3]]
        if ea * q[0] + eb * q[1] + ec * q[2] >= 0.0:
            return 3 * f + leaves, f
        f = corner // 3
        entry = corner % 3
    return -1, f


@njit(forceinline=True)
def _pair(points, faces, opposite, face, depth, y, x, down):
    """Silhouette between pixel (y, x) and its right or lower neighbour: corner, and whether that neighbour has it."""
    ny, nx = (y + 1, x) if down else (y, x + 1)
    f, g = face[y, x], face[ny, nx]
    if f == g:
        return -1, False
    swap = f < 0 or (g >= 0 and depth[ny, nx] < depth[y, x])
    x0, y0, x1, y1 = x + 0.5, y + 0.5, nx + 0.5, ny + 0.5
    if swap:
        x0, y0, x1, y1 = x1, y1, x0, y0
        f, g = g, f
    corner, last = _walk(points, faces, opposite, f, x0, y0, x1, y1)
    if corner < 0 and g >= 0 and last != g:
        # The farther pixel's surface passes in front of the nearer one's where both could be seen.
        swap = not swap
        x0, y0, x1, y1 = x1, y1, x0, y0
        corner, last = _walk(points, faces, opposite, g, x0, y0, x1, y1)
    if corner < 0:
        return -1, False
    owner = faces[corner // 3]
    i = corner % 3
    a, b, c = edge_function(points, owner[(i + 1) % 3], owner[(i + 2) % 3])
    # Each edge blends across its steeper direction only, or its coverage would be counted twice.
    if (abs(b) <= abs(a)) if down else (abs(a) < abs(b)):
        return -1, False
    e0, e1 = a * x0 + b * y0 + c, a * x1 + b * y1 + c
    if (e0 > 0.0) == (e1 > 0.0):
        return -1, False
    return corner, swap


@njit(parallel=True, cache=True)
def find_crossings(points, faces, opposite, face, depth, workers):
    """Pixel pairs that a silhouette separates, in pixel order.

    Returns near, far (K,) int64 flat pixel indices, and edge (K, 2) int64 vertices.
    """
    height, width = face.shape
    corners = np.empty((height, width, 2), np.int64)
    swapped = np.empty((height, width, 2), np.bool_)
    counts = np.zeros(height + 1, np.int64)
    for worker in prange(workers):
        for y in range(worker, height, workers):
            for x in range(width):
                for down in range(2):
                    corners[y, x, down] = -1
                    if (y + 1 < height) if down else (x + 1 < width):
                        corner, swap = _pair(points, faces, opposite, face, depth, y, x, down == 1)
                        corners[y, x, down] = corner
                        swapped[y, x, down] = swap
                        counts[y + 1] += corner >= 0
    for y in range(height):
        counts[y + 1] += counts[y]
    near = np.empty(counts[height], np.int64)
    far = np.empty(counts[height], np.int64)
    edge = np.empty((counts[height], 2), np.int64)
    for worker in prange(workers):
        for y in range(worker, height, workers):
            k = counts[y]
            for x in range(width):
                for down in range(2):
                    corner = corners[y, x, down]
                    if corner < 0:
                        continue
                    here = y * width + x
                    other = here + (width if down else 1)
                    near[k], far[k] = (other, here) if swapped[y, x, down] else (here, other)
                    edge[k, 0] = faces[corner // 3, (corner % 3 + 1) % 3]
                    edge[k, 1] = faces[corner // 3, (corner % 3 + 2) % 3]
                    k += 1
    return near, far, edge
