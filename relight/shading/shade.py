"""From surface and lights to radiance: one call, three estimators.

shade(surface, [environment, Sun(...)], MonteCarlo(samples=64), tracer=tracer)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from relight.shading.bsdf import Bsdf
from relight.shading.environment import Environment
from relight.shading.lights import Light, LightSample, Surroundings
from relight.shading.spherical_harmonics import SphericalHarmonics
from relight.shading.surface import Surface, dot, leant, reflect
from relight.shading.tracing import Tracer


class Estimator(Protocol):
    """How the integral over directions is worked out."""

    def __call__(self, surface: Surface, lights: Sequence[Light], tracer: Tracer | None, seed: int) -> Tensor:
        """(N, 3) reflected radiance of (N,) points, emission left out."""
        ...


def shade(
    surface: Surface,
    lights: Light | Sequence[Light],
    estimator: Estimator,
    *,
    tracer: Tracer | None = None,
    seed: int = 0,
) -> Tensor:
    """(..., 3) linear radiance that leaves towards the eye, emission included.

    tracer: what casts shadows; None for nothing.  The same seed gives the same picture.
    Normals that mirror the eye into the surface are leant towards the geometric normal (see `leant`).
    Differentiable in everything of surface and lights, except where rays go.
    torch.compile takes split-sum in one graph, after `Environment.prefiltered` and `irradiance` have been asked for;
    Monte Carlo in several, around its random numbers.
    """
    flat = surface.flat()
    if flat.geometric_normal is not None:
        flat = replace(flat, normal=leant(flat.normal, flat.geometric_normal, flat.view))
    all_lights = [lights] if isinstance(lights, Light) else list(lights)
    out = estimator(flat, all_lights, tracer, seed)
    if flat.emission is not None:
        out = out + flat.emission
    return out.reshape(*surface.shape, 3)


@dataclass(frozen=True)
class SplitSum:
    """Prefiltered environment times directional albedo, irradiance times diffuse albedo (Karis 2013).

    Fast and without noise.  Shadows of far lights are left out (occlusion stands for them); other lights are summed at
    one point, with shadows if there is a tracer.  The error against Monte Carlo is in the published table.
    """

    def __call__(self, surface: Surface, lights: Sequence[Light], tracer: Tracer | None, seed: int) -> Tensor:
        bsdf = Bsdf(surface)
        out = torch.zeros_like(surface.normal)
        for light in lights:
            if isinstance(light, Surroundings):
                out = out + self._surroundings(bsdf, light)
            else:
                middle = torch.full((*surface.shape, 2), 0.5).to(surface.normal)
                sample = light.sample_light(surface.position, middle)
                # Lights without extent have density 1; others shine from the directions that their middle stands for.
                seen = torch.where(sample.pdf > 0, 1 / sample.pdf.clamp_min(1e-12), 0.0)
                sample = replace(sample, radiance=sample.radiance * seen[..., None])
                out = out + _towards(bsdf, sample, tracer)
        return out

    def _surroundings(self, bsdf: Bsdf, light: Surroundings) -> Tensor:
        surface = bsdf.surface
        # Rough lobes lean towards the normal, where the light's cosine is large; r^3 fits Monte Carlo best.
        mirror = reflect(surface.view, surface.normal)
        mirror = torch.lerp(mirror, surface.normal, (surface.roughness**3)[..., None])
        mirror = torch.nn.functional.normalize(mirror, dim=-1)
        out = light.reflection(mirror, surface.roughness) * bsdf.specular_albedo()
        out = out + light.irradiance(surface.normal) * bsdf.under
        return out if surface.occlusion is None else out * surface.occlusion[..., None]


@dataclass(frozen=True)
class Harmonics:
    """`SplitSum` with environments replaced by their spherical harmonics up to `degree`.

    Diffuse light is exact to a per cent from degree 2 (Ramamoorthi and Hanrahan 2001); glossy light is only as sharp
    as the highest band.  Needs no prefiltering, so it is the cheapest way to fit a small light.
    """

    degree: int = 3

    def __call__(self, surface: Surface, lights: Sequence[Light], tracer: Tracer | None, seed: int) -> Tensor:
        smooth = [SphericalHarmonics.project(x, self.degree) if isinstance(x, Environment) else x for x in lights]
        return SplitSum()(surface, smooth, tracer, seed)


@dataclass(frozen=True)
class MonteCarlo:
    """Samples of every light and of the BSDF, joined by the power heuristic (Veach and Guibas, SIGGRAPH 1995).

    samples: of each light and of the BSDF, a point.  bounces: by way of how many other surfaces light may come; 0 for
    direct light.  chunk: most point-samples at a time; bounds memory.
    Sobol points, scrambled, and shifted for each point (Cranley and Patterson 1976).
    """

    samples: int = 64
    bounces: int = 0
    chunk: int = 1 << 18

    def __call__(self, surface: Surface, lights: Sequence[Light], tracer: Tracer | None, seed: int) -> Tensor:
        device, count = surface.normal.device, surface.shape[0]
        if count == 0:
            return torch.zeros_like(surface.normal)
        engine = torch.quasirandom.SobolEngine(3 + 2 * len(lights), scramble=True, seed=seed)
        points = engine.draw(self.samples).to(surface.normal)
        generator = torch.Generator().manual_seed(seed)
        shifts = torch.rand(count, points.shape[1], generator=generator).to(surface.normal)
        step = max(1, self.chunk // self.samples)
        parts = []
        for start in range(0, count, step):
            part = surface[start : start + step]
            u = (points + shifts[start : start + step, None]) % 1
            parts.append(self._part(part, lights, tracer, u.to(device), seed))
        return torch.cat(parts)

    def _part(self, surface: Surface, lights: Sequence[Light], tracer: Tracer | None, u: Tensor, seed: int) -> Tensor:
        bsdf = Bsdf(surface)
        position = surface.position[:, None].expand(-1, self.samples, -1)
        total = torch.zeros_like(surface.normal)
        extended = [light for light in lights if not light.delta]
        for i, light in enumerate(lights):
            if light.delta:
                sample = light.sample_light(surface.position, u[:, 0, :2])
                total = total + _towards(bsdf, sample, tracer)
                continue
            sample = light.sample_light(position, u[..., 3 + 2 * i : 5 + 2 * i])
            weight = _power(sample.pdf, bsdf.pdf(sample.direction).detach()) / sample.pdf.clamp_min(1e-12)
            total = total + _towards(bsdf, sample, tracer, weight.detach() / self.samples)
        if extended or self.bounces:
            total = total + self._by_bsdf(bsdf, lights, extended, position, tracer, u, seed)
        return total

    def _by_bsdf(
        self, bsdf: Bsdf, lights: Sequence[Light], extended: list[Light], position: Tensor, tracer: Tracer | None,
        u: Tensor, seed: int,
    ) -> Tensor:  # fmt: skip
        direction = bsdf.sample(u[..., :3])
        pdf = bsdf.pdf(direction).detach()
        throughput = bsdf.eval(direction) / pdf.clamp_min(1e-9)[..., None] / self.samples
        throughput = torch.where((pdf > 1e-9)[..., None], throughput, 0.0)
        total = torch.zeros_like(throughput)
        for light in extended:
            found = light.hit(position, direction)
            weight = _power(pdf, found.pdf.detach())
            seen = _visible(bsdf.surface, found, tracer)
            total = total + throughput * found.radiance * (weight * seen)[..., None]
        if self.bounces and tracer is not None:
            total = total + throughput * self._indirect(position, direction, lights, tracer, seed)
        return total.sum(1)

    def _indirect(
        self, position: Tensor, direction: Tensor, lights: Sequence[Light], tracer: Tracer, seed: int
    ) -> Tensor:
        """Radiance that comes from other surfaces, lit directly, by one sample of each kind."""
        hits, surface = tracer.trace(position.reshape(-1, 3), direction.reshape(-1, 3))
        out = torch.zeros_like(direction.reshape(-1, 3))
        if bool(hits.any()):
            inner = MonteCarlo(samples=1, bounces=self.bounces - 1, chunk=self.chunk)
            out[hits] = shade(surface[hits], lights, inner, tracer=tracer, seed=seed + 1)
        return out.reshape(direction.shape)


def _power(a: Tensor, b: Tensor) -> Tensor:
    """Share of a strategy with density a beside one with density b."""
    return a * a / (a * a + b * b).clamp_min(1e-30)


def _towards(bsdf: Bsdf, sample: LightSample, tracer: Tracer | None, weight: Tensor | None = None) -> Tensor:
    """(N, 3) what the light in `sample`, (N,) or (N, S), adds; summed over samples with `weight`."""
    value = bsdf.eval(sample.direction) * sample.radiance * _visible(bsdf.surface, sample, tracer)[..., None]
    return value if weight is None else (value * weight[..., None]).sum(1)


def _visible(surface: Surface, sample: LightSample, tracer: Tracer | None) -> Tensor:
    """1 or 0, of the shape of the sample.  Rays are only cast where light could arrive."""
    side = surface.side if sample.direction.ndim == 2 else surface.side[:, None]
    above = dot(sample.direction.detach(), side.detach()) > 0
    if tracer is None:
        return above.to(sample.direction)
    wanted = above & (sample.radiance.detach().sum(-1) > 0)
    position = surface.position if sample.direction.ndim == 2 else surface.position[:, None]
    with torch.no_grad():
        origins = position.expand_as(sample.direction)[wanted]
        blocked = tracer.occluded(origins, sample.direction[wanted], sample.distance[wanted])
        visible = torch.zeros_like(sample.distance)
        visible[wanted] = (~blocked).to(visible)
    return visible
