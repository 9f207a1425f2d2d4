"""Between linear light and display values; brightness of colours, and colours of heat."""

from __future__ import annotations

import torch
from torch import Tensor

SECOND = 1.438776877e-2
"""Planck's second radiation constant, m K (CODATA)."""
TO_REC709 = (
    (3.2404542, -1.5371385, -0.4985314),
    (-0.9692660, 1.8760108, 0.0415560),
    (0.0556434, -0.2040259, 1.0572252),
)
"""Of CIE XYZ (IEC 61966-2-1)."""
LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Of linear Rec.709 (ITU-R BT.709)."""


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


def luminance(color: Tensor) -> Tensor:
    """(...,) of (..., 3) linear Rec.709."""
    return color @ color.new_tensor(LUMINANCE)


def blackbody(kelvin: float) -> Tensor:
    """(3,) linear Rec.709 of a black body, luminance 1, not negative: below 1900 K blue would be and is cut.

    Planck's law through the CIE 1931 observer as fitted by Wyman et al. (JCGT 2013).
    """
    w = torch.linspace(380.0, 780.0, 81)
    power = (w / 560) ** -5 / torch.expm1(SECOND / (w * 1e-9 * kelvin))

    def lobe(middle: float, below: float, above: float) -> Tensor:
        return torch.exp(-0.5 * ((w - middle) * torch.where(w < middle, below, above)) ** 2)

    x = 0.362 * lobe(442.0, 0.0624, 0.0374) + 1.056 * lobe(599.8, 0.0264, 0.0323) - 0.065 * lobe(501.1, 0.0490, 0.0382)
    y = 0.821 * lobe(568.8, 0.0213, 0.0247) + 0.286 * lobe(530.9, 0.0613, 0.0322)
    z = 1.217 * lobe(437.0, 0.0845, 0.0278) + 0.681 * lobe(459.0, 0.0385, 0.0725)
    color = (torch.tensor(TO_REC709) @ (torch.stack([x, y, z]) @ power)).clamp_min(0)
    return color / luminance(color)
