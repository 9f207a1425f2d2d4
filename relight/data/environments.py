"""Pictures of all surroundings on disk to light."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch

from relight.errors import DataError
from relight.images import read_image
from relight.shading.color import srgb_to_linear
from relight.shading.environment import Z_UP, Environment

SNAP = 20.0
"""Degrees: cameras tell which way is up about this well, and worlds are nearly always made with an axis upwards."""


def load_environment(path: str | Path) -> Environment:
    """An equirectangular picture (.hdr, .exr; 8-bit formats are decoded from sRGB) as light with +y up, float32.

    Negative values, which filters ring with, become 0.  Raises DataError for a file that is missing, broken, holds
    NaN or infinity, or isn't twice as wide as high.
    """
    picture = read_image(path)
    radiance = picture.rgb if picture.linear else srgb_to_linear(picture.rgb)
    height, width = radiance.shape[:2]
    # A pixel of tolerance, for odd sizes.
    if abs(width - 2 * height) > 2:
        raise DataError(
            f"{path}: expected an equirectangular picture, twice as wide as high; found {width}x{height}; "
            "convert cube maps and mirror balls first"
        )
    if not bool(torch.isfinite(radiance).all()):
        raise DataError(f"{path}: holds NaN or infinity; export it again")
    return Environment(radiance.clamp_min(0).contiguous())


def upright(light: Environment, up: tuple[float, float, float] | None) -> Environment:
    """The light, given with +y up, stood up in a world whose unit `up` is this; as it is if that is not known.

    Up is taken for the world's axis within `SNAP` degrees of it, if there is one.  For +z up the map's middle column
    lies at -y (see `Environment.z_up`); otherwise the map is turned the shortest way.
    """
    if up is None:
        return light
    towards = torch.nn.functional.normalize(torch.tensor(up), dim=0)
    axis = towards.abs().argmax()
    if float(towards[axis].abs()) > math.cos(math.radians(SNAP)):
        towards = torch.zeros(3).index_fill(0, axis, float(towards[axis].sign()))
    if float(towards[2]) == 1:
        return replace(light, rotation=light.rotation @ torch.tensor(Z_UP))
    y = torch.tensor([0.0, 1.0, 0.0])
    if float(towards[1]) == -1:
        turn = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    else:
        # Rodrigues' formula for the turn that takes `towards` to y.
        cross = torch.linalg.cross(towards, y)
        k = torch.tensor([[0, -cross[2], cross[1]], [cross[2], 0, -cross[0]], [-cross[1], cross[0], 0]])
        turn = torch.eye(3) + k + k @ k / (1 + towards @ y)
    return replace(light, rotation=light.rotation @ turn)
