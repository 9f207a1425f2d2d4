"""Which face is nearest at each pixel centre, and the gradient of where on it.

Twin: `relight.render.reference_mesh` and `relight.render.fragments`.

Homogeneous rasterisation (Olano and Greer 1997): with P0, P1, P2 the corners in homogeneous pixel coordinates
(pixel x times depth, pixel y times depth, depth) and r = (x, y, 1) a pixel centre, e_i = (P_j x P_k) . r is the edge
function of the edge facing corner i; barycentrics are e_i / sum e, and 1 / depth is sum e / det.  Nothing is divided
before the very end, so faces that reach behind the camera need no clipping.

All in float64 and without contraction: the edge function of two faces at their common edge differs by its sign only, to
the last bit, and with a tie rule every pixel centre belongs to one of them.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from relight.render.kernels.bin import list_starts
from relight.render.kernels.depth_row import ROW, draw_row

TILE = 16
PIXELS = TILE * TILE
COEFFICIENTS = 10
"""Of each face: three edge functions (x, y, 1), positive inside, and 1 / |det|."""
_TINY = 1e-300
_FEW = 3
"""Faces whose box spans at most this many tiles are not tested against each of them."""


@njit(parallel=True, cache=True)
def project(vertices, pose, lens, workers, homogeneous):
    """(V, 3) world positions to homogeneous pixel coordinates.  pose: camera from world, (3, 4).  lens: fx, fy, cx, cy.

    Written out, so that equal positions give equal bits wherever they are stored.
    """
    n = vertices.shape[0]
    for worker in prange(workers):
        for i in range(n * worker // workers, n * (worker + 1) // workers):
            a, b, c = np.float64(vertices[i, 0]), np.float64(vertices[i, 1]), np.float64(vertices[i, 2])
            x = pose[0, 0] * a + pose[0, 1] * b + pose[0, 2] * c + pose[0, 3]
            y = pose[1, 0] * a + pose[1, 1] * b + pose[1, 2] * c + pose[1, 3]
            z = pose[2, 0] * a + pose[2, 1] * b + pose[2, 2] * c + pose[2, 3]
            homogeneous[i, 0] = lens[0] * x + lens[2] * z
            homogeneous[i, 1] = lens[1] * y + lens[3] * z
            homogeneous[i, 2] = z


@njit(forceinline=True)
def edge_function(points, a, b):
    """(P_a x P_b): coefficients of x, y and 1.  Swapping a and b negates them exactly."""
    return (
        points[a, 1] * points[b, 2] - points[a, 2] * points[b, 1],
        points[a, 2] * points[b, 0] - points[a, 0] * points[b, 2],
        points[a, 0] * points[b, 1] - points[a, 1] * points[b, 0],
    )


@njit(forceinline=True)
def _bounds(points, face, near):
    """Box of the part of a face beyond `near`: x0, y0, x1, y1 in pixels; inverted if there is none."""
    x0 = y0 = np.inf
    x1 = y1 = -np.inf
    for i in range(3):
        a = face[i]
        w = points[a, 2]
        if w > near:
            x, y = points[a, 0] / w, points[a, 1] / w
            x0, y0, x1, y1 = min(x0, x), min(y0, y), max(x1, x), max(y1, y)
        b = face[(i + 1) % 3]
        if (w > near) != (points[b, 2] > near):
            t = (near - w) / (points[b, 2] - w)
            x = (points[a, 0] + t * (points[b, 0] - points[a, 0])) / near
            y = (points[a, 1] + t * (points[b, 1] - points[a, 1])) / near
            x0, y0, x1, y1 = min(x0, x), min(y0, y), max(x1, x), max(y1, y)
    return x0, y0, x1, y1


@njit(forceinline=True)
def _first_pixel(low, size):
    """First pixel whose centre is at or above `low`; a hair more generous than exact."""
    p = np.ceil(low - 0.5 - 1e-7 * (1.0 + abs(low)))
    return 0 if p <= 0 else (size if p >= size else int(p))


@njit(forceinline=True)
def _last_pixel(high, size):
    p = np.floor(high - 0.5 + 1e-7 * (1.0 + abs(high)))
    return -1 if p < 0 else (size - 1 if p >= size - 1 else int(p))


@njit(parallel=True, cache=True)
def setup(points, faces, width, height, near, workers, coefficients, boxes):
    """Fill coefficients (F, COEFFICIENTS) and boxes (F, 4): first and last pixel column, row; empty: column 1 > 2."""
    n = faces.shape[0]
    for worker in prange(workers):
        for f in range(n * worker // workers, n * (worker + 1) // workers):
            face = faces[f]
            boxes[f, 0] = 1
            boxes[f, 1] = 0
            x0, y0, x1, y1 = _bounds(points, face, near)
            if not (x0 <= x1 and y0 <= y1):  # also where a coordinate is NaN
                continue
            left, right = _first_pixel(x0, width), _last_pixel(x1, width)
            top, bottom = _first_pixel(y0, height), _last_pixel(y1, height)
            if left > right or top > bottom:
                continue
            determinant = 0.0
            for i in range(3):
                a, b, c = edge_function(points, face[(i + 1) % 3], face[(i + 2) % 3])
                coefficients[f, 3 * i] = a
                coefficients[f, 3 * i + 1] = b
                coefficients[f, 3 * i + 2] = c
                if i == 0:
                    p = points[face[0]]
                    determinant = a * p[0] + b * p[1] + c * p[2]
            if not (abs(determinant) > 0.0 and abs(determinant) < np.inf):
                continue
            if determinant < 0.0:
                for k in range(9):
                    coefficients[f, k] = -coefficients[f, k]
            coefficients[f, 9] = 1.0 / abs(determinant)
            boxes[f, 0] = left
            boxes[f, 1] = right
            boxes[f, 2] = top
            boxes[f, 3] = bottom


@njit(forceinline=True)
def _misses(coefficient, column, row):
    """True if one edge has the whole tile on its outside."""
    x0, y0 = column * TILE + 0.5, row * TILE + 0.5
    for i in range(3):
        a, b = coefficient[3 * i], coefficient[3 * i + 1]
        x = x0 + TILE - 1 if a > 0 else x0
        y = y0 + TILE - 1 if b > 0 else y0
        if a * x + b * y + coefficient[3 * i + 2] < 0.0:
            return True
    return False


@njit(forceinline=True)
def _append(f, coefficients, boxes, tiles_x, counts, hits, write):
    """Add face f to the lists (or only the lengths) of the tiles it touches."""
    if boxes[f, 0] > boxes[f, 1]:
        return
    first, last = boxes[f, 0] // TILE, boxes[f, 1] // TILE
    top, bottom = boxes[f, 2] // TILE, boxes[f, 3] // TILE
    many = (last - first + 1) * (bottom - top + 1) > _FEW
    for row in range(top, bottom + 1):
        for column in range(first, last + 1):
            if many and _misses(coefficients[f], column, row):
                continue
            tile = row * tiles_x + column
            if write:
                hits[counts[tile]] = f
            counts[tile] += 1


@njit(parallel=True, cache=True)
def bin_tiles(coefficients, boxes, tiles_x, tiles_y, workers):
    """hits (K,) int32: faces tile by tile, in each tile by index; tile_start (tiles + 1,)."""
    n = boxes.shape[0]
    tiles = tiles_x * tiles_y
    counts = np.zeros((workers, tiles), np.int64)
    nothing = np.empty(0, np.int32)
    for worker in prange(workers):
        mine = counts[worker]
        for f in range(n * worker // workers, n * (worker + 1) // workers):
            _append(f, coefficients, boxes, tiles_x, mine, nothing, False)
    tile_start = list_starts(counts)
    hits = np.empty(tile_start[-1], np.int32)
    for worker in prange(workers):
        mine = counts[worker]
        for f in range(n * worker // workers, n * (worker + 1) // workers):
            _append(f, coefficients, boxes, tiles_x, mine, hits, True)
    return hits, tile_start


@njit(forceinline=True)
def _threshold(a, b):
    """Least value of an edge function inside.  Of two faces with opposite coefficients, one owns the edge itself."""
    return 0.0 if a > 0.0 or (a == 0.0 and b > 0.0) else _TINY


@njit(forceinline=True)
def _draw(f, coefficients, boxes, left, top, bottom, nearest, farthest, owner):
    """Put face f into the buffers of a tile.  nearest: 1 / depth of what is seen so far; farthest: not drawn above."""
    a0, b0, c0 = coefficients[f, 0], coefficients[f, 1], coefficients[f, 2]
    a1, b1, c1 = coefficients[f, 3], coefficients[f, 4], coefficients[f, 5]
    a2, b2, c2 = coefficients[f, 6], coefficients[f, 7], coefficients[f, 8]
    scale = coefficients[f, 9]
    least0, least1, least2 = _threshold(a0, b0), _threshold(a1, b1), _threshold(a2, b2)
    first = max(boxes[f, 0] - left, 0) // ROW
    last = min(boxes[f, 1] - left, TILE - 1) // ROW
    for y in range(max(boxes[f, 2], top), min(boxes[f, 3], bottom) + 1):
        cy = y + 0.5
        edge0 = (a0, b0 * cy + c0, least0)
        edge1 = (a1, b1 * cy + c1, least1)
        edge2 = (a2, b2 * cy + c2, least2)
        for k in range(first, last + 1):
            at = (y - top) * TILE + k * ROW
            draw_row(nearest, farthest, owner, at, f, left + k * ROW + 0.5, edge0, edge1, edge2, scale)


@njit(parallel=True, cache=True)
def forward(
    coefficients, boxes, hits, tile_start, tiles_x, width, height, near, behind, workers,
    face, barycentrics, depth, barycentrics_dx, barycentrics_dy,
):  # fmt: skip
    """Fill the five maps of `Fragments`.  behind: (H, W) depths that were already peeled off, or (0, 0)."""
    tiles = tile_start.size - 1
    peel = behind.size > 0
    for worker in prange(workers):
        nearest = np.empty(PIXELS, np.float64)
        farthest = np.empty(PIXELS, np.float64)
        owner = np.empty(PIXELS, np.int32)
        # Tiles are dealt like cards: neighbours cost about the same, so every worker gets the same load.
        for tile in range(worker, tiles, workers):
            left, top = (tile % tiles_x) * TILE, (tile // tiles_x) * TILE
            right, bottom = min(left + TILE, width) - 1, min(top + TILE, height) - 1
            nearest[:] = 0.0
            owner[:] = -1
            farthest[:] = 1.0 / near
            if peel:
                for y in range(top, bottom + 1):
                    for x in range(left, right + 1):
                        if behind[y, x] > near:
                            # A hair behind, or rounding would show the same face again.
                            farthest[(y - top) * TILE + x - left] = (1.0 - 1e-6) / behind[y, x]
            for h in range(tile_start[tile], tile_start[tile + 1]):
                _draw(hits[h], coefficients, boxes, left, top, bottom, nearest, farthest, owner)
            for y in range(top, bottom + 1):
                for x in range(left, right + 1):
                    f = owner[(y - top) * TILE + x - left]
                    face[y, x] = f
                    if f < 0:
                        depth[y, x] = 0.0
                        for i in range(3):
                            barycentrics[y, x, i] = 0.0
                            barycentrics_dx[y, x, i] = 0.0
                            barycentrics_dy[y, x, i] = 0.0
                        continue
                    c = coefficients[f]
                    inverse_sum = 1.0 / (nearest[(y - top) * TILE + x - left] / c[9])
                    dx = (c[0] + c[3] + c[6]) * inverse_sum
                    dy = (c[1] + c[4] + c[7]) * inverse_sum
                    depth[y, x] = inverse_sum / c[9]
                    for i in range(3):
                        a, b = c[3 * i], c[3 * i + 1]
                        e = (a * (x + 0.5) + (b * (y + 0.5) + c[3 * i + 2])) * inverse_sum
                        barycentrics[y, x, i] = e
                        barycentrics_dx[y, x, i] = a * inverse_sum - e * dx
                        barycentrics_dy[y, x, i] = b * inverse_sum - e * dy


@njit(cache=True)
def pixels_by_face(face, count):
    """Pixels of each face: order (visible pixels,) int32, start (count + 1,) int64.  In a face, by pixel index."""
    start = np.zeros(count + 1, np.int64)
    for p in range(face.size):
        if face[p] >= 0:
            start[face[p] + 1] += 1
    for f in range(count):
        start[f + 1] += start[f]
    order = np.empty(start[count], np.int32)
    place = start[:-1].copy()
    for p in range(face.size):
        f = face[p]
        if f >= 0:
            order[place[f]] = p
            place[f] += 1
    return order, start


@njit(parallel=True, cache=True)
def backward(points, faces, order, start, barycentrics, depth, barycentrics_gradient, depth_gradient, workers, corners):
    """Fill corners (F, 3, 3) float64: dL/d(homogeneous pixel coordinates) of each face's corners.

    With g = dL/d(barycentrics) and h = dL/d(depth): dL/dP_i = b_i sum_j (g . b + h z - g_j) n_j / det; n_j are the
    edge functions; it follows from differentiating sum b_i P_i = z r under sum b_i = 1.  Pixels of a face share n and
    det, so what is summed over them is the matrix b_i (...)_j.  Maps are flattened to (pixels, ...).
    """
    n = faces.shape[0]
    for worker in prange(workers):
        outer = np.empty((3, 3), np.float64)
        for f in range(worker, n, workers):
            for i in range(3):
                for k in range(3):
                    corners[f, i, k] = 0.0
            if start[f] == start[f + 1]:
                continue
            outer[:] = 0.0
            for h in range(start[f], start[f + 1]):
                p = order[h]
                common = depth_gradient[p] * depth[p]
                for i in range(3):
                    common += barycentrics_gradient[p, i] * barycentrics[p, i]
                for j in range(3):
                    c = common - barycentrics_gradient[p, j]
                    for i in range(3):
                        outer[i, j] += barycentrics[p, i] * c
            face = faces[f]
            a, b, c = edge_function(points, face[1], face[2])
            first = points[face[0]]
            scale = 1.0 / (a * first[0] + b * first[1] + c * first[2])
            for j in range(3):
                a, b, c = edge_function(points, face[(j + 1) % 3], face[(j + 2) % 3])
                for i in range(3):
                    weight = outer[i, j] * scale
                    corners[f, i, 0] += weight * a
                    corners[f, i, 1] += weight * b
                    corners[f, i, 2] += weight * c


@njit(cache=True)
def unproject_gradient(gradient, vertices, pose, lens, out, pose_out):
    """dL/d(homogeneous) (V, 3) to dL/d(world positions) and dL/d(pose) (3, 4)."""
    for i in range(vertices.shape[0]):
        if gradient[i, 0] == 0.0 and gradient[i, 1] == 0.0 and gradient[i, 2] == 0.0:
            # Nothing of it is seen; it may not even be finite.
            out[i, 0] = out[i, 1] = out[i, 2] = 0.0
            continue
        gx = lens[0] * gradient[i, 0]
        gy = lens[1] * gradient[i, 1]
        gz = lens[2] * gradient[i, 0] + lens[3] * gradient[i, 1] + gradient[i, 2]
        for k in range(3):
            out[i, k] = pose[0, k] * gx + pose[1, k] * gy + pose[2, k] * gz
            pose_out[0, k] += gx * vertices[i, k]
            pose_out[1, k] += gy * vertices[i, k]
            pose_out[2, k] += gz * vertices[i, k]
        pose_out[0, 3] += gx
        pose_out[1, 3] += gy
        pose_out[2, 3] += gz
