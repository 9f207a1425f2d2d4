"""Materials of kinds by elimination: each is tried as metal and not, rough and smooth, and photographs decide.

A mirrored highlight that moves with the eye is a metal's or a coat's; both are shaded here, so that a coat which shines
at grazing angles is not taken for metal.  For each trial the base colour that fits best has a closed form.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from relight.fit.places import FEWEST, LEVELS, Sighting

METALS = (0.0, 0.5, 1.0)
"""Metallic that is tried."""
METAL = 0.3
"""Of its brightest channel, what a metal reflects at least."""
EVIDENCE = 0.02
"""Share of the error that metal must take away to be believed."""
MIDDLE, STEEP = 0.35, 12.0
"""Trials lean towards dielectrics, as errors of the light count more the more is mirrored: where they say `MIDDLE`,
metal is as likely as not."""
TELLING = 0.97
"""Share of the error of plain colour that the best trial may leave, to tell a roughness."""

POSSIBLE = (0.03, 0.97)
"""Metallic and roughness of kinds, from which steps of a gradient still lead away."""
TURNED = 0.25
"""Change of metallic after which base colour is found anew."""


@dataclass(frozen=True)
class Trials:
    """What is left of what N places show, in squares that count relative to brightness, if they are as rough as each of
    `LEVELS` and as metallic as each of `METALS`.

    left: (L, M, N).  color: (L, M, N, 3) base colour for which that little is left.  alone: (N,) left by plain colour.
    told: (N,) whether enough photographs show it.
    """

    left: Tensor
    color: Tensor
    alone: Tensor
    told: Tensor

    @staticmethod
    def of(sightings: Iterable[Sighting]) -> Trials:
        """At least one sighting.  Not differentiated."""
        squares = products = rests = plain = count = torch.zeros(())
        for place in sightings:
            radiance, seen, mirrored = place.radiance, place.seen, place.mirrored
            weight = seen[:, None] * place.weight
            fits = [_squares(place, mirrored[i], level, metal) for i, level in enumerate(LEVELS) for metal in METALS]
            count = count + seen
            plain = plain + torch.stack([torch.ones_like(radiance), radiance, radiance * radiance]) * weight
            squares, products, rests = (
                total + torch.stack(new) * weight
                for total, new in zip((squares, products, rests), zip(*fits, strict=True), strict=True)
            )
        color = (products / squares.clamp_min(1e-9)).clamp(0.02, 0.95).unflatten(0, (len(LEVELS), len(METALS)))
        least_bright = (METAL * torch.tensor(METALS).to(color))[:, None, None]
        color = color * (least_bright / color.amax(-1, keepdim=True)).clamp_min(1)
        squares, products, rests = (x.view_as(color) for x in (squares, products, rests))
        left = (rests - 2 * color * products + color * color * squares).clamp_min(0).sum(-1)
        ones, mean, square = plain
        alone = (square - mean * mean / ones.clamp_min(1e-9)).clamp_min(0).sum(-1)
        return Trials(left, color, alone, count >= FEWEST)


def _squares(place: Sighting, mirrored: Tensor, level: float, metal: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of radiance = color x colored + coat: colored squared, colored x rest, and rest squared, each (N, 3)."""
    tinted, coat = place.mirrors(metal, torch.full_like(place.facing, level))
    colored = tinted * mirrored + (1 - metal) * place.irradiance
    rest = place.radiance - coat * mirrored
    return colored * colored, colored * rest, rest * rest


@dataclass(frozen=True)
class Verdict:
    """metallic, roughness: (K,) of kinds, 0 to 1; NaN where photographs do not tell.  base_color: (N, 3) of places,
    likewise.  left: share of what plain colour leaves that the best trial of each kind leaves."""

    metallic: Tensor
    roughness: Tensor
    base_color: Tensor
    left: float

    def kinds(self, metallic: Tensor | float, roughness: Tensor | float) -> tuple[Tensor, Tensor]:
        """(K,) metallic and roughness, within `POSSIBLE`; these, (K,) or one for all, where photographs do not tell."""
        pairs = (self.metallic, metallic), (self.roughness, roughness)
        metal, rough = (torch.where(found.isfinite(), found, known).clamp(*POSSIBLE) for found, known in pairs)
        return metal, rough


def repainted(base_color: Tensor, found: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """(N, 3) `base_color` of places, but `found` where metallic, (N,) before and after a verdict, is another by far and
    photographs tell: a base colour is right for one metallic.  Not finite is not told; any units, both the same."""
    turned = ((after - before).abs() > TURNED)[:, None] & found.isfinite()
    return torch.where(turned, found, base_color)


def judge(trials: Trials, shares: Tensor) -> Verdict:
    """Of kinds that N places have (N, K) `shares` of.  Not differentiated."""
    k, told = shares.shape[1], shares * trials.told[:, None]
    alone = trials.alone @ told
    cost = (trials.left @ told) / alone.clamp_min(1e-9)
    least = cost.amin(0)
    raw = 0.5 + 0.5 * bottom_of(*least)
    believed = least[1:].amin(0) < least[0] - EVIDENCE
    metallic = torch.sigmoid(STEEP * (torch.where(believed, raw, 0.0) - MIDDLE))
    nearest = (raw * believed * (len(METALS) - 1)).round().long()
    kinds = torch.arange(k, device=shares.device)
    rough = roughness_of(cost[:, nearest, kinds])
    best = cost[:, nearest, kinds].argmin(0)
    base_color = sum(shares[:, i, None] * trials.color[best[i], nearest[i]] for i in range(k))
    assert isinstance(base_color, Tensor)
    known, tells = told.sum(0) > 0, least.amin(0) < TELLING
    nothing = torch.full_like(rough, torch.nan)
    return Verdict(
        torch.where(known, metallic, nothing),
        torch.where(known & tells, rough, nothing),
        torch.where(trials.told[:, None], base_color, torch.nan),
        float((least[nearest, kinds] * alone).sum() / alone.sum().clamp_min(1e-9)),
    )


def roughness_of(cost: Tensor) -> Tensor:
    """(K,) roughness between `LEVELS` where (L, K) cost is least: the bottom of a parabola through the best of them and
    its neighbours."""
    kinds = torch.arange(cost.shape[1], device=cost.device)
    middle = cost.argmin(0).clamp(1, len(LEVELS) - 2)
    low, mid, high = (cost[middle + step, kinds] for step in (-1, 0, 1))
    bottom = middle + bottom_of(low, mid, high)
    below = bottom.floor().long().clamp(0, len(LEVELS) - 2)
    levels = torch.tensor(LEVELS).to(bottom)
    return torch.lerp(levels[below], levels[below + 1], bottom - below)


def bottom_of(low: Tensor, mid: Tensor, high: Tensor) -> Tensor:
    """Where, -1 to 1, a parabola through values at -1, 0 and 1 is least."""
    return (0.5 * (low - high) / (low - 2 * mid + high).clamp_min(1e-9)).clamp(-1, 1)
