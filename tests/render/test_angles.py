"""Angles of 16 directions at a time against NumPy."""

from __future__ import annotations

# pyright: reportArgumentType=false
import numpy as np
from numba import njit

from relight.render.kernels.angles import angle, arc_cosine, sine_cosine
from relight.render.kernels.simd import LANES, load, store

COUNT = 1 << 14


@njit
def _run(t, x, y, sine, cosine, turns, arc):
    for i in range(0, t.size, LANES):
        s, c = sine_cosine(load(t, i))
        store(sine, i, s)
        store(cosine, i, c)
        store(turns, i, angle(load(y, i), load(x, i)))
        store(arc, i, arc_cosine(load(x, i)))


def _found(t, x, y):
    out = [np.empty_like(t) for _ in range(4)]
    _run(t, x, y, *out)
    return out


def test_all_around():
    g = np.random.default_rng(0)
    t = np.concatenate([np.linspace(-1, 1, COUNT // 2), g.uniform(-1, 1, COUNT // 2)]).astype(np.float32)
    x, y = g.uniform(-1, 1, (2, COUNT)).astype(np.float32)
    sine, cosine, turns, arc = _found(t, x, y)
    whole = 2 * np.pi * t.astype(np.float64)
    assert np.abs(sine - np.sin(whole)).max() < 2e-7 and np.abs(cosine - np.cos(whole)).max() < 2e-7
    assert np.abs(turns - np.arctan2(y.astype(np.float64), x) / (2 * np.pi)).max() < 1e-7
    assert np.abs(arc - np.arccos(x.astype(np.float64)) / (2 * np.pi)).max() < 1e-7


def test_corners():
    x = np.array([0, 1, -1, 0, 0, 1e-38, 2, -2, np.nan, 1, -1, 1, -1, 0, 0, 0], np.float32)
    y = np.array([0, 0, 0, 1, -1, 0, 0, 0, 1, 1, 1, -1, -1, 0, 0, 0], np.float32)
    sine, cosine, turns, arc = _found((np.arange(16, dtype=np.float32) - 8) / 4, x, y)
    np.testing.assert_allclose(sine, np.tile([0, 1, 0, -1], 4), atol=1e-7)
    np.testing.assert_allclose(cosine, np.tile([1, 0, -1, 0], 4), atol=1e-7)
    expected = [0, 0, 0.5, 0.25, -0.25, 0, 0, 0.5, np.nan, 0.125, 0.375, -0.125, -0.375, 0, 0, 0]
    np.testing.assert_allclose(turns, expected, atol=1e-7)
    np.testing.assert_allclose(arc[:8], [0.25, 0, 0.5, 0.25, 0.25, 0.25, 0, 0.5], atol=1e-7)
