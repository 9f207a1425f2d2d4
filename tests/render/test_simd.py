"""The vector type against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from relight.render.kernels.simd import (
    LANES,
    absolute,
    exp_negative,
    floor,
    fma,
    lanes,
    largest,
    load,
    maximum,
    minimum,
    splat,
    square_root,
    store,
    total,
    where_less,
)

A = np.linspace(-3, 5, LANES, dtype=np.float32)
B = np.linspace(4, -2, LANES, dtype=np.float32)


@njit
def _arithmetic(a, b, out):
    x, y = load(a, 0), load(b, 0)
    store(out, 0, x + y * np.float32(2) - np.float32(1) / (x * x + np.float32(1)))
    store(out, LANES, fma(x, y, lanes()))
    store(out, 2 * LANES, where_less(x, y, minimum(x, y), absolute(x)))
    store(out, 3 * LANES, square_root(absolute(x)) + floor(y) + maximum(x, y))
    return total(x), largest(y)


def test_arithmetic_matches_numpy():
    out = np.zeros(4 * LANES, np.float32)
    sum_a, max_b = _arithmetic(A, B, out)
    np.testing.assert_allclose(out[:LANES], A + B * 2 - 1 / (A * A + 1), rtol=1e-6)
    np.testing.assert_allclose(out[LANES : 2 * LANES], A * B + np.arange(LANES), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(out[2 * LANES : 3 * LANES], np.where(A < B, np.minimum(A, B), np.abs(A)))
    np.testing.assert_allclose(out[3 * LANES :], np.sqrt(np.abs(A)) + np.floor(B) + np.maximum(A, B), rtol=1e-6)
    assert sum_a == pytest.approx(A.sum(), rel=1e-6)
    assert max_b == B.max()


@njit
def _exp(a, out):
    for i in range(0, a.size, LANES):
        store(out, i, exp_negative(load(a, i)))


@pytest.mark.parametrize(("high", "bound"), [(8.0, 1e-6), (86.0, 5e-6)])
def test_exp_relative_error(high, bound):
    x = np.linspace(0, high, 4096, dtype=np.float32)
    out = np.empty_like(x)
    _exp(x, out)
    assert np.abs(out / np.exp(-x.astype(np.float64)) - 1).max() < bound


def test_exp_far_out_is_tiny_and_finite():
    x = np.array([100.0, 1e4, 1e30, np.inf] * 4, np.float32)
    out = np.empty_like(x)
    _exp(x, out)
    assert np.isfinite(out).all()
    assert (out >= 0).all()
    assert out.max() < 1e-37


@njit
def _nan_select(a, out):
    x = load(a, 0)
    store(out, 0, where_less(x, splat(np.float32(1)), splat(np.float32(10)), splat(np.float32(20))))


def test_nan_compares_false():
    out = np.zeros(LANES, np.float32)
    _nan_select(np.full(LANES, np.nan, np.float32), out)
    assert (out == 20).all()
