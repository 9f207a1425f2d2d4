"""Random solid textures: materials as functions of a place, and the words that describe them.

Two materials are mixed by a pattern; each has variations of its own.  Edges of colour, roughness and metallic go
together in most textures and not in all, or a network would learn to read one from the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from relight.diffusion.own.procedural.draw import Draw
from relight.shading.color import srgb_to_linear
from relight.shading.metals import METALS

COLORS = {
    "white": (0.85, 0.85, 0.83), "grey": (0.45, 0.45, 0.45), "black": (0.12, 0.12, 0.13), "red": (0.72, 0.12, 0.10),
    "orange": (0.90, 0.45, 0.10), "yellow": (0.92, 0.80, 0.18), "green": (0.18, 0.52, 0.20),
    "blue": (0.13, 0.25, 0.68), "purple": (0.42, 0.18, 0.55), "pink": (0.92, 0.50, 0.62), "brown": (0.40, 0.24, 0.13),
    "beige": (0.80, 0.70, 0.54), "turquoise": (0.15, 0.62, 0.62),
}  # fmt: skip
"""sRGB-encoded middles of what a word may mean."""
FINISHES = {"glossy": (0.05, 0.25), "satin": (0.25, 0.55), "matte": (0.55, 1.0)}
"""Ranges of perceptual roughness."""


@dataclass(frozen=True)
class Material:
    """base_color: (N, 3) linear.  roughness, metallic: (N,).  words: of `WORDS`, the weightiest first."""

    base_color: Tensor
    roughness: Tensor
    metallic: Tensor
    words: tuple[str, ...]


def material(places: Tensor, draw: Draw) -> Material:
    """Of (N, 3) places in a solid's own coordinates, about -1 to 1."""
    metal = draw.pick(((False, False), (False, False), (True, True), (True, False)))
    first, second = (_plain(draw, m) for m in metal)
    name = draw.pick(tuple(PATTERNS))
    mix = PATTERNS[name](places * draw.number(0.7, 1.6) + draw.number(0, 9), draw)
    together = draw.chance(0.7)
    rough_mix = mix if together else PATTERNS[draw.pick(tuple(PATTERNS))](places, draw)
    grain = 1 + draw.number(0, 0.35) * (fbm(places * draw.number(2, 8), draw) - 0.5)
    color = torch.lerp(first[0].expand(len(places), 3), second[0].expand(len(places), 3), mix[:, None])
    rough = torch.lerp(first[1].expand(len(places)), second[1].expand(len(places)), rough_mix)
    rough = rough + draw.number(0, 0.15) * (fbm(places * draw.number(2, 8), draw) - 0.5)
    metallic = torch.lerp(first[2].expand(len(places)), second[2].expand(len(places)), mix)
    words = (name, *first[3], *(w for w in second[3] if name != "plain"))
    return Material(
        (color * grain[:, None]).clamp(0.02, 1), rough.clamp(0.04, 1), metallic, tuple(dict.fromkeys(words))
    )


def _plain(draw: Draw, metal: bool) -> tuple[Tensor, Tensor, Tensor, tuple[str, ...]]:
    """Colour (3,), roughness and metallic (), and words of one uniform material."""
    word = draw.pick(tuple(METALS if metal else COLORS))
    value = torch.tensor((METALS if metal else COLORS)[word])
    spread = torch.randn(3, generator=draw.generator)
    value = value * (1 + 0.04 * spread) if metal else srgb_to_linear((value + 0.09 * spread).clamp(0.06, 0.97))
    finish = draw.pick(tuple(FINISHES))
    rough = draw.number(*FINISHES[finish])
    kind = ("metal",) if metal else ()
    return value.clamp(0.02, 1), torch.tensor(rough), torch.tensor(float(metal)), (word, *kind, finish)


def fbm(places: Tensor, draw: Draw, octaves: int = 4) -> Tensor:
    """(N,) 0 to 1: smooth noise over (N, 3) places, octaves of half the weight (Perlin 1985, on a hashed lattice)."""
    seed = int(torch.randint(1 << 20, (), generator=draw.generator))
    total, weight = places.new_zeros(len(places)), 0.0
    for octave in range(octaves):
        total = total + _noise(places * 2.0**octave, seed + octave) * 0.5**octave
        weight += 0.5**octave
    return total / weight


