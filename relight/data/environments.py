"""Pictures of all surroundings on disk to light."""

from __future__ import annotations

from collections.abc import Iterable
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


def load_maps(path: Path, names: Iterable[str]) -> dict[str, Environment]:
    """What lit photographs that give `names` ("" for none): one map for all, or that of each name from a folder.

    Raises DataError, also if the folder lacks one.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder of light; correct data.light")
    if path.is_file():
        return {"": load_environment(path)}
    return {name: load_environment(find_map(name, [path])) for name in sorted(names)}


def find_map(name: str, folders: Iterable[Path]) -> Path:
    """NAME.exr or NAME.hdr in the first of the folders that has it.  Raises DataError."""
    folders = list(folders)
    stem = name.removesuffix(".hdr").removesuffix(".exr")
    candidates = [folder / f"{stem}{suffix}" for folder in folders for suffix in (".exr", ".hdr")]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise DataError(f"light {name!r}: no {stem}.exr or .hdr in {' or '.join(str(p) for p in folders)}")
    return found
