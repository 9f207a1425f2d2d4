"""Captures on disk to scenes: one reader a format, and `load`, which finds out which."""

from __future__ import annotations

from pathlib import Path

from relight.data import colmap, llff, transforms
from relight.data.common import Options, pictures_in
from relight.errors import DataError
from relight.scene import Scene

READERS = {"transforms": transforms, "colmap": colmap, "llff": llff}
"""In the order they are tried: the first whose `sniff` says yes reads the capture."""


def detect(path: str | Path) -> str | None:
    """Name of the format, or None."""
    path = Path(path)
    return next((name for name, reader in READERS.items() if path.exists() and reader.sniff(path)), None)


def load(
    path: str | Path,
    *,
    format: str = "auto",
    test_every: int = 8,
    max_size: int | None = None,
    masks: str | Path | None = None,
    masks_are_alpha: bool = True,
) -> Scene:
    """Read a capture.

    format: one of READERS, or "auto".  test_every: see `Options`.  max_size: pixels, longest side.
    masks: a folder, relative to the capture.  Raises DataError.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; correct data.path")
    name = detect(path) if format == "auto" else format
    if name is None:
        if pictures_in(path) or pictures_in(path / "images"):
            raise DataError(f"{path}: photos without cameras; `relight new --sfm {path}` solves them")
        known = "COLMAP (sparse/0), transforms.json, transforms_train.json, poses_bounds.npy"
        raise DataError(f"{path}: not a capture that is recognised; expected one of {known}")
    if name not in READERS:
        raise DataError(f"data.format: {name!r} is not known; expected auto, {', '.join(READERS)}")
    mask_folder = None if masks is None else (path if path.is_dir() else path.parent) / masks
    if mask_folder is not None and not mask_folder.is_dir():
        raise DataError(f"{mask_folder}: no such folder of masks; correct data.masks")
    return READERS[name].load(path, Options(test_every, max_size, mask_folder, masks_are_alpha))
