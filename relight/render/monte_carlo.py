"""`relight.shading.shade.MonteCarlo` by kernels: the same numbers, directions, weights and gradients, sooner.

shade(surface, light, FastMonteCarlo(64), tracer=create_tracer(mesh))
"""

from __future__ import annotations

# pyright: reportCallIssue=false
# Kernels take unpacked lists of arrays, whose length it can't know.
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from relight.render.tracing import EmbreeTracer
from relight.shading.bsdf import Bsdf
from relight.shading.environment import Environment
from relight.shading.lights import Light
from relight.shading.shade import MonteCarlo, Numbers, around
from relight.shading.tracing import RadianceTracer, Tracer


@dataclass(frozen=True)
class FastMonteCarlo(MonteCarlo):
    """Environments in float32 on the CPU by kernels; whatever else there is by the twin, from the same numbers.

    Differentiable like the twin, once.  What is kept for that takes some 60 bytes a sample.
    """

    def estimate(
        self, bsdf: Bsdf, lights: Sequence[Light], tracer: Tracer | None, numbers: Numbers, seed: int,
        scene: Sequence[Light] | None = None,
    ) -> Tensor:  # fmt: skip
        """See `MonteCarlo.estimate`."""
        scene = lights if scene is None else scene
        ours = [i for i, light in enumerate(lights) if _fits(light, bsdf)]
        total = torch.zeros_like(bsdf.normal)
        for i in ours:
            light = lights[i]
            assert isinstance(light, Environment)
            total = total + _direct(bsdf, light, tracer, numbers.for_lights([i]), light is around(scene, tracer))
        others = [i for i in range(len(lights)) if i not in ours]
        by_surfaces = self.bounces > 0 and tracer is not None and not isinstance(tracer, RadianceTracer)
        if others or by_surfaces or not ours:
            some = [lights[i] for i in others]
            total = total + super().estimate(bsdf, some, tracer, numbers.for_lights(others), seed, scene)
        return total


def _fits(light: Light, bsdf: Bsdf) -> bool:
    """Whether the kernels can do it."""
    if type(light) is not Environment or light.rotation.requires_grad:
        return False
    # The kernels would leave out samples of weight NaN, and draw black where the twin shows what is wrong.
    if not bool(light.cells[0][-1].isfinite()):
        return False
    surface = bsdf.surface
    tensors = (light.radiance, surface.normal, surface.position, surface.view, surface.side, bsdf.alpha)
    return all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)


def _direct(bsdf: Bsdf, light: Environment, tracer: Tracer | None, numbers: Numbers, surfaces: bool) -> Tensor:
    """(N, 3) what an environment adds; with what other surfaces send if `surfaces`."""
    sums = _Sums.apply(
        bsdf.normal, bsdf.surface.view, bsdf.alpha, bsdf.n_v, light.radiance, bsdf, light, tracer, numbers, surfaces
    )
    a, b, c = sums.split(3, 1)  # type: ignore[attr-defined]
    return bsdf.under * a + bsdf.f0 * b + bsdf.f90 * c


@dataclass(frozen=True)
class _Tables:
    """Of an environment, for `propose`."""

    rows: np.ndarray
    columns: np.ndarray
    row_guide: np.ndarray
    column_guide: np.ndarray
    texels: np.ndarray

    @staticmethod
    def of(light: Environment) -> _Tables:
        """Kept as long as the light: one whose radiance is being fitted is a new one in every step."""
        kept = light.__dict__.get("_tables")
        if kept is None:
            from relight.render.kernels import direct as kernels

            height, width = light.radiance.shape[:2]
            rows, columns, density = light.cells
            columns = columns.view(height, width) - torch.arange(height)[:, None]
            sums = rows.float().numpy(), columns.float().numpy()
            guides = np.empty(height, np.int32), np.empty((height, width), np.int32)
            kernels.fill_guides(*sums, *guides)
            kept = _Tables(*sums, *guides, torch.cat([light.radiance.detach(), density[..., None]], 2).numpy())
            light.__dict__["_tables"] = kept
        return kept

    def __iter__(self):
        return iter((self.rows, self.columns, self.row_guide, self.column_guide, self.texels))


