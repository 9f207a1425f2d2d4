"""Where a fit of materials and light begins: closed forms, before any step of a gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from relight.fit.gloss import Seen, explained_by, metallic_and_roughness, seen_over_views
from relight.fit.lighting import FittedLighting
from relight.fit.places import Places
from relight.fit.sky import color_kinds, color_shares, solve_light, solve_shading
from relight.views import Views

ALL = 8.0
"""Logit of a progress of 1."""
SMOOTH = 0.35
"""Highest roughness of metals at the start: a blurred light makes up for a metal that is taken for a smoother one,
and is sharpened as the fit goes on; no light makes up for one that is taken for a rougher one."""


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


def begin(
    places: Places,
    views: Views,
    light: FittedLighting,
    look: Tensor,
    *,
    metallic: float,
    roughness: float,
    segments: Tensor | None = None,
    by: Literal["auto", "colors", "features"] = "colors",
) -> Beginning:
    """Albedo as if all were diffuse, learned light, which begins anew in `light`, and what kinds of material there are.

    look: (N, 3) linear, mean over views.  metallic, roughness: where photographs do not tell.  segments: (N, S) 0 or 1,
    of the one that a place is of; without them kinds are colours.  by: whether `segments` are the kinds; auto: if they
    explain more of what places show than colours.
    """
    # Photographs are taken together only as far as the same light means the same place mirrors the same.
    together = light.given.follows_camera or len({view.light or "" for view in views}) == 1
    if light.known or light.given.follows_camera:
        whole = _seen(places, views, light)
        albedo = torch.where(whole.count[:, None] > 0, whole.mean / whole.irradiance.clamp_min(1e-3), 0.5)
        seen = [whole] if together else list(_by_light(places, views, light).values())
    else:
        albedo = _begun(places, views, light, look)
        seen = list(_by_light(places, views, light).values())
    colors = color_kinds(albedo)
    shares = color_shares(albedo, colors)
    if segments is not None and (by == "features" or explained_by(seen, segments) > explained_by(seen, shares)):
        shares = segments
    metal, rough = metallic_and_roughness(seen, shares, metallic, roughness).clamp(0.03, 0.97).unbind(1)
    return Beginning(albedo, colors, shares, metal, rough.minimum(1 - metal * (1 - SMOOTH)))


def _begun(places: Places, views: Views, light: FittedLighting, look: Tensor) -> Tensor:
    """(N, 3) albedo, with light that begins anew."""
    transfer = places.transfer
    if not light.several:
        shading = solve_shading(look, transfer)
        light.start(dict.fromkeys(light.names, shading.radiance))
        return shading.albedo
    by_light = _by_light(places, views, light)
    means = torch.stack([torch.where(seen.count[:, None] > 0, seen.mean, look) for seen in by_light.values()])
    albedo = solve_shading(means.mean(0), transfer).albedo
    radiance = [solve_light(mean, albedo, transfer) for mean in means]
    light.start(dict(zip(by_light, radiance, strict=True)))
    return albedo


def _by_light(places: Places, views: Views, light: FittedLighting) -> dict[str, Seen]:
    names = sorted({view.light or "" for view in views})
    groups = {n: replace(views, views=tuple(v for v in views if (v.light or "") == n)) for n in names}
    return {name: _seen(places, group, light) for name, group in groups.items()}


def _seen(places: Places, views: Views, light: FittedLighting) -> Seen:
    return seen_over_views(places.in_views(views, light))
