"""Blend sorted Gaussians into 16x16 tiles, and the gradient of that.

Twin: `relight.render.reference`.  One vector is one pixel row of a tile.  Images are planar and padded to whole tiles:
(C, tiles_y * 16, tiles_x * 16) with C a multiple of 4, flattened.

Per Gaussian record (RECORD float32 values):
    0, 1    screen mean, pixels
    2       opacity
    3       half height of the box where alpha >= ALPHA_MIN, pixels
    4 .. 6  ellipsoid: Cholesky factor l of half the conic, e = (l4 dx + l5 dy)^2 + (l6 dy)^2, d = pixel - mean
    7, 8    ellipsoid: correlation r of the screen covariance, sqrt(1 - r^2)
    4 .. 9  surfel: (u, v) = (s4 dx + s5 dy, s6 dx + s7 dy) / (1 + s8 dx + s9 dy)
    10      depth
    11      half width of the box, pixels; 0 if not drawn
The Cholesky form cannot turn negative, which the usual a dx^2 + 2 b dx dy + c dy^2 does for needles in float32.

Its gradient row has GRADIENT values: d(mean x, y), |d mean| (x, y) summed per pixel, d(opacity), d(shape) (6), padding,
then d(features).  d(shape) of an ellipsoid is that of the conic (xx, xy, yy), of a surfel that of its six numbers.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from relight.render.kernels.simd import (
    LANES,
    absolute,
    exp_negative,
    fma,
    lanes,
    largest,
    load,
    minimum,
    splat,
    store,
    total,
    where_less,
)
from relight.render.protocol import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN

TILE = LANES
PIXELS = TILE * TILE
RECORD = 16
GRADIENT = 12
CHECK_EVERY = 8
"""Hits between two looks at whether a tile is already opaque."""

_ALPHA_MIN = np.float32(ALPHA_MIN)
_ALPHA_MAX = np.float32(ALPHA_MAX)
_T_MIN = np.float32(TRANSMITTANCE_MIN)
_0 = np.float32(0.0)
_HALF = np.float32(0.5)
_1 = np.float32(1.0)
_2 = np.float32(2.0)


@njit(forceinline=True)
def _exponent(records, r, surfel, dx, dy):
    """e in alpha = opacity * exp(-e), per pixel of a row; dx is a vector, dy a scalar."""
    if surfel:
        inverse = splat(_1) / fma(splat(records[r + 8]), dx, splat(_1 + records[r + 9] * dy))
        u = fma(splat(records[r + 4]), dx, splat(records[r + 5] * dy)) * inverse
        v = fma(splat(records[r + 6]), dx, splat(records[r + 7] * dy)) * inverse
        disc = fma(dx, dx, splat(dy * dy))
        return minimum(fma(u, u, v * v) * _HALF, disc)
    across = fma(splat(records[r + 4]), dx, splat(records[r + 5] * dy))
    along = records[r + 6] * dy
    return fma(across, across, splat(along * along))


@njit(forceinline=True)
def _alpha(records, r, surfel, dx, dy):
    """alpha per pixel of a row before clamping at ALPHA_MAX; 0 where below ALPHA_MIN."""
    a = exp_negative(_exponent(records, r, surfel, dx, dy)) * records[r + 2]
    return where_less(a, splat(_ALPHA_MIN), splat(_0), a)


@njit(forceinline=True)
def _rows(records, r, top):
    """First and last row of the tile whose pixel centres can reach ALPHA_MIN; empty if first > last."""
    low = records[r + 1] - records[r + 3] - _HALF - top
    high = records[r + 1] + records[r + 3] - _HALF - top
    first = 0 if low <= _0 else (TILE if low > np.float32(TILE) else int(np.ceil(low)))
    last = TILE - 1 if high >= np.float32(TILE - 1) else (-1 if high < _0 else int(np.floor(high)))
    return first, last


@njit(forceinline=True)
def _is_opaque(transmittance):
    """True when less than TRANSMITTANCE_MIN passes at every pixel of the tile."""
    worst = load(transmittance, 0)
    for row in range(1, TILE):
        t = load(transmittance, row * TILE)
        worst = where_less(worst, t, t, worst)
    return largest(worst) < _T_MIN


@njit(parallel=True, cache=True, fastmath=False)
def forward(
    records, features, channels, surfel, hits, tile_start, tiles_x, tiles_y, workers, image, final, median, used
):
    """Fill image (C planes), final transmittance, median depth (planes) and `used` (hits blended per tile).

    records: (N, RECORD), features: (N, channels), both flattened.  hits: (H,) Gaussian of each hit, tile by tile, front
    to back.  tile_start: (tiles + 1,).
    """
    width = tiles_x * TILE
    plane = width * tiles_y * TILE
    tiles = tiles_x * tiles_y
    for worker in prange(workers):
        transmittance = np.empty(PIXELS, np.float32)
        weight = np.empty(PIXELS, np.float32)
        half_depth = np.empty(PIXELS, np.float32)
        blended = np.empty(channels * PIXELS, np.float32)
        # Tiles are dealt like cards: neighbours cost about the same, so every worker gets the same load.
        for tile in range(worker, tiles, workers):
            left = np.float32((tile % tiles_x) * TILE)
            top = np.float32((tile // tiles_x) * TILE)
            columns = lanes() + (left + _HALF)
            transmittance[:] = _1
            half_depth[:] = _0
            blended[:] = _0
            count = 0
            for h in range(tile_start[tile], tile_start[tile + 1]):
                if count % CHECK_EVERY == CHECK_EVERY - 1 and _is_opaque(transmittance):
                    break
                count += 1
                r = hits[h] * RECORD
                f = hits[h] * channels
                dx = columns - records[r]
                depth = splat(records[r + 10])
                first, last = _rows(records, r, top)
                for row in range(first, last + 1):
                    at = row * TILE
                    dy = top + np.float32(row) + _HALF - records[r + 1]
                    a = minimum(_alpha(records, r, surfel, dx, dy), splat(_ALPHA_MAX))
                    t = load(transmittance, at)
                    w = a * t
                    after = t - w
                    store(weight, at, w)
                    store(transmittance, at, after)
                    m = load(half_depth, at)
                    crossed = where_less(after, splat(_HALF), depth, m)
                    store(half_depth, at, where_less(t, splat(_HALF), m, crossed))
                for c in range(0, channels, 4):
                    f0 = splat(features[f + c])
                    f1 = splat(features[f + c + 1])
                    f2 = splat(features[f + c + 2])
                    f3 = splat(features[f + c + 3])
                    for row in range(first, last + 1):
                        w = load(weight, row * TILE)
                        at = c * PIXELS + row * TILE
                        store(blended, at, fma(w, f0, load(blended, at)))
                        store(blended, at + PIXELS, fma(w, f1, load(blended, at + PIXELS)))
                        store(blended, at + 2 * PIXELS, fma(w, f2, load(blended, at + 2 * PIXELS)))
                        store(blended, at + 3 * PIXELS, fma(w, f3, load(blended, at + 3 * PIXELS)))
            used[tile] = count
            for row in range(TILE):
                pixel = (int(top) + row) * width + int(left)
                store(final, pixel, load(transmittance, row * TILE))
                store(median, pixel, load(half_depth, row * TILE))
                for c in range(channels):
                    store(image, c * plane + pixel, load(blended, c * PIXELS + row * TILE))


@njit(parallel=True, cache=True, fastmath=False)
def backward(
    records, features, channels, surfel, hits, slots, tile_start, tiles_x, tiles_y, workers, used,
    image, final, image_gradient, alpha_gradient, rows_out,
):  # fmt: skip
    """Write the gradient row of every hit to row slots[hit] of rows_out.

    image, final: what `forward` gave.  image_gradient: like image.  alpha_gradient: plane, dL/d(1 - final).
    rows_out: (H, GRADIENT + C), flattened.
    """
    width = tiles_x * TILE
    plane = width * tiles_y * TILE
    tiles = tiles_x * tiles_y
    for worker in prange(workers):
        transmittance = np.empty(PIXELS, np.float32)
        behind = np.empty(PIXELS, np.float32)
        alpha = np.empty(PIXELS, np.float32)
        weight = np.empty(PIXELS, np.float32)
        along = np.empty(PIXELS, np.float32)
        gradient = np.empty(channels * PIXELS, np.float32)
        for tile in range(worker, tiles, workers):
            for h in range(tile_start[tile] + used[tile], tile_start[tile + 1]):
                for k in range(GRADIENT + channels):
                    rows_out[slots[h] * (GRADIENT + channels) + k] = _0
            if used[tile] == 0:
                continue
            left = np.float32((tile % tiles_x) * TILE)
            top = np.float32((tile // tiles_x) * TILE)
            columns = lanes() + (left + _HALF)
            transmittance[:] = _1
            for row in range(TILE):
                pixel = (int(top) + row) * width + int(left)
                rest = splat(_0) - load(alpha_gradient, pixel) * load(final, pixel)
                for c in range(channels):
                    g = load(image_gradient, c * plane + pixel)
                    store(gradient, c * PIXELS + row * TILE, g)
                    rest = fma(g, load(image, c * plane + pixel), rest)
                store(behind, row * TILE, rest)
            for h in range(tile_start[tile], tile_start[tile] + used[tile]):
                r = hits[h] * RECORD
                f = hits[h] * channels
                o = slots[h] * (GRADIENT + channels)
                store(rows_out, o, splat(_0))
                dx = columns - records[r]
                first, last = _rows(records, r, top)
                for row in range(first, last + 1):
                    at = row * TILE
                    dy = top + np.float32(row) + _HALF - records[r + 1]
                    a = _alpha(records, r, surfel, dx, dy)
                    t = load(transmittance, at)
                    w = minimum(a, splat(_ALPHA_MAX)) * t
                    store(alpha, at, a)
                    store(weight, at, w)
                    store(along, at, splat(_0))
                for c in range(0, channels, 4):
                    f0 = splat(features[f + c])
                    f1 = splat(features[f + c + 1])
                    f2 = splat(features[f + c + 2])
                    f3 = splat(features[f + c + 3])
                    s0 = splat(_0)
                    s1 = splat(_0)
                    s2 = splat(_0)
                    s3 = splat(_0)
                    for row in range(first, last + 1):
                        at = c * PIXELS + row * TILE
                        w = load(weight, row * TILE)
                        g0 = load(gradient, at)
                        g1 = load(gradient, at + PIXELS)
                        g2 = load(gradient, at + 2 * PIXELS)
                        g3 = load(gradient, at + 3 * PIXELS)
                        q = fma(f0, g0, f1 * g1) + fma(f2, g2, f3 * g3)
                        store(along, row * TILE, load(along, row * TILE) + q)
                        s0 = fma(w, g0, s0)
                        s1 = fma(w, g1, s1)
                        s2 = fma(w, g2, s2)
                        s3 = fma(w, g3, s3)
                    rows_out[o + GRADIENT + c] = total(s0)
                    rows_out[o + GRADIENT + c + 1] = total(s1)
                    rows_out[o + GRADIENT + c + 2] = total(s2)
                    rows_out[o + GRADIENT + c + 3] = total(s3)
                _shape_gradient(
                    records, r, surfel, dx, top, first, last, alpha, weight, along, transmittance, behind, rows_out, o
                )


@njit(forceinline=True)
def _exponent_gradient(row, alpha, weight, along, transmittance, behind):
    """-dL/de of a row, and move the row's transmittance and remainder behind this Gaussian."""
    at = row * TILE
    a = load(alpha, at)
    clamped = minimum(a, splat(_ALPHA_MAX))
    w = load(weight, at)
    q = load(along, at)
    t = load(transmittance, at)
    rest = load(behind, at) - w * q
    store(behind, at, rest)
    store(transmittance, at, t - w)
    d_alpha = t * q - rest / (splat(_1) - clamped)
    # No gradient where alpha is clamped; alpha is 0 below the cutoff, which makes the product vanish there.
    return where_less(splat(_ALPHA_MAX), a, splat(_0), d_alpha * a)


