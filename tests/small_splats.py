"""Small splats to compress."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from relight.geometry.gaussians import Gaussians
from relight.geometry.sh import count, from_constant


def ball(n: int, *, degree: int = 0, materials: bool = False) -> Gaussians:
    """On the unit sphere, coloured as `relight.testing.capture` has it, of several sizes and opacities."""
    generator = torch.Generator().manual_seed(0)
    means = normalize(torch.randn(n, 3, generator=generator), dim=1)
    sh = 0.05 * torch.randn(n, count(degree), 3, generator=generator)
    sh[:, 0] = from_constant(0.5 + 0.5 * means)
    size = 2.0 * n**-0.5 * torch.exp(0.5 * torch.randn(n, 1, generator=generator))
    channels = {}
    if materials:
        channels = {
            "base_color": (0.5 + 0.4 * means).clamp(0, 1),
            "roughness": torch.full((n,), 0.4) + 0.3 * means[:, 0],
            "metallic": (means[:, 1] > 0).float(),
            "normal": means.clone(),
            "progress": torch.full((n,), 0.8),
        }
    return Gaussians(
        means=means,
        quats_wxyz=torch.randn(n, 4, generator=generator),
        log_scales=size.clamp_max(0.4).log() - torch.rand(n, 3, generator=generator),
        logit_opacity=1.0 + 2.0 * torch.randn(n, generator=generator),
        sh=sh,
        channels=channels,
    )
