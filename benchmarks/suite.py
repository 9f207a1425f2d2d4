"""The whole benchmark set at a small size: does every script still run, and what does it say?

    relight bench                       all that this machine can run, in a folder of its own
    relight bench --smoke               the quick ones

Small numbers are for comparing two commits on one machine.  Those of README and docs come from the scripts' own sizes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import DATA, ROOT
from benchmarks.record import ELSEWHERE as FOLDER
from benchmarks.record import RESULTS

LIMIT = 900.0
"""Seconds after which a script is stopped."""


@dataclass(frozen=True)
class Small:
    """A script and the arguments that make it small.  needs: "data" (RELIGHT_DATA), or a program on the path.
    smoke: it takes seconds.
    """

    script: str
    arguments: tuple[str, ...] = ()
    needs: str = ""
    smoke: bool = False


def _small(script: str, arguments: str = "", needs: str = "", smoke: bool = False) -> Small:
    return Small(script, tuple(arguments.split()), needs, smoke)


SUITE: tuple[Small, ...] = (
    _small("splat_speed", "--reference-count 100"),
    _small("shading_furnace", "--samples 1024", smoke=True),
    _small("shading_splitsum", "--samples 64 --size 16", "data"),
    _small("sphere_recovery", "--samples 16 --start 20 --steps 20 --size 24"),
    _small("photometric", "--stride 24 --coarse 32 --steps 5", "data"),
    _small("relightable", "spot --share 0.05", "data"),
    _small("shading_cost", "spot --steps 8 --iterations 40", "data"),
    _small("render_fidelity", "Duck --samples 1", "data"),
    _small("training_iteration", "", "data"),
    _small("prior_material", "--views 8", smoke=True),
    _small("decompose", "--count 2"),
    _small("upscale", "--count 2"),
    _small("score_distillation", "analytic --steps 20 --seeds 1", smoke=True),
    _small("light_aware", "--views 2 --steps 5", "data"),
    _small("image_relighting", "--prior relight --scenes 2 --views 1", "data"),
    _small("panorama", "--prior panorama --crops 1", "data"),
    _small("uplift", "--gaussians 2000 --views 4 --size 64 --measured 5 --channels 16", smoke=True),
    _small("format_speed", "--count 20000", smoke=True),
    _small("fuzz_readers", "--seconds 1", smoke=True),
    _small("compression", "plant --minutes 1 iterations=20 polish=0 views=2 cameras=8 view_size=160", "data"),
    _small("soak", "--kills 2 --fits 1"),
    _small("determinism", "--variants seed"),
    _small("batch_scenes", "--scenes 2 --workers 2 --engine local"),
    _small("large_capture", "--photos 20 --reads 4"),
    _small("portraits", "--heads 1 --size 256", "data"),
    _small("video_relighting", "rendered --frames 4"),
    _small("kernel_compile"),
    _small("viewer_speed", "--moves 2"),
)
ELSEWHERE = {
    "real_relit, captures, relightable_ablation, mesh_known, prior_views": "fits of half an hour and more",
    "tutorial": "a quarter of an hour",
    "splat_scaling, splat_memory": "a million Gaussians: minutes and gigabytes",
    "three_js, spark, headless": "a browser and packages of npm",
    "shading_speed": "Mitsuba 3, Open3D and trimesh with Embree",
    "mesh_assets, selection, edits": "a fit that was made before, as their docstrings say",
    "viewer_slowdown": "a machine that does nothing else",
}
"""What is not in the set, and what it needs."""


@dataclass(frozen=True)
class Outcome:
    """seconds: it took.  results: what it recorded.  trouble: why there is nothing, or ""."""

    small: Small
    seconds: float
    results: tuple[dict, ...] = ()
    trouble: str = ""


def run(folder: Path, chosen: Iterable[Small], told: Callable[[Outcome], None] = lambda outcome: None) -> list[Outcome]:
    """Each in a process of its own, one after another; results go to the folder and nowhere else."""
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = []
    for small in chosen:
        outcomes.append(_one(folder, small))
        told(outcomes[-1])
    return outcomes


def _one(folder: Path, small: Small) -> Outcome:
    if lacks := _lacks(small):
        return Outcome(small, 0.0, trouble=lacks)
    before = {p: p.stat().st_mtime_ns for p in folder.glob("*.json")}
    begun = time.monotonic()
    log = folder / f"{small.script}.log"
    environment = {**os.environ, FOLDER: str(folder.resolve())}
    with log.open("w") as output:
        try:
            code = subprocess.run(
                [sys.executable, "-m", f"benchmarks.{small.script}", *small.arguments],
                cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, timeout=LIMIT, check=False,
            ).returncode  # fmt: skip
            trouble = f"exit code {code}; {log} says more" if code else ""
        except subprocess.TimeoutExpired:
            trouble = f"not done after {LIMIT:.0f} s; {log} says more"
    new = [p for p in sorted(folder.glob("*.json")) if before.get(p) != p.stat().st_mtime_ns]
    results = tuple(json.loads(p.read_text("utf-8")) for p in new)
    if not trouble and not results:
        trouble = f"recorded nothing; {log} says more"
    return Outcome(small, time.monotonic() - begun, results, trouble)


def _lacks(small: Small) -> str:
    if small.needs == "data":
        return "" if DATA.is_dir() else f"skipped: no captures at {DATA} (RELIGHT_DATA names their folder)"
    return "" if not small.needs or shutil.which(small.needs) else f"skipped: needs {small.needs}"


def report(outcomes: Iterable[Outcome]) -> str:
    """A table: what was measured, small, and beside it what is recorded of the full size."""
    lines = [f"{'benchmark':<34}{'small':>14}{'full size':>14}  {'unit':<34}{'seconds':>8}"]
    for outcome in outcomes:
        for result in outcome.results:
            kept = RESULTS / f"{result['name']}.json"
            full = f"{json.loads(kept.read_text('utf-8'))['value']:.4g}" if kept.exists() else ""
            unit = result["unit"] if len(result["unit"]) < 34 else result["unit"][:31] + "..."
            lines.append(f"{result['name']:<34}{result['value']:>14.4g}{full:>14}  {unit:<34}{outcome.seconds:>8.1f}")
        if outcome.trouble:
            lines.append(f"{outcome.small.script:<34}{outcome.trouble}")
    lines += ["", "not in this set:", *(f"  {what}: {why}" for what, why in ELSEWHERE.items())]
    return "\n".join(lines)