@dataclass(frozen=True)
class _Samples:
    """See `relight.render.kernels.direct`; `blocked` is where no light of the environment arrives."""

    first: np.ndarray
    count: np.ndarray
    rays: Tensor
    light: Tensor
    lobes: Tensor
    places: Tensor
    blocked: Tensor

    @staticmethod
    def draw(
        geometry: np.ndarray, lobe: np.ndarray, light: Environment, tracer: Tracer | None, numbers: Numbers,
        surfaces: bool, keep: bool,
    ) -> _Samples:  # fmt: skip
        """Directions, and what arrives from them.  keep: `places`, too."""
        from relight.render.kernels import direct as kernels
        from relight.render.kernels.simd import LANES

        points, samples = len(geometry), len(numbers.points)
        most = 2 * samples * points
        shared = np.zeros((5, -(-samples // LANES) * LANES), np.float32)
        shared[:, :samples] = numbers.points.T
        workers = torch.get_num_threads()
        first, count, ends = (np.empty(n, np.int64) for n in (points, points, workers))
        # Where the map is black, light may still come from elsewhere, or is to be fitted.
        black = surfaces or tracer is None or light.radiance.requires_grad
        rays, values = torch.empty(most, 6), [torch.empty(n, 3) for n in (most, most, most if keep else 0)]
        kernels.propose(
            geometry, lobe, shared, samples, *_arrays(numbers.shifts, light.rotation.float().flatten()),
            *_Tables.of(light),
            black, workers, first, count, ends, *_arrays(rays, *values),
        )  # fmt: skip
        found = _Samples(first, count, rays, *values, torch.zeros(most, dtype=torch.bool))
        if tracer is not None:
            for worker, end in enumerate(ends.tolist()):
                found._trace(tracer, slice(points * worker // workers * 2 * samples, end), surfaces)
        return found

    def _trace(self, tracer: Tracer, part: slice, surfaces: bool) -> None:
        rays, light = self.rays[part], self.light[part]
        if not len(rays):
            return
        origins, directions, far = rays[:, :3], rays[:, 3:], torch.full((1,), math.inf).expand(len(rays))
        if surfaces:
            assert isinstance(tracer, RadianceTracer)
            blocked, instead = tracer.incoming(origins, directions, far)
            light[blocked] = instead[blocked].float()
        else:
            quick = isinstance(tracer, EmbreeTracer)
            blocked = tracer.endless_blocked(rays) if quick else tracer.occluded(origins, directions, far)
            light.masked_fill_(blocked[:, None], 0.0)
        self.blocked[part] = blocked


class _Sums(torch.autograd.Function):
    """(N, 9) as `relight.render.kernels.direct` has it."""

    @staticmethod
    def forward(ctx: Any, normal, view, alpha, n_v, radiance, bsdf, light, tracer, numbers, surfaces):
        from relight.render.kernels import direct as kernels

        surface = bsdf.surface
        geometry = torch.cat([surface.position, normal, view, surface.side], 1).detach().numpy()
        lobe = torch.stack([alpha, n_v, bsdf.coat_share()], 1).detach().numpy()
        samples = _Samples.draw(geometry, lobe, light, tracer, numbers, surfaces, any(ctx.needs_input_grad))
        out = torch.empty(len(normal), 9)
        kernels.gather(
            samples.first, samples.count, *_arrays(samples.light, samples.lobes), torch.get_num_threads(), out.numpy()
        )
        if any(ctx.needs_input_grad):
            ctx.kept = geometry, lobe, samples, radiance.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides it
        from relight.render.kernels import direct as kernels

        geometry, lobe, samples, shape = ctx.kept
        gradient, which = gradients[0].contiguous().numpy(), (samples.first, samples.count)
        d_normal = d_view = d_alpha = d_n_v = d_radiance = None
        if any(ctx.needs_input_grad[:4]):
            d_normal, d_view, d_lobe = torch.empty(len(lobe), 3), torch.empty(len(lobe), 3), torch.empty(len(lobe), 2)
            kernels.lobe_backward(
                gradient, geometry, lobe, *which, *_arrays(samples.rays, samples.light, samples.places),
                torch.get_num_threads(), *_arrays(d_normal, d_view, d_lobe),
            )  # fmt: skip
            d_alpha, d_n_v = d_lobe.unbind(1)
        if ctx.needs_input_grad[4]:
            planes = torch.zeros(3, *shape[:2])
            kernels.texels_backward(
                gradient, *which, *_arrays(samples.blocked, samples.lobes, samples.places), planes.numpy()
            )
            d_radiance = planes.permute(1, 2, 0)
        return d_normal, d_view, d_alpha, d_n_v, d_radiance, None, None, None, None, None


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [t.detach().contiguous().numpy() for t in tensors]
