"""High dynamic range as two pictures of 0 to 1, as networks and 8-bit files hold it, and back.

One shows what a photograph would, the other the lamps: DiffusionRenderer (Liang et al., arXiv 2501.18590) gives
networks their lights so.  The scale is fixed, so nothing needs to be remembered beside the pictures.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from relight.shading.color import linear_to_srgb, srgb_to_linear

WHITE = 16.0
"""Radiance that the display-like picture shows as 1; above, it tells nothing."""
MOST = 1e4
"""Radiance that the logarithmic picture shows as 1."""
BLEND = (2.0, 8.0)
"""Radiance between which `decode` goes from one picture to the other: there 8 bits tell about as much in both."""


def encode(radiance: Tensor) -> tuple[Tensor, Tensor]:
    """Display-like and logarithmic picture, any shape, 0 to 1, of linear radiance, of which 0 to `MOST` is kept.

    The first is sRGB of Reinhard's curve with a white point, x (1 + x / WHITE^2) / (1 + x) (SIGGRAPH 2002, eq. 4), the
    second sRGB of log(1 + x) / log(1 + MOST).
    """
    x = radiance.clamp(0, MOST)
    display = (x * (1 + x / (WHITE * WHITE)) / (1 + x)).clamp_max(1)
    return linear_to_srgb(display), linear_to_srgb(torch.log1p(x) / math.log1p(MOST))


def decode(display: Tensor, logarithmic: Tensor) -> Tensor:
    """Inverse of `encode`, any shape: dark from the first picture, bright from the second, smooth between `BLEND`.

    Where the two contradict each other, as a network's do, the logarithmic one says which of them is believed.
    Differentiable; values outside 0 to 1 are cut.
    """
    bright = from_logarithmic(logarithmic)
    low, high = BLEND
    # Smooth in the logarithm, in which light is judged.
    share = ((bright.clamp(low, high) / low).log() / math.log(high / low)).clamp(0, 1)
    share = share * share * (3 - 2 * share)
    return torch.lerp(from_display(display), bright, share)


def from_display(display: Tensor) -> Tensor:
    """Radiance of the first picture alone, at most WHITE."""
    y = srgb_to_linear(display.clamp(0, 1))
    # The root above 0 of x^2 / WHITE^2 + (1 - y) x - y, without cancellation.
    lead = 1 - y
    return 2 * y / (lead + (lead * lead + 4 * y / (WHITE * WHITE)).sqrt())


def from_logarithmic(logarithmic: Tensor) -> Tensor:
    """Radiance of the second picture alone, at most MOST."""
    return torch.expm1(srgb_to_linear(logarithmic.clamp(0, 1)) * math.log1p(MOST))
