"""What each Gaussian counts for, over many cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from relight.fit.uplift import gathered
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.render.protocol import RasterOptions, SplatRasterizer
from relight.render.splats import radiance

HIGHEST_LOGIT = 4.5
"""Opacities are held below the clamp of alpha (0.99) while they are differentiated, as it has no gradient."""


def weights(
    rasterizer: SplatRasterizer, gaussians: Gaussians, cameras: Sequence[Camera], options: RasterOptions
) -> Tensor:
    """(N,) sum over all cameras' pixels of the blending weight: what `gathered` makes of white pictures."""
    total = torch.zeros_like(gaussians.logit_opacity)
    fixed = gaussians.detach()
    for camera in cameras:
        white = torch.ones(camera.height, camera.width, 1, device=total.device)
        total += gathered(rasterizer, fixed, camera, white, options)[:, 0]
    return total


def significance(
    rasterizer: SplatRasterizer,
    gaussians: Gaussians,
    cameras: Sequence[Camera],
    options: RasterOptions,
    *,
    volume_power: float = 0.1,
) -> Tensor:
    """(N,) global significance (Fan et al., LightGaussian, 2023, eq. 4 and 5): weight x volume^`volume_power`.

    By exact blending weights, where the paper counts pixels x opacity x transmittance.  Volumes are divided by the 90th
    percentile and not larger than 1; surfels' are areas.
    """
    axes = 2 if gaussians.surfels else 3
    volume = gaussians.scales.detach()[:, :axes].double().prod(1)
    largest = torch.quantile(volume[:: max(1, len(volume) // 1_000_000)], 0.9)
    factor = (volume / largest.clamp_min(1e-300)).clamp(0, 1) ** volume_power
    return weights(rasterizer, gaussians, cameras, options) * factor.float()


def sensitivity(
    rasterizer: SplatRasterizer,
    gaussians: Gaussians,
    cameras: Sequence[Camera],
    options: RasterOptions,
    *,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """(N,) estimates of the sum of squared changes of all pictures, sRGB-encoded: if a Gaussian were left out, and if
    its colour were another by 1.

    A pixel is linear in each alpha and in each colour, so either change is a derivative.  The sum of its squares over
    pixels is the mean square of the derivative of the picture weighted by random signs (Hutchinson, 1990); one draw of
    signs a camera, as cameras are many.
    """
    generator = torch.Generator().manual_seed(seed)
    gone, recolored = torch.zeros_like(gaussians.logit_opacity), torch.zeros_like(gaussians.logit_opacity)
    for camera in cameras:
        logit = gaussians.logit_opacity.detach().clamp_max(HIGHEST_LOGIT).requires_grad_()
        splat = replace(gaussians.detach(), logit_opacity=logit)
        colors = radiance(splat, camera.position).detach().requires_grad_()
        picture = rasterizer.rasterize(splat, camera, colors, options).features
        signs = (torch.rand(picture.shape, generator=generator) < 0.5).float() * 2 - 1
        by_logit, by_color = torch.autograd.grad((picture * signs.to(picture)).sum(), (logit, colors))
        # d alpha / d logit = alpha (1 - opacity).
        gone += (by_logit / torch.sigmoid(-logit.detach())) ** 2
        recolored += by_color.square().mean(1)
    return gone, recolored


def weights_by_taking_out(
    rasterizer: SplatRasterizer, gaussians: Gaussians, cameras: Sequence[Camera], options: RasterOptions
) -> Tensor:
    """The slow twin of `weights`: each Gaussian in turn is the only white one."""
    out = torch.zeros(len(gaussians))
    for i in range(len(gaussians)):
        white = torch.zeros(len(gaussians), 1)
        white[i] = 1.0
        out[i] = sum(float(rasterizer.rasterize(gaussians, c, white, options).features.sum()) for c in cameras)
    return out


def sensitivity_by_leaving_out(
    rasterizer: SplatRasterizer, gaussians: Gaussians, cameras: Sequence[Camera], options: RasterOptions
) -> Tensor:
    """The slow twin of the first half of `sensitivity`, without its chance: pictures with and without each Gaussian."""
    out = torch.zeros(len(gaussians))
    for camera in cameras:
        colors = radiance(gaussians, camera.position)
        whole = rasterizer.rasterize(gaussians, camera, colors, options).features
        for i in range(len(gaussians)):
            kept = torch.arange(len(gaussians)) != i
            without = rasterizer.rasterize(gaussians[kept], camera, colors[kept], options).features
            out[i] += float((whole - without).square().sum())
    return out
