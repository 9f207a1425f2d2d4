"""Where the truth about a capture's materials and lights lies: the layout of the sample scene and of synthetic sets."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from relight.errors import DataError, RelightError

if TYPE_CHECKING:
    from relight.fit.relighting import Truth
    from relight.shading.environment import Environment
    from relight.views import Views


def find_truth(folder: Path, views: Views, lights: Path | None, up, rotate: float) -> Truth:
    """Read what there is of FOLDER/test_albedo, test_roughness, test_metallic, test_normal, relight_NAME, each with one
    picture for every view, of the same name, and the lights that transforms_test.json names (`environment`,
    `relights`), or NAME.hdr, NAME.exr in `lights`.

    up, rotate: see `Environment.upright`; degrees.  Raises DataError for a light that isn't found and for
    pictures that do not match the views.
    """
    from relight.fit.relighting import Truth

    named = _named(folder)
    environment = named.get("environment")
    pictures = {
        name: _pictures(folder / f"test_{name}", views) for name in ("albedo", "roughness", "metallic", "normal")
    }
    relit = {}
    for place in sorted(p for p in folder.glob("relight_*") if p.is_dir()):
        file = named.get("relights", {}).get(place.name, place.name.removeprefix("relight_"))
        relit[place.name.removeprefix("relight_")] = (
            _light(file, folder, lights, up, rotate),
            _pictures(place, views),
        )
    light = None
    if environment:
        try:
            light = _light(environment, folder, lights, up, rotate)
        except DataError:
            light = None  # only one score needs it
    return Truth(**pictures, relit=relit, light=light)


def capture_folder(views: Views) -> Path | None:
    """The folder above that of the views' pictures, if truth about materials is there."""
    folder = views[0].image_path.parent.parent
    return folder if (folder / "test_albedo").is_dir() or any(folder.glob("relight_*")) else None


def _named(folder: Path) -> dict:
    for name in ("transforms_test.json", "transforms.json", "transforms_train.json"):
        path = folder / name
        if path.is_file():
            try:
                return json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise DataError(f"{path}: not JSON ({error})") from error
    return {}


def _pictures(folder: Path, views: Views) -> list[Path]:
    """One a view, by name; none if there is no such folder."""
    if not folder.is_dir():
        return []
    by_name = {path.stem: path for path in sorted(folder.iterdir())}
    missing = [view.image_path.stem for view in views if view.image_path.stem not in by_name]
    if missing:
        raise DataError(f"{folder}: no picture named {missing[0]}; expected one for each of the {len(views)} views")
    return [by_name[view.image_path.stem] for view in views]


def _light(name: str, folder: Path, lights: Path | None, up, rotate: float) -> Environment:
    from relight.data.environments import find_map, load_environment

    try:
        found = find_map(name, [folder, *([lights] if lights is not None else [])])
    except DataError as error:
        raise DataError(f"{error}; name its folder with --lights") from error
    return load_environment(found).turned(math.radians(rotate)).upright(up)


def check_folder(folder: Path) -> None:
    """Raise RelightError unless it is one."""
    if not folder.is_dir():
        raise RelightError(f"{folder}: no such folder")
