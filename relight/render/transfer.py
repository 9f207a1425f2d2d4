"""Far light to splats with shadows, worked out once: what of the sky each Gaussian sees, and what it sees instead.

    proxy = Proxy(fuse(...))
    baked = bake(proxy, places, normals, light.rotation)   # any light may follow; those of this rotation fit best
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
from relight.shading.lights import FAR, LightSample
from relight.shading.microfacet import alpha_of, sample_visible_normal
from relight.shading.surface import Surface, reflect, to_local, to_world
from relight.vectors import unit

ROWS = 16
"""Of the grid of directions, which is twice as wide."""
_RAYS = 1 << 21


@dataclass(frozen=True)
class Transfer:
    """weights: (N, R * 2R) what the radiance of each cell of directions adds to irradiance / pi at N points:
    visibility x cosine x solid angle / pi.  bounced: (N, 3) irradiance / pi from the proxy's own colours.
    rotation: (3, 3), as of `Environment`, of the grid of directions.
    """

    weights: Tensor
    bounced: Tensor
    rotation: Tensor

    def irradiance(self, light: Environment) -> Tensor:
        """(N, 3) irradiance / pi.  Differentiable in the light's radiance."""
        return self.shadowed(light) + self.bounced

    def shadowed(self, light: Environment) -> Tensor:
        """`irradiance` without light by way of other surfaces, which is that of the photographs."""
        return self.weights @ self.cells(light)

    def cells(self, light: Environment) -> Tensor:
        """(R * 2R, 3) mean radiance of a light, of any rotation and size, in the cells."""
        if torch.equal(light.rotation, self.rotation):
            return adaptive_avg_pool2d(light.radiance.permute(2, 0, 1)[None], (ROWS, 2 * ROWS))[0].flatten(1).mT
        fine = ROWS * max(2, -(-light.radiance.shape[0] // ROWS))
        v, u = torch.meshgrid(torch.arange(fine) + 0.5, torch.arange(2 * fine) + 0.5, indexing="ij")
        uv = torch.stack([u / (2 * fine), v / fine], -1).to(light.radiance)
        seen = light.eval(Environment(light.radiance, self.rotation).directions(uv))
        return adaptive_avg_pool2d(seen.permute(2, 0, 1)[None], (ROWS, 2 * ROWS))[0].flatten(1).mT


def solid_angles() -> Tensor:
    """(R * 2R,) of the cells, with mean 1."""
    edges = torch.linspace(0, math.pi, ROWS + 1, dtype=torch.float64).cos()
    return ((edges[:-1] - edges[1:]) * (ROWS / 2)).float().repeat_interleave(2 * ROWS)


def cell_directions(rotation: Tensor) -> Tensor:
    """(R * 2R, 3) unit, of the cells' middles."""
    uv = (_corners() + 0.5) / torch.tensor([2 * ROWS, ROWS])
    return Environment(torch.ones(2, 4, 3), rotation).directions(uv.to(rotation))


def _corners() -> Tensor:
    """(R * 2R, 2) column and row of each cell."""
    v, u = torch.meshgrid(torch.arange(ROWS), torch.arange(2 * ROWS), indexing="ij")
    return torch.stack([u, v], -1).reshape(-1, 2).float()


def bake(proxy: Proxy, places: Tensor, normals: Tensor, rotation: Tensor, *, seed: int = 0) -> Transfer:
    """Transfer to (N, 3) places above the proxy with (N, 3) unit normals, world, by a grid of this `rotation`.

    The proxy's colours count as light: radiance in linear units, the same in all directions.
    One ray a cell, somewhere within it, as neighbouring points average.  Not differentiated.
    """
    generator = torch.Generator().manual_seed(seed)
    solid = solid_angles() * (4 * math.pi / (2 * ROWS * ROWS))
    corner, frame = _corners(), Environment(torch.ones(2, 4, 3), rotation)
    weights, bounced = [], []
    for start in range(0, len(places), max(1, _RAYS // len(corner))):
        part = slice(start, start + max(1, _RAYS // len(corner)))
        place, normal = places[part], normals[part]
        within = torch.rand(len(place), *corner.shape, generator=generator)
        direction = frame.directions((corner + within) / torch.tensor([2 * ROWS, ROWS]))
        received = (direction * normal[:, None]).sum(-1).clamp_min(0) * solid / math.pi
        wanted = received > 0
        starts = place[:, None].expand_as(direction)[wanted]
        blocked, light = torch.zeros_like(wanted), torch.zeros_like(direction)
        far = torch.full_like(starts[:, 0], FAR)
        blocked[wanted], light[wanted] = proxy.glowing.incoming(starts, direction[wanted], far)
        weights.append(torch.where(blocked, 0.0, received))
        bounced.append((light * received[..., None]).sum(1))
    return Transfer(torch.cat(weights), torch.cat(bounced), rotation)


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
        view = unit(torch.cat([view[..., :2], view[..., 2:].clamp_min(1e-4)], -1))
        half = sample_visible_normal(view, alpha_of(surface.roughness)[:, None].expand(-1, rays), u)
        direction = to_world(reflect(view, half), normal)
        start = surface.position[:, None].expand_as(direction)
        above = (direction * normal).sum(-1) > 0
        light, blocked = torch.zeros_like(direction), torch.zeros_like(above)
        far = torch.full_like(start[above][:, 0], FAR)
        blocked[above], light[above] = proxy.glowing.incoming(start[above], direction[above], far)
        return light.mean(1), 1 - blocked.to(light).mean(1)
