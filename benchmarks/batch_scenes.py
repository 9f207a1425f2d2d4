"""Eight small scenes through `relight batch`: two workers of Ray against one after another, and a worker that dies.

    python -m benchmarks.batch_scenes [--scenes 8] [--workers 2] [--engine ray]

Wall times are of whole commands, start-up included.  Half way through another batch one worker is killed with -9:
stages that were finished then must not be computed again, and all scenes must be done at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.record import record
from relight.testing.capture import write_capture

STEPS = 60
STAGES = f"""stages:
  - radiance: {{iterations: {STEPS}, initial_gaussians: 300, max_gaussians: 500, sh_degree: 1}}
  - compress: {{count: 150, iterations: 0, polish: 0, views: 2, cameras: 2}}
"""


def write_scene(folder: Path, number: int) -> Path:
    """A ball in a colour of its own, with a scene file."""
    r, g, b = np.random.default_rng(number).random(3)
    write_capture(folder / "photos", size=48, tint=(r, g, b))
    (folder / "scene.yaml").write_text(f"data: photos\noutput: {folder}/run\n{STAGES}")
    return folder / "scene.yaml"


def write_scenes(folder: Path, count: int) -> list[Path]:
    return [write_scene(folder / f"ball{i}", i) for i in range(count)]


def batch(scenes: list[Path], report: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "relight", "batch", *map(str, scenes), "--quiet", "--report", str(report), *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def timed(scenes: list[Path], report: Path, *words: str) -> float:
    begun = time.perf_counter()
    if batch(scenes, report, *words).wait():
        raise SystemExit(f"a scene failed: {report}")
    return time.perf_counter() - begun


def finished(folder: Path) -> dict[str, int]:
    """Stages that are done, and when they were."""
    found = sorted(folder.glob("ball*/run/*/scene.json"))
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in found}


def killed_half_way(folder: Path, count: int, *words: str) -> tuple[int, int]:
    """Stages that were done when a worker died, and how many of them were computed again."""
    process = batch(write_scenes(folder, count), folder / "report.html", *words)
    while len(finished(folder)) < count and process.poll() is None:
        time.sleep(0.05)
    # One that works: whose lock says so.  Between two scenes there may be none.
    worker = None
    while worker is None and process.poll() is None:
        said = [lock.read_text().split() for lock in folder.glob("ball*/run/.lock")]
        worker = next((int(words[1]) for words in said if len(words) > 1), None)
        time.sleep(0.02)
    if worker is None:
        raise SystemExit("no worker to kill")
    os.kill(worker, signal.SIGKILL)
    before = finished(folder)
    if process.wait():
        raise SystemExit("a scene failed after the kill")
    after = finished(folder)
    document = json.loads((folder / "report.json").read_text())
    if len(after) != 2 * count or max(o["tries"] for o in document["outcomes"]) != 2:
        raise SystemExit(f"expected {2 * count} stages and one scene tried twice: {len(after)}")
    return len(before), sum(after[name] != when for name, when in before.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--engine", choices=("local", "ray"), default="ray")
    options = parser.parse_args()
    several = ["--engine", options.engine, "--workers", str(options.workers)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "warm").mkdir()
        timed(write_scenes(folder / "warm", 1), folder / "warm.html")  # kernels are compiled once a machine
        one = timed(write_scenes(folder / "one", options.scenes), folder / "one.html", "--workers", "1")
        many = timed(write_scenes(folder / "many", options.scenes), folder / "many.html", *several)
        kept, lost = killed_half_way(folder / "killed", options.scenes, *several)
    record(
        "batch_scenes",
        many,
        "s",
        peer="one after another",
        ratio=one / many,
        detail={
            "title": f"{options.scenes} small scenes, {options.workers} workers of {options.engine}",
            "one after another, s": one, "load average": os.getloadavg()[0],
            "stages finished before a worker was killed": kept, "of them computed again": lost,
        },
    )  # fmt: skip
    if lost:
        raise SystemExit("a finished stage was lost")


if __name__ == "__main__":
    main()
