"""How soon the viewer answers: through its real websocket, without a browser's own time.

    python -m benchmarks.viewer_speed

100,000 Gaussians with materials under a studio's light, a window of 640x480.  The first picture after a movement comes
at a reduced size, the full one when the camera rests.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from pathlib import Path

import torch

from benchmarks.record import record
from benchmarks.viewer_client import Client
from relight.cli.view import viewer_module
from relight.geometry.gaussians import Gaussians
from relight.scene import Frame, Scene

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moves", type=int, default=15)
    arguments = parser.parse_args()
    times = answers(arguments.moves)
    record(
        "viewer_speed", times["relit"]["first"], "ms",
        detail={
            "title": "viewer: first picture after a movement, 100k Gaussians, relit",
            "milliseconds": times,
            "pause before the full picture, ms": 1e3 * STILL_PAUSE,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
