"""A run's splat, in any of `relight.formats`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relight.errors import MissingPartError
from relight.export.runs import last_stage
from relight.formats import write_splat
from relight.scene_io import load_scene


def export_splat(run: Path, output: Path, format: str, **options: Any) -> None:
    """Write the splat of a run's last stage, or of a stage folder, materials included where the format has a place.

    Raises `MissingPartError` if there is none.
    """
    stage = last_stage(run)
    gaussians = load_scene(stage).gaussians
    if gaussians is None:
        raise MissingPartError(f"{stage}: holds no splat to export; run a stage that fits one first")
    write_splat(gaussians, output, format=format, **options)
