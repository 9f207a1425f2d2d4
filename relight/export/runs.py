"""Reading a run folder: its stages in order, and what they reported while they ran."""

from __future__ import annotations

import json
import math
from pathlib import Path

from relight.errors import DataError
from relight.scene_io import MANIFEST, stage_folders


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
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        report.pop("total", None)
        for name, value in report.items():
            if isinstance(value, int | float) and math.isfinite(value):
                curves.setdefault(name, []).append((step, seconds, float(value)))
    return curves
