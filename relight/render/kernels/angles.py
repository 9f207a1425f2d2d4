"""Angles in turns for 16 directions at a time, by polynomials.  Errors are below 2e-7, of a turn or of the sine."""

from __future__ import annotations

import numpy as np
from numba import njit

from relight.render.kernels.simd import absolute, floor, maximum, minimum, splat, square_root, where_less

_F = np.float32
_0, _1, _2, _4 = _F(0), _F(1), _F(2), _F(4)
_QUARTER, _HALF = _F(0.25), _F(0.5)
_TINY = _F(1e-30)


def _fit(function, high: float, degree: int) -> tuple[np.float32, ...]:
    """Coefficients, lowest first, of a polynomial for a function on [0, high], by Chebyshev's nodes."""
    nodes = 0.5 * high * (1 + np.cos(np.pi * (np.arange(400) + 0.5) / 400))
    fitted = np.polynomial.Polynomial.fit(nodes, function(nodes), degree, domain=[0, high], window=[0, high])
    return tuple(_F(c) for c in fitted.coef)


# Of squares: sin(2 pi t) / t, cos(2 pi t) up to an eighth of a turn, atan(t) / t / 2 pi up to 1.
_S = _fit(lambda s: 2 * np.pi * np.sinc(2 * np.sqrt(s)), 1 / 64, 3)
_C = _fit(lambda s: np.cos(2 * np.pi * np.sqrt(s)), 1 / 64, 4)
_T = _fit(lambda s: np.arctan(np.sqrt(s)) / np.sqrt(s) / (2 * np.pi), 1.0, 8)
_A = _fit(lambda x: np.arccos(x) / np.sqrt(1 - x) / (2 * np.pi), 1.0, 7)


@njit(forceinline=True)
def sine_cosine(turns):
    """Of angles in turns; more turns cost digits."""
    quarters = floor(turns * _4 + _HALF)
    t = turns - quarters * _QUARTER
    s = t * t
    sine = t * (((s * _S[3] + _S[2]) * s + _S[1]) * s + _S[0])
    cosine = (((s * _C[4] + _C[3]) * s + _C[2]) * s + _C[1]) * s + _C[0]
    quarter = quarters - floor(quarters * _QUARTER) * _4
    even = absolute(quarter - _1)  # 1, 0, 1, 2
    even = absolute(even - _1)  # 0, 1, 0, 1
    half, none = splat(_HALF), splat(_0)
    first, second = where_less(even, half, sine, cosine), where_less(even, half, cosine, none - sine)
    back = splat(_F(1.5))
    return where_less(quarter, back, first, where_less(even, half, none - sine, none - cosine)), where_less(
        quarter, back, second, where_less(even, half, none - cosine, sine)
    )


@njit(forceinline=True)
def angle(y, x):
    """Of (x, y) to the first axis in turns, -1/2 to 1/2, as atan2 counts; 0 for (0, 0)."""
    across, along, none = absolute(y), absolute(x), splat(_0)
    t = minimum(across, along) / maximum(maximum(across, along), splat(_TINY))
    s = t * t
    p = (((s * _T[8] + _T[7]) * s + _T[6]) * s + _T[5]) * s + _T[4]
    turns = t * ((((p * s + _T[3]) * s + _T[2]) * s + _T[1]) * s + _T[0])
    turns = where_less(along, across, _QUARTER - turns, turns)
    turns = where_less(x, none, _HALF - turns, turns)
    return where_less(y, none, none - turns, turns)


@njit(forceinline=True)
def arc_cosine(x):
    """In turns, 0 to 1/2; x outside -1 to 1 counts as the nearer end."""
    a = minimum(absolute(x), splat(_1))
    p = ((a * _A[7] + _A[6]) * a + _A[5]) * a + _A[4]
    turns = square_root(_1 - a) * ((((p * a + _A[3]) * a + _A[2]) * a + _A[1]) * a + _A[0])
    return where_less(x, splat(_0), _HALF - turns, turns)
