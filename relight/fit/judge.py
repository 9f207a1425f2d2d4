"""Materials of kinds by elimination: each is tried as metal and not, rough and smooth, and photographs decide.

A mirrored highlight that moves with the eye is a metal's or a coat's; both are shaded here, so that a coat which shines
at grazing angles is not taken for metal.  For each trial the base colour that fits best has a closed form.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from relight.fit.gloss import FEWEST, bottom_of, roughness_of
from relight.fit.places import LEVELS, Sighting
from relight.shading.microfacet import directional_albedo

COAT = 0.04
"""Reflectance of dielectrics."""
METALS = (0.0, 0.5, 1.0)
"""Metallic that is tried."""
METAL = 0.3
"""Of its brightest channel, what a metal reflects at least."""
DARK = 0.1
"""Linear radiance, where an error counts half of what it counts in the dark: errors count relative to brightness."""
EVIDENCE = 0.02
"""Share of the error that metal must take away to be believed."""
MIDDLE, STEEP = 0.35, 12.0
"""Trials lean towards dielectrics, as errors of the light count more the more is mirrored: where they say `MIDDLE`,
metal is as likely as not."""
TELLING = 0.97
"""Share of the error of plain colour that the best trial may leave, to tell a roughness."""

TURNED = 0.25
"""Change of metallic after which base colour is found anew."""


@dataclass(frozen=True)
class Verdict:
    """metallic, roughness: (K,) of kinds, 0 to 1.  base_color: (N, 3) of places; all NaN where photographs do not
    tell."""

    metallic: Tensor
    roughness: Tensor
    base_color: Tensor


def judge(sightings: Iterable[Sighting], shares: Tensor) -> Verdict:
    """Of kinds that N places have (N, K) `shares` of.  Not differentiated."""
    n, k = shares.shape
    squares, products, rests = (shares.new_zeros(len(LEVELS), len(METALS), n, 3) for _ in range(3))
    plain, count = shares.new_zeros(3, n, 3), shares.new_zeros(n)
    for place in sightings:
        radiance, seen, mirrored = place.radiance, place.seen, place.mirrored
        count += seen
        weight = seen[:, None] / (radiance.mean(-1, keepdim=True) + DARK) ** 2
        plain += torch.stack([torch.ones_like(radiance), radiance, radiance * radiance]) * weight
        for i, level in enumerate(LEVELS):
            a, b = (t[:, None] for t in directional_albedo(place.facing, torch.full_like(place.facing, level)))
            for j, metal in enumerate(METALS):
                coat = (COAT * (1 - metal) * a + b) * mirrored[i]
                colored = metal * a * mirrored[i] + (1 - metal) * place.irradiance
                rest = radiance - coat
                squares[i, j] += colored * colored * weight
                products[i, j] += colored * rest * weight
                rests[i, j] += rest * rest * weight
    color = (products / squares.clamp_min(1e-9)).clamp(0.02, 0.95)
    least_bright = (METAL * torch.tensor(METALS).to(color))[:, None, None]
    color = color * (least_bright / color.amax(-1, keepdim=True)).clamp_min(1)
    left = (rests - 2 * color * products + color * color * squares).clamp_min(0).sum(-1)
    ones, mean, square = plain
    alone = (square - mean * mean / ones.clamp_min(1e-9)).clamp_min(0).sum(-1)
    told = shares * (count >= FEWEST)[:, None]
    cost = (left @ told) / (alone @ told).clamp_min(1e-9)
    least = cost.amin(0)
    raw = 0.5 + 0.5 * bottom_of(*least)
    believed = least[1:].amin(0) < least[0] - EVIDENCE
    metallic = torch.sigmoid(STEEP * (torch.where(believed, raw, 0.0) - MIDDLE))
    nearest = (raw * believed * (len(METALS) - 1)).round().long()
    kinds = torch.arange(k, device=shares.device)
    rough = roughness_of(cost[:, nearest, kinds])
    best = cost[:, nearest, kinds].argmin(0)
    base_color = sum(shares[:, i, None] * color[best[i], nearest[i]] for i in range(k))
    assert isinstance(base_color, Tensor)
    known, tells = told.sum(0) > 0, least.amin(0) < TELLING
    nothing = torch.full_like(rough, torch.nan)
    return Verdict(
        torch.where(known, metallic, nothing),
        torch.where(known & tells, rough, nothing),
        torch.where((count >= FEWEST)[:, None], base_color, torch.nan),
    )
