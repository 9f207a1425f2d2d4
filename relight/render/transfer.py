"""Far light to splats with shadows, worked out once: what of the sky each Gaussian sees, and what it sees instead.

    proxy = Proxy(fuse(...))
    baked = bake(proxy, places, normals, light.rotation)
    irradiance = baked.irradiance(light)          # (N, 3), in every step of a fit

A Gaussian's irradiance is linear in the light, so it is one matrix product and has no noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from relight.render.proxy import Proxy
from relight.shading.environment import Environment
from relight.shading.lights import LightSample
from relight.shading.microfacet import alpha_of, sample_visible_normal
from relight.shading.surface import Surface, reflect, to_local, to_world

ROWS = 16
"""Of the grid of directions, which is twice as wide."""
_RAYS = 1 << 21


@dataclass(frozen=True)
class Transfer:
    """weights: (N, R * 2R) what the radiance of each cell of the light's map adds to irradiance / pi at N points:
    visibility x cosine x solid angle / pi.  bounced: (N, 3) irradiance / pi from the proxy's own colours.
    """

    weights: Tensor
    bounced: Tensor

    def irradiance(self, light: Environment) -> Tensor:
        """(N, 3) irradiance / pi.  Differentiable in the light's radiance.  The light's rotation must be that of the
        map that was baked for."""
        return self.shadowed(light) + self.bounced

    def shadowed(self, light: Environment) -> Tensor:
        """`irradiance` without light by way of other surfaces, which is that of the photographs."""
        return self.weights @ _cells(light.radiance)


def bake(proxy: Proxy, places: Tensor, normals: Tensor, rotation: Tensor, *, seed: int = 0) -> Transfer:
    """Transfer to (N, 3) places above the proxy with (N, 3) unit normals, world, for environments of this `rotation`.

    The proxy's colours count as light: radiance in linear units, the same in all directions.
    One ray a cell, somewhere within it, as neighbouring points average.  Not differentiated.
    """
    generator = torch.Generator().manual_seed(seed)
    edges = torch.linspace(0, math.pi, ROWS + 1, dtype=torch.float64).cos()
    solid = ((edges[:-1] - edges[1:]) * math.pi / ROWS).float().repeat_interleave(2 * ROWS)
    v, u = torch.meshgrid(torch.arange(ROWS), torch.arange(2 * ROWS), indexing="ij")
    corner = torch.stack([u, v], -1).reshape(-1, 2).float()
    frame = Environment(torch.ones(2, 4, 3), rotation)
    weights, bounced = [], []
    for start in range(0, len(places), max(1, _RAYS // len(corner))):
        part = slice(start, start + max(1, _RAYS // len(corner)))
        place, normal = places[part], normals[part]
        within = torch.rand(len(place), *corner.shape, generator=generator)
        direction = frame.directions((corner + within) / torch.tensor([2 * ROWS, ROWS]))
        received = (direction * normal[:, None]).sum(-1).clamp_min(0) * solid / math.pi
        wanted = received > 0
        hit, surface = proxy.tracer.trace(place[:, None].expand_as(direction)[wanted], direction[wanted])
        blocked, light = torch.zeros_like(wanted), torch.zeros_like(direction)
        blocked[wanted], light[wanted] = hit, surface.base_color * hit[:, None]
        weights.append(torch.where(blocked, 0.0, received))
        bounced.append((light * received[..., None]).sum(1))
    return Transfer(torch.cat(weights), torch.cat(bounced))


def _cells(radiance: Tensor) -> Tensor:
    """(R * 2R, 3) mean radiance of the cells of the grid."""
    return adaptive_avg_pool2d(radiance.permute(2, 0, 1)[None], (ROWS, 2 * ROWS))[0].flatten(1).mT


@dataclass(frozen=True)
class Shadowed:
    """An environment as seen by certain points through a scene: for `SplitSum`, at these points and no others.

    sky: (N, 3) irradiance / pi.  mirrored: (N, 3) radiance that other surfaces send along the mirrored lobe.
    open: (N,) share of that lobe that sees the environment.
    """

    light: Environment
    sky: Tensor
    mirrored: Tensor
    open: Tensor

    delta = False

    def irradiance(self, normals: Tensor) -> Tensor:
        """See `relight.shading.lights.Surroundings`; `normals` count as those that were baked for."""
        return self.sky

    def reflection(self, directions: Tensor, roughness: Tensor) -> Tensor:
        """See `relight.shading.lights.Surroundings`."""
        return self.light.reflection(directions, roughness) * self.open[:, None] + self.mirrored

    def sample_light(self, position: Tensor, u: Tensor) -> LightSample:
        """The environment's, without shadows: tracers make them."""
        return self.light.sample_light(position, u)

    def hit(self, position: Tensor, direction: Tensor) -> LightSample:
        """See `sample_light`."""
        return self.light.hit(position, direction)


def mirrored(surface: Surface, proxy: Proxy, *, rays: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Along GGX lobes of (N,) points above the proxy: (N, 3) mean radiance of what is hit, and (N,) share that hits
    nothing.

    Not differentiated.
    """
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        u = torch.rand(len(surface.view), rays, 2, generator=generator).to(surface.view)
        normal = surface.normal[:, None].expand(-1, rays, -1)
        view = to_local(surface.view[:, None].expand_as(normal), normal)
        view = torch.nn.functional.normalize(torch.cat([view[..., :2], view[..., 2:].clamp_min(1e-4)], -1), dim=-1)
        half = sample_visible_normal(view, alpha_of(surface.roughness)[:, None].expand(-1, rays), u)
        direction = to_world(reflect(view, half), normal)
        start = surface.position[:, None].expand_as(direction)
        above = (direction * normal).sum(-1) > 0
        hit, seen = proxy.tracer.trace(start[above], direction[above])
        light, blocked = torch.zeros_like(direction), torch.zeros_like(above)
        light[above], blocked[above] = seen.base_color * hit[:, None], hit
        return light.mean(1), 1 - blocked.to(light).mean(1)
