"""Splats, and a teacher, for tests of the viewer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from relight.geometry.gaussians import Gaussians


def balls(count: int = 400) -> Gaussians:
    """Two balls of Gaussians, left red at x = -1 and right blue at x = 1, radius 0.5; the left one rough plastic, the
    right one metal."""
    generator = torch.Generator().manual_seed(3)
    outwards = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    left = torch.arange(count) < count // 2
    center = torch.where(left[:, None], torch.tensor([-1.0, 0, 0]), torch.tensor([1.0, 0, 0]))
    color = torch.where(left[:, None], torch.tensor([0.8, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.8]))
    return Gaussians(
        means=center + 0.5 * outwards,
        quats_wxyz=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        log_scales=torch.full((count, 3), math.log(0.08)),
        logit_opacity=torch.full((count,), 4.0),
        sh=((color - 0.5) / 0.28209479)[:, None],
        channels={
            "base_color": color, "roughness": torch.where(left, 0.7, 0.3), "metallic": torch.where(left, 0.0, 1.0),
            "normal": outwards, "progress": torch.full((count,), 0.9),
        },
    )  # fmt: skip


class Reader:
    """A teacher of three channels that knows two words: what is at the left and what is at the right."""

    name, levels = "reader", (3,)

    def __call__(self, rgb: torch.Tensor) -> torch.Tensor:
        return rgb

    def text(self, prompts: Sequence[str]) -> torch.Tensor:
        known = {"a red ball": [1.0, -1.0, 0.0], "a blue ball": [-1.0, 1.0, 0.0]}
        return torch.tensor([known.get(words, [0.0, 0.0, 1.0]) for words in prompts])
