"""`relight render` for a splat file: its captured look, or its materials under a light, from cameras around it."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from relight.errors import RelightError

if TYPE_CHECKING:
    from torch import Tensor


def is_splat(path: Path) -> bool:
    """Whether a file, or a folder with an unbundled SOG, is a splat rather than a mesh or a run."""
    from relight.formats import detect

    return detect(path) is not None


def draw_splat(arguments: argparse.Namespace, output: Path, size: tuple[int, int]) -> None:
    """Render and write a still, or a film if an orbit is asked for."""
    import torch

    from relight.cli.progress import counted
    from relight.cli.render_model import around
    from relight.cli.render_run import painter
    from relight.export.images import write_film, write_image
    from relight.formats import read_splat
    from relight.render.trajectory import subject
    from relight.scene import Frame, Scene

    if arguments.views:
        raise RelightError(f"--views {arguments.views}: {arguments.source} is a splat file, which has no photographs")
    if arguments.orbit and arguments.background == "transparent":
        raise RelightError("--background transparent: films have no alpha; choose another, or draw a still")
    gaussians = read_splat(arguments.source)
    if not len(gaussians):
        raise RelightError(f"{arguments.source}: holds no Gaussians")
    center, radius = subject(gaussians)
    up, front = _axes(arguments.up)
    frame = Frame((float(center[0]), float(center[1]), float(center[2])), radius, tuple(up.tolist()))  # type: ignore[arg-type]
    paint = painter(arguments, Scene(frame, gaussians=gaussians))
    count = max(2, round(arguments.orbit * arguments.fps)) if arguments.orbit else 1
    angles = [2 * math.pi * i / count for i in range(count)]
    cameras = around(center, radius, up, front, arguments, size, angles)
    with torch.no_grad():
        if not arguments.orbit:
            write_image(output, paint(cameras[0]))
            print(f"wrote {output}")
            return
        write_film(output, counted("frames", count, map(paint, cameras)), arguments.fps)
    print(f"wrote {output} ({count} frames)")


def _axes(up: str) -> tuple[Tensor, Tensor]:
    """(3,) up, and where a camera of azimuth 0 is: towards -z where +y is down, as a capture's first camera is."""
    import torch

    axis = "xyz".index(up[-1])
    vector = torch.zeros(3)
    vector[axis] = -1.0 if up.startswith("-") else 1.0
    front = torch.tensor([0.0, 0.0, 1.0]) if axis != 2 else torch.tensor([0.0, -1.0, 0.0])
    return vector, -front if up == "-y" else front
