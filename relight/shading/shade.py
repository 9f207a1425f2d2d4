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
from relight.shading.lights import FAR, Light, LightSample, Surroundings
from relight.shading.spherical_harmonics import SphericalHarmonics
from relight.shading.surface import Surface, dot, leant, reflect
from relight.shading.tracing import RadianceTracer, Tracer
from relight.vectors import unit


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
        mirror = unit(mirror)
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
class Numbers:
    """What points sample by: (S, D) numbers that they share, and (N, D) by which each shifts them, all in 0 to 1."""

    points: Tensor
    shifts: Tensor

    @staticmethod
    def of(count: int, samples: int, lights: int, seed: int) -> Numbers:
        """Three dimensions for the BSDF, then two a light.  Sobol points, scrambled, and shifted for each point
        (Cranley and Patterson 1976); float32, on the CPU."""
        engine = torch.quasirandom.SobolEngine(3 + 2 * lights, scramble=True, seed=seed)
        points = engine.draw(samples)
        generator = torch.Generator().manual_seed(seed)
        return Numbers(points, torch.rand(count, points.shape[1], generator=generator))

    def __getitem__(self, index: slice) -> Numbers:
        """Those of some of the points."""
        return Numbers(self.points, self.shifts[index])

    def for_lights(self, lights: Sequence[int]) -> Numbers:
        """As if only some of the lights were there."""
        columns = [0, 1, 2, *(column for i in lights for column in (3 + 2 * i, 4 + 2 * i))]
        return Numbers(self.points[:, columns], self.shifts[:, columns])

    def spread(self, like: Tensor) -> Tensor:
        """(N, S, D) on the device and in the type of `like`."""
        return (self.points.to(like) + self.shifts.to(like)[:, None]) % 1


