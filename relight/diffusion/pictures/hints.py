"""Radiance hints: what white surfaces of the picture's shape would show under a light, drawn by our own shading.

A network is told its light by them (DiLightNet, Zeng et al., SIGGRAPH 2024); the same code draws them in training and
for pictures that users bring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from relight.shading.color import linear_to_srgb
from relight.shading.lights import Light, LightSample, Surroundings
from relight.shading.shade import SplitSum, shade
from relight.shading.spherical_gaussians import SphericalGaussians
from relight.shading.surface import Surface
from relight.shading.tonemap import reinhard
from relight.shading.tracing import Tracer

DIRECTIONS = 64
"""Of the sky whose visibility is known, one bit each."""
HINTS = ((1.0, None), (1.0, 0.05), (1.0, 0.13), (1.0, 0.34))
"""White surfaces whose pictures are radiance hints: matte, and of three GGX alphas (DiLightNet, Zeng et al. 2024)."""
SHARPEST = 20.0
"""Of a lobe that looks up how much of the sky is open: about the spacing of the directions."""


@lru_cache
def sky(count: int = DIRECTIONS) -> Tensor:
    """(count, 3) unit, world: directions spread evenly over the sphere, by a Fibonacci lattice (Gonzalez 2010)."""
    return SphericalGaussians.spread(count).axis[:, [0, 2, 1]]


@dataclass(frozen=True)
class Seen:
    """`relight.shading.lights.Surroundings` as (N,) points see it past what obstructs them.

    open: (N, DIRECTIONS) 0 or 1.  Where the sky is hidden, a grey neighbour of `bounce` times the mean light is seen.
    """

    light: Surroundings
    open: Tensor
    bounce: float = 0.2

    delta = False

    def irradiance(self, normals: Tensor) -> Tensor:
        """See `Surroundings.irradiance`."""
        cosine = (normals @ sky().to(normals).mT).clamp_min(0)
        where = self.light.reflection(sky().to(normals), torch.full((DIRECTIONS,), 0.35).to(normals))
        received, all_of_it = (cosine * self.open) @ where, cosine @ where
        hidden = 1 - (cosine * self.open).sum(1) / cosine.sum(1)
        exact = self.light.irradiance(normals)
        return exact * received / all_of_it.clamp_min(1e-6) + hidden[:, None] * self._neighbours

    def reflection(self, directions: Tensor, roughness: Tensor) -> Tensor:
        """See `Surroundings.reflection`."""
        sharpness = (2 / (roughness**4).clamp_min(2 / SHARPEST))[:, None]
        lobe = torch.exp(sharpness * (directions @ sky().to(directions).mT - 1))
        seen = ((lobe * self.open).sum(1) / lobe.sum(1))[:, None]
        return self.light.reflection(directions, roughness) * seen + (1 - seen) * self._neighbours

    def sample_light(self, position: Tensor, u: Tensor) -> LightSample:
        """The environment's, without what obstructs it: bits of sky are too coarse for samples."""
        return self.light.sample_light(position, u)  # type: ignore[attr-defined]

    def hit(self, position: Tensor, direction: Tensor) -> LightSample:
        """See `sample_light`."""
        return self.light.hit(position, direction)  # type: ignore[attr-defined]

    @property
    def _neighbours(self) -> Tensor:
        return self.bounce * self.light.irradiance(sky().to(self.open)).mean(0)


def past(lights: Sequence[Light], visible: Tensor) -> list[Light]:
    """The lights as points see them of whose sky (N, DIRECTIONS) is known to be open; small lights are left to rays."""
    return [Seen(light, visible) if isinstance(light, Surroundings) else light for light in lights]


def white(surface: Surface) -> Surface:
    """The same shape, white and not metal."""
    return replace(surface, base_color=torch.ones_like(surface.base_color), metallic=torch.zeros_like(surface.metallic))


def matte(surface: Surface, lights: Sequence[Light], tracer: Tracer | None = None) -> Tensor:
    """(N, 3) radiance of a white Lambertian surface: irradiance / pi."""
    out = torch.zeros_like(surface.normal)
    small = []
    for light in lights:
        if isinstance(light, Surroundings):
            out = out + light.irradiance(surface.normal)
        else:
            small.append(light)
    if not small:
        return out
    chalk = replace(white(surface), specular=torch.zeros_like(surface.roughness))
    return out + shade(chalk, small, SplitSum(), tracer=tracer)


def radiance_hints(surface: Surface, lights: Sequence[Light], tracer: Tracer | None = None) -> list[Tensor]:
    """(N, 3) radiance each of the surfaces in `HINTS`, of (N,) points whose own material doesn't matter.

    lights: shadows of `Surroundings` are theirs to know (see `past`); those of the others are the tracer's.
    """
    return [
        matte(surface, lights, tracer) if alpha is None else _gloss(surface, lights, alpha, tracer)
        for _, alpha in HINTS
    ]


def _gloss(surface: Surface, lights: Sequence[Light], alpha: float, tracer: Tracer | None) -> Tensor:
    """Radiance of a white mirror of this GGX alpha."""
    rough = torch.full_like(surface.roughness, alpha**0.5)
    mirror = replace(white(surface), metallic=torch.ones_like(rough), roughness=rough)
    return shade(mirror, lights, SplitSum(), tracer=tracer)


def shown(hint: Tensor, exposure: float | Tensor) -> Tensor:
    """A hint as networks are told it, 0 to 1: sRGB of Reinhard's curve at the photograph's exposure."""
    return linear_to_srgb(reinhard(hint * exposure))


def closeness(depth: Tensor, mask: Tensor) -> Tensor:
    """(H, W) depth as networks are told it: 1 nearest, 0.1 farthest, even in 1 / depth; 0 outside the mask."""
    inverse = torch.where(mask, 1 / depth.clamp_min(1e-3), 0.0)
    near, far = inverse.max(), inverse[mask].min() if bool(mask.any()) else inverse.max()
    return torch.where(mask, (inverse - far) / (near - far).clamp_min(1e-3) * 0.9 + 0.1, 0.0)
