"""From world-space Gaussians to screen records, and back for gradients.

Twin: `relight.render.reference`.  Ellipsoids: EWA splatting (Zwicker et al., IEEE Visualization 2001) as in 3DGS.
Surfels: 2DGS (Huang et al., SIGGRAPH 2024).  With J the 2x2 screen tangents of the disc times the centre's depth z, B
its inverse, and r the depth slopes of the tangents, the disc's (u, v) at an offset d from the projected centre is
z B d / (1 - r . B d); this form is exact at the centre, where 2DGS's cross products cancel.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from relight.render.kernels.composite import GRADIENT
from relight.render.protocol import ALPHA_MIN

POSE = 12
"""Gradient of camera_from_world: rotation row by row, then translation."""

_0 = np.float32(0.0)
_HALF = np.float32(0.5)
_1 = np.float32(1.0)
_2 = np.float32(2.0)
_ALPHA_MIN = np.float32(ALPHA_MIN)
_FAR = np.float32(1e9)


@njit(forceinline=True)
def _rotation(quat, r):
    """Write the rotation matrix of a quaternion of any length into r (9); returns 1 / length."""
    length = np.sqrt(quat[0] * quat[0] + quat[1] * quat[1] + quat[2] * quat[2] + quat[3] * quat[3])
    inverse = _1 / max(length, np.float32(1e-12))
    w = quat[0] * inverse
    x = quat[1] * inverse
    y = quat[2] * inverse
    z = quat[3] * inverse
    r[0] = _1 - _2 * (y * y + z * z)
    r[1] = _2 * (x * y - w * z)
    r[2] = _2 * (x * z + w * y)
    r[3] = _2 * (x * y + w * z)
    r[4] = _1 - _2 * (x * x + z * z)
    r[5] = _2 * (y * z - w * x)
    r[6] = _2 * (x * z - w * y)
    r[7] = _2 * (y * z + w * x)
    r[8] = _1 - _2 * (x * x + y * y)
    return inverse


@njit(forceinline=True)
def _quaternion_gradient(quat, inverse, g, out):
    """Chain dL/dR (g, 9) to dL/d(quat) (out, 4), through the normalisation."""
    w = quat[0] * inverse
    x = quat[1] * inverse
    y = quat[2] * inverse
    z = quat[3] * inverse
    gw = _2 * (x * (g[7] - g[5]) + y * (g[2] - g[6]) + z * (g[3] - g[1]))
    gx = _2 * (-_2 * x * (g[4] + g[8]) + y * (g[1] + g[3]) + z * (g[2] + g[6]) + w * (g[7] - g[5]))
    gy = _2 * (x * (g[1] + g[3]) - _2 * y * (g[0] + g[8]) + z * (g[5] + g[7]) + w * (g[2] - g[6]))
    gz = _2 * (x * (g[2] + g[6]) + y * (g[5] + g[7]) - _2 * z * (g[0] + g[4]) + w * (g[3] - g[1]))
    along = gw * w + gx * x + gy * y + gz * z
    out[0] = (gw - along * w) * inverse
    out[1] = (gx - along * x) * inverse
    out[2] = (gy - along * y) * inverse
    out[3] = (gz - along * z) * inverse


@njit(forceinline=True)
def _to_camera(mean, pose, t):
    """World point to camera frame; pose is camera_from_world, (12,) as POSE."""
    for k in range(3):
        t[k] = pose[3 * k] * mean[0] + pose[3 * k + 1] * mean[1] + pose[3 * k + 2] * mean[2] + pose[9 + k]


@njit(forceinline=True)
def _clamped_slopes(t, lens, size):
    """x / z and y / z limited to 1.3 times the picture as 3DGS does, and whether each is inside."""
    x = t[0] / t[2]
    y = t[1] / t[2]
    margin_x = np.float32(0.15) * size[0] / lens[0]
    margin_y = np.float32(0.15) * size[1] / lens[1]
    cx = min(max(x, -lens[2] / lens[0] - margin_x), (size[0] - lens[2]) / lens[0] + margin_x)
    cy = min(max(y, -lens[3] / lens[1] - margin_y), (size[1] - lens[3]) / lens[1] + margin_y)
    return cx, cy, x == cx, y == cy


@njit(forceinline=True)
def _screen_axes(t, quat, scale, pose, lens, size, rotation, axes, m):
    """axes (9): rows are the camera-frame axes W R S; m (6): their screen images J W R S, row x then row y."""
    inverse = _rotation(quat, rotation)
    for i in range(3):
        for j in range(3):
            axes[3 * i + j] = (
                pose[3 * i] * rotation[j] + pose[3 * i + 1] * rotation[3 + j] + pose[3 * i + 2] * rotation[6 + j]
            ) * scale[j]
    x, y, inside_x, inside_y = _clamped_slopes(t, lens, size)
    for j in range(3):
        m[j] = lens[0] / t[2] * (axes[j] - x * axes[6 + j])
        m[3 + j] = lens[1] / t[2] * (axes[3 + j] - y * axes[6 + j])
    return inverse, x, y, inside_x, inside_y


@njit(forceinline=True)
def _determinant(m):
    """det of m m^T as the squared area of the rows' cross product: no cancellation for needles."""
    a = m[1] * m[5] - m[2] * m[4]
    b = m[2] * m[3] - m[0] * m[5]
    c = m[0] * m[4] - m[1] * m[3]
    return a * a + b * b + c * c


