"""Direct light by samples: directions of an environment and of the BSDF with their weights, the sum, its gradients.

Twin: `relight.shading.shade.MonteCarlo`, in float64.  Per channel, reflected radiance is linear in three numbers of a
point, under, f0 and f90 of `relight.shading.bsdf.Bsdf`:

    under . sum a L + f0 . sum b L + f90 . sum c L,
    a = w cos / pi, b = w D V cos (1 - s), c = w D V cos s, s = (1 - v.h)^5,

w being the power heuristic's weight over density and number of samples.  `propose` fills a, b, c and L of every sample
that could add something, `gather` adds up what no ray found blocked: (N, 9), sum a L first.  What else depends on the
material is left to torch.

Samples of a worker's points lie one after another, from 2 S times its first point on; `first` and `count` say where a
point's are.  Nothing depends on the number of workers.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from relight.render.kernels.angles import angle, arc_cosine, sine_cosine
from relight.render.kernels.simd import LANES, load, maximum, minimum, splat, square_root, store, where_less
from relight.shading.microfacet import COSINE_MIN

# No "nnan": what is hostile must be seen to be.
FLAGS = {"reassoc", "contract", "nsz", "arcp"}
_F = np.float32
_0, _1, _2 = _F(0), _F(1), _F(2)
_PI = _F(math.pi)
_HALF = _F(0.5)
_INVERSE_PI = _F(1 / math.pi)
_LEAST = _F(COSINE_MIN)
_LEAST_LIGHT = _F(COSINE_MIN * 0.01)


@njit(parallel=True, cache=True)
def fill_guides(rows, columns, row_guide, column_guide):
    """For inverting cumulative sums in few steps (Chen and Asau, On Generating Random Variates from an Empirical
    Distribution, AIIE Transactions 6(2), 1974).

    rows: (H,), columns: (H, W), cumulative, up to 1.  Fills row_guide (H,) and column_guide (H, W) int32: entry k of n
    is the first place whose sum is beyond k / n.
    """
    height = rows.size
    _fill_guide(rows, row_guide)
    for row in prange(height):
        _fill_guide(columns[row], column_guide[row])


@njit(cache=True)
def _fill_guide(sums, guide):
    size = sums.size
    place = 0
    for k in range(size):
        while place < size - 1 and sums[place] <= k / size:
            place += 1
        guide[k] = place


@njit(forceinline=True)
def _invert(sums, guide, u):
    """First place whose sum is beyond u in [0, 1), and how far into it u lies, 0 to 1."""
    size = sums.size
    place = guide[min(int(u * size), size - 1)]
    while place < size - 1 and sums[place] <= u:
        place += 1
    below = sums[place - 1] if place > 0 else _0
    return place, min(max((u - below) / (sums[place] - below), _0), _1)


@njit(forceinline=True, fastmath=FLAGS)
def _frame(x, y, z):
    """Twin: `relight.shading.surface.frame`; rows are two tangents and the normal."""
    sign = _1 if z >= _0 else -_1
    a = -_1 / (sign + z)
    b = x * y * a
    return _1 + sign * x * x * a, sign * b, -sign * x, b, sign + y * y * a, -y, x, y, z


@njit(forceinline=True, fastmath=FLAGS)
def _down(m, x, y, z):
    """Into the frame."""
    return m[0] * x + m[1] * y + m[2] * z, m[3] * x + m[4] * y + m[5] * z, m[6] * x + m[7] * y + m[8] * z


@njit(forceinline=True, fastmath=FLAGS)
def _up(m, x, y, z):
    """Out of the frame."""
    return m[0] * x + m[3] * y + m[6] * z, m[1] * x + m[4] * y + m[7] * z, m[2] * x + m[5] * y + m[8] * z


@njit(forceinline=True, fastmath=FLAGS)
def _halfway(v, to):
    """h in the frame of v and to, 1 / |v + to|, and v.h."""
    x, y, z = v[0] + to[0], v[1] + to[1], v[2] + to[2]
    scale = _1 / math.sqrt(max(x * x + y * y + z * z, _F(1e-24)))
    h = (x * scale, y * scale, z * scale)
    v_h = v[0] * h[0] + v[1] * h[1] + v[2] * h[2]
    return h, scale, min(max(v_h, _0), _1)


@njit(forceinline=True, fastmath=FLAGS)
def _ggx(h, a2):
    """D, and its denominator's root.  The sine comes from h itself, so a narrow peak keeps its digits."""
    n_h = min(max(h[2], _0), _1)
    t = (h[0] * h[0] + h[1] * h[1] if n_h > _0 else _1) + n_h * n_h * a2
    return a2 / (_PI * t * t), t, n_h