@dataclass(frozen=True)
class MonteCarlo:
    """Samples of every light and of the BSDF, joined by the power heuristic (Veach and Guibas, SIGGRAPH 1995).

    samples: of each light and of the BSDF, a point.  bounces: by way of how many other surfaces light may come; 0 for
    direct light; with a `RadianceTracer`, which knows what comes from other surfaces, it means nothing.
    chunk: most point-samples at a time; bounds memory.  Numbers are those of `Numbers.of`.
    `relight.render.monte_carlo` has the same with kernels; this is its specification.
    """

    samples: int = 64
    bounces: int = 0
    chunk: int = 1 << 18

    def __call__(self, surface: Surface, lights: Sequence[Light], tracer: Tracer | None, seed: int) -> Tensor:
        count = surface.shape[0]
        if count == 0:
            return torch.zeros_like(surface.normal)
        numbers = Numbers.of(count, self.samples, len(lights), seed)
        step = max(1, self.chunk // self.samples)
        parts = []
        for start in range(0, count, step):
            some = slice(start, start + step)
            parts.append(self.estimate(Bsdf(surface[some]), lights, tracer, numbers[some], seed))
        return torch.cat(parts)

    def estimate(
        self, bsdf: Bsdf, lights: Sequence[Light], tracer: Tracer | None, numbers: Numbers, seed: int,
        scene: Sequence[Light] | None = None,
    ) -> Tensor:  # fmt: skip
        """(N, 3) radiance of all points at a time.  scene: what lights other surfaces, None for the same `lights`."""
        scene = lights if scene is None else scene
        surface, u = bsdf.surface, numbers.spread(bsdf.normal)
        position = surface.position[:, None].expand(-1, self.samples, -1)
        total = torch.zeros_like(surface.normal)
        extended = [light for light in lights if not light.delta]
        carrier = around(scene, tracer)
        for i, light in enumerate(lights):
            if light.delta:
                sample = light.sample_light(surface.position, u[:, 0, :2])
                total = total + _towards(bsdf, sample, tracer)
                continue
            sample = light.sample_light(position, u[..., 3 + 2 * i : 5 + 2 * i])
            weight = _power(sample.pdf, bsdf.pdf(sample.direction).detach()) / sample.pdf.clamp_min(1e-12)
            weight = weight.detach() / self.samples
            total = total + _towards(bsdf, sample, tracer, weight, light is carrier)
        if not extended and not self.bounces and not isinstance(tracer, RadianceTracer):
            return total
        direction = bsdf.sample(u[..., :3])
        pdf = bsdf.pdf(direction).detach()
        throughput = bsdf.eval(direction) / pdf.clamp_min(1e-9)[..., None] / self.samples
        throughput = torch.where((pdf > 1e-9)[..., None], throughput, 0.0)
        for light in extended:
            found = light.hit(position, direction)
            arriving = _arriving(bsdf.surface, found, tracer, light is carrier)
            total = total + (throughput * arriving * _power(pdf, found.pdf.detach())[..., None]).sum(1)
        return total + self._by_other_surfaces(bsdf, direction, throughput, scene, tracer, seed)

    def _by_other_surfaces(
        self, bsdf: Bsdf, direction: Tensor, throughput: Tensor, lights: Sequence[Light], tracer: Tracer | None,
        seed: int,
    ) -> Tensor:  # fmt: skip
        """(N, 3) radiance that comes from (N, S, 3) directions by way of other surfaces, and is in none of the lights'
        samples.  throughput: (N, S, 3)."""
        position = bsdf.surface.position[:, None].expand_as(direction)
        if isinstance(tracer, RadianceTracer):
            if around(lights, tracer) is not None:
                return torch.zeros_like(bsdf.normal)
            nothing = torch.zeros_like(throughput)
            far = torch.full_like(direction[..., 0], FAR)
            dark = LightSample(direction, far, nothing, far)
            return (throughput * _arriving(bsdf.surface, dark, tracer, True)).sum(1)
        if not self.bounces or tracer is None:
            return torch.zeros_like(bsdf.normal)
        # Lit directly, by one sample of each kind.
        hits, surface = tracer.trace(position.reshape(-1, 3), direction.reshape(-1, 3))
        found = torch.zeros_like(direction.reshape(-1, 3))
        if bool(hits.any()):
            inner = replace(self, samples=1, bounces=self.bounces - 1)
            found[hits] = shade(surface[hits], lights, inner, tracer=tracer, seed=seed + 1)
        return (throughput * found.reshape(direction.shape)).sum(1)


def around(lights: Sequence[Light], tracer: Tracer | None) -> Light | None:
    """The light whose samples look for what other surfaces send, too: the first environment, as it has directions all
    around.  None if there is none, or if the tracer can't tell."""
    if not isinstance(tracer, RadianceTracer):
        return None
    return next((light for light in lights if isinstance(light, Environment)), None)


def _power(a: Tensor, b: Tensor) -> Tensor:
    """Share of a strategy with density a beside one with density b."""
    return a * a / (a * a + b * b).clamp_min(1e-30)


def _towards(
    bsdf: Bsdf, sample: LightSample, tracer: Tracer | None, weight: Tensor | None = None, surfaces: bool = False
) -> Tensor:
    """(N, 3) what the light in `sample`, (N,) or (N, S), adds; summed over samples with `weight`."""
    value = bsdf.eval(sample.direction) * _arriving(bsdf.surface, sample, tracer, surfaces)
    return value if weight is None else (value * weight[..., None]).sum(1)


def _arriving(surface: Surface, sample: LightSample, tracer: Tracer | None, surfaces: bool = False) -> Tensor:
    """The sample's radiance where nothing is in its way, else 0, or what a `RadianceTracer` finds there if `surfaces`.

    Rays are only cast where light could arrive, or could come to arrive when it is fitted.
    """
    side = surface.side if sample.direction.ndim == 2 else surface.side[:, None]
    above = dot(sample.direction.detach(), side.detach()) > 0
    if tracer is None:
        return sample.radiance * above[..., None]
    wanted = above
    if not surfaces and not sample.radiance.requires_grad:
        wanted = above & (sample.radiance.sum(-1) > 0)
    position = surface.position if sample.direction.ndim == 2 else surface.position[:, None]
    with torch.no_grad():
        rays = position.expand_as(sample.direction)[wanted], sample.direction[wanted], sample.distance[wanted]
        visible, instead = torch.zeros_like(sample.distance), torch.zeros_like(sample.direction)
        if surfaces and isinstance(tracer, RadianceTracer):
            blocked, found = tracer.incoming(*rays)
            instead[wanted] = found.to(instead)
        else:
            blocked = tracer.occluded(*rays)
        visible[wanted] = (~blocked).to(visible)
    return sample.radiance * visible[..., None] + instead
