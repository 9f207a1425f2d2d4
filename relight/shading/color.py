"""Between linear light and display values."""

from __future__ import annotations

import torch
from torch import Tensor


def srgb_to_linear(encoded: Tensor) -> Tensor:
    """IEC 61966-2-1: display values to linear light, any shape.  Values above 1 follow the curve; differentiable."""
    high = ((encoded.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(encoded <= 0.04045, encoded / 12.92, high)


def linear_to_srgb(linear: Tensor) -> Tensor:
    """IEC 61966-2-1: linear light to display values, any shape.  Not clipped; finite gradient at 0."""
    high = 1.055 * linear.clamp_min(0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, linear * 12.92, high)


def exposed(radiance: Tensor) -> Tensor:
    """Linear light to display values as a photograph holds it, any shape.

    Above 1, where photographs are white, a hundredth of the slope stays, so that too bright pixels can be mended.
    """
    return linear_to_srgb(torch.where(radiance > 1, 1 + 0.01 * (radiance - 1), radiance))
