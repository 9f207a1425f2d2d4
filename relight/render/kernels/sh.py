"""Colour of each Gaussian from its spherical harmonics.  Twin: `relight.geometry.sh.radiance`."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from relight.geometry.sh import C0, C1, C2, C3

_C0 = np.float32(C0)
_C1 = np.float32(C1)
_C20, _C21, _C22, _C23, _C24 = (np.float32(c) for c in C2)
_C30, _C31, _C32, _C33, _C34, _C35, _C36 = (np.float32(c) for c in C3)
_0 = np.float32(0.0)
_HALF = np.float32(0.5)
_2 = np.float32(2.0)
_3 = np.float32(3.0)
_4 = np.float32(4.0)
_6 = np.float32(6.0)
_8 = np.float32(8.0)


@njit(forceinline=True)
def _basis(x, y, z, count, b):
    """Write the first `count` (1, 4, 9 or 16) basis values."""
    b[0] = _C0
    if count > 1:
        b[1] = -_C1 * y
        b[2] = _C1 * z
        b[3] = -_C1 * x
    if count > 4:
        xx, yy, zz = x * x, y * y, z * z
        b[4] = _C20 * x * y
        b[5] = _C21 * y * z
        b[6] = _C22 * (_2 * zz - xx - yy)
        b[7] = _C23 * x * z
        b[8] = _C24 * (xx - yy)
        if count > 9:
            b[9] = _C30 * y * (_3 * xx - yy)
            b[10] = _C31 * x * y * z
            b[11] = _C32 * y * (_4 * zz - xx - yy)
            b[12] = _C33 * z * (_2 * zz - _3 * xx - _3 * yy)
            b[13] = _C34 * x * (_4 * zz - xx - yy)
            b[14] = _C35 * z * (xx - yy)
            b[15] = _C36 * x * (xx - _3 * yy)


@njit(forceinline=True)
def _direction_gradient(x, y, z, count, s):
    """d(sum_k s_k basis_k)/d(x, y, z), treating the basis as polynomials."""
    gx = gy = gz = _0
    if count > 1:
        gx -= _C1 * s[3]
        gy -= _C1 * s[1]
        gz += _C1 * s[2]
    if count > 4:
        gx += _C20 * y * s[4] - _2 * _C22 * x * s[6] + _C23 * z * s[7] + _2 * _C24 * x * s[8]
        gy += _C20 * x * s[4] + _C21 * z * s[5] - _2 * _C22 * y * s[6] - _2 * _C24 * y * s[8]
        gz += _C21 * y * s[5] + _4 * _C22 * z * s[6] + _C23 * x * s[7]
    if count > 9:
        xx, yy, zz = x * x, y * y, z * z
        gx += (
            _6 * _C30 * x * y * s[9] + _C31 * y * z * s[10] - _2 * _C32 * x * y * s[11] - _6 * _C33 * x * z * s[12]
            + _C34 * (_4 * zz - _3 * xx - yy) * s[13] + _2 * _C35 * x * z * s[14] + _3 * _C36 * (xx - yy) * s[15]
        )  # fmt: skip
        gy += (
            _3 * _C30 * (xx - yy) * s[9] + _C31 * x * z * s[10] + _C32 * (_4 * zz - xx - _3 * yy) * s[11]
            - _6 * _C33 * y * z * s[12] - _2 * _C34 * x * y * s[13] - _2 * _C35 * y * z * s[14]
            - _6 * _C36 * x * y * s[15]
        )  # fmt: skip
        gz += (
            _C31 * x * y * s[10] + _8 * _C32 * y * z * s[11] + _3 * _C33 * (_2 * zz - xx - yy) * s[12]
            + _8 * _C34 * x * z * s[13] + _C35 * (xx - yy) * s[14]
        )  # fmt: skip
    return gx, gy, gz


@njit(parallel=True, cache=True)
def forward(sh, means, eye, count, workers, colors):
    """colors (N, 3) = max(SH + 1/2, 0) in the direction from eye (3,) to means (N, 3); sh (N, K, 3), K >= count."""
    n = means.shape[0]
    for worker in prange(workers):
        b = np.empty(16, np.float32)
        for g in range(n * worker // workers, n * (worker + 1) // workers):
            x = means[g, 0] - eye[0]
            y = means[g, 1] - eye[1]
            z = means[g, 2] - eye[2]
            inverse = np.float32(1.0) / max(np.sqrt(x * x + y * y + z * z), np.float32(1e-12))
            _basis(x * inverse, y * inverse, z * inverse, count, b)
            red = green = blue = _HALF
            for k in range(count):
                red += b[k] * sh[g, k, 0]
                green += b[k] * sh[g, k, 1]
                blue += b[k] * sh[g, k, 2]
            colors[g, 0] = max(red, _0)
            colors[g, 1] = max(green, _0)
            colors[g, 2] = max(blue, _0)


@njit(parallel=True, cache=True)
def backward(sh, means, eye, count, workers, colors, g_colors, g_sh, g_means, g_eye):
    """Gradients; g_sh (N, K, 3) is written for the first `count` coefficients, g_eye is (workers, 3)."""
    n = means.shape[0]
    for worker in prange(workers):
        b = np.empty(16, np.float32)
        s = np.empty(16, np.float32)
        for g in range(n * worker // workers, n * (worker + 1) // workers):
            red = g_colors[g, 0] if colors[g, 0] > _0 else _0
            green = g_colors[g, 1] if colors[g, 1] > _0 else _0
            blue = g_colors[g, 2] if colors[g, 2] > _0 else _0
            x = means[g, 0] - eye[0]
            y = means[g, 1] - eye[1]
            z = means[g, 2] - eye[2]
            inverse = np.float32(1.0) / max(np.sqrt(x * x + y * y + z * z), np.float32(1e-12))
            x *= inverse
            y *= inverse
            z *= inverse
            _basis(x, y, z, count, b)
            for k in range(count):
                g_sh[g, k, 0] = b[k] * red
                g_sh[g, k, 1] = b[k] * green
                g_sh[g, k, 2] = b[k] * blue
                s[k] = sh[g, k, 0] * red + sh[g, k, 1] * green + sh[g, k, 2] * blue
            gx, gy, gz = _direction_gradient(x, y, z, count, s)
            along = gx * x + gy * y + gz * z
            gx = (gx - along * x) * inverse
            gy = (gy - along * y) * inverse
            gz = (gz - along * z) * inverse
            g_means[g, 0] = gx
            g_means[g, 1] = gy
            g_means[g, 2] = gz
            g_eye[worker, 0] -= gx
            g_eye[worker, 1] -= gy
            g_eye[worker, 2] -= gz


class _Radiance(torch.autograd.Function):
    @staticmethod
    def forward(ctx, sh, means, eye, degree: int):
        arrays = [t.detach().contiguous().numpy() for t in (sh, means, eye)]
        colors = np.empty((means.shape[0], 3), np.float32)
        ctx.args = (*arrays, (degree + 1) ** 2, torch.get_num_threads())
        forward(*ctx.args, colors)
        ctx.colors = colors
        return torch.from_numpy(colors)

    @staticmethod
    def backward(ctx, *gradients):
        sh, means, _, count, workers = ctx.args
        g_sh = np.empty_like(sh)
        g_sh[:, count:] = 0
        g_means = np.empty_like(means)
        g_eye = np.zeros((workers, 3), np.float32)
        backward(*ctx.args, ctx.colors, gradients[0].contiguous().numpy(), g_sh, g_means, g_eye)
        return torch.from_numpy(g_sh), torch.from_numpy(g_means), torch.from_numpy(g_eye.sum(0)), None


def radiance(sh: Tensor, means: Tensor, eye: Tensor, degree: int) -> Tensor:
    """`relight.geometry.sh.radiance` for float32 tensors on the CPU."""
    return _Radiance.apply(sh, means, eye, degree)
