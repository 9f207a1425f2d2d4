"""How much of the light that places mirror they reflect: what tells metals from the rest."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.render.protocol import RasterOptions, SplatRasterizer
from relight.render.splats import render
from relight.shading.color import srgb_to_linear
from relight.views import View, Views

FEWEST = 4
"""Photographs of a place that a share is worked out from."""
MIRROR = 0.5
"""Roughness that mirrored light is looked up at: blurred enough for a light that is itself a first guess."""
COAT = 0.1
"""Share of mirrored light that divides the two kinds: the coat of a dielectric reflects 0.04 of it, and twice as much
at grazing angles; metals reflect more than half."""
STEEP = 3.0
"""How sharply, per unit of the logarithm."""
STEADY = 0.05
"""Mirrored light that changes by less than this, of its mean, tells nothing."""


@dataclass(frozen=True)
class Seen:
    """What photographs show of N Gaussians.

    mean: (N, 3) linear radiance.  irradiance: (N, 3) irradiance / pi, mean over the same photographs.
    gloss: (N,) by how much radiance changes with mirrored light, per unit of it; NaN where too few photographs tell.
    count: (N,) photographs that show it.
    """

    mean: Tensor
    irradiance: Tensor
    gloss: Tensor
    count: Tensor


def seen_over_views(
    rasterizer: SplatRasterizer,
    gaussians: Gaussians,
    views: Views,
    options: RasterOptions,
    lit: Callable[[View, Camera], tuple[Tensor, Tensor]],
    *,
    most: int = 48,
) -> Seen:
    """Of at most `most` of the views, evenly chosen.  Not differentiated.

    lit: of the Gaussians in a photograph's light, (N, 3) irradiance / pi and (N, 3) mirrored radiance, see `MIRROR`.
    """
    n, device = len(gaussians), gaussians.means.device
    count = torch.zeros(n, 1, device=device)
    sums = torch.zeros(5, n, 3, device=device)
    for index in range(0, len(views), max(1, len(views) // most)):
        camera, photo = views.camera(index).to(device), views.photo(index)
        with torch.no_grad():
            depth = render(rasterizer, gaussians, camera, options=options).median_depth
            pixel, z = camera.project(gaussians.means)
            x, y = pixel.floor().long().unbind(-1)
            inside = (z > 0) & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
            x, y = x.clamp(0, camera.width - 1), y.clamp(0, camera.height - 1)
            toward = torch.nn.functional.normalize(camera.position - gaussians.means, dim=-1)
            facing = (gaussians.normals(camera.position) * toward).sum(-1) > 0.3
            # Within a few pixels of the surface that is seen there.
            seen = inside & facing & ((z - depth[y, x]).abs() < 5 * z / camera.fx)
            if photo.alpha is not None:
                seen = seen & (photo.alpha.to(device)[y, x] > 0.99)
            if photo.mask is not None:
                seen = seen & photo.mask.to(device)[y, x]
            radiance = srgb_to_linear(photo.rgb.to(device))[y, x]
            irradiance, mirrored = lit(views[index], camera)
            count = count + seen[:, None]
            values = (radiance, irradiance, mirrored, mirrored * radiance, mirrored * mirrored)
            sums = sums + torch.stack(values) * seen[:, None]
    mean, irradiance, mirrored, both, square = sums / count.clamp_min(1)
    varies = (square - mirrored * mirrored).clamp_min(0).sum(1)
    gloss = (both - mean * mirrored).sum(1) / varies.clamp_min(1e-12)
    told = (count[:, 0] >= FEWEST) & (varies > ((STEADY * mirrored) ** 2).sum(1))
    return Seen(mean, irradiance, torch.where(told, gloss, math.nan), count[:, 0])


def likely_metal(seen: Seen, otherwise: float) -> Tensor:
    """(N,) guess of metallic, 0 to 1; `otherwise` where too few photographs tell."""
    guess = torch.sigmoid(STEEP * (seen.gloss.clamp_min(1e-4) / COAT).log())
    return torch.where(seen.gloss.isnan(), otherwise, guess)