@njit(forceinline=True)
def _surfel_tangents(t, axes, lens, j):
    """j (4): screen tangents times z, [[x_u, x_v], [y_u, y_v]], from camera-frame axes (9)."""
    x = t[0] / t[2]
    y = t[1] / t[2]
    j[0] = lens[0] * (axes[0] - x * axes[6])
    j[1] = lens[0] * (axes[1] - x * axes[7])
    j[2] = lens[1] * (axes[3] - y * axes[6])
    j[3] = lens[1] * (axes[4] - y * axes[7])
    return j[0] * j[3] - j[1] * j[2]


@njit(forceinline=True)
def _edge_on(j, det):
    """The disc is seen so nearly from the side that only its screen-space floor can be drawn."""
    size = j[0] * j[0] + j[1] * j[1] + j[2] * j[2] + j[3] * j[3]
    return not abs(det) > np.float32(1e-6) * size


@njit(forceinline=True)
def _surfel_box(record, t2, size):
    """Half sides of a box around the mean that holds all pixels of alpha >= ALPHA_MIN; t2 is the squared radius."""
    radius = np.sqrt(t2)
    floor = radius * np.float32(0.7071068)
    half_x = floor
    half_y = floor
    # Invert d -> (u, v): d = (B - uv s^T)^-1 uv, a conic section whose box has a closed form (2DGS, eq. 9).
    b0 = record[4]
    b1 = record[5]
    b2 = record[6]
    b3 = record[7]
    det = b0 * b3 - b1 * b2
    i0 = b3 / det
    i1 = -b1 / det
    i2 = -b2 / det
    i3 = b0 / det
    # Screen offset of (u, v): (i0 u + i1 v, i2 u + i3 v) / (1 + p u + q v).
    p = -(record[8] * i0 + record[9] * i2)
    q = -(record[8] * i1 + record[9] * i3)
    f = _1 - t2 * (p * p + q * q)
    if f <= np.float32(1e-4):
        # The visible part of the disc reaches the camera plane: anywhere on the picture.
        return _2 * (size[0] + abs(record[0])), _2 * (size[1] + abs(record[1]))
    cx = -t2 * (i0 * p + i1 * q) / f
    cy = -t2 * (i2 * p + i3 * q) / f
    ex = np.sqrt(max(cx * cx + t2 * (i0 * i0 + i1 * i1) / f, _0))
    ey = np.sqrt(max(cy * cy + t2 * (i2 * i2 + i3 * i3) / f, _0))
    return max(half_x, abs(cx) + ex), max(half_y, abs(cy) + ey)


