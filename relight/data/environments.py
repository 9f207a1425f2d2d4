"""Pictures of all surroundings on disk to light."""

from __future__ import annotations

from pathlib import Path

import torch

from relight.errors import DataError
from relight.images import read_image
from relight.shading.color import srgb_to_linear
from relight.shading.environment import Environment


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