@njit(forceinline=True)
def _shape_gradient(records, r, surfel, dx, top, first, last, alpha, weight, along, transmittance, behind, out, o):
    """Sum dL/d(mean, opacity, shape) over the tile into one gradient row.

    Sums run over rows first, keeping one partial sum a column: dx is constant along a column.
    """
    sum_v = splat(_0)
    abs_x = splat(_0)
    abs_y = splat(_0)
    if surfel:
        n0 = splat(_0)
        n1 = splat(_0)
        n2 = splat(_0)
        n0y = splat(_0)
        n1y = splat(_0)
        n2y = splat(_0)
        disc = splat(_0)
        disc_y = splat(_0)
        for row in range(first, last + 1):
            v = _exponent_gradient(row, alpha, weight, along, transmittance, behind)
            dy = top + np.float32(row) + _HALF - records[r + 1]
            inverse = splat(_1) / fma(splat(records[r + 8]), dx, splat(_1 + records[r + 9] * dy))
            p = fma(splat(records[r + 4]), dx, splat(records[r + 5] * dy)) * inverse
            q = fma(splat(records[r + 6]), dx, splat(records[r + 7] * dy)) * inverse
            rho = fma(p, p, q * q)
            round_part = fma(dx, dx, splat(dy * dy))
            on_surfel = where_less(rho * _HALF, round_part, v, splat(_0))
            on_disc = v - on_surfel
            g = on_surfel * inverse
            # g can be 0 * inf where the ray is parallel to the surfel; such pixels are the disc's.
            g = where_less(rho * _HALF, round_part, g, splat(_0))
            g0 = splat(_0) - g * p
            g1 = splat(_0) - g * q
            g2 = where_less(rho * _HALF, round_part, g * rho, splat(_0))
            g0 = where_less(rho * _HALF, round_part, g0, splat(_0))
            g1 = where_less(rho * _HALF, round_part, g1, splat(_0))
            sum_v = sum_v + v
            n0 = n0 + g0
            n1 = n1 + g1
            n2 = n2 + g2
            n0y = fma(g0, splat(dy), n0y)
            n1y = fma(g1, splat(dy), n1y)
            n2y = fma(g2, splat(dy), n2y)
            disc = disc + on_disc
            disc_y = fma(on_disc, splat(dy), disc_y)
            mean_x = on_disc * dx * _2 - g0 * records[r + 4] - g1 * records[r + 6] - g2 * records[r + 8]
            mean_y = on_disc * (_2 * dy) - g0 * records[r + 5] - g1 * records[r + 7] - g2 * records[r + 9]
            abs_x = abs_x + absolute(mean_x)
            abs_y = abs_y + absolute(mean_y)
        t0 = total(n0)
        t1 = total(n1)
        t2 = total(n2)
        out[o] = _2 * total(disc * dx) - t0 * records[r + 4] - t1 * records[r + 6] - t2 * records[r + 8]
        out[o + 1] = _2 * total(disc_y) - t0 * records[r + 5] - t1 * records[r + 7] - t2 * records[r + 9]
        out[o + 5] = total(n0 * dx)
        out[o + 6] = total(n0y)
        out[o + 7] = total(n1 * dx)
        out[o + 8] = total(n1y)
        out[o + 9] = total(n2 * dx)
        out[o + 10] = total(n2y)
    else:
        sum_vy = splat(_0)
        sum_vyy = splat(_0)
        for row in range(first, last + 1):
            v = _exponent_gradient(row, alpha, weight, along, transmittance, behind)
            dy = top + np.float32(row) + _HALF - records[r + 1]
            vy = v * dy
            sum_v = sum_v + v
            sum_vy = sum_vy + vy
            sum_vyy = fma(vy, splat(dy), sum_vyy)
            across = v * fma(splat(records[r + 4]), dx, splat(records[r + 5] * dy))
            abs_x = abs_x + absolute(across)
            abs_y = abs_y + absolute(fma(across, splat(records[r + 5]), v * (records[r + 6] * records[r + 6] * dy)))
        vx = total(sum_v * dx)
        vy = total(sum_vy)
        # de/d(mean) = -2 (l4 p, l5 p + l6^2 dy) with p = l4 dx + l5 dy; v = -dL/de.
        p = records[r + 4] * vx + records[r + 5] * vy
        out[o] = _2 * records[r + 4] * p
        out[o + 1] = _2 * (records[r + 5] * p + records[r + 6] * records[r + 6] * vy)
        abs_x = abs_x * (_2 * records[r + 4])
        abs_y = abs_y * _2
        out[o + 5] = -_HALF * total(sum_v * dx * dx)
        out[o + 6] = -total(sum_vy * dx)
        out[o + 7] = -_HALF * total(sum_vyy)
    out[o + 2] = total(abs_x)
    out[o + 3] = total(abs_y)
    out[o + 4] = total(sum_v) / records[r + 2]