@njit(parallel=True, cache=True)
def forward(means, quats, scales, opacities, surfel, pose, lens, size, near, low_pass, antialiased, workers, records):
    """Fill records (N, RECORD) as composite.py defines them.

    means (N, 3) world, quats (N, 4), scales (N, 3), opacities (N,).  pose: camera_from_world (12,).
    lens: fx, fy, cx, cy.  size: width, height, as floats.
    """
    n = means.shape[0]
    for worker in prange(workers):
        t = np.empty(3, np.float32)
        rotation = np.empty(9, np.float32)
        axes = np.empty(9, np.float32)
        m = np.empty(6, np.float32)
        for g in range(n * worker // workers, n * (worker + 1) // workers):
            record = records[g]
            record[:] = _0
            _to_camera(means[g], pose, t)
            if t[2] >= near and np.isfinite(t[0] + t[1] + t[2]):
                record[0] = lens[0] * t[0] / t[2] + lens[2]
                record[1] = lens[1] * t[1] / t[2] + lens[3]
                record[10] = t[2]
                _screen_axes(t, quats[g], scales[g], pose, lens, size, rotation, axes, m)
                if surfel:
                    _surfel_record(t, axes, m, lens, size, opacities[g], record)
                else:
                    _ellipsoid_record(m, low_pass, antialiased, opacities[g], record)
                off_screen = (
                    record[0] + record[11] <= _0
                    or record[0] - record[11] >= size[0]
                    or record[1] + record[3] <= _0
                    or record[1] - record[3] >= size[1]
                )
                if off_screen:
                    record[11] = _0


@njit(forceinline=True)
def _set_box(record, opacity, half_x, half_y):
    """A hair of slack: rounding must not lose the pixel on the rim."""
    record[2] = opacity
    record[3] = half_y * np.float32(1.00001)
    record[11] = half_x


@njit(forceinline=True)
def _surfel_record(t, axes, j, lens, size, opacity, record):
    """Shape and box of a disc; leaves the record undrawn if it is degenerate or too faint."""
    det = _surfel_tangents(t, axes, lens, j)
    if not (opacity > _ALPHA_MIN and np.isfinite(det)):
        return
    t2 = _2 * np.log(opacity / _ALPHA_MIN)
    if _edge_on(j, det):
        record[4] = _FAR
        record[7] = _FAR
        half_x = np.sqrt(_HALF * t2)
        half_y = half_x
    else:
        b0 = j[3] / det
        b1 = -j[1] / det
        b2 = -j[2] / det
        b3 = j[0] / det
        record[4] = t[2] * b0
        record[5] = t[2] * b1
        record[6] = t[2] * b2
        record[7] = t[2] * b3
        record[8] = -(axes[6] * b0 + axes[7] * b2)
        record[9] = -(axes[6] * b1 + axes[7] * b3)
        half_x, half_y = _surfel_box(record, t2, size)
    _set_box(record, opacity, half_x, half_y)


@njit(forceinline=True)
def _ellipsoid_record(m, low_pass, antialiased, opacity, record):
    """Shape and box of an ellipsoid; leaves the record undrawn if it is degenerate or too faint."""
    xx = m[0] * m[0] + m[1] * m[1] + m[2] * m[2]
    yy = m[3] * m[3] + m[4] * m[4] + m[5] * m[5]
    xy = m[0] * m[3] + m[1] * m[4] + m[2] * m[5]
    raw = _determinant(m)
    det = raw + low_pass * (xx + yy) + low_pass * low_pass
    if not (det > _0 and np.isfinite(det)):
        return
    if antialiased:
        opacity *= np.sqrt(raw / det)
    if not opacity > _ALPHA_MIN:
        return
    xx += low_pass
    yy += low_pass
    t2 = _2 * np.log(opacity / _ALPHA_MIN)
    record[4] = np.sqrt(_HALF * yy / det)
    record[5] = -xy * np.sqrt(_HALF / (yy * det))
    record[6] = np.sqrt(_HALF / yy)
    record[7] = xy / np.sqrt(xx * yy)
    record[8] = np.sqrt(det / (xx * yy))
    _set_box(record, opacity, np.sqrt(t2 * xx), np.sqrt(t2 * yy))


@njit(parallel=True, cache=True)
def backward(
    means, quats, scales, opacities, surfel, pose, lens, size, low_pass, antialiased, records, order, slot_start, rows,
    depth, workers, g_means, g_quats, g_scales, g_opacities, g_features, g_pose, screen, screen_absolute,
):  # fmt: skip
    """Sum each Gaussian's gradient rows and chain them to the world.

    rows: (H, GRADIENT + C) from composite.backward.  order, slot_start: from binning.  Outputs are (N, .) and zeroed by
    the caller; g_pose is (workers, POSE), to be summed by the caller.  g_features: (N, C).  depth: the channel that
    holds the centre's z.
    """
    n = order.size
    channels = g_features.shape[1]
    for worker in prange(workers):
        t = np.empty(3, np.float32)
        rotation = np.empty(9, np.float32)
        axes = np.empty(9, np.float32)
        m = np.empty(6, np.float32)
        g_axes = np.empty(9, np.float32)
        g_rotation = np.empty(9, np.float32)
        g_t = np.empty(3, np.float32)
        g_m = np.empty(6, np.float32)
        total = np.empty(GRADIENT, np.float32)
        for i in range(n * worker // workers, n * (worker + 1) // workers):
            if slot_start[i] == slot_start[i + 1]:
                continue
            g = order[i]
            total[:] = _0
            for slot in range(slot_start[i], slot_start[i + 1]):
                for k in range(GRADIENT):
                    total[k] += rows[slot, k]
                for c in range(channels):
                    g_features[g, c] += rows[slot, GRADIENT + c]
            screen[g, 0] = total[0]
            screen[g, 1] = total[1]
            screen_absolute[g, 0] = total[2]
            screen_absolute[g, 1] = total[3]
            record = records[g]
            _to_camera(means[g], pose, t)
            inverse, x, y, inside_x, inside_y = _screen_axes(
                t, quats[g], scales[g], pose, lens, size, rotation, axes, m
            )
            z = t[2]
            g_axes[:] = _0
            g_t[0] = total[0] * lens[0] / z
            g_t[1] = total[1] * lens[1] / z
            g_t[2] = g_features[g, depth] - (total[0] * lens[0] * t[0] + total[1] * lens[1] * t[1]) / (z * z)
            g_opacity = total[4]
            if surfel:
                _surfel_backward(t, axes, lens, record, total, m, g_axes, g_t)
            else:
                g_opacity = _ellipsoid_backward(
                    t,
                    axes,
                    m,
                    lens,
                    low_pass,
                    antialiased,
                    opacities[g],
                    x,
                    y,
                    inside_x,
                    inside_y,
                    total,
                    g_m,
                    g_axes,
                    g_t,
                )
            g_opacities[g] = g_opacity
            # axes = W R S.
            for j in range(3):
                along = _0
                for k in range(3):
                    w_g = pose[k] * g_axes[j] + pose[3 + k] * g_axes[3 + j] + pose[6 + k] * g_axes[6 + j]
                    g_rotation[3 * k + j] = w_g * scales[g, j]
                    along += w_g * rotation[3 * k + j]
                g_scales[g, j] = along
            _quaternion_gradient(quats[g], inverse, g_rotation, g_quats[g])
            for k in range(3):
                g_means[g, k] += pose[k] * g_t[0] + pose[3 + k] * g_t[1] + pose[6 + k] * g_t[2]
                g_pose[worker, 9 + k] += g_t[k]
                for j in range(3):
                    value = g_t[k] * means[g, j]
                    for a in range(3):
                        value += g_axes[3 * k + a] * scales[g, a] * rotation[3 * j + a]
                    g_pose[worker, 3 * k + j] += value


@njit(forceinline=True)
def _ellipsoid_backward(
    t, axes, m, lens, low_pass, antialiased, opacity, x, y, inside_x, inside_y, total, g_m, g_axes, g_t
):  # fmt: skip
    """From the conic's gradient (total[5:8]) to camera-frame axes and centre; returns dL/d(opacity)."""
    xx = m[0] * m[0] + m[1] * m[1] + m[2] * m[2]
    yy = m[3] * m[3] + m[4] * m[4] + m[5] * m[5]
    xy = m[0] * m[3] + m[1] * m[4] + m[2] * m[5]
    raw = _determinant(m)
    det = raw + low_pass * (xx + yy) + low_pass * low_pass
    xx += low_pass
    yy += low_pass
    # Conic Q = S^-1, so dL/dS = -Q G Q; total[6] is the gradient of the off-diagonal pair together.
    a = yy / det
    b = -xy / det
    c = xx / det
    gxx = total[5]
    gxy = _HALF * total[6]
    gyy = total[7]
    sxx = -(a * a * gxx + _2 * a * b * gxy + b * b * gyy)
    sxy = -(a * b * gxx + (a * c + b * b) * gxy + b * c * gyy)
    syy = -(b * b * gxx + _2 * b * c * gxy + c * c * gyy)
    g_opacity = total[4]
    if antialiased:
        ratio = np.sqrt(raw / det)
        g_opacity = total[4] * ratio
        # d sqrt(raw / det) = (d raw / raw - d det / det) ratio / 2, with d det(A) = det(A) A^-1 : dA.
        half = _HALF * total[4] * opacity * ratio
        shrink = _1 / max(raw, np.float32(1e-20))
        sxx += half * ((yy - low_pass) * shrink - a)
        syy += half * ((xx - low_pass) * shrink - c)
        sxy += half * (-xy * shrink - b)
    for j in range(3):
        g_m[j] = _2 * (sxx * m[j] + sxy * m[3 + j])
        g_m[3 + j] = _2 * (sxy * m[j] + syy * m[3 + j])
    fx = lens[0] / t[2]
    fy = lens[1] / t[2]
    g_x = _0
    g_y = _0
    g_z = _0
    for j in range(3):
        g_axes[j] += fx * g_m[j]
        g_axes[3 + j] += fy * g_m[3 + j]
        g_axes[6 + j] -= fx * x * g_m[j] + fy * y * g_m[3 + j]
        g_x -= fx * axes[6 + j] * g_m[j]
        g_y -= fy * axes[6 + j] * g_m[3 + j]
        g_z -= (m[j] * g_m[j] + m[3 + j] * g_m[3 + j]) / t[2]
    if inside_x:
        g_t[0] += g_x / t[2]
        g_z -= g_x * x / t[2]
    if inside_y:
        g_t[1] += g_y / t[2]
        g_z -= g_y * y / t[2]
    g_t[2] += g_z
    return g_opacity


@njit(forceinline=True)
def _surfel_backward(t, axes, lens, record, total, j, g_axes, g_t):
    """From the gradient of the six shape numbers (total[5:11]) to camera-frame axes and centre."""
    det = _surfel_tangents(t, axes, lens, j)
    if _edge_on(j, det):
        return
    z = t[2]
    b0 = j[3] / det
    b1 = -j[1] / det
    b2 = -j[2] / det
    b3 = j[0] / det
    r0 = axes[6]
    r1 = axes[7]
    # shape = (z B, -r^T B).
    g0 = z * total[5] - r0 * total[9]
    g1 = z * total[6] - r0 * total[10]
    g2 = z * total[7] - r1 * total[9]
    g3 = z * total[8] - r1 * total[10]
    g_z = b0 * total[5] + b1 * total[6] + b2 * total[7] + b3 * total[8]
    g_r0 = -(b0 * total[9] + b1 * total[10])
    g_r1 = -(b2 * total[9] + b3 * total[10])
    # B = J^-1, so dL/dJ = -B^T G B^T.
    p0 = b0 * g0 + b2 * g2
    p1 = b0 * g1 + b2 * g3
    p2 = b1 * g0 + b3 * g2
    p3 = b1 * g1 + b3 * g3
    j0 = -(p0 * b0 + p1 * b1)
    j1 = -(p0 * b2 + p1 * b3)
    j2 = -(p2 * b0 + p3 * b1)
    j3 = -(p2 * b2 + p3 * b3)
    x = t[0] / z
    y = t[1] / z
    fx = lens[0]
    fy = lens[1]
    g_axes[0] += fx * j0
    g_axes[1] += fx * j1
    g_axes[3] += fy * j2
    g_axes[4] += fy * j3
    g_axes[6] += g_r0 - fx * x * j0 - fy * y * j2
    g_axes[7] += g_r1 - fx * x * j1 - fy * y * j3
    g_x = -fx * (j0 * axes[6] + j1 * axes[7])
    g_y = -fy * (j2 * axes[6] + j3 * axes[7])
    g_t[0] += g_x / z
    g_t[1] += g_y / z
    g_t[2] += g_z - (g_x * x + g_y * y) / z
