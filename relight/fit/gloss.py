"""How much of the light that places mirror they reflect: what tells metals from the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relight.fit.places import LEVELS, Sighting

FEWEST = 4
"""Photographs of a place from which on it counts."""
COAT = 0.13
"""Share of mirrored light that divides the two kinds: the coat of a dielectric reflects 0.04 of it, and twice as much
at grazing angles; metals reflect more than half, of which a light that is itself a first guess shows a part."""
ONLY = 0.08
"""Share of the changes of radiance that mirrored light explains, that divides them: metals show nothing else."""
STEEP = 3.0
"""How sharply, per unit of the logarithm."""
TELLING = 0.03
"""Share of the changes of radiance that mirrored light must explain to tell a roughness."""


@dataclass(frozen=True)
class Seen:
    """What photographs show of N Gaussians.

    mean: (N, 3) linear radiance.  irradiance: (N, 3) irradiance / pi, mean over the same photographs.
    count: (N,) photographs that show it.
    varies: (N,) variance over them of radiance, all channels; with mirrored light of each of `LEVELS`, (L, N): mirrors,
    its own variance, and together, their covariance.
    """

    mean: Tensor
    irradiance: Tensor
    count: Tensor
    varies: Tensor
    mirrors: Tensor
    together: Tensor


def seen_over_views(sightings: Iterable[Sighting]) -> Seen:
    """Of all of them together, at least one."""
    count = plain = mirrors = None
    for place in sightings:
        radiance, mirrored, seen = place.radiance, place.mirrored, place.seen[:, None]
        if count is None or plain is None or mirrors is None:
            count = torch.zeros_like(radiance[:, :1])
            plain, mirrors = radiance.new_zeros(3, *radiance.shape), radiance.new_zeros(3, *mirrored.shape)
        count += seen
        plain += torch.stack([radiance, radiance * radiance, place.irradiance]) * seen
        mirrors += torch.stack([mirrored, mirrored * mirrored, mirrored * radiance]) * seen
    assert count is not None and plain is not None and mirrors is not None
    mean, square, irradiance = plain / count.clamp_min(1)
    level, level_square, both = mirrors / count.clamp_min(1)
    return Seen(
        mean,
        irradiance,
        count[:, 0],
        varies=(square - mean * mean).clamp_min(0).sum(-1),
        mirrors=(level_square - level * level).clamp_min(0).sum(-1),
        together=(both - level * mean).sum(-1),
    )


def metallic_and_roughness(seen: Sequence[Seen], shares: Tensor, metallic: float, roughness: float) -> Tensor:
    """(K, 2) guesses, 0 to 1, for the kinds that places have (N, K) shares of; the numbers given where nothing tells.

    Radiance of a place is what is diffuse, which does not change with the eye, plus a share of what it mirrors: a
    straight line, fitted for all places of a kind together, for each roughness.  Metals are steep; and the roughness is
    that whose line explains most.
    """
    told, _, mirrors, together, explained = _lines(seen, shares)
    best = explained.argmax(0)
    kinds = torch.arange(len(best), device=best.device)
    slope = (together / mirrors.clamp_min(1e-12))[best, kinds]
    only = explained[best, kinds].clamp_min(1e-4)
    metal = torch.sigmoid(STEEP * (slope.clamp_min(1e-4) / COAT).log() + (STEEP - 1) * (only / ONLY).log())
    rough = roughness_of(-explained)
    tells = explained[best, kinds] > TELLING
    known = told > 0
    return torch.stack([torch.where(known, metal, metallic), torch.where(tells, rough, roughness)], 1)


def explained_by(seen: Sequence[Seen], shares: Tensor) -> float:
    """Share of all changes of radiance that mirrored light explains if all places of a kind are of one material, for
    (N, K) shares of kinds: of two ways to tell kinds apart, the one that is nearer to materials explains more."""
    _, varies, _, _, explained = _lines(seen, shares)
    return float((varies * explained.amax(0)).sum() / varies.sum().clamp_min(1e-12))


def _lines(seen: Sequence[Seen], shares: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of K kinds: (K,) how much is told of them and the variance of their radiance; (L, K) variance of mirrored light,
    covariance of both, and the share of the first that a line through them explains."""
    told = [shares * (s.count >= FEWEST)[:, None] for s in seen]
    varies = torch.stack([t.mT @ s.varies for t, s in zip(told, seen, strict=True)]).sum(0)
    mirrors = torch.stack([s.mirrors @ t for t, s in zip(told, seen, strict=True)]).sum(0)
    together = torch.stack([s.together @ t for t, s in zip(told, seen, strict=True)]).sum(0)
    explained = together.clamp_min(0) ** 2 / (mirrors * varies).clamp_min(1e-12)
    return torch.stack([t.sum(0) for t in told]).sum(0), varies, mirrors, together, explained


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
