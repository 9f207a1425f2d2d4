"""Bilinear lookup in one or two levels of a mip pyramid, and the gradient of that.

Twin: `relight.render.textures.lookup_torch`.  A pyramid is the texels of all its levels one after another, (T, C), with
levels (L, 3) int64: first texel, height, width.  Weights are float64, whatever the texels are.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

REPEAT, CLAMP, MIRROR = 0, 1, 2
_FAR = 1e6


@njit(forceinline=True)
def _axis(u, size, wrap):
    """Both texels along one axis and the second one's weight.  Any u is safe; NaN and infinity count as 0."""
    if wrap == REPEAT:
        u = u - np.floor(u)
    elif wrap == MIRROR:
        u = u - 2.0 * np.floor(u * 0.5)
    else:
        u = min(max(u, -_FAR), _FAR)
    x = (u if u == u else 0.0) * size - 0.5
    i = int(np.floor(x))
    return _wrapped(i, size, wrap), _wrapped(i + 1, size, wrap), x - i


@njit(forceinline=True)
def _wrapped(i, size, wrap):
    """i between -1 and one past the last; for CLAMP anything."""
    if wrap == CLAMP:
        return min(max(i, 0), size - 1)
    if wrap == REPEAT:
        return size - 1 if i < 0 else (i - size if i >= size else i)
    i = 0 if i < 0 else (i - 2 * size if i >= 2 * size else i)
    return 2 * size - 1 - i if i >= size else i


@njit(forceinline=True)
def _levels(lod, count):
    """Finer level, coarser level, and the coarser one's weight."""
    if not lod > 0.0:
        return 0, 0, 0.0
    if lod >= count - 1:
        return count - 1, count - 1, 0.0
    level = int(lod)
    return level, level + 1, lod - level


@njit(forceinline=True)
def _taps(levels, level, u, v, wrap_u, wrap_v):
    """Four texels (top left, top right, bottom left, bottom right) and both fractions."""
    first, height, width = levels[level, 0], levels[level, 1], levels[level, 2]
    x0, x1, fx = _axis(u, width, wrap_u)
    y0, y1, fy = _axis(v, height, wrap_v)
    top, bottom = first + y0 * width, first + y1 * width
    return top + x0, top + x1, bottom + x0, bottom + x1, fx, fy


@njit(parallel=True, cache=True)
def forward(texels, levels, uv, lod, wrap_u, wrap_v, workers, out):
    """uv: (P, 2).  lod: (P,), 0 is the full picture.  Fills out (P, C)."""
    pixels, channels = out.shape
    count = levels.shape[0]
    for worker in prange(workers):
        for p in range(pixels * worker // workers, pixels * (worker + 1) // workers):
            u, v = np.float64(uv[p, 0]), np.float64(uv[p, 1])
            fine, coarse, t = _levels(np.float64(lod[p]), count)
            a, b, c, d, fx, fy = _taps(levels, fine, u, v, wrap_u, wrap_v)
            wa, wb, wc, wd = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
            for k in range(channels):
                out[p, k] = wa * texels[a, k] + wb * texels[b, k] + wc * texels[c, k] + wd * texels[d, k]
            if t > 0.0:
                a, b, c, d, fx, fy = _taps(levels, coarse, u, v, wrap_u, wrap_v)
                wa, wb, wc, wd = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
                for k in range(channels):
                    value = wa * texels[a, k] + wb * texels[b, k] + wc * texels[c, k] + wd * texels[d, k]
                    out[p, k] += t * (value - out[p, k])


@njit(parallel=True, cache=True)
def texels_backward(levels, uv, lod, wrap_u, wrap_v, gradient, workers, out):
    """Add dL/d(texels) to out (T, C).  Workers share out the channels, so sums have one order."""
    pixels, channels = gradient.shape
    count = levels.shape[0]
    for worker in prange(workers):
        low, high = channels * worker // workers, channels * (worker + 1) // workers
        if low == high:
            continue
        for p in range(pixels):
            u, v = np.float64(uv[p, 0]), np.float64(uv[p, 1])
            fine, coarse, t = _levels(np.float64(lod[p]), count)
            for step in range(2 if t > 0.0 else 1):
                share = 1.0 - t if step == 0 else t
                a, b, c, d, fx, fy = _taps(levels, fine if step == 0 else coarse, u, v, wrap_u, wrap_v)
                top, bottom = share * (1 - fy), share * fy
                for k in range(low, high):
                    g = gradient[p, k]
                    out[a, k] += top * (1 - fx) * g
                    out[b, k] += top * fx * g
                    out[c, k] += bottom * (1 - fx) * g
                    out[d, k] += bottom * fx * g


@njit(parallel=True, cache=True)
def uv_backward(texels, levels, uv, lod, wrap_u, wrap_v, gradient, workers, out):
    """dL/d(uv): out (P, 2)."""
    pixels, channels = gradient.shape
    count = levels.shape[0]
    for worker in prange(workers):
        for p in range(pixels * worker // workers, pixels * (worker + 1) // workers):
            u, v = np.float64(uv[p, 0]), np.float64(uv[p, 1])
            fine, coarse, t = _levels(np.float64(lod[p]), count)
            du = dv = 0.0
            for step in range(2 if t > 0.0 else 1):
                level = fine if step == 0 else coarse
                a, b, c, d, fx, fy = _taps(levels, level, u, v, wrap_u, wrap_v)
                gx = gy = 0.0
                for k in range(channels):
                    g = gradient[p, k]
                    ta, tb, tc, td = texels[a, k], texels[b, k], texels[c, k], texels[d, k]
                    gx += g * ((1 - fy) * (tb - ta) + fy * (td - tc))
                    gy += g * ((1 - fx) * (tc - ta) + fx * (td - tb))
                share = 1.0 - t if step == 0 else t
                du += share * gx * levels[level, 2]
                dv += share * gy * levels[level, 1]
            out[p, 0] = du
            out[p, 1] = dv
