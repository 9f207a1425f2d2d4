"""Cameras for a splat that came without photographs."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.geometry.transforms import look_at
from relight.render.trajectory import subject

FOV = math.radians(50)
DISTANCES = (1.5, 3.0)
"""Least and greatest of cameras around, in radii of the subject: near enough to fill the picture, and all of it."""
INSIDE = 0.9
"""Greatest distance from the centre of cameras within surroundings, in radii."""
MOST_INSIDE = 0.5
"""Share of the cameras."""


def around(gaussians: Gaussians, count: int, *, size: int, seed: int = 0) -> list[Camera]:
    """`count` square pictures of `size` pixels: on spheres around the subject, looking at it, and, as far as there are
    surroundings to see, from within, looking out.

    Directions are spread evenly (a Fibonacci sphere, turned at random); another seed gives other cameras.
    """
    generator = torch.Generator().manual_seed(seed)
    center, radius = subject(gaussians)
    center = center.cpu()
    inside = round(count * min(MOST_INSIDE, surroundings(gaussians, center, radius)))
    # Those inside are spread over the sphere like the others.
    within = torch.zeros(count, dtype=torch.bool)
    within[torch.linspace(0, count - 1, inside).round().long()] = True
    spread, cameras = _directions(count, generator), []
    for direction, looks_out in zip(spread, within.tolist(), strict=True):
        chance = float(torch.rand((), generator=generator))
        if looks_out:
            eye = center - INSIDE * radius * chance * direction
            target = eye + radius * direction
        else:
            near, far = DISTANCES
            eye = center + radius * (near + (far - near) * chance) * direction
            target = center + 0.2 * radius * normalize(torch.randn(3, generator=generator), dim=0)
        # Up doesn't matter to what is seen; it only may not be the viewing direction.
        forward = normalize(target - eye, dim=0)
        up = torch.eye(3)[int(forward.abs().argmin())]
        cameras.append(Camera.from_fov(look_at(eye, target, up), FOV, size, size))
    return cameras


def surroundings(gaussians: Gaussians, center: Tensor, radius: float) -> float:
    """Share of the visible Gaussians that lie outside of the subject: about 0 for an object, more for a place."""
    visible = gaussians.means[gaussians.opacities > 0.1].cpu()
    return float(((visible - center).norm(dim=1) > 1.2 * radius).float().mean()) if len(visible) else 0.0


def _directions(count: int, generator: torch.Generator) -> Tensor:
    """(count, 3) unit."""
    i = torch.arange(count) + 0.5
    z, azimuth = 1 - 2 * i / max(count, 1), i * math.pi * (1 + math.sqrt(5))
    r = (1 - z * z).sqrt()
    points = torch.stack([r * azimuth.cos(), r * azimuth.sin(), z], 1)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator))
    return points @ turn.T
