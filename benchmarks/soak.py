"""Fits in a row with the viewer attached, killed with -9 again and again at random moments: nothing may be lost.

    python -m benchmarks.soak [--kills 100] [--fits 3]

A quarter of the kills come while a process starts; the others once it has saved something new, or finished a stage, and
a random while after: as it fits, saves, and moves its results.  After each, the same command goes on.  What is held
against it: a finished stage that is computed again, a checkpoint that goes back, and at the end other files or another
number of steps than those of a fit that nobody killed.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.record import record
from benchmarks.viewer_client import WatchedFit
from relight.errors import DataError
from relight.scene_io import load_scene, read_tensors

SAMPLE = Path(__file__).parents[1] / "scenes" / "sample" / "scene.yaml"
STEPS = 150
SCENE = """data: {{path: {capture}, max_size: 64}}
stages:
  - radiance: {{iterations: {steps}, max_gaussians: 3000, initial_gaussians: 2000}}
  - compress: {{count: 1500, iterations: 20, polish: 20, views: 2, cameras: 4, view_size: 64}}
"""
EARLY = 0.25
"""Share of the kills that come at the start: within `START` seconds."""
START = 10.0
LATER = 0.05
"""Of the time of a fit that nobody kills: within which the others come, after something new was saved."""


def _fit(scene: Path, run: Path) -> WatchedFit:
    return WatchedFit(scene, f"output={run}", "--checkpoint-every", "2")


def files(run: Path) -> set[str]:
    return {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}


def state(run: Path) -> tuple[dict[str, int], dict[str, int]]:
    """When stages were finished, and the steps of checkpoints, by stage."""
    done = {p.parent.name: p.stat().st_mtime_ns for p in run.glob("0*/scene.json")}
    steps = {}
    for path in run.glob(".work/*/checkpoint.safetensors"):
        try:
            steps[path.parent.name] = json.loads(read_tensors(path)[1]["relight"])["step"]
        except DataError:
            steps[path.parent.name] = -1
    return done, steps


def losses(before: tuple[dict[str, int], dict[str, int]], after: tuple[dict[str, int], dict[str, int]]) -> list[str]:
    """What was there and is no more."""
    lost = [f"{name} was computed again" for name, when in before[0].items() if after[0].get(name) != when]
    return lost + [
        f"{name} went back from step {step} to {after[1].get(name)}"
        for name, step in before[1].items()
        if name not in after[0] and after[1].get(name, -1) < step
    ]


def _new(fit: WatchedFit, run: Path, before: tuple[dict[str, int], dict[str, int]]) -> bool:
    """Wait until something is on disk that was not; whether all is finished."""
    while not fit.finished.wait(0.1):
        if state(run) != before:
            return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--fits", type=int, default=3)
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs, and theirs, ignore it
    generator, lost, pictures, done, fits = random.Random(0), [], 0, 0, 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        scene = folder / "soak.yaml"
        scene.write_text(SCENE.format(capture=SAMPLE.parent, steps=STEPS))
        begun = time.perf_counter()
        if not _fit(scene, folder / "whole").complete():
            raise SystemExit("the fit that nobody kills failed")
        whole, expected = time.perf_counter() - begun, files(folder / "whole")
        while (done < options.kills or fits < options.fits) and len(lost) < 10:
            run = folder / f"{fits}"
            before, fit = state(run), _fit(scene, run)
            kill = done < options.kills
            if kill and generator.random() < EARLY:
                finished = fit.finished.wait(generator.uniform(0, START))
            elif kill:
                finished = _new(fit, run, before) or fit.finished.wait(generator.uniform(0, LATER * whole))
            else:
                finished = True
            if finished:
                fits += 1
                if not fit.complete():
                    lost.append(f"fit {fits} failed: {''.join(fit.lines[-5:])}")
                else:
                    steps = load_scene(run / "02-compress").history[0].steps
                    if files(run) != expected or steps != STEPS:
                        lost.append(f"fit {fits}: {sorted(files(run) ^ expected)}, {steps} steps")
                print(f"fit {fits} is done", file=sys.stderr, flush=True)
            else:
                fit.kill()
                done += 1
                print(f"kill {done}: {sorted(state(run)[0])} {state(run)[1]}", file=sys.stderr, flush=True)
            pictures += fit.pictures
            lost += losses(before, state(run))
    record(
        "soak",
        done,
        "kills survived" if not lost else f"kills, {len(lost)} losses",
        detail={
            "title": f"{fits} fits in a row, viewer attached, kill -9 at random moments",
            "pictures seen": pictures, "seconds of a fit that nobody kills": whole, "lost": lost,
        },
    )  # fmt: skip
    if lost:
        sys.exit(1)


if __name__ == "__main__":
    main()
