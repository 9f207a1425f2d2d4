"""How much of the light that places mirror they reflect: what tells metals from the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.render.protocol import RasterOptions, SplatRasterizer
from relight.render.splats import render
from relight.shading.color import srgb_to_linear
from relight.vectors import unit
from relight.views import View, Views

FEWEST = 4
"""Photographs of a place from which on it counts."""
LEVELS = (0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0)
"""Roughnesses that mirrored light is looked up at."""
COAT = 0.13
"""Share of mirrored light that divides the two kinds: the coat of a dielectric reflects 0.04 of it, and twice as much
at grazing angles; metals reflect more than half, of which a light that is itself a first guess shows a part."""
ONLY = 0.08
"""Share of the changes of radiance that mirrored light explains, that divides them: metals show nothing else."""
STEEP = 3.0
"""How sharply, per unit of the logarithm."""
SPREAD = 0.1
"""Spread of radiance over irradiance / pi that divides the two kinds where mirrored light is not known."""
TELLING = 0.03
"""Share of the changes of radiance that mirrored light must explain to tell a roughness."""


Lit = Callable[[View, Camera], tuple[Tensor, Tensor]]
"""Of N Gaussians in a photograph's light: (N, 3) irradiance / pi, and (L, N, 3) mirrored radiance of `LEVELS`."""


@dataclass(frozen=True)
class Sighting:
    """N Gaussians in one photograph.

    seen: (N,) whether it shows them.  radiance: (N, 3) linear, where it does.  toward: (N, 3) unit vectors to the eye.
    """

    view: View
    camera: Camera
    seen: Tensor
    radiance: Tensor
    toward: Tensor


def sightings(
    rasterizer: SplatRasterizer, gaussians: Gaussians, views: Views, options: RasterOptions, *, most: int
) -> Iterator[Sighting]:
    """In at most about `most` of the views, evenly chosen.  Not differentiated."""
    device = gaussians.means.device
    for index in range(0, len(views), max(1, len(views) // most)):
        camera, photo = views.camera(index).to(device), views.photo(index)
        with torch.no_grad():
            depth = render(rasterizer, gaussians, camera, options=options).median_depth
            pixel, z = camera.project(gaussians.means)
            x, y = pixel.floor().long().unbind(-1)
            inside = (z > 0) & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
            x, y = x.clamp(0, camera.width - 1), y.clamp(0, camera.height - 1)
            toward = unit(camera.position - gaussians.means)
            facing = (gaussians.normals(camera.position) * toward).sum(-1) > 0.3
            # Within a few pixels of the surface that is seen there.
            seen = inside & facing & ((z - depth[y, x]).abs() < 5 * z / camera.fx)
            if photo.alpha is not None:
                seen = seen & (photo.alpha.to(device)[y, x] > 0.99)
            if photo.mask is not None:
                seen = seen & photo.mask.to(device)[y, x]
            radiance = srgb_to_linear(photo.rgb.to(device))[y, x]
        yield Sighting(views[index], camera, seen, radiance, toward)


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


def seen_over_views(
    rasterizer: SplatRasterizer,
    gaussians: Gaussians,
    views: Views,
    options: RasterOptions,
    lit: Lit,
    *,
    most: int = 48,
) -> Seen:
    """Of at most about `most` of the views, evenly chosen.  Not differentiated."""
    n, device = len(gaussians), gaussians.means.device
    count = torch.zeros(n, 1, device=device)
    plain, mirrors = torch.zeros(3, n, 3, device=device), torch.zeros(3, len(LEVELS), n, 3, device=device)
    for place in sightings(rasterizer, gaussians, views, options, most=most):
        with torch.no_grad():
            radiance, seen = place.radiance, place.seen[:, None]
            irradiance, mirrored = lit(place.view, place.camera)
            count = count + seen
            plain += torch.stack([radiance, radiance * radiance, irradiance]) * seen
            mirrors += torch.stack([mirrored, mirrored * mirrored, mirrored * radiance]) * seen
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
    told = [shares * (s.count >= FEWEST)[:, None] for s in seen]
    varies = sum(t.mT @ s.varies for t, s in zip(told, seen, strict=True))
    mirrors = sum(s.mirrors @ t for t, s in zip(told, seen, strict=True))
    together = sum(s.together @ t for t, s in zip(told, seen, strict=True))
    assert isinstance(varies, Tensor) and isinstance(mirrors, Tensor) and isinstance(together, Tensor)
    explained = together.clamp_min(0) ** 2 / (mirrors * varies).clamp_min(1e-12)
    best = explained.argmax(0)
    kinds = torch.arange(len(best), device=best.device)
    slope = (together / mirrors.clamp_min(1e-12))[best, kinds]
    only = explained[best, kinds].clamp_min(1e-4)
    metal = torch.sigmoid(STEEP * (slope.clamp_min(1e-4) / COAT).log() + (STEEP - 1) * (only / ONLY).log())
    rough = roughness_of(-explained)
    tells = explained[best, kinds] > TELLING
    known = torch.stack([t.sum(0) for t in told]).sum(0) > 0
    return torch.stack([torch.where(known, metal, metallic), torch.where(tells, rough, roughness)], 1)


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


def likely_metal(spread: Tensor, count: Tensor, irradiance: Tensor, otherwise: float) -> Tensor:
    """(N,) guess of metallic, 0 to 1, from the spread of radiance over photographs, (N,), the number of photographs
    (N,) and (N, 3) irradiance / pi; `otherwise` where too few tell.
    """
    ratio = spread / irradiance.mean(1).clamp_min(1e-3)
    guess = torch.sigmoid(STEEP * (ratio.clamp_min(1e-4) / SPREAD).log())
    return torch.where(count >= FEWEST, guess, otherwise)
