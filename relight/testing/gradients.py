"""Compare gradients: as vectors, and element by element."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class GradientError:
    """cosine: of the two vectors.  relative_l2: |a - b| / |b|.  bias: signed, sum(a - b) / sum|b|.
    outliers: share of elements with |a - b| > element_bound * max|b|.
    """

    cosine: float
    relative_l2: float
    bias: float
    outliers: float


def gradient_error(found: Tensor, expected: Tensor, *, element_bound: float = 1e-2) -> GradientError:
    """Compare in float64.  Raises ValueError for NaN, infinity, different shapes, or an all-zero `expected`."""
    if found.shape != expected.shape:
        raise ValueError(f"gradients differ in shape: {tuple(found.shape)} and {tuple(expected.shape)}")
    a, b = found.detach().double().flatten(), expected.detach().double().flatten()
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        raise ValueError("gradients contain NaN or infinity")
    if not b.any():
        raise ValueError("the expected gradient is zero everywhere: nothing to compare")
    difference = a - b
    return GradientError(
        cosine=float(torch.nn.functional.cosine_similarity(a, b, dim=0)),
        relative_l2=float(difference.norm() / b.norm()),
        bias=float(difference.sum() / b.abs().sum()),
        outliers=float((difference.abs() > element_bound * b.abs().max()).double().mean()),
    )


def assert_gradients_close(
    found: Tensor,
    expected: Tensor,
    *,
    name: str = "gradient",
    cosine: float = 0.9999,
    relative_l2: float = 1e-2,
    bias: float = 5e-3,
    element_bound: float = 1e-2,
    outliers: float = 0.01,
) -> None:
    """Raise AssertionError naming the first bound that is broken.  An expected zero must be found zero."""
    if expected.numel() == 0 or not expected.any():
        worst = float(found.abs().max()) if found.numel() else 0.0
        if not worst < 1e-6:
            raise AssertionError(f"{name}: expected zero, found up to {worst:.3g}")
        return
    error = gradient_error(found, expected, element_bound=element_bound)
    broken = [
        (error.cosine < cosine, f"cosine {error.cosine:.6f} < {cosine}"),
        (error.relative_l2 > relative_l2, f"relative L2 {error.relative_l2:.3g} > {relative_l2}"),
        (abs(error.bias) > bias, f"bias {error.bias:.3g} beyond {bias}"),
        (
            error.outliers > outliers,
            f"{error.outliers:.2%} of elements are off by more than {element_bound} of the largest",
        ),
    ]
    for is_broken, message in broken:
        if is_broken:
            raise AssertionError(f"{name}: {message}")


def central_differences(function: Callable[[Tensor], Tensor], at: Tensor, step: float) -> Tensor:
    """Gradient of a scalar function by (f(x + h) - f(x - h)) / 2h, one element after another."""
    gradient = torch.zeros_like(at)
    flat = gradient.view(-1)
    for i in range(at.numel()):
        offset = torch.zeros_like(at).view(-1)
        offset[i] = step
        offset = offset.view_as(at)
        with torch.no_grad():
            flat[i] = (function(at + offset) - function(at - offset)) / (2 * step)
    return gradient
