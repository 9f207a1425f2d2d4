"""What may not change when a splat is compressed: pictures of its captured look and, with materials, of it lit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relight.geometry.camera import Camera
from relight.geometry.gaussians import CHANNELS, Gaussians
from relight.render.deferred import displayed, gbuffer
from relight.render.protocol import RasterOptions, SplatRasterizer
from relight.render.relit import has_materials
from relight.render.splats import render
from relight.shading.environment import Environment
from relight.shading.shade import SplitSum, shade


@dataclass(frozen=True)
class Looks:
    """How splats are drawn to be compared: without shadows, which don't depend on the materials."""

    rasterizer: SplatRasterizer
    options: RasterOptions

    def draw(self, gaussians: Gaussians, camera: Camera, light: Environment | None = None) -> tuple[Tensor, Tensor]:
        """(H, W, C) sRGB-encoded, premultiplied, and (H, W) alpha.  Differentiable.

        C: 3 of the captured look; of a splat with materials under a `light`, 3 more of them shaded; then one each of
        whatever other channels there are.
        """
        further = features(gaussians)
        if light is None or not has_materials(gaussians):
            image = render(self.rasterizer, gaussians, camera, options=self.options, features=further)
            pictures = [image.color] if image.features is None else [image.color, image.features]
            return torch.cat(pictures, -1), image.alpha
        buffer = gbuffer(self.rasterizer, gaussians, camera, options=self.options, further=further)
        pictures = [buffer.splat.color, displayed(buffer, shade(buffer.surface, light, SplitSum()))]
        if buffer.further is not None:
            pictures.append(buffer.spread(buffer.further) * buffer.splat.alpha[..., None])
        return torch.cat(pictures, -1), buffer.splat.alpha


def features(gaussians: Gaussians) -> Tensor | None:
    """(N, F) channels that are no materials, side by side."""
    found = [value.flatten(1) for name, value in gaussians.channels.items() if name not in CHANNELS]
    return torch.cat(found, 1) if found else None


def over(picture: Tensor, alpha: Tensor, background: Tensor) -> Tensor:
    """(H, W, C) premultiplied picture over a (3,) colour, which repeats for further channels."""
    count = picture.shape[-1]
    behind = background.to(picture).repeat(-(-count // 3))[:count]
    return picture + (1 - alpha)[..., None] * behind
