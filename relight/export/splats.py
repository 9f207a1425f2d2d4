"""A run's splat, in any of `relight.formats`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from relight.atomic import replacing
from relight.compress.curve import compressed_file
from relight.errors import MissingPartError
from relight.export.runs import last_stage
from relight.formats import write_splat
from relight.scene_io import load_scene


def export_splat(run: Path, output: Path, format: str, **options: Any) -> None:
    """Write the splat of a run's last stage, or of a stage folder, materials included where the format has a place.

    The file that the stage `compress` made is given as it is, if it has this format and no options are asked for.
    Raises `MissingPartError` if there is none.
    """
    stage = last_stage(run)
    if not options and (made := compressed_file(stage, format)) is not None:
        with replacing(output) as temporary:
            shutil.copyfile(made, temporary)
        return
    gaussians = load_scene(stage).gaussians
    if gaussians is None:
        raise MissingPartError(f"{stage}: holds no splat to export; run a stage that fits one first")
    write_splat(gaussians, output, format=format, **options)
