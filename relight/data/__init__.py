"""Captures on disk to scenes: one reader a format, and `load`, which finds out which."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol, cast

from relight import plugins
from relight.data import bare, colmap, llff, tensoir, transforms
from relight.data.common import Options, pictures_in
from relight.data.environments import load_maps
from relight.data.models import load_model
from relight.errors import DataError
from relight.scene import Scene
from relight.shading.lighting import Lighting


class Reader(Protocol):
    """One format: a module or an object with these functions.  Other packages offer theirs as entry points of
    `relight.data`."""

    def sniff(self, path: Path) -> bool:
        """Whether an existing file or folder looks like this format.  Quick; raises nothing."""
        ...

    def load(self, path: Path, options: Options) -> Scene:
        """Read it.  Raises DataError."""
        ...


READERS: dict[str, Reader] = {
    "transforms": transforms,
    "colmap": colmap,
    "llff": llff,
    "tensoir": tensoir,
    "model": bare,
}
"""In the order they are tried: the first whose `sniff` says yes reads the capture."""


def detect(path: str | Path) -> str | None:
    """Name of the format, or None.  Readers of other packages are asked when none of ours knows it."""
    path = Path(path)
    if not path.exists():
        return None
    for name in [*READERS, *plugins.offered("data")]:
        with suppress(plugins.PluginError):  # a broken plugin is no reason not to ask the others
            if _reader(name).sniff(path):
                return name
    return None


def _reader(name: str) -> Reader:
    if name in READERS:
        return READERS[name]
    found = plugins.load("data", name)
    if not (callable(getattr(found, "sniff", None)) and callable(getattr(found, "load", None))):
        raise plugins.PluginError(f"data format {name!r}: its entry point has no functions sniff and load")
    return cast("Reader", found)


def load(
    path: str | Path,
    *,
    format: str = "auto",
    test_every: int = 8,
    max_size: int | None = None,
    masks: str | Path | None = None,
    masks_are_alpha: bool = True,
    light: str | Path | None = None,
    light_turn: float = 0.0,
    light_frame: Literal["world", "camera"] = "world",
    mesh: str | Path | None = None,
) -> Scene:
    """Read a capture.

    format: one of READERS, or "auto".  test_every: see `Options`.  max_size: pixels, longest side.
    masks: a folder, relative to the capture.  light: a map or a folder of maps, relative to the capture; light_turn:
    degrees; light_frame: see `Lighting`.  mesh: a model, relative to the capture, which becomes the scene's asset.
    Raises DataError.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; correct data.path")
    name = detect(path) if format == "auto" else format
    if name is None:
        if pictures_in(path) or pictures_in(path / "images"):
            raise DataError(f"{path}: photos without cameras; `relight new --sfm {path}` solves them")
        known = (
            "COLMAP (sparse/0), transforms.json, transforms_train.json, poses_bounds.npy, train_000/metadata.json, "
            "a model file"
        )
        raise DataError(f"{path}: not a capture that is recognised; expected one of {known}")
    known = [*READERS, *plugins.offered("data")]
    if name not in known:
        raise DataError(f"data.format: {name!r} is not known; expected auto, {', '.join(known)}")
    folder = path if path.is_dir() else path.parent
    mask_folder = None if masks is None else folder / masks
    if mask_folder is not None and not mask_folder.is_dir():
        raise DataError(f"{mask_folder}: no such folder of masks; correct data.masks")
    # A model that can't be read is told of before photographs are.
    asset = None if mesh is None else load_model(folder / Path(mesh).expanduser())
    scene = _reader(name).load(path, Options(test_every, max_size, mask_folder, masks_are_alpha))
    if asset is not None:
        scene = replace(scene, asset=asset)
    follows = light_frame == "camera"
    if light is None:
        return replace(scene, light=Lighting(follows_camera=True)) if follows else scene
    # A camera's up is -y.
    up = (0.0, -1.0, 0.0) if follows else scene.frame.up
    names = {view.light or "" for view in scene.views or ()}
    maps = load_maps(folder / Path(light).expanduser(), names)
    turned = {name: m.turned(math.radians(light_turn)).upright(up) for name, m in maps.items()}
    return replace(scene, light=Lighting(turned, follows, measured=True))