@njit(forceinline=True, fastmath=FLAGS)
def _taps(u, v, height, width):
    """Twin: `relight.shading.environment.bilinear`.  u in [0, 1]."""
    x = u * width - _F(0.5)
    y = min(max(v * height - _F(0.5), _0), _F(height - 1))
    i = max(min(int(x + _1), width), 0) - 1
    j = max(min(int(y), height - 1), 0)
    return (
        (i if i >= 0 else width - 1), (i + 1 if i + 1 < width else 0), j, min(j + 1, height - 1), x - _F(i), y - _F(j)
    )  # fmt: skip


@njit(forceinline=True, fastmath=FLAGS)
def _radiance(texels, u, v):
    height, width = texels.shape[0], texels.shape[1]
    x0, x1, y0, y1, fx, fy = _taps(u, v, height, width)
    a, b = (_1 - fx) * (_1 - fy), fx * (_1 - fy)
    c, d = (_1 - fx) * fy, fx * fy
    p, q, r, s = texels[y0, x0], texels[y0, x1], texels[y1, x0], texels[y1, x1]
    return (
        a * p[0] + b * q[0] + c * r[0] + d * s[0],
        a * p[1] + b * q[1] + c * r[1] + d * s[1],
        a * p[2] + b * q[2] + c * r[2] + d * s[2],
    )


@njit(forceinline=True)
def _turned(m, x, y, z):
    """Vectors times a matrix of 9 scalars, row by row."""
    return m[0] * x + m[1] * y + m[2] * z, m[3] * x + m[4] * y + m[5] * z, m[6] * x + m[7] * y + m[8] * z


@njit(forceinline=True)
def _unit(x, y, z):
    scale = _1 / square_root(maximum(x * x + y * y + z * z, splat(_F(1e-24))))
    return x * scale, y * scale, z * scale


@njit(forceinline=True)
def _shifted(points, dimension, k, shifts):
    """Sums of the shared numbers and the point's, without their whole part."""
    u = load(points[dimension], k) + shifts[dimension]
    return where_less(u, splat(_1), u, u - _1)


@njit(forceinline=True)
def _lobes(x, y, z, v, alpha, n_v, share):
    """Of directions in the frame: cos / pi, D V cos (1 - s), D V cos s, and the density of choosing them by the BSDF."""
    a2 = alpha * alpha
    none, least = splat(_0), splat(_F(1e-24))
    hx, hy, hz = _unit(v[0] + x, v[1] + y, v[2] + z)
    v_h = v[0] * hx + v[1] * hy + v[2] * hz
    n_h = maximum(hz, none)
    # The sine comes from h itself, so a narrow peak keeps its digits.
    t = where_less(none, hz, hx * hx + hy * hy, splat(_1)) + n_h * n_h * a2
    d = (a2 * _INVERSE_PI) / maximum(t * t, least)
    n_l = maximum(z, splat(_LEAST_LIGHT))
    p = math.sqrt(n_v * n_v * (_1 - a2) + a2)
    q = square_root(n_l * n_l * (_1 - a2) + a2)
    coat = d * _HALF / maximum(n_l * p + q * n_v, splat(_F(1e-12))) * n_l
    w = _1 - minimum(maximum(v_h, none), splat(_1))
    s = w * w
    s = s * s * w
    # D G1 / (4 n_v), Heitz's G1 = 2 n_v / (n_v + p).
    density = d * (share * _HALF / (n_v + p)) + z * ((_1 - share) * _INVERSE_PI)
    return n_l * _INVERSE_PI, coat * (_1 - s), coat * s, density


@njit(forceinline=True)
def _power(a, b):
    return a * a / maximum(a * a + b * b, splat(_F(1e-30)))


