"""Pictures of the night: the glow and glare of lamps apart from what lies behind, fitted to the one picture.

The terms are those of Jin, Yang and Tan, ECCV 2022 (arXiv 2207.10564): layers that add up to the picture; no edge in
both (three scales); a grey mean of what is behind; light effects that are smooth to the second order; relative
smoothness (Li and Brown, CVPR 2014) to say which layer a slope belongs to.  Their two untrained networks are left out:
light effects are numbers on a coarse grid, which is as smooth, and the background is what they leave, so that the sum
is exact at any size.
Nothing of their second, trained part is here: this takes glow away and brightens nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, avg_pool2d, interpolate, softplus

from relight.resize import bicubic, within
from relight.shading.color import linear_to_srgb, srgb_to_linear

SCALES = 3
"""At which edges are compared, each half the last."""
SHARP = 10.0
"""Slope in display values, times this, at which an edge is nearly a whole one."""
BRIGHT, LAMP = 0.35, 0.3
"""exp(-(1 - least of RGB) ** 2 / (2 BRIGHT ** 2)) measures light effects, which are there above LAMP."""
NEARBY = 0.8
"""How much less light effects are held down at lamps than where none are."""


@dataclass(frozen=True)
class Weights:
    """Of each term.  exclusion is the paper's.  grey and smooth are less than there (0.01 and 1), where networks hold
    back what a mean could gain: with more, all of the picture's tint was taken for glow.  flat: of the background's
    slopes, which glow explains better.  far: of light effects far from lamps.  negative: of a background below 0.
    Chosen on four synthetic nights that no test uses.
    """

    exclusion: float = 0.01
    grey: float = 0.002
    smooth: float = 0.3
    flat: float = 1.0
    far: float = 0.05
    negative: float = 5.0


@dataclass(frozen=True)
class Night:
    """Both (3, H, W), linear: they add up to the picture.  background: 0 to 1.  effects: not negative."""

    background: Tensor
    effects: Tensor


def separate(
    photo: Tensor,
    *,
    steps: int = 300,
    side: int = 192,
    cells: int = 32,
    weights: Weights | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Night:
    """Layers of a (3, H, W) picture, sRGB-encoded, 0 to 1.

    side: pixels of the longer side that are fitted; light effects are stretched to the picture's own size.  cells: how
    many numbers light effects are along it.  progress: steps done, and of how many.
    """
    weights = Weights() if weights is None else weights
    height, width = photo.shape[1:]
    size = within((height, width), side, 8)
    shown = bicubic(photo[None], size).clamp(0, 1)
    light = srgb_to_linear(shown)
    grid = (max(4, round(cells * size[0] / max(size))), max(4, round(cells * size[1] / max(size))))
    near = nearness(shown, grid)
    # Glow begins as a part of what is smooth about lamps, so both layers have slopes to be pulled apart by.
    begin = interpolate(light, grid, mode="area") * 0.3 * near
    hidden = torch.log(torch.expm1(begin.clamp_min(1e-4))).requires_grad_(True)
    optimiser = torch.optim.Adam([hidden], lr=0.1)
    for step in range(steps):
        coarse = softplus(hidden)
        effects = _stretched(coarse, size)
        rest = light - effects
        background = linear_to_srgb(rest.clamp_min(1e-4))
        glow = linear_to_srgb(effects.clamp_min(1e-4))
        loss = (
            weights.exclusion * exclusion(background, glow)
            + weights.grey * _cast(background)
            + weights.smooth * _bends(effects)
            # In linear light, where taking away what is even leaves slopes as they are.
            + weights.flat * sum(slope.abs().mean() for slope in _slopes(rest))
            + weights.far * ((1 - NEARBY * near) * coarse).mean()
            + weights.negative * (-rest).clamp_min(0).mean()
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.param_groups[0]["lr"] = 0.1 * (1 - step / steps) + 0.003
        optimiser.step()
        progress(step + 1, steps)
    whole = srgb_to_linear(photo)
    with torch.no_grad():
        effects = torch.minimum(_stretched(softplus(hidden), (height, width))[0], whole)
    return Night(whole - effects, effects)


def exclusion(one: Tensor, other: Tensor) -> Tensor:
    """How much the edges of two (1, C, H, W) pictures are at the same places, over three scales (Zhang et al., CVPR
    2018): the mean of the product of their slopes, each bent so that large ones count alike."""
    total = one.new_zeros(())
    for _ in range(SCALES):
        for a, b in zip(_slopes(one), _slopes(other), strict=True):
            # Faint slopes of the smooth layer are brought to the size of the other's.
            ratio = (a.abs().mean() / b.abs().mean().clamp_min(1e-6)).detach().clamp(max=50)
            product = torch.tanh(SHARP * a.abs()) * torch.tanh(SHARP * ratio * b.abs())
            total = total + product.square().mean().clamp_min(1e-12).sqrt()
        one, other = avg_pool2d(one, 2), avg_pool2d(other, 2)
    return total / SCALES


def nearness(shown: Tensor, grid: tuple[int, int]) -> Tensor:
    """(1, 1, *grid), 1 at lamps, 1 / e a quarter of the shorter side away from the nearest, 0 where there are none.

    Lamps are what is nearly white in a (1, 3, H, W) picture: the paper's measure of light effects, above 0.3.
    """
    measure = torch.exp(-((1 - shown.amin(1, keepdim=True)) ** 2) / (2 * BRIGHT**2))
    lamps = adaptive_max_pool2d(measure, grid)[0, 0] > LAMP
    rows, columns = torch.meshgrid(*(torch.arange(n) / min(grid) for n in grid), indexing="ij")
    places = torch.stack([rows, columns], -1).to(shown)
    if not bool(lamps.any()):
        return shown.new_zeros(1, 1, *grid)
    away = torch.cdist(places.reshape(-1, 2), places[lamps]).amin(1)
    return torch.exp(-4 * away).view(1, 1, *grid)


def _cast(picture: Tensor) -> Tensor:
    """How far the means of the channels are apart: none in a grey world (Buchsbaum 1980)."""
    mean = picture.mean((0, 2, 3))
    return (mean - mean.roll(1)).abs().sum()


def _slopes(picture: Tensor) -> tuple[Tensor, Tensor]:
    return picture.diff(dim=2), picture.diff(dim=3)


def _bends(picture: Tensor) -> Tensor:
    return picture.diff(n=2, dim=2).abs().mean() + picture.diff(n=2, dim=3).abs().mean()


def _stretched(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic, not negative."""
    return interpolate(values, size, mode="bicubic", align_corners=False).clamp_min(0)
