"""Published models of `relight.diffusion.public` as `ImageRelighter`s: what each is told of a light that we know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Generator, Tensor

from relight.diffusion.pictures.geometry import Geometry
from relight.diffusion.pictures.hints import radiance_hints
from relight.diffusion.pictures.relighters import NewLight, RelighterError, Shown, rays, relit_in_box
from relight.diffusion.public import load
from relight.diffusion.public.neural_gaffer import light_pictures
from relight.resize import resized
from relight.shading.color import linear_to_srgb, srgb_to_linear
from relight.shading.lights import Surroundings

SIZES = {"ic-light-fc": 512, "ic-light-fbc": 512, "dilightnet": 512, "neural-gaffer": 256}
"""Pixels a side that each was trained on."""
CHANGE = 128
"""Pixels of the longer side at which its change of light is taken over; what is finer comes from the photograph."""


def create(
    name: str, weights: str | None, *, base: str | None = None, detail: float = 1.0, **_: Any
) -> PublicRelighter:
    """weights, base: folders or names of a hub, None for where they are published.  Raises RelighterError."""
    return PublicRelighter(name, load(name, weights, base=base), detail)


@dataclass(frozen=True)
class PublicRelighter:
    """name: one of SIZES.  model: what `public.load` gives.  detail: of the photograph, see `detail.detailed`."""

    name: str
    model: Any
    detail: float = 1.0

    def relit(self, picture: Tensor, geometry: Geometry, light: NewLight, *, seed: int = 0) -> Tensor:
        """See `ImageRelighter`."""
        return relit_in_box(self, picture, geometry, light, seed)

    @property
    def size(self) -> int:
        """See `Painter`."""
        return SIZES[self.name]

    @property
    def change(self) -> int:
        """See `Painter`."""
        return CHANGE

    @property
    def network(self) -> torch.nn.Module:
        """See `Painter`."""
        return self.model.denoiser.network

    def painted(
        self,
        shown: Sequence[Shown],
        *,
        seeds: Sequence[int] = (0,),
        between: Callable[[int, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """See `Painter`; neighbours whose light is told alike go through the network together."""
        rows, columns = shown[0].geometry.size
        # What is smaller than the model is used to is enlarged for it.
        scale = self.size / max(rows, columns)
        large = (max(8, round(rows * scale)), max(8, round(columns * scale)))
        out = []
        for (words, side), group in groupby(shown, lambda one: (_words(one.light), side_of(one.light))):
            frames = list(group)
            made = self._made(frames, large, words, side, Generator().manual_seed(seeds[0]))
            out += [resized(p.permute(1, 2, 0)[: large[0], : large[1]], rows, columns) for p in made]
        return srgb_to_linear((0.5 + 0.5 * torch.stack(out)).clamp(0, 1))

    def _made(
        self, frames: Sequence[Shown], large: tuple[int, int], words: str, side: str | None, generator: Generator
    ) -> Tensor:
        """(F, 3, size, size), -1 to 1; what is right of or below (h, w) `large` is not meant."""
        size, shapes = self.size, [one.geometry.resized(*large) for one in frames]
        picture = torch.cat([2 * _squared(linear_to_srgb(resized(one.picture, *large)), size) - 1 for one in frames])
        mask = torch.cat([_squared(shape.mask[..., None].float(), size) for shape in shapes])
        if self.name.startswith("ic-light"):
            behind, first = None, frames[0].light.background
            if self.name.endswith("fbc") and first is not None:
                grounds = [one.light.background if one.light.background is not None else first for one in frames]
                behind = torch.stack([2 * resized(ground, size, size).permute(2, 0, 1) - 1 for ground in grounds])
                side = None
            return self.model.relight(picture * mask, words, background=behind, light=side, generator=generator)
        if self.name == "dilightnet":
            drawn = []
            for one, small in zip(frames, shapes, strict=True):
                lights = one.light.lights
                hints = radiance_hints(small.surface, small.seeing(lights), rays(small, lights))
                exposed = torch.cat([small.spread((h * one.light.exposure).clamp(0, 1)) for h in hints], -1)
                drawn.append(linear_to_srgb(_squared(exposed, size)))
            return self.model.relight(picture, mask, torch.cat(drawn), words, generator=generator)
        told = [light_pictures(_around(one.light, small), size) for one, small in zip(frames, shapes, strict=True)]
        log, clipped = (torch.cat(parts) for parts in zip(*told, strict=True))
        return self.model.relight(picture, log, clipped, generator=generator)


def _words(light: NewLight) -> str:
    return "" if light.description is None else light.description.words()


def side_of(light: NewLight) -> str | None:
    """The side that a light comes from, of those IC-Light knows; None from the front, the back or all around."""
    if light.description is None or light.description.direction is None:
        return None
    x, y, z = light.description.direction
    if max(abs(x), abs(y)) < 0.5 * abs(z):
        return None
    if abs(x) >= abs(y):
        return "right" if x > 0 else "left"
    return "top" if y > 0 else "bottom"


def _around(light: NewLight, small: Geometry):
    """Radiance from directions in camera axes, exposed."""
    if not all(isinstance(one, Surroundings) for one in light.lights):
        raise RelighterError("neural-gaffer: is told light by a map of what is far; give --env, or soft light of a sky")
    rotation = small.camera.world_from_camera[:3, :3]

    def radiance(directions: Tensor) -> Tensor:
        world = directions @ rotation.mT
        return sum((one.hit(world, world).radiance for one in light.lights), torch.zeros_like(world)) * light.exposure

    return radiance


def _squared(picture: Tensor, size: int) -> Tensor:
    """(1, C, size, size) of (H, W, C), with black to the right or below."""
    filled = picture.new_zeros(size, size, picture.shape[-1])
    filled[: picture.shape[0], : picture.shape[1]] = picture
    return filled.permute(2, 0, 1)[None]
