"""Splats for tests, and how far apart two are."""

from __future__ import annotations

import torch

from relight.geometry import sh
from relight.geometry.gaussians import CHANNELS, Gaussians


def make(
    n: int,
    degree: int = 3,
    seed: int = 0,
    *,
    surfels: bool = False,
    antialiased: bool = False,
    filtered: bool = False,
    **ranges,
) -> Gaussians:
    """Random Gaussians; `ranges` gives the half-width of means, log_scales, logit_opacity, sh and log filter."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int, width: float = 1.0) -> torch.Tensor:
        return width * (2 * torch.rand(*shape, generator=generator) - 1)

    return Gaussians(
        means=uniform(n, 3, width=ranges.get("means", 2.0)),
        quats_wxyz=torch.randn(n, 4, generator=generator),
        log_scales=uniform(n, 3, width=ranges.get("log_scales", 3.0)),
        logit_opacity=uniform(n, width=ranges.get("logit_opacity", 5.0)),
        sh=uniform(n, sh.count(degree), 3, width=ranges.get("sh", 1.0)),
        filter_3d=uniform(n, width=ranges.get("log_filter", 2.0)).exp() if filtered else None,
        surfels=surfels,
        antialiased=antialiased,
    )


def with_materials(g: Gaussians) -> Gaussians:
    n = len(g)
    generator = torch.Generator().manual_seed(n)
    values = {k: torch.rand(n, *shape, generator=generator) for k, (shape, _) in CHANNELS.items()}
    values["normal"] = torch.nn.functional.normalize(values["normal"] - 0.5, dim=-1)
    return Gaussians.from_tensors(g.tensors() | {f"channels.{k}": v for k, v in values.items()}, **g.flags)


def angles(a: Gaussians, b: Gaussians) -> torch.Tensor:
    """(N,) degrees between their rotations."""
    p, q = (torch.nn.functional.normalize(g.quats_wxyz.double(), dim=1) for g in (a, b))
    # By sine and cosine: an arc cosine near 1 has no digits left.
    cosine = (p * q).sum(1).abs()
    sine = torch.minimum((p - q).norm(dim=1), (p + q).norm(dim=1))
    return torch.rad2deg(4 * torch.atan2(sine / 2, (1 - (sine / 2) ** 2).clamp_min(0).sqrt())) * (cosine >= 0)
