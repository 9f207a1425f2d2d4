"""Light from what surfaces mirror as well as scatter, in closed form: where a fit of metals starts.

`relight.fit.sky` takes all for diffuse.  What is mostly metal has then no light in which it could be seen to be metal:
what it mirrors, averaged over views, is taken for paint.  Here each place has a metallic and a roughness, and what it
shows is linear in the light and, place by place, in its base colour; both are solved for in turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor

from relight.fit.places import Glance, Places
from relight.fit.sky import solve_rows, white_and_bright
from relight.render.transfer import cell_directions, solid_angles
from relight.shading.microfacet import alpha_of, ggx_d
from relight.views import Views

ROUNDS = 5
SHARPEST = 0.3
"""Least roughness of a lobe: the cells of the light are no finer."""
OUTLIER = 0.05
"""Linear radiance; larger errors count as their absolute value."""


@dataclass(frozen=True)
class Explanation:
    """radiance: (R, 2R, 3) of the light's cells.  base_color: (N, 3).  left: of what N places show, the share that
    differs from view to view and is not explained; absolute values."""

    radiance: Tensor
    base_color: Tensor
    left: float


@dataclass(frozen=True)
class Mixture:
    """What S sightings of N places show.  place: (S,) which.  glance: (S,) of each field."""

    places: Places
    place: Tensor
    glance: Glance

    @staticmethod
    def of(places: Places, views: Views) -> Mixture:
        """Of all that photographs show of the places."""
        glances = [glance for _, glance in places.glances(views)]
        joined = {f.name: torch.cat([getattr(g, f.name)[g.seen] for g in glances]) for f in fields(Glance)}
        return Mixture(places, torch.cat([g.seen.nonzero()[:, 0] for g in glances]), Glance(**joined))

    def explained(
        self, metallic: Tensor, roughness: Tensor, base_color: Tensor | None = None, radiance: Tensor | None = None
    ) -> Explanation:
        """By light and base colour, for (N,) metallic and roughness, from (N, 3) base colour and (R, 2R, 3) light if
        they are known.  Not differentiated."""
        transfer, at, glance = self.places.transfer, self.place, self.glance
        metal, open_ = metallic[at, None], ~glance.blocked[:, None]
        tinted, coat = glance.mirrors(metal, roughness[at])
        mirrors = self._lobes(roughness.clamp_min(SHARPEST)[at]) * open_
        scatters, bounced, other = transfer.weights[at], transfer.bounced[at], glance.instead * ~open_
        weight = glance.weight
        mean = self._each(glance.radiance) / self._each(torch.ones_like(weight)).clamp_min(1)
        if base_color is None:
            middle = mean[mean.sum(1) > 0].median(0).values.clamp_min(1e-4)
            base_color = (0.5 * middle / middle.amax()).expand_as(mean)
        light = None if radiance is None else radiance.flatten(0, 1)
        doubt, wrong = torch.ones_like(glance.radiance), glance.radiance
        for _ in range(ROUNDS):
            color = base_color[at]
            scattered, mirrored = (1 - metal) * color, color * tinted + coat
            rest = glance.radiance - scattered * bounced - mirrored * other
            light = solve_rows(partial(_rows, ((scattered, scatters), (mirrored, mirrors))), rest, doubt, light)
            seen = mirrors @ light + other
            colored = tinted * seen + (1 - metal) * (scatters @ light + bounced)
            rest = glance.radiance - coat * seen
            fit = self._each(colored * rest * weight) / self._each(colored * colored * weight).clamp_min(1e-9)
            base_color = fit.clamp(0.02, 0.95)
            wrong = (rest - base_color[at] * colored).abs()
            doubt = 1 / (wrong + OUTLIER)
        assert light is not None
        left = float(wrong.sum() / (glance.radiance - mean[at]).abs().sum().clamp_min(1e-9))
        return Explanation(*white_and_bright(light, base_color), left)

    def _each(self, values: Tensor) -> Tensor:
        """(N, C) sums of (S, C) values over the sightings of each place."""
        return values.new_zeros(len(self.places.points), values.shape[1]).index_add_(0, self.place, values)

    def _lobes(self, roughness: Tensor) -> Tensor:
        """(S, D) shares of the light's cells in what is mirrored, as `relight.shading.prefilter` weighs directions."""
        cells = cell_directions(self.places.transfer.rotation)
        cosine = self.glance.mirror @ cells.mT
        half = ((1 + cosine) / 2).clamp_min(0).sqrt()
        density = ggx_d(half, alpha_of(roughness)[:, None]) * cosine.clamp_min(0) * solid_angles().to(cells)
        return density / density.sum(1, keepdim=True).clamp_min(1e-12)


def _rows(terms: Sequence[tuple[Tensor, Tensor]], channel: int) -> Tensor:
    """(S, D) sum of (S, 3) factors, of one channel, x (S, D) shares of the light's cells."""
    total = sum(factor[:, channel, None] * shares for factor, shares in terms)
    assert isinstance(total, Tensor)
    return total
