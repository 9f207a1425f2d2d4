"""How soon the viewer answers, and what it costs a fit: through its real websocket, without a browser's own time.

    python -m benchmarks.viewer_speed

100,000 Gaussians with materials under a studio's light, a window of 640x480.  The first picture after a movement comes
at a reduced size, the full one when the camera rests.  The fit's steps are timed in turns with 0, 1 and 3 clients that
move all the time, beside turns without the viewer, in one run.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import record
from benchmarks.viewer_client import Client
from relight.cli.view import viewer_module
from relight.data import load
from relight.export.images import write_image
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.geometry.transforms import look_at
from relight.pipeline.events import Loaded, Progress, StageStarted
from relight.scene import Frame, Points, Scene
from relight.stages.radiance import Radiance
from relight.testing.job import MemoryJob

COUNT = 100_000
STILL_PAUSE = 0.15
"""Seconds that the viewer waits for a further movement before it draws in full; a part of the time to the full one."""


def subject(count: int = COUNT) -> Scene:
    """A ball of Gaussians with materials, half metal."""
    generator = torch.Generator().manual_seed(0)
    outwards = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    color = 0.2 + 0.6 * torch.rand(count, 3, generator=generator)
    gaussians = Gaussians(
        means=outwards * (1 + 0.02 * torch.randn(count, 1, generator=generator)),
        quats_wxyz=torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=1),
        log_scales=torch.full((count, 3), math.log(0.012)),
        logit_opacity=torch.full((count,), 2.0),
        sh=torch.cat([((color - 0.5) / 0.282)[:, None], 0.05 * torch.randn(count, 15, 3, generator=generator)], 1),
        channels={
            "base_color": color, "roughness": torch.rand(count, generator=generator), "normal": outwards,
            "metallic": (torch.rand(count, generator=generator) > 0.5).float(), "progress": torch.full((count,), 0.9),
        },
    )  # fmt: skip
    return Scene(Frame((0.0, 0.0, 0.0), 1.2, (0.0, 1.0, 0.0)), gaussians=gaussians)


def answers(moves: int) -> dict[str, dict[str, float]]:
    """Milliseconds from a movement to the first and to the full picture, by what is drawn; medians."""
    content, lights = viewer_module("content"), viewer_module("lights")
    found: dict[str, dict[str, float]] = {}
    scene = subject()
    server = viewer_module("server").Server(port=0)
    app = viewer_module("app").App(server, lights.Library(None, scene.frame.up), {}, "subject")
    app.keep("subject", content.Content("subject", scene))
    app.sources["subject"] = content.Source(Path())
    with app.serving(), Client(server.viser.get_port()) as client:
        client.wait(client.move(0.0), 640)
        session = next(iter(app.sessions.values()))
        for name, mode, environment in (
            ("relit", "final", "built-in studio"), ("captured look", "radiance", ""), ("normals", "normal", "")
        ):  # fmt: skip
            session.change(mode=mode)
            session.relight(environment=environment)
            first, full = [], []
            for i in range(moves + 3):
                time.sleep(0.5)
                begun = client.move(0.3 * i)
                quick = client.wait(begun)
                done = client.wait(begun, 640)
                if i >= 3:
                    first.append(1e3 * (quick.seconds - begun))
                    full.append(1e3 * (done.seconds - begun))
            widths = [a.width for a in client.arrivals if a.width < 640]
            found[name] = {
                "first": round(statistics.median(first)), "full": round(statistics.median(full)),
                "first width": widths[-1] if widths else 640,
            }  # fmt: skip
    return found


def slowdown(seconds: float, rounds: int) -> dict[str, float]:
    """Per cent that a fit's steps take longer, by the number of clients; means over all steps of their turns."""
    turns = ("none", 0, 1, 3)
    times: dict[object, list[float]] = {turn: [] for turn in turns}
    stop = threading.Event()
    state: dict[str, Any] = {"turn": "none"}
    live = viewer_module("live").Live(stop)
    server = viewer_module("server").Server(port=0)
    app = viewer_module("app").open_app(None, server, None, live)

    class Job(MemoryJob):
        last = 0.0

        def report(self, step, total, metrics=None, *, scene=None):
            now = time.perf_counter()
            if self.last and now - state.get("since", now) > 1.0:
                times[state["turn"]].append(now - self.last)
            if state["turn"] != "none" and (metrics or scene is not None or step % 5 == 0):
                live(Progress(0, step, total, 0.0, dict(metrics or {}), scene))
            if stop.is_set():
                raise KeyboardInterrupt
            # Before the listener, whose time counts too.
            self.last = now

    with app.serving(), tempfile.TemporaryDirectory() as folder:
        scene = _capture(Path(folder))
        live(Loaded(scene, ("radiance",)))
        live(StageStarted(0, 0))
        options = {"initial_gaussians": 20_000, "max_gaussians": 20_000, "coarse_until": 0.0, "refine_start": 0.999}

        def run() -> None:
            try:
                Radiance(iterations=1_000_000, **options).run(scene, Job(Path(folder)))
            except KeyboardInterrupt:
                return

        fit = threading.Thread(target=run)
        fit.start()
        while live.scene[0] == 0:
            state["turn"] = 0
            time.sleep(0.5)
        # In a process of their own, as browsers are: here they would take the fit's interpreter.
        command = [sys.executable, "-m", "benchmarks.viewer_client", str(server.viser.get_port())]
        with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as clients:
            assert clients.stdin is not None
            for _ in range(rounds):
                for turn in turns:
                    count = 0 if turn == "none" else int(turn)
                    clients.stdin.write(f"{count}\n")
                    clients.stdin.flush()
                    while len(app.sessions) != count:
                        time.sleep(0.05)
                    state["turn"], state["since"] = turn, time.perf_counter()
                    time.sleep(seconds)
            clients.stdin.close()
        stop.set()
        fit.join()
    base = statistics.mean(times["none"])
    return {str(turn): round(100 * (statistics.mean(times[turn]) / base - 1), 1) for turn in turns[1:]}


def _capture(folder: Path) -> Scene:
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
    parser.add_argument("--moves", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a turn of the fit")
    parser.add_argument("--rounds", type=int, default=12)
    arguments = parser.parse_args()
    times = answers(arguments.moves)
    costs = slowdown(arguments.seconds, arguments.rounds)
    record(
        "viewer_speed", times["relit"]["first"], "ms",
        detail={
            "title": "viewer: first picture after a movement, 100k Gaussians, relit",
            "milliseconds": times, "slower fit, per cent, by clients": costs,
            "pause before the full picture, ms": 1e3 * STILL_PAUSE,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