@njit(forceinline=True)
def _from_bsdf(u0, u1, u2, v, alpha, share):
    """Directions in the frame.  Twin: `Bsdf.sample`; v has its clamped cosine."""
    none, divide = splat(_0), splat(share)
    sine, cosine = sine_cosine(where_less(u0, divide, u1, u2))
    stretch = _1 / math.sqrt(max((v[0] * v[0] + v[1] * v[1]) * alpha * alpha + v[2] * v[2], _F(1e-24)))
    sx, sy, sz = v[0] * alpha * stretch, v[1] * alpha * stretch, v[2] * stretch
    c = (_1 - u2) * (_1 + sz) - sz
    r = square_root(maximum((_1 - c) * (_1 + c), none))
    hx, hy, hz = _unit((r * cosine + sx) * alpha, (r * sine + sy) * alpha, maximum(c + sz, splat(_F(1e-7))))
    twice = (v[0] * hx + v[1] * hy + v[2] * hz) * _2
    r = square_root(u1)
    return _unit(
        where_less(u0, divide, twice * hx - v[0], r * cosine),
        where_less(u0, divide, twice * hy - v[1], r * sine),
        where_less(u0, divide, twice * hz - v[2], square_root(maximum(_1 - u1, none))),
    )


@njit(parallel=True, cache=True)
def propose(
    geometry, lobe, points, samples, shifts, rotation, rows, columns, row_guide, column_guide, texels, black, workers,
    first, count, ends, rays, light, lobes, places,
):  # fmt: skip
    """geometry: (N, 12) position, normal, view, side.  lobe: (N, 3) alpha, n.v, share of the coat's samples.
    points: (5, S padded to whole vectors), shifts: (N, 5): three numbers for the BSDF, two for the light.
    rotation: (9,) env_from_world.  texels: (H, W, 4) radiance, and density of the cell.
    black: keep samples of black places of the map.

    Fills first, count (N,) and, of each sample, rays (M, 6) origin and direction, light (M, 3), lobes (M, 3) and
    places (M, 3) or (0, 3): where in the map it lies, and w.  ends: (workers,), one past each worker's last.
    """
    height, width = texels.shape[0], texels.shape[1]
    m_world = (
        rotation[0], rotation[3], rotation[6], rotation[1], rotation[4], rotation[7], rotation[2], rotation[5],
        rotation[8],
    )  # fmt: skip
    m_map = (
        rotation[0], rotation[1], rotation[2], rotation[3], rotation[4], rotation[5], rotation[6], rotation[7],
        rotation[8],
    )  # fmt: skip
    share_of_one = _F(1.0 / samples)
    edges = np.cos(np.arange(height + 1) * (math.pi / height))
    for worker in prange(workers):
        begin = first.size * worker // workers
        end = first.size * (worker + 1) // workers
        at = begin * 2 * samples
        # A vector each: direction, place in the map, weighted lobes, weight, and the map's density.
        held = np.empty(10 * LANES, np.float32)
        for p in range(begin, end):
            first[p] = at
            g, shift = geometry[p], shifts[p]
            m = _frame(g[3], g[4], g[5])
            out_of = (m[0], m[3], m[6], m[1], m[4], m[7], m[2], m[5], m[8])
            v = _down(m, g[6], g[7], g[8])
            alpha, n_v, share = lobe[p, 0], lobe[p, 1], lobe[p, 2]
            upright = max(v[2], _LEAST)
            scale = _1 / math.sqrt(max(v[0] * v[0] + v[1] * v[1] + upright * upright, _F(1e-24)))
            steep = (v[0] * scale, v[1] * scale, upright * scale)
            for step in range(2 * points.shape[1] // LANES):
                by_light = step % 2 == 0
                k = step // 2 * LANES
                some = min(LANES, samples - k)
                if by_light:
                    store(held, 0, _shifted(points, 3, k, shift))
                    store(held, LANES, _shifted(points, 4, k, shift))
                    for i in range(LANES):
                        row, within = _invert(rows, row_guide, held[i])
                        column, across = _invert(columns[row], column_guide[row], held[LANES + i])
                        # Uniform in solid angle within a cell: in the cosine, and around.
                        held[i] = edges[row] + (edges[row + 1] - edges[row]) * within
                        held[3 * LANES + i] = (column + across) / width
                        held[9 * LANES + i] = texels[row, column, 3]
                    y, u = load(held, 0), load(held, 3 * LANES)
                    sine = square_root(maximum((_1 - y) * (_1 + y), splat(_0)))
                    z, x = sine_cosine(u - _HALF)
                    dx, dy, dz = _turned(m_world, x * sine, y, z * sine)
                    lx, ly, lz = _turned(m, dx, dy, dz)
                else:
                    numbers = (
                        _shifted(points, 0, k, shift),
                        _shifted(points, 1, k, shift),
                        _shifted(points, 2, k, shift),
                    )
                    lx, ly, lz = _from_bsdf(numbers[0], numbers[1], numbers[2], steep, alpha, share)
                    dx, dy, dz = _turned(out_of, lx, ly, lz)
                    x, y, z = _turned(m_map, dx, dy, dz)
                    u = angle(z, x) + _HALF
                v_map = arc_cosine(y) * _2
                none = splat(_0)
                above = where_less(
                    none, lz, where_less(none, g[9] * dx + g[10] * dy + g[11] * dz, splat(_1), none), none
                )
                store(held, 3 * LANES, u)
                store(held, 4 * LANES, v_map)
                store(held, 8 * LANES, above)
                if not by_light:
                    for i in range(LANES):
                        # What is not a number, or not above, needs no density.
                        if held[8 * LANES + i] > _0:
                            column = int(held[3 * LANES + i] * width)
                            row = max(min(int(held[4 * LANES + i] * height), height - 1), 0)
                            held[9 * LANES + i] = texels[row, 0 if column >= width else max(column, 0), 3]
                        else:
                            held[9 * LANES + i] = _1
                a, b, c, own = _lobes(lx, ly, lz, v, alpha, n_v, share)
                map_density = load(held, 9 * LANES)
                if by_light:
                    w = _power(map_density, own) / maximum(map_density, splat(_F(1e-12)))
                else:
                    w = where_less(splat(_F(1e-9)), own, _power(own, map_density) / own, none)
                w = where_less(none, above, w * share_of_one, none)
                store(held, 0, dx)
                store(held, LANES, dy)
                store(held, 2 * LANES, dz)
                store(held, 5 * LANES, w * a)
                store(held, 6 * LANES, w * b)
                store(held, 7 * LANES, w * c)
                store(held, 8 * LANES, w)
                for i in range(some):
                    if not held[8 * LANES + i] > _0:
                        continue
                    red, green, blue = _radiance(texels, held[3 * LANES + i], held[4 * LANES + i])
                    if not (black or red + green + blue > _0):
                        continue
                    rays[at, 0], rays[at, 1], rays[at, 2] = g[0], g[1], g[2]
                    light[at, 0], light[at, 1], light[at, 2] = red, green, blue
                    for j in range(3):
                        rays[at, 3 + j] = held[j * LANES + i]
                        lobes[at, j] = held[(5 + j) * LANES + i]
                    if places.size:
                        places[at, 0] = held[3 * LANES + i]
                        places[at, 1] = held[4 * LANES + i]
                        places[at, 2] = held[8 * LANES + i]
                    at += 1
            count[p] = at - first[p]
        ends[worker] = at


@njit(parallel=True, cache=True, fastmath=FLAGS)
def gather(first, count, light, lobes, workers, out):
    """out: (N, 9), sums over the samples of a point of a L, b L and c L."""
    for worker in prange(workers):
        for p in range(first.size * worker // workers, first.size * (worker + 1) // workers):
            a0 = a1 = a2 = b0 = b1 = b2 = c0 = c1 = c2 = _0
            for i in range(first[p], first[p] + count[p]):
                red, green, blue = light[i, 0], light[i, 1], light[i, 2]
                a, b, c = lobes[i, 0], lobes[i, 1], lobes[i, 2]
                a0, a1, a2 = a0 + a * red, a1 + a * green, a2 + a * blue
                b0, b1, b2 = b0 + b * red, b1 + b * green, b2 + b * blue
                c0, c1, c2 = c0 + c * red, c1 + c * green, c2 + c * blue
            row = out[p]
            row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7], row[8] = a0, a1, a2, b0, b1, b2, c0, c1, c2


@njit(parallel=True, cache=True, fastmath=FLAGS)
def lobe_backward(gradient, geometry, lobe, first, count, rays, light, places, workers, d_normal, d_view, toobe):
    """From dL/d(out of gather), (N, 9): fills d_normal, d_view (N, 3) and toobe (N, 2), of alpha and n.v.

    Directions and weights stand still, as in the twin.
    """
    for worker in prange(workers):
        for p in range(first.size * worker // workers, first.size * (worker + 1) // workers):
            g = geometry[p]
            q = gradient[p]
            m = _frame(g[3], g[4], g[5])
            v = _down(m, g[6], g[7], g[8])
            alpha, n_v = lobe[p, 0], lobe[p, 1]
            a2 = alpha * alpha
            rest = _1 - a2
            root_v = math.sqrt(n_v * n_v * rest + a2)
            nx = ny = nz = vx = vy = vz = d_alpha = d_nv = _0
            for i in range(first[p], first[p] + count[p]):
                red, green, blue, w = light[i, 0], light[i, 1], light[i, 2], places[i, 2]
                if red == _0 and green == _0 and blue == _0:
                    continue
                to = _down(m, rays[i, 3], rays[i, 4], rays[i, 5])
                diffuse = w * _INVERSE_PI * (q[0] * red + q[1] * green + q[2] * blue)
                straight = w * (q[3] * red + q[4] * green + q[5] * blue)
                grazing = w * (q[6] * red + q[7] * green + q[8] * blue)
                h, scale, v_h = _halfway(v, to)
                d, t, n_h = _ggx(h, a2)
                n_l = max(to[2], _LEAST_LIGHT)
                root_l = math.sqrt(n_l * n_l * rest + a2)
                shadow = _F(0.5) / max(n_l * root_v + n_v * root_l, _F(1e-12))
                x = _1 - v_h
                x4 = x * x
                x4 = x4 * x4
                fresnel = straight + (grazing - straight) * x4 * x
                coat = d * shadow * fresnel
                # Of the shadowing: dV = -2 V^2 d(n_l root_v + n_v root_l).
                less = -_2 * shadow * coat * n_l
                g_nl = diffuse + coat + less * (root_v + n_v * n_l * rest / root_l)
                g_nh = coat * n_l * _F(4) * n_h * rest / t
                g_vh = d * shadow * n_l * (grazing - straight) * _F(-5) * x4
                d_nv += less * (root_l + n_l * n_v * rest / root_v)
                by_a2 = coat * n_l * (_1 / a2 - _2 * n_h * n_h / t)
                by_a2 += less * _F(0.5) * (n_l * (_1 - n_v * n_v) / root_v + n_v * (_1 - n_l * n_l) / root_l)
                d_alpha += _2 * alpha * by_a2
                nx, ny, nz = (
                    nx + g_nl * to[0] + g_nh * h[0],
                    ny + g_nl * to[1] + g_nh * h[1],
                    nz + g_nl * to[2] + g_nh * h[2],
                )
                hx, hy, hz = g_vh * v[0], g_vh * v[1], g_vh * v[2] + g_nh
                along = hx * h[0] + hy * h[1] + hz * h[2]
                vx += g_vh * h[0] + (hx - along * h[0]) * scale
                vy += g_vh * h[1] + (hy - along * h[1]) * scale
                vz += g_vh * h[2] + (hz - along * h[2]) * scale
            d_normal[p, 0], d_normal[p, 1], d_normal[p, 2] = _up(m, nx, ny, nz)
            d_view[p, 0], d_view[p, 1], d_view[p, 2] = _up(m, vx, vy, vz)
            toobe[p, 0], toobe[p, 1] = d_alpha, d_nv


@njit(parallel=True, cache=True, fastmath=FLAGS)
def texels_backward(gradient, first, count, blocked, lobes, places, out):
    """Add dL/d(texels) to out (3, H, W).  Workers share out the channels, so sums have one order."""
    height, width = out.shape[1], out.shape[2]
    for channel in prange(3):
        plane = out[channel]
        for p in range(first.size):
            qa, qb, qc = gradient[p, channel], gradient[p, channel + 3], gradient[p, channel + 6]
            for i in range(first[p], first[p] + count[p]):
                if blocked[i]:
                    continue
                value = qa * lobes[i, 0] + qb * lobes[i, 1] + qc * lobes[i, 2]
                x0, x1, y0, y1, fx, fy = _taps(places[i, 0], places[i, 1], height, width)
                high, low = value * (_1 - fy), value * fy
                plane[y0, x0] += high * (_1 - fx)
                plane[y0, x1] += high * fx
                plane[y1, x0] += low * (_1 - fx)
                plane[y1, x1] += low * fx
