"""Reading a run folder: its stages in order, and what they reported while they ran."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from relight.errors import MALFORMED, DataError, MissingPartError
from relight.geometry.mesh import Mesh
from relight.scene import Scene
from relight.scene_io import MANIFEST, load_scene, stage_folders
from relight.shading.environment import Environment


@dataclass(frozen=True)
class Asset:
    """mesh: textured, in the scene's world.  y_up: (3, 3) rotation from there to a world with +Y up, as glTF has it.
    scene: all of it.
    """

    mesh: Mesh
    y_up: Tensor
    scene: Scene

    @property
    def light(self) -> Environment | None:
        """That of the photographs, on a map that stands upright in the world with +Y up."""
        light = None if self.scene.light is None else self.scene.light.of_world
        if light is None:
            return None
        rows, columns = light.radiance.shape[:2]
        v, u = torch.meshgrid((torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij")
        # The map's own frame is the world with +Y up.
        directions = Environment(light.radiance, self.y_up).directions(torch.stack([u, v], -1))
        return Environment(light.eval(directions))


def last_asset(path: str | Path) -> Asset:
    """Of a run or stage folder.  Raises `DataError`; `MissingPartError` for one that was not meshed."""
    scene = load_scene(last_stage(path))
    if scene.asset is None:
        raise MissingPartError(f"{path}: has no mesh with textures; add the stage mesh to its scene file and fit again")
    upright = Environment(torch.ones(2, 4, 3)).upright(scene.frame.up)
    return Asset(scene.asset, upright.rotation, scene)


def last_stage(path: str | Path) -> Path:
    """The last finished stage folder of a run; a stage folder stands for itself.  Raises `DataError`."""
    path = Path(path)
    if (path / MANIFEST).is_file():
        return path
    stages = stage_folders(path)
    if not stages:
        found = "no such folder" if not path.exists() else "no finished stage there"
        raise DataError(f"{path}: expected a run or stage folder, {found}; run `relight fit` first")
    return stages[-1]


def read_metrics(stage_folder: Path) -> dict[str, list[tuple[float, float, float]]]:
    """(step, seconds, value) of every metric in metrics.jsonl, in order; empty without the file.

    A last line cut short by a kill and values that are not finite are left out.
    """
    curves: dict[str, list[tuple[float, float, float]]] = {}
    try:
        lines = (stage_folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    for line in lines:
        try:
            report = json.loads(line)
            step, seconds = float(report.pop("step")), float(report.pop("seconds"))
        except MALFORMED:
            continue
        report.pop("total", None)
        for name, value in report.items():
            if isinstance(value, int | float) and math.isfinite(value):
                curves.setdefault(name, []).append((step, seconds, float(value)))
    return curves
