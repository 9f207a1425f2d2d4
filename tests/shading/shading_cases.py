"""Surfaces and lights that several tests use."""

from __future__ import annotations

import math

import torch

from relight.shading.environment import Environment
from relight.shading.surface import Surface

DOUBLE = torch.float64


def surface(
    n: int = 1, *, angle: float = 0.6, roughness: float = 0.4, metallic: float = 0.0, color=(0.8, 0.5, 0.2),
    dtype: torch.dtype = DOUBLE,
) -> Surface:  # fmt: skip
    """n equal points facing +z, seen from `angle` radians off their normal."""
    one = torch.ones(n, dtype=dtype)
    view = torch.tensor([math.sin(angle), 0.0, math.cos(angle)], dtype=dtype)
    return Surface(
        position=torch.zeros(n, 3, dtype=dtype),
        normal=torch.tensor([0.0, 0.0, 1.0], dtype=dtype).expand(n, 3),
        view=view.expand(n, 3),
        base_color=torch.tensor(color, dtype=dtype).expand(n, 3),
        roughness=roughness * one,
        metallic=metallic * one,
    )


def sky(height: int = 16, seed: int = 0, dtype: torch.dtype = DOUBLE) -> Environment:
    """Smooth, with a bright spot."""
    g = torch.Generator().manual_seed(seed)
    radiance = 0.2 + torch.rand(height, 2 * height, 3, generator=g, dtype=dtype)
    radiance[height // 4, height // 2] = 40.0
    return Environment(radiance, torch.eye(3, dtype=dtype))
