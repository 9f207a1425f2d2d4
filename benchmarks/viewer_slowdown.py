"""What the viewer costs a fit: its steps, with 0, 1 and 3 clients that move all the time, against steps without it.

    python -m benchmarks.viewer_slowdown [--minutes 5]

One fit runs all the time.  It is timed in rounds: turns with 0, 1 and 3 clients between two without the viewer, every
second round in the opposite order.  A turn is compared with those two of its own round alone, so that neither the fit's
own course nor what else the machine does, if it lasts longer than a round, counts.  What noise remains is stated: the
same comparison of the two turns without the viewer with each other.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from benchmarks.record import record
from benchmarks.viewer_speed import subject
from relight.cli.view import viewer_module
from relight.data import load
from relight.export.images import write_image
from relight.geometry.camera import Camera
from relight.geometry.transforms import look_at
from relight.pipeline.events import Loaded, Progress, StageStarted
from relight.scene import Points, Scene
from relight.stages.radiance import Radiance
from relight.testing.job import MemoryJob

CLIENTS = (0, 1, 3)
FIRST, LAST = "first without", "last without"
OPTIONS = {"initial_gaussians": 20_000, "max_gaussians": 20_000, "coarse_until": 0.0, "refine_start": 0.999}
SETTLING = 0.5
"""Seconds of a turn that do not count."""


class Clock(MemoryJob):
    """Adds up the fit's steps for the turn that is on.

    live: told of steps as the pipeline tells it, but in turns without the viewer.
    """

    def __init__(self, folder: Path, live, stop: threading.Event):
        super().__init__(folder)
        self.live, self.stop, self.turn = live, stop, FIRST
        self.steps: list[float] = []
        self._last, self._counts_from = 0.0, math.inf

    def begin(self, turn: str) -> None:
        """From here on."""
        self.turn, self.steps, self._counts_from = turn, [], time.perf_counter() + SETTLING

    def report(self, step, total, metrics=None, *, scene=None):
        """See `Job`.  A step is from one report to the next, the listener's time included."""
        now = time.perf_counter()
        if self._last > self._counts_from:
            self.steps.append(now - self._last)
        if self.turn not in (FIRST, LAST) and (metrics or scene is not None or step % 5 == 0):
            self.live(Progress(0, step, total, 0.0, dict(metrics or {}), scene))
        if self.stop.is_set():
            raise KeyboardInterrupt
        self._last = now


def rounds(minutes: float, seconds: float) -> list[dict[str, float]]:
    """Mean seconds of a step in each turn of each round."""
    stop = threading.Event()
    live = viewer_module("live").Live(stop)
    server = viewer_module("server").Server(port=0)
    app = viewer_module("app").open_app(None, server, None, live)
    found: list[dict[str, float]] = []
    with app.serving(), tempfile.TemporaryDirectory() as folder:
        scene = capture(Path(folder))
        live(Loaded(scene, ("radiance",)))
        live(StageStarted(0, 0))
        clock = Clock(Path(folder), live, stop)

        def run() -> None:
            try:
                Radiance(iterations=1_000_000, **OPTIONS).run(scene, clock)
            except KeyboardInterrupt:
                return

        fit = threading.Thread(target=run)
        fit.start()
        clock.turn = "0"
        while live.scene[0] == 0:
            time.sleep(0.2)
        # In a process of their own, as browsers are: here they would take the fit's interpreter.
        command = [sys.executable, "-m", "benchmarks.viewer_client", str(server.viser.get_port())]
        with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as clients:
            assert clients.stdin is not None

            def turn(name: str, count: int) -> float:
                clients.stdin.write(f"{count}\n")  # type: ignore[union-attr]
                clients.stdin.flush()  # type: ignore[union-attr]
                while len(app.sessions) != count:
                    time.sleep(0.02)
                clock.begin(name)
                time.sleep(SETTLING + seconds)
                while len(clock.steps) < 3:
                    time.sleep(0.1)
                return statistics.mean(clock.steps)

            turn("3", 3)  # kernels that only the viewer needs are compiled
            until = time.monotonic() + 60 * minutes
            while time.monotonic() < until or len(found) < 2:
                order = CLIENTS if len(found) % 2 == 0 else CLIENTS[::-1]
                names = [FIRST, *map(str, order), LAST]
                found.append({name: turn(name, 0 if name in (FIRST, LAST) else int(name)) for name in names})
            clients.stdin.close()
        stop.set()
        fit.join()
    return found


def slower(of_rounds: Sequence[Mapping[str, float]], turn: str) -> dict[str, float]:
    """Per cent that steps of a turn take longer than those without the viewer of the same round: median, quartiles,
    and the median's standard error.  For LAST: longer than FIRST."""
    percent = []
    for times in of_rounds:
        base = times[FIRST] if turn == LAST else (times[FIRST] + times[LAST]) / 2
        percent.append(100 * (times[turn] / base - 1))
    low, middle, high = statistics.quantiles(percent, n=4, method="inclusive")
    # Of a normal distribution the quartiles are 1.35 standard deviations apart, and its median's error is 1.25 times
    # its mean's.
    error = 1.25 * (high - low) / 1.35 / math.sqrt(len(percent))
    named = {"median": middle, "standard error": error, "lower quartile": low, "upper quartile": high}
    return {name: round(value, 1) for name, value in named.items()}


def capture(folder: Path) -> Scene:
    """Photographs of a ball, 256 pixels, and points on it."""
    capture = folder / "capture"
    (capture / "images").mkdir(parents=True)
    scene, frames, focal = subject(20_000), [], 128 / math.tan(0.4)
    painter = viewer_module("splat_painter").SplatPainter(scene, None)
    display = viewer_module("display").Display("radiance")
    for i in range(16):
        eye = 4 * torch.tensor([math.sin(0.4 * i), 0.3, math.cos(0.4 * i)])
        camera = Camera.from_fov(look_at(eye, torch.zeros(3), torch.tensor([0.0, 1.0, 0.0])), 0.8, 256, 256)
        write_image(capture / "images" / f"{i:03d}.png", painter.paint(camera, display))
        pose = camera.world_from_camera.clone()
        pose[:3, 1:3] *= -1
        frames.append({"file_path": f"images/{i:03d}.png", "transform_matrix": pose.tolist()})
    head = {"fl_x": focal, "fl_y": focal, "cx": 128, "cy": 128, "w": 256, "h": 256}
    (capture / "transforms.json").write_text(json.dumps(head | {"frames": frames}))
    assert scene.gaussians is not None
    loaded = load(capture)
    points = Points(scene.gaussians.means, torch.full_like(scene.gaussians.means, 0.5))
    return Scene(loaded.frame, views=loaded.views, points=points)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=4.0, help="of measuring")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    found = rounds(arguments.minutes, arguments.seconds)
    costs = {f"{turn} client{'' if turn == 1 else 's'}": slower(found, str(turn)) for turn in CLIENTS}
    record(
        "viewer_slowdown", costs["1 client"]["median"], "per cent",
        detail={
            "title": "viewer: steps of a fit take longer with one client that moves all the time",
            "per cent longer": {**costs, "no viewer, twice": slower(found, LAST)},
            "load average before and after": [round(load, 1), round(os.getloadavg()[0], 1)],
            "rounds": len(found), "seconds of a turn": arguments.seconds,
            "milliseconds of a step without": round(1e3 * statistics.median(r[FIRST] for r in found), 1),
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
