"""The grid of directions on which random surroundings are drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from relight.diffusion.own.procedural.draw import soft_step
from relight.shading.environment import Environment


@dataclass(frozen=True)
class Sphere:
    """directions: (H, 2H, 3), in the frame of `Environment` (+y up, +x in the middle).  solid: (H, 1, 1) sr a pixel."""

    directions: Tensor
    solid: Tensor

    @property
    def pixel(self) -> float:
        """Radians."""
        return math.pi / self.directions.shape[0]

    def disc(self, direction: Tensor, irradiance: Tensor, radius: float) -> Tensor:
        """(H, 2H, 3) radiance of a round light about a (3,) direction, not smaller than a pixel, whose irradiance (3,),
        facing it, is exact; radius in radians.
        """
        radius = max(radius, 0.75 * self.pixel)
        # From the chord: the cosine of a small angle has no digits left.
        angle = (self.directions - direction).norm(dim=-1, keepdim=True)
        shape = soft_step((radius - angle) / self.pixel)
        return shape * (irradiance / (shape * self.solid).sum().clamp_min(1e-9))


@lru_cache(maxsize=8)
def sphere(rows: int, device: torch.device) -> Sphere:
    """The grid with this many rows."""
    v, u = (torch.arange(rows) + 0.5) / rows, (torch.arange(2 * rows) + 0.5) / (2 * rows)
    uv = torch.stack(torch.meshgrid(u, v, indexing="xy"), -1)
    edges = torch.linspace(0, math.pi, rows + 1, dtype=torch.float64).cos()
    solid = ((edges[:-1] - edges[1:]) * math.pi / rows).float()[:, None, None]
    directions = Environment(torch.zeros(rows, 2 * rows, 3)).directions(uv)
    return Sphere(directions.to(device), solid.to(device))


def towards(azimuth: float, elevation: float, device: torch.device) -> Tensor:
    """(3,) direction; radians; azimuth 0 is the middle of the map, growing to the right."""
    c = math.cos(elevation)
    return torch.tensor([c * math.cos(azimuth), math.sin(elevation), c * math.sin(azimuth)], device=device)
