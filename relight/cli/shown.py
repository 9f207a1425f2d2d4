"""Channels of a splat as pictures: features as colours, and what is selected."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from relight.errors import MissingPartError

if TYPE_CHECKING:
    from torch import Tensor

    from relight.geometry.camera import Camera
    from relight.geometry.gaussians import Gaussians
    from relight.render.protocol import RasterOptions, SplatRasterizer

SELECTED = (1.0, 0.45, 0.05)
"""sRGB-encoded: what is laid over a selection."""
CHANNELS = {"features": ("feature", "features"), "selection": ("selection", "select")}
"""What is shown: the channel, and the stage that gives it."""


def channel_painter(
    name: str, gaussians: Gaussians, rasterizer: SplatRasterizer, options: RasterOptions
) -> Callable[[Camera], tuple[Tensor, Tensor]]:
    """Premultiplied pictures (H, W, 3), sRGB-encoded, and alpha, of "features" or "selection".  Raises
    MissingPartError."""
    import torch

    from relight.fit.feature_space import principal_colors
    from relight.render.splats import render

    channel, stage = CHANNELS[name]
    if channel not in gaussians.channels:
        raise MissingPartError(f"--show {name}: the splat has none; run the stage {stage} first")
    values = gaussians.channels[channel].float()
    if name == "features":
        values = principal_colors(values)

    def features(camera: Camera) -> tuple[Tensor, Tensor]:
        image = rasterizer.rasterize(gaussians, camera, values, options)
        return image.features, image.alpha

    def selection(camera: Camera) -> tuple[Tensor, Tensor]:
        image = render(rasterizer, gaussians, camera, options=options, features=values[:, None])
        assert image.features is not None
        grey = image.color.mean(-1, keepdim=True).expand(-1, -1, 3)
        faint = torch.lerp(grey, image.alpha[..., None].expand(-1, -1, 3), 0.35)
        tinted = torch.lerp(image.color, image.alpha[..., None] * image.color.new_tensor(SELECTED), 0.35)
        return torch.lerp(faint, tinted, image.features.clamp(0, 1)), image.alpha

    return features if name == "features" else selection
