"""Where a fit of materials and light begins: closed forms, before any step of a gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from relight.fit.judge import Trials, judge
from relight.fit.lighting import FittedLighting
from relight.fit.mirrors import Mixture
from relight.fit.places import LEVELS, Places
from relight.fit.sky import color_kinds, color_shares, solve_light, solve_shading
from relight.render.transfer import ROWS
from relight.views import Views

ALL = 8.0
"""Logit of a progress of 1."""
SMOOTH = 0.35
"""Highest roughness of metals at the start: a blurred light makes up for a metal that is taken for a smoother one,
and is sharpened as the fit goes on; no light makes up for one that is taken for a rougher one."""
SAMPLED = 2000
"""Places that light is found from, where metals are tried."""
GAIN = 0.15
"""Share of the error that a light found by metals must take away to be believed."""
TURNS = 2
"""Of light and judgement, beginning with all as metal."""


@dataclass(frozen=True)
class Beginning:
    """albedo: (N, 3) of places, linear.  colors: see `color_kinds`.  shares: (N, K) of kinds of material.
    metallic, roughness: (K,), 0 to 1.
    """

    albedo: Tensor
    colors: Tensor
    shares: Tensor
    metallic: Tensor
    roughness: Tensor


@dataclass(frozen=True)
class Prior:
    """metallic, roughness: where photographs do not tell.  segments: (N, S) 0 or 1, of the one that a place is of;
    without them kinds are colours.  by: whether `segments` are the kinds; auto: if they explain more of what places
    show than colours.
    """

    metallic: float
    roughness: float
    segments: Tensor | None = None
    by: Literal["auto", "colors", "features"] = "colors"

    def __getitem__(self, index: Tensor) -> Prior:
        """Of some places."""
        return self if self.segments is None else replace(self, segments=self.segments[index])


def begin(places: Places, views: Views, light: FittedLighting, look: Tensor, prior: Prior) -> Beginning:
    """Base colour, learned light, which begins anew in `light`, and what kinds of material there are.

    Light is that which explains all as diffuse, or, if photographs are explained better, that in which some is metal.
    look: (N, 3) linear, mean over views.
    """
    if not (light.known or light.given.follows_camera):
        albedo = _diffuse(places, views, light, look)
        begun = _judged(Trials.of(places.in_views(views, light)), albedo, prior)
        return begun if light.several else _with_metals(places, views, light, begun, prior)
    trials = Trials.of(places.in_views(views, light))
    begun = _judged(trials, trials.color[-1, 0], prior)
    if light.known:
        return begun
    # A light that follows the camera is not found in closed form, and one that is not known tells nothing yet.
    metal, rough = (torch.full_like(begun.metallic, x) for x in (prior.metallic, prior.roughness))
    return replace(begun, metallic=metal, roughness=rough)


def _judged(trials: Trials, albedo: Tensor, prior: Prior) -> Beginning:
    """What (N, 3) albedo is made of."""
    colors = color_kinds(albedo)
    shares = color_shares(albedo, colors)
    verdict = judge(trials, shares)
    if prior.segments is not None and prior.by != "colors":
        other = judge(trials, prior.segments)
        if prior.by == "features" or other.left < verdict.left:
            shares, verdict = prior.segments, other
    metal, rough = verdict.kinds(prior.metallic, prior.roughness)
    return Beginning(albedo, colors, shares, metal, rough.minimum(1 - metal * (1 - SMOOTH)))


def _with_metals(places: Places, views: Views, light: FittedLighting, begun: Beginning, prior: Prior) -> Beginning:
    """`begun`, or the beginning that is found from all as metal, light and judgement in turns."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(places.points), generator=generator)[:SAMPLED].to(places.points.device)
    mixture, before = Mixture.of(places[chosen], views), light.now()
    if len(mixture.place) == 0 or before.main is None:
        return begun
    name, radiance = next(iter(before.maps)), places.transfer.cells(before.main).detach().view(ROWS, 2 * ROWS, 3)
    metal, rough = (begun.shares[chosen] @ x for x in (begun.metallic, begun.roughness))
    plain = mixture.explained(metal, rough, begun.albedo[chosen], radiance)
    ones = torch.ones(len(chosen), device=radiance.device)
    found = mixture.explained(ones, SMOOTH * ones)
    for _ in range(TURNS):
        light.start({name: found.radiance})
        turn = _judged(Trials.of(mixture.places.in_views(views, light)), found.base_color, prior[chosen])
        metal, rough = (turn.shares @ x for x in (turn.metallic, turn.roughness))
        found = mixture.explained(metal, rough, found.base_color, found.radiance)
    if found.left > (1 - GAIN) * plain.left:
        light.start({name: radiance})
        return begun
    light.start({name: found.radiance})
    trials = Trials.of(places.in_views(views, light))
    albedo = trials.color[min(range(len(LEVELS)), key=lambda i: abs(LEVELS[i] - SMOOTH)), -1]
    first = judge(trials, color_shares(albedo, color_kinds(albedo))).base_color
    return _judged(trials, torch.where(first.isfinite(), first, albedo), prior)


def _diffuse(places: Places, views: Views, light: FittedLighting, look: Tensor) -> Tensor:
    """(N, 3) albedo, with light that begins anew, if nothing mirrors."""
    if not light.several:
        shading = solve_shading(look, places.transfer)
        light.start(dict.fromkeys(light.names, shading.radiance))
        return shading.albedo
    groups = {n: replace(views, views=tuple(v for v in views if (v.light or "") == n)) for n in light.names}
    means = [_mean(places, group, look) for group in groups.values()]
    albedo = solve_shading(torch.stack(means).mean(0), places.transfer).albedo
    light.start({n: solve_light(mean, albedo, places.transfer) for n, mean in zip(groups, means, strict=True)})
    return albedo


def _mean(places: Places, views: Views, otherwise: Tensor) -> Tensor:
    """(N, 3) linear, what places look like on average."""
    total, count = torch.zeros_like(otherwise), torch.zeros_like(otherwise[:, :1])
    for _, glance in places.glances(views):
        total += glance.radiance * glance.seen[:, None]
        count += glance.seen[:, None]
    return torch.where(count > 0, total / count.clamp_min(1), otherwise)
