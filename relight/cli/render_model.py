"""`relight render` for a model file: stills and turntables under an environment, through `relight.shading`."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from relight.errors import BackendUnavailableError, RelightError

if TYPE_CHECKING:
    from torch import Tensor

    from relight.geometry.camera import Camera
    from relight.geometry.mesh import Mesh
    from relight.shading.shade import Estimator
    from relight.shading.surface import Surface
    from relight.shading.tracing import Tracer

CURVES = ("neutral", "aces", "agx", "reinhard", "clip")
ESTIMATORS = ("split-sum", "monte-carlo", "harmonics")
POINTS = 1 << 16
"""Shaded at a time; the bar moves in such steps."""


def draw_model(arguments: argparse.Namespace, output: Path, size: tuple[int, int]) -> None:
    """Render and write a still, or a film if an orbit is asked for."""
    import torch

    from relight.cli.progress import bar, counted
    from relight.data.environments import load_environment
    from relight.data.models import load_model
    from relight.export.images import write_exr, write_film, write_image
    from relight.render.meshes import create_mesh_rasterizer, render
    from relight.shading.look import Look
    from relight.shading.studio import studio

    background = arguments.background or "white"
    if arguments.orbit and background == "transparent":
        raise RelightError("--background transparent: films have no alpha; choose another, or draw a still")
    mesh = load_model(arguments.source)
    light = load_environment(arguments.env) if arguments.env else studio()
    light = light.turned(math.radians(arguments.rotate))
    look = Look(arguments.exposure, arguments.curve or "neutral", background)
    estimator = estimator_of(arguments, bounces=arguments.bounces, default="split-sum")
    tracer, rasterizer = _tracer(mesh), create_mesh_rasterizer()

    def linear(camera: Camera, advance: Callable[..., None] | None = None) -> Tensor:
        shaded = partial(_shaded, light=light, estimator=estimator, tracer=tracer, advance=advance)
        with torch.no_grad():
            return render(mesh, camera, rasterizer, shaded, supersample=arguments.supersample)

    def encoded(camera: Camera, picture: Tensor) -> Tensor:
        behind = light.eval(camera.ray_directions()) if background == "surroundings" else None
        return look.encoded(picture, behind)

    if arguments.orbit:
        count = max(2, round(arguments.orbit * arguments.fps))
        cameras = _around(mesh, arguments, size, [2 * math.pi * i / count for i in range(count)])
        frames = (encoded(camera, linear(camera)) for camera in cameras)
        write_film(output, counted("frames", count, frames), arguments.fps)
        print(f"wrote {output} ({count} frames)")
        return
    camera = _around(mesh, arguments, size, [0.0])[0]
    with bar("points") as advance:
        picture = linear(camera, advance)
    if output.suffix.lower() == ".exr":
        write_exr(output, {"RGBA": picture})
    else:
        write_image(output, encoded(camera, picture))
    print(f"wrote {output}")


def _shaded(
    surface: Surface, light, estimator: Estimator, tracer: Tracer | None, advance: Callable[..., None] | None
) -> Tensor:
    """(N, 3) radiance, in parts, so that the bar moves."""
    import torch

    from relight.shading.shade import shade

    parts = []
    for seed, start in enumerate(range(0, surface.shape[0], POINTS)):
        some = surface[start : start + POINTS]
        parts.append(shade(some, light, estimator, tracer=tracer, seed=seed))
        if advance is not None:
            advance(some.shape[0], total=surface.shape[0])
    return torch.cat(parts)


def estimator_of(arguments: argparse.Namespace, *, bounces: int, default: str = "monte-carlo") -> Estimator:
    """The estimator that was asked for, or the default."""
    from relight.render.monte_carlo import FastMonteCarlo
    from relight.shading.shade import Harmonics, SplitSum

    name = arguments.estimator or default
    if name == "monte-carlo":
        return FastMonteCarlo(arguments.samples, bounces)
    return SplitSum() if name == "split-sum" else Harmonics()


def _tracer(mesh: Mesh) -> Tracer | None:
    from relight.render.tracing import create_tracer

    try:
        return create_tracer(mesh)
    except BackendUnavailableError as error:
        print(f"warning: no shadows: {error}", file=sys.stderr)
        return None


def _around(mesh: Mesh, arguments: argparse.Namespace, size: tuple[int, int], azimuths: list[float]) -> list[Camera]:
    import torch

    used = mesh.vertices[mesh.faces.long().flatten()]
    center = (used.amin(0) + used.amax(0)) / 2
    radius = float((used - center).norm(dim=1).max())
    up, front = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    return around(center, radius, up, front, arguments, size, azimuths)


def around(
    center: Tensor, radius: float, up: Tensor, front: Tensor, arguments: argparse.Namespace, size: tuple[int, int],
    azimuths: list[float],
) -> list[Camera]:  # fmt: skip
    """Cameras that hold a sphere; azimuths, radians, are counted from the one asked for, and that from `front`."""
    import torch

    from relight.geometry.camera import Camera
    from relight.render.trajectory import turntable

    width, height = size
    fov = math.radians(arguments.fov)
    # The sphere touches the picture's closer pair of sides.
    narrow = min(fov / 2, math.atan(math.tan(fov / 2) * width / height))
    return turntable(
        center, up, radius / math.sin(narrow), math.radians(arguments.elevation),
        torch.tensor(azimuths) + math.radians(arguments.azimuth), Camera.from_fov(torch.eye(4), fov, width, height),
        front,
    )  # fmt: skip
