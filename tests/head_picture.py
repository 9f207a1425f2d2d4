"""A picture of a person whom nobody is: the head of `benchmarks.head` in a soft light before a wall."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from benchmarks.head import portrait
from relight.diffusion.light_words import LightDescription
from relight.diffusion.pictures.lumos.shots import Shot
from relight.diffusion.pictures.relighters import ALBEDO, NewLight
from relight.shading.color import luminance

WALL = torch.tensor([0.55, 0.6, 0.66])
SIZE = 160


@lru_cache
def shot() -> Shot:
    """Of everything known."""
    return portrait(SIZE)


def under(said: str) -> NewLight:
    """Light in words, exposed as relighters are told: as if the mean albedo were ALBEDO."""
    known, light = shot(), LightDescription.parse(said)
    lights = light.lights(known.geometry.world_from_viewer, known.geometry.middle, known.geometry.radius)
    return NewLight(lights, 0.14 / ALBEDO / known.received(lights), light)


@lru_cache
def pictured(said: str = "direction=front soft") -> Tensor:
    """(SIZE, SIZE, 3) sRGB."""
    known, light = shot(), under(said)
    own = float(luminance(known.surface.base_color).mean())
    drawn = known.drawn(light.lights, light.exposure * ALBEDO / own)
    return torch.where(known.geometry.mask[..., None], drawn, WALL)
