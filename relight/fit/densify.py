"""Density control: where to add Gaussians, and which to drop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from relight.fit.parameters import Parameters
from relight.fit.world import ALONE, World
from relight.geometry.transforms import rotation_from_quaternion
from relight.render.protocol import ScreenStatistics


def _logit(p: Tensor) -> Tensor:
    return torch.log(p / (1 - p))


@dataclass(frozen=True)
class Schedule:
    """When density control acts.  start, stop, every: steps.  cap: most Gaussians.  stride: steps that are taken at
    once.
    """

    start: int
    stop: int
    every: int
    cap: int
    stride: int = 1

    def due(self, step: int) -> bool:
        return self.start <= step < self.stop and self.passed(step, self.every)

    def passed(self, step: int, every: int) -> bool:
        """Whether the last stride reached or passed a multiple of `every`."""
        return step % every < self.stride


class AdaptiveDensity:
    """3DGS's adaptive control (Kerbl et al. 2023, section 5.2) with absolute gradients (AbsGS, Ye et al. 2024) and
    revised opacities (Rota Bulo et al., arXiv 2404.06109).

    threshold: mean screen gradient, in loss per half picture, above which a Gaussian is cloned (if smaller than
    `small` scene radii) or split in two.  Splits and clones get opacity 1 - sqrt(1 - o), so that two of them cover as
    much as one did.
    """

    def __init__(
        self, schedule: Schedule, radius: float, threshold: float, small: float, prune_opacity: float, reset_every: int
    ):
        self.schedule, self.radius, self.threshold, self.small = schedule, radius, threshold, small
        self.prune_opacity, self.reset_every = prune_opacity, reset_every
        self.sum: Tensor = torch.empty(0)
        self.count: Tensor = torch.empty(0)

    def after_backward(
        self, parameters: Parameters, statistics: ScreenStatistics, width: int, height: int, world: World = ALONE
    ) -> None:
        """Collect gradients of one picture of each process."""
        if statistics.absolute_gradients is None:
            return
        if len(self.sum) != len(parameters):
            self.sum = torch.zeros_like(statistics.absolute_gradients[:, 0])
            self.count = torch.zeros_like(self.sum)
        scaled = statistics.absolute_gradients * self.sum.new_tensor([0.5 * width, 0.5 * height])
        drawn = (statistics.radii > 0).to(scaled)
        seen = torch.where(drawn > 0, scaled.norm(dim=1), torch.zeros(()))
        world.add([seen, drawn])
        self.sum += seen
        self.count += drawn

    def after_step(self, step: int, parameters: Parameters, generator: torch.Generator) -> None:
        """Grow, prune and reset when it is time."""
        if self.schedule.due(step) and len(self.sum) == len(parameters):
            self._refine(step, parameters, generator)
            self.sum = torch.empty(0)
        if self.reset_every and 0 < step < self.schedule.stop and self.schedule.passed(step, self.reset_every):
            with torch.no_grad():
                parameters["logit_opacity"].clamp_(max=math.log(2 * self.prune_opacity))
            parameters.forget("logit_opacity")

    def _refine(self, step: int, parameters: Parameters, generator: torch.Generator) -> None:
        gradient = self.sum / self.count.clamp_min(1)
        opacity = torch.sigmoid(parameters["logit_opacity"].detach())
        scales = parameters["log_scales"].detach().exp()
        largest = scales.amax(1)
        keep = (opacity > self.prune_opacity) & (largest < 0.5 * self.radius)
        wanted = (gradient > self.threshold) & keep
        room = self.schedule.cap - int(keep.sum())
        if int(wanted.sum()) > room:
            order = torch.where(wanted, gradient, torch.zeros(())).argsort(descending=True, stable=True)
            wanted = torch.zeros_like(wanted)
            wanted[order[: max(room, 0)]] = True
        split = wanted & (largest > self.small * self.radius)
        first, second = keep.nonzero().squeeze(1), wanted.nonzero().squeeze(1)
        rows = torch.cat([first, second])
        fresh = torch.cat([wanted[first], torch.ones_like(second, dtype=torch.bool)])
        shrink = split[rows]
        halved = wanted[rows]
        noise = torch.randn(len(rows), 3, generator=generator).to(scales) * scales[rows]
        offset = (rotation_from_quaternion(parameters["quats_wxyz"].detach()[rows]) @ noise[..., None]).squeeze(-1)
        means = parameters["means"].detach()[rows] + torch.where(shrink[:, None], offset, torch.zeros(()))
        log_scales = parameters["log_scales"].detach()[rows] - shrink[:, None] * math.log(1.6)
        shared = 1 - torch.sqrt(1 - opacity[rows].clamp(1e-4, 0.9999))
        logits = torch.where(halved, _logit(shared), parameters["logit_opacity"].detach()[rows])
        parameters.replace_rows(rows, fresh, {"means": means, "log_scales": log_scales, "logit_opacity": logits})

    def state(self) -> dict[str, Tensor]:
        return {"density.sum": self.sum, "density.count": self.count}

    def restore(self, saved: Mapping[str, Tensor], device: torch.device) -> None:
        self.sum, self.count = (saved[f"density.{name}"].to(device, copy=True) for name in ("sum", "count"))


class MarkovChainDensity:
    """3DGS as Markov chain Monte Carlo (Kheradmand et al., NeurIPS 2024): dead Gaussians move onto live ones, the
    number grows by `growth` per refinement to the cap, and positions take a noisy step.
    """

    def __init__(self, schedule: Schedule, prune_opacity: float, growth: float, noise: float):
        self.schedule, self.prune_opacity, self.growth, self.noise = schedule, prune_opacity, growth, noise

    def after_backward(
        self, parameters: Parameters, statistics: ScreenStatistics, width: int, height: int, world: World = ALONE
    ) -> None:
        """Nothing to collect."""

    def after_step(self, step: int, parameters: Parameters, generator: torch.Generator) -> None:
        """Relocate and grow when it is time; add noise at every step."""
        if self.schedule.due(step):
            n = len(parameters)
            opacity = torch.sigmoid(parameters["logit_opacity"].detach())
            dead = opacity <= self.prune_opacity
            grow = min(self.schedule.cap, int(n * (1 + self.growth))) - n
            if bool(dead.any() & (~dead).any()) or grow > 0:
                self._relocate(parameters, opacity, dead, max(grow, 0), generator)
        if step < self.schedule.stop:
            self._diffuse(parameters, generator)

    def _relocate(
        self, parameters: Parameters, opacity: Tensor, dead: Tensor, grow: int, generator: torch.Generator
    ) -> None:
        n, moved = len(dead), dead.nonzero().squeeze(1)
        weights = torch.where(dead, torch.zeros(()), opacity)
        chosen = torch.multinomial(weights.cpu(), len(moved) + grow, replacement=True, generator=generator).to(moved)
        copies = torch.bincount(chosen, minlength=n) + 1
        rows = torch.cat([torch.arange(n), torch.empty(grow, dtype=torch.long)]).to(moved)
        rows[moved] = chosen[: len(moved)]
        rows[n:] = chosen[len(moved) :]
        share, shrink = relocation(opacity, copies.clamp_max(51))
        share = share.clamp(self.prune_opacity, 1 - 1e-6)
        touched = copies[rows] > 1
        logits = torch.where(touched, _logit(share[rows]), parameters["logit_opacity"].detach()[rows])
        log_scales = (
            parameters["log_scales"].detach()[rows] + torch.where(touched, shrink[rows].log(), torch.zeros(()))[:, None]
        )
        parameters.replace_rows(rows, touched, {"logit_opacity": logits, "log_scales": log_scales})

    def _diffuse(self, parameters: Parameters, generator: torch.Generator) -> None:
        with torch.no_grad():
            opacity = torch.sigmoid(parameters["logit_opacity"])
            gate = torch.sigmoid(100 * ((1 - opacity) - 0.995))
            rate = next(g["lr"] for g in parameters.adam.param_groups if g["name"] == "means")
            scaled = rotation_from_quaternion(parameters["quats_wxyz"]) * parameters["log_scales"].exp()[:, None, :]
            step = torch.randn(len(gate), 3, generator=generator).to(gate) * (gate * rate * self.noise)[:, None]
            parameters["means"].add_((scaled @ (scaled.mT @ step[..., None])).squeeze(-1))

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, saved: Mapping[str, Tensor], device: torch.device) -> None:
        """Keeps nothing between steps."""


def relocation(opacity: Tensor, copies: Tensor) -> tuple[Tensor, Tensor]:
    """Opacity of each of `copies` coincident Gaussians that together look like one of `opacity`, and the factor on
    their scales (Kheradmand et al., eq. 9).  (N,) each.
    """
    share = 1 - (1 - opacity.double().clamp(1e-6, 1 - 1e-6)) ** (1 / copies.double())
    total = torch.zeros_like(share)
    for i in range(1, int(copies.max()) + 1):
        for k in range(i):
            term = math.comb(i - 1, k) * (-1) ** k / math.sqrt(k + 1) * share ** (k + 1)
            total += torch.where(copies >= i, term, torch.zeros(()).double())
    return share.to(opacity), (opacity.double() / total).to(opacity)
