"""Glow of lamps apart from the night behind it, on pictures whose layers are known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from relight.diffusion.own.procedural.environments import environment
from relight.diffusion.pictures.night import exclusion, separate
from relight.shading.color import linear_to_srgb


def night(seed: int, rows: int = 48) -> tuple[Tensor, Tensor]:
    """Background and glow, (3, rows, 2 rows), linear: a procedural night, and halos about its brightest places."""
    generator = torch.Generator().manual_seed(seed)
    radiance = environment(generator, rows, "night").permute(2, 0, 1)
    background = (0.25 * radiance).clamp(0, 0.8)
    y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(2 * rows) + 0.5, indexing="ij")
    glow = torch.zeros_like(background)
    brightness = radiance.mean(0).clone()
    for _ in range(3):
        row, column = divmod(int(brightness.argmax()), 2 * rows)
        away = ((y - row - 0.5) ** 2 + (x - column - 0.5) ** 2).sqrt()
        color = torch.tensor([1.0, 0.6, 0.25])[:, None, None]
        glow = glow + 0.5 * color * torch.exp(-away / (0.12 * rows))
        brightness[away < rows / 3] = 0
    return background, glow


def error(found: Tensor, expected: Tensor) -> float:
    return float((linear_to_srgb(found.clamp(0, 1)) - linear_to_srgb(expected.clamp(0, 1))).square().mean())


def test_without_its_light_effects_a_night_is_nearer_to_the_truth():
    gains = []
    for seed in (20, 21, 22):
        background, glow = night(seed)
        seen = (background + glow).clamp(0, 1)
        told: list[tuple[int, int]] = []
        layers = separate(linear_to_srgb(seen), steps=100, progress=lambda *p, to=told: to.append(p))
        assert told[-1] == (100, 100)
        torch.testing.assert_close(layers.background + layers.effects, seen, atol=1e-5, rtol=0)
        assert layers.background.min() >= 0 and layers.effects.min() >= 0
        gains.append(10 * math.log10(error(seen, background) / error(layers.background, background)))
    assert min(gains) > 1.5, gains


def test_a_day_without_glow_is_left_nearly_alone():
    generator = torch.Generator().manual_seed(1)
    day = torch.rand(3, 24, 32, generator=generator).repeat_interleave(2, 1).repeat_interleave(2, 2)
    layers = separate(day, steps=80)
    assert layers.effects.mean() < 0.03


def test_edges_at_the_same_place_are_seen():
    step = (torch.arange(32) > 15).float().expand(1, 3, 32, 32)
    apart = exclusion(step, step.mT)
    assert float(exclusion(step, step)) > 2 * float(apart)
    assert float(exclusion(step, torch.full_like(step, 0.4))) < 1e-3
