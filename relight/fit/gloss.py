"""How much places change their colour with the direction they are seen from: what tells metals from the rest."""

from __future__ import annotations

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
"""Photographs of a place that a spread is worked out from."""
COAT = 0.1
"""Spread of radiance over irradiance / pi that divides the two kinds.  The coat of a dielectric reflects 0.04 of the
light, so its highlights move by a few hundredths; metals reflect more than half of it."""
STEEP = 3.0
"""How sharply, per unit of the logarithm."""


@dataclass(frozen=True)
class Seen:
    """What photographs show of N Gaussians.

    mean: (N, 3) linear radiance.  spread: (N,) its standard deviation over the photographs, mean of the channels.
    count: (N,) photographs that show it.  irradiance: (N, 3) irradiance / pi, mean over the same photographs.
    """

    mean: Tensor
    spread: Tensor
    count: Tensor
    irradiance: Tensor


def seen_over_views(
    rasterizer: SplatRasterizer,
    gaussians: Gaussians,
    views: Views,
    options: RasterOptions,
    irradiance: Callable[[View, Camera], Tensor],
    *,
    most: int = 48,
) -> Seen:
    """Of at most `most` of the views, evenly chosen.  Not differentiated.

    irradiance: of the Gaussians, (N, 3) over pi, in a photograph's light.
    """
    n, device = len(gaussians), gaussians.means.device
    count, first, second, lit = (torch.zeros(n, c, device=device) for c in (1, 3, 3, 3))
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
            radiance = srgb_to_linear(photo.rgb.to(device))[y, x] * seen[:, None]
            count, first, second = count + seen[:, None], first + radiance, second + radiance * radiance
            lit = lit + irradiance(views[index], camera) * seen[:, None]
    mean = first / count.clamp_min(1)
    spread = (second / count.clamp_min(1) - mean * mean).clamp_min(0).sqrt().mean(1)
    return Seen(mean, spread, count[:, 0], lit / count.clamp_min(1))


def likely_metal(seen: Seen, otherwise: float) -> Tensor:
    """(N,) guess of metallic, 0 to 1; `otherwise` where too few photographs tell."""
    ratio = seen.spread / seen.irradiance.mean(1).clamp_min(1e-3)
    guess = torch.sigmoid(STEEP * (ratio.clamp_min(1e-4) / COAT).log())
    return torch.where(seen.count >= FEWEST, guess, otherwise)
