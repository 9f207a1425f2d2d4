"""Two balls on a table, made of surfels: what belongs to what is known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from relight.export.images import write_image
from relight.geometry import sh
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.geometry.transforms import look_at
from relight.render.backends.splat_cpu import SplatCpu
from relight.render.splats import render
from relight.scene import Frame, Scene
from relight.views import View, Views

SIZE = 64
TABLE, RED, BLUE = 0, 1, 2
RADIUS = 0.3
CENTERS = torch.tensor([[-0.45, 0.0, RADIUS], [0.45, 0.0, RADIUS]])


def _facing(normals: Tensor) -> Tensor:
    """(N, 4) wxyz that turn +z to unit normals."""
    half = normalize(normals + torch.tensor([0.0, 0.0, 1.0 + 1e-6]), dim=1)
    return torch.cat([half[:, 2:], -half[:, 1:2], half[:, :1], torch.zeros(len(half), 1)], 1)


def table() -> tuple[Gaussians, Tensor]:
    """World +z up.  (N,) which thing each Gaussian is of; below the balls the table has holes, as in a capture."""
    axis = torch.linspace(-1, 1, 34)
    flat = torch.cartesian_prod(axis, axis)
    flat = flat[((flat[:, None] - CENTERS[:, :2]).norm(dim=2) > 0.12).all(1)]
    k = torch.arange(320) + 0.5
    angle, z = k * math.pi * (3 - math.sqrt(5)), 1 - 2 * k / 320
    around = torch.stack([(1 - z * z).sqrt() * angle.cos(), (1 - z * z).sqrt() * angle.sin(), z], 1)
    means = torch.cat([torch.cat([flat, torch.zeros(len(flat), 1)], 1), *(RADIUS * around + c for c in CENTERS)])
    normals = torch.cat([torch.tensor([0.0, 0.0, 1.0]).expand(len(flat), 3), around, around])
    of = torch.tensor([TABLE, RED, BLUE]).repeat_interleave(torch.tensor([len(flat), 320, 320]))
    # A chequered table: differences in colour alone are no border.
    odd = ((flat * 2).floor().sum(1) % 2)[:, None]
    colors = torch.cat([
        odd * torch.tensor([0.8, 0.75, 0.6]) + (1 - odd) * torch.tensor([0.3, 0.35, 0.4]),
        torch.tensor([0.8, 0.1, 0.1]).expand(320, 3), torch.tensor([0.1, 0.2, 0.8]).expand(320, 3),
    ])  # fmt: skip
    spread = torch.where(of == TABLE, 0.045, 0.035).log()[:, None]
    gaussians = Gaussians(
        means, _facing(normals), spread.expand(-1, 3).clone(), torch.full((len(of),), 3.0),
        sh.from_constant(colors)[:, None], surfels=True,
    )  # fmt: skip
    return gaussians, of


def camera(angle: float, height: float = 1.6) -> Camera:
    eye = torch.tensor([2.6 * math.cos(angle), 2.6 * math.sin(angle), height])
    pose = look_at(eye, torch.tensor([0.0, 0.0, 0.1]), torch.tensor([0.0, 0.0, 1.0]))
    return Camera(pose, 70.0, 70.0, SIZE / 2, SIZE / 2, SIZE, SIZE)


def table_scene() -> tuple[Scene, Tensor]:
    """With ten views that have no photographs."""
    gaussians, of = table()
    views = tuple(View(f"v{i}.png", Path(f"v{i}.png"), camera(0.63 * i - math.pi / 2)) for i in range(10))
    return Scene(Frame(radius=2.0, up=(0.0, 0.0, 1.0)), Views(views), gaussians=gaussians), of


def photographed_table(folder: Path) -> tuple[Scene, Tensor]:
    """The same, with cut-out photographs of the splat itself."""
    scene, of = table_scene()
    assert scene.views is not None and scene.gaussians is not None
    views = []
    for view in scene.views:
        image = render(SplatCpu(), scene.gaussians, view.camera)
        straight = image.color / image.alpha[..., None].clamp_min(1e-4)
        write_image(folder / view.name, torch.cat([straight, image.alpha[..., None]], -1).clamp(0, 1))
        views.append(replace(view, image_path=folder / view.name))
    return replace(scene, views=Views(tuple(views))), of
