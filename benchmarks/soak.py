"""Fits in a row with the viewer attached, killed with -9 again and again at random moments: nothing may be lost.

    python -m benchmarks.soak [--kills 100] [--fits 3]

A kill comes within half of the time that a fit takes, so that it dies several times before it is done: at start-up,
while it fits, saves, and moves its results.  After each, the same command goes on.  What is held against it: a finished
stage that is computed again, a checkpoint that goes back, and at the end other files or another number of steps than
those of a fit that nobody killed.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.record import record
from benchmarks.viewer_client import Client
from relight.errors import DataError
from relight.scene_io import load_scene, read_tensors

SAMPLE = Path(__file__).parents[1] / "scenes" / "sample" / "scene.yaml"
STEPS = 150
SCENE = """data: {{path: {capture}, max_size: 64}}
stages:
  - radiance: {{iterations: {steps}, max_gaussians: 3000, initial_gaussians: 2000}}
  - compress: {{count: 1500, iterations: 20, polish: 20, views: 2, cameras: 4, view_size: 64}}
"""
LIFE = 0.5
"""Of the time of a fit that nobody kills: what a process lives at most, if it is to be killed."""
PATIENCE = 900
"""Seconds for what nobody kills."""


class Fit:
    """One process of `relight fit --view`, with a client that moves all the time."""

    def __init__(self, scene: Path, run: Path):
        command = [sys.executable, "-m", "relight", "fit", str(scene), f"output={run}", "--view", "--port", "18080"]
        command += ["--checkpoint-every", "2"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines: list[str] = []
        self.finished, self.pictures = threading.Event(), 0
        self._threads = [threading.Thread(target=t, daemon=True) for t in (self._read, self._look)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.lines.append(line)
            if "the viewer goes on" in line:
                self.finished.set()
        self.finished.set()

    def _look(self) -> None:
        while self.process.poll() is None:
            port = next((m[1] for line in self.lines if (m := re.search(r"localhost:(\d+)", line))), None)
            if port is None:
                time.sleep(0.1)
                continue
            try:
                with Client(int(port), (160, 120)) as client:
                    for turn in range(10**6):
                        client.move(0.1 * turn)
                        time.sleep(0.3)
                        self.pictures = len(client.arrivals)
            except Exception:  # the server was killed, which is what this is about
                time.sleep(0.1)

    def kill(self) -> None:
        self.process.kill()
        self._end()

    def complete(self) -> bool:
        """Wait for the result, then Ctrl-C."""
        self.finished.wait(PATIENCE)
        running = self.process.poll() is None
        self.process.send_signal(signal.SIGINT)
        self._end()
        return running

    def _end(self) -> None:
        self.process.wait()
        for thread in self._threads:
            thread.join()


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
        if not Fit(scene, folder / "whole").complete():
            raise SystemExit("the fit that nobody kills failed")
        whole, expected = time.perf_counter() - begun, files(folder / "whole")
        while done < options.kills or fits < options.fits:
            run = folder / f"{fits}"
            before, fit = state(run), Fit(scene, run)
            life = generator.uniform(0.01, LIFE) * whole if done < options.kills else PATIENCE
            if fit.finished.wait(life):
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