def _hashed(cells: Tensor, seed: int) -> Tensor:
    """(...,) 0 to 1 of (..., 3) int64 cells: integers mixed by multiplication and shifts."""
    h = cells[..., 0] * 73856093 ^ cells[..., 1] * 19349663 ^ cells[..., 2] * 83492791 ^ seed * 2654435761
    h = (h ^ (h >> 13)) * 1274126177 & 0xFFFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFFFF).float() / 0xFFFFFF


def _noise(places: Tensor, seed: int) -> Tensor:
    low = places.floor()
    f = places - low
    f = f * f * (3 - 2 * f)
    corners = _hashed(low.long()[:, None] + _CORNERS, seed)
    weights = torch.where(_CORNERS.bool(), f[:, None], 1 - f[:, None]).prod(-1)
    return (corners * weights).sum(1)


_CORNERS = torch.tensor([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])


def _soft(signed: Tensor, width: float) -> Tensor:
    """0 to 1 across an edge of that width."""
    return (0.5 + signed / width).clamp(0, 1)


def _plain_pattern(p: Tensor, draw: Draw) -> Tensor:
    return torch.zeros(len(p))


def _clouds(p: Tensor, draw: Draw) -> Tensor:
    """Worn paint, rust, marble: noise, cut softly or hard."""
    return _soft(fbm(p * draw.number(1, 3), draw) - draw.number(0.4, 0.6), draw.pick((0.03, 0.15, 0.5)))


def _checker(p: Tensor, draw: Draw) -> Tensor:
    return ((p * draw.number(1.5, 4)).floor().sum(1) % 2).float()


def _stripes(p: Tensor, draw: Draw) -> Tensor:
    along = p @ draw.direction() * draw.number(3, 12)
    return _soft((along + draw.number(0, 1.5) * fbm(p, draw)).sin() + draw.number(-0.5, 0.5), draw.pick((0.1, 1.0)))


def _bricks(p: Tensor, draw: Draw) -> Tensor:
    """Mortar is 1."""
    wide = draw.number(1.5, 3.5)
    row = (p[:, 1] * wide * 2).floor()
    across = (p[:, 0] + p[:, 2]) * wide + 0.5 * (row % 2)
    up = p[:, 1] * wide * 2
    edge = torch.minimum((across - across.round()).abs(), (up - up.round()).abs() / 2)
    return _soft(draw.number(0.04, 0.09) - edge, 0.03)


def _cells(p: Tensor, draw: Draw) -> Tensor:
    """Pebbles, tiles, giraffes: nearness to the border of cells about random points (Worley 1996)."""
    q, seed = p * draw.number(1.5, 4), int(torch.randint(1 << 20, (), generator=draw.generator))
    cell = q.floor().long()[:, None] + _AROUND
    shift = torch.stack([_hashed(cell, seed + i) for i in range(3)], -1)
    away = (cell + shift - q[:, None]).norm(dim=-1)
    near = away.topk(2, largest=False).values
    return _soft(draw.number(0.08, 0.2) - (near[:, 1] - near[:, 0]), 0.06)


_AROUND = torch.tensor([[i, j, k] for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)])


def _spots(p: Tensor, draw: Draw) -> Tensor:
    q = p * draw.number(1.5, 4)
    return _soft(draw.number(0.2, 0.4) - (q - q.round()).norm(dim=1), 0.05)


def _wood(p: Tensor, draw: Draw) -> Tensor:
    """Rings about an axis, disturbed."""
    ring = (p[:, [0, 2]].norm(dim=1) + 0.25 * fbm(p * torch.tensor([1.0, 0.3, 1.0]), draw)) * draw.number(5, 14)
    return (ring - ring.floor()) ** 2


def _scratches(p: Tensor, draw: Draw) -> Tensor:
    """Thin lines in a few directions."""
    out = torch.zeros(len(p))
    for _ in range(4):
        line = (p @ draw.direction() * draw.number(2, 5) + 0.3 * fbm(p * 0.7, draw)) % 1
        out = torch.maximum(out, _soft(0.03 - (line - 0.5).abs(), 0.02))
    return out


PATTERNS: dict[str, Callable[[Tensor, Draw], Tensor]] = {
    "plain": _plain_pattern, "clouds": _clouds, "checker": _checker, "stripes": _stripes, "bricks": _bricks,
    "cells": _cells, "spots": _spots, "wood": _wood, "scratches": _scratches,
}  # fmt: skip
"""Each gives (N,) 0 to 1, where the second material lies."""
WORDS: tuple[str, ...] = (*PATTERNS, *COLORS, *METALS, "metal", *FINISHES)
"""What materials can be described with."""
