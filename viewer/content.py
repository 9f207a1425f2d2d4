"""What is shown: the scene of a stage folder, or a splat from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch

from relight.errors import DataError
from relight.export.runs import last_stage
from relight.geometry.gaussians import Gaussians
from relight.scene import Frame, Scene
from relight.scene_io import load_scene, stage_folders


def _ply(path: Path) -> Gaussians:
    from relight.export.ply import read_ply

    return read_ply(path, drop_invalid=True)


SPLATS: Mapping[str, Callable[[Path], Gaussians]] = MappingProxyType({".ply": _ply})
"""File suffix to what reads it."""


@dataclass(frozen=True)
class Content:
    """name: for people.  folder: stage folder or file it came from; None for the state of a fit."""

    name: str
    scene: Scene
    folder: Path | None = None


def load(path: str | Path) -> Content:
    """A run's last stage, a stage folder or a splat file.  Raises DataError for anything else."""
    path = Path(path)
    if path.is_file():
        return Content(path.name, splat_scene(path), path)
    folder = last_stage(path)
    scene = load_scene(folder)
    if scene.gaussians is None:
        raise DataError(f"{folder}: holds no splat to look at; run a stage that fits one")
    return Content(f"{folder.parent.resolve().name} / {folder.name}", scene, folder)


def gallery(path: str | Path) -> dict[str, Path]:
    """The finished stages of a run that hold a splat, by folder name; of a stage folder, those of its run."""
    path = Path(path)
    if path.is_file():
        return {path.name: path}
    run = last_stage(path).parent
    return {p.name: p for p in stage_folders(run) if (p / "gaussians.safetensors").is_file()}


def splat_scene(path: Path) -> Scene:
    """A splat file as a scene; its size is that of the middle nine tenths, and up is -y, as most captures have it."""
    reader = SPLATS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: not a splat file that can be read; expected {', '.join(SPLATS)}, or a run folder")
    gaussians = reader(path)
    if len(gaussians) == 0:
        raise DataError(f"{path}: holds no Gaussians")
    center = gaussians.means.median(0).values
    distance = (gaussians.means - center).norm(dim=1)
    radius = max(float(torch.quantile(distance[:: max(1, len(distance) // 100_000)], 0.9)), 1e-6)
    return Scene(Frame(tuple(center.tolist()), radius, (0.0, -1.0, 0.0)), gaussians=gaussians)  # type: ignore[arg-type]
