"""Mean structural similarity and its gradient.  Twin: `relight.fit.losses.ssim_map`."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from relight.render.kernels.simd import LANES, fma, load, splat, store

RADIUS = 5
_TAPS = 2 * RADIUS + 1
_WEIGHTS = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / 1.5) ** 2)
_WEIGHTS = (_WEIGHTS / _WEIGHTS.sum()).astype(np.float32)
_C1 = np.float32(0.01**2)
_C2 = np.float32(0.03**2)
_0 = np.float32(0.0)
_2 = np.float32(2.0)


@njit(parallel=True, cache=True)
def _forward(x, y, valid, rows, stride, workers, weights, total, d_mean, d_square, d_cross):
    """x, y: padded planes, flattened, `rows` picture rows of `stride` floats with RADIUS zero rows above and below and
    RADIUS zeros before each row.  valid: one row, 1 in the picture and 0 right of it.  total: (workers, LANES) sums of
    SSIM.  d_*: like x, derivatives of SSIM by the local mean, square and cross moments of x.
    """
    blocks = stride // LANES - 1
    for worker in prange(workers):
        first = rows * worker // workers
        last = rows * (worker + 1) // workers
        size = (last - first + 2 * RADIUS) * stride
        means = np.empty(size, np.float32)
        others = np.empty(size, np.float32)
        squares = np.empty(size, np.float32)
        others2 = np.empty(size, np.float32)
        crosses = np.empty(size, np.float32)
        for row in range(first, last + 2 * RADIUS):
            for block in range(blocks):
                at = row * stride + block * LANES
                mx = splat(_0)
                my = splat(_0)
                xx = splat(_0)
                yy = splat(_0)
                xy = splat(_0)
                for k in range(_TAPS):
                    w = splat(weights[k])
                    a = load(x, at + k)
                    b = load(y, at + k)
                    wa = w * a
                    wb = w * b
                    mx = mx + wa
                    my = my + wb
                    xx = fma(wa, a, xx)
                    yy = fma(wb, b, yy)
                    xy = fma(wa, b, xy)
                to = (row - first) * stride + block * LANES
                store(means, to, mx)
                store(others, to, my)
                store(squares, to, xx)
                store(others2, to, yy)
                store(crosses, to, xy)
        for row in range(first, last):
            for block in range(blocks):
                mx = splat(_0)
                my = splat(_0)
                xx = splat(_0)
                yy = splat(_0)
                xy = splat(_0)
                for k in range(_TAPS):
                    w = splat(weights[k])
                    at = (row - first + k) * stride + block * LANES
                    mx = fma(w, load(means, at), mx)
                    my = fma(w, load(others, at), my)
                    xx = fma(w, load(squares, at), xx)
                    yy = fma(w, load(others2, at), yy)
                    xy = fma(w, load(crosses, at), xy)
                product = mx * my
                a1 = product * _2 + _C1
                a2 = (xy - product) * _2 + _C2
                norms = fma(mx, mx, my * my)
                b1 = norms + _C1
                b2 = xx + yy - norms + _C2
                value = a1 * a2 / (b1 * b2)
                value = value * load(valid, block * LANES)
                store(total, worker * LANES, load(total, worker * LANES) + value)
                at = (row + RADIUS) * stride + block * LANES + RADIUS
                inverse_b2 = value / b2
                cross = value * _2 / a2
                store(d_cross, at, cross)
                store(d_square, at, splat(_0) - inverse_b2)
                store(d_mean, at, my * (value * _2 / a1 - cross) + mx * _2 * (inverse_b2 - value / b1))


@njit(parallel=True, cache=True)
def _backward(x, y, d_mean, d_square, d_cross, rows, width, stride, workers, weights, scale, gradient):
    """gradient (rows * width): scale * d(sum of SSIM)/dx; arrays as `_forward` left them, zero outside the picture."""
    blocks = stride // LANES - 1
    for worker in prange(workers):
        first = rows * worker // workers
        last = rows * (worker + 1) // workers
        size = (last - first + 2 * RADIUS) * stride
        means = np.empty(size, np.float32)
        squares = np.empty(size, np.float32)
        crosses = np.empty(size, np.float32)
        line = np.empty(stride, np.float32)
        for row in range(first, last + 2 * RADIUS):
            for block in range(blocks):
                at = row * stride + block * LANES
                m = splat(_0)
                s = splat(_0)
                c = splat(_0)
                for k in range(_TAPS):
                    w = splat(weights[k])
                    m = fma(w, load(d_mean, at + k), m)
                    s = fma(w, load(d_square, at + k), s)
                    c = fma(w, load(d_cross, at + k), c)
                to = (row - first) * stride + block * LANES
                store(means, to, m)
                store(squares, to, s)
                store(crosses, to, c)
        for row in range(first, last):
            for block in range(blocks):
                m = splat(_0)
                s = splat(_0)
                c = splat(_0)
                for k in range(_TAPS):
                    w = splat(weights[k])
                    at = (row - first + k) * stride + block * LANES
                    m = fma(w, load(means, at), m)
                    s = fma(w, load(squares, at), s)
                    c = fma(w, load(crosses, at), c)
                at = (row + RADIUS) * stride + block * LANES + RADIUS
                value = m + load(x, at) * s * _2 + load(y, at) * c
                store(line, block * LANES, value * scale)
            for column in range(width):
                gradient[row * width + column] = line[column]


def _padded(image: np.ndarray) -> np.ndarray:
    """(H, W) to rows of whole vectors with a border of zeros; one spare vector lets the last load run over."""
    height, width = image.shape
    stride = (-(-(width + 2 * RADIUS) // LANES) + 1) * LANES
    out = np.zeros((height + 2 * RADIUS, stride), np.float32)
    out[RADIUS : RADIUS + height, RADIUS : RADIUS + width] = image
    return out


class _MeanSsim(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        images = x.detach().numpy(), y.detach().numpy()
        channels, height, width = images[0].shape
        workers = min(torch.get_num_threads(), height)
        gradient = np.empty((channels, height * width), np.float32)
        scale = np.float32(1 / (channels * height * width))
        value = 0.0
        for c in range(channels):
            a, b = _padded(images[0][c]), _padded(images[1][c])
            stride = a.shape[1]
            total = np.zeros((workers, LANES), np.float32)
            partial = [np.zeros_like(a) for _ in range(3)]
            flat = [p.reshape(-1) for p in partial]
            valid = np.zeros(stride, np.float32)
            valid[:width] = 1
            _forward(a.reshape(-1), b.reshape(-1), valid, height, stride, workers, _WEIGHTS, total.reshape(-1), *flat)
            value += float(total.sum(dtype=np.float64))
            args = (a.reshape(-1), b.reshape(-1), *flat, height, width, stride, workers, _WEIGHTS, scale)
            _backward(*args, gradient[c])
        ctx.gradient = torch.from_numpy(gradient.reshape(channels, height, width))
        return x.new_tensor(value * float(scale))

    @staticmethod
    def backward(ctx, *gradients):
        return ctx.gradient * gradients[0], None


def mean_ssim(x: Tensor, y: Tensor) -> Tensor:
    """Scalar mean over (C, H, W) float32 CPU images; differentiable in x only."""
    return _MeanSsim.apply(x, y)
