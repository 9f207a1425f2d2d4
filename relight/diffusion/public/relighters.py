"""Published models of `relight.diffusion.public` as `ImageRelighter`s: what each is told of a light that we know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from relight.diffusion.pictures.detail import detailed
from relight.diffusion.pictures.geometry import Geometry, resized
from relight.diffusion.pictures.hints import radiance_hints
from relight.diffusion.pictures.relighters import NewLight, RelighterError, box, checked, rays
from relight.plugins import PluginError, load_target
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
    try:
        load: Any = load_target("relight.diffusion.public:load", f"model {name!r}")
    except PluginError as error:
        raise RelighterError(f"model {name!r}: this relight has no loaders of public weights ({error})") from error
    return PublicRelighter(name, load(name, weights, base=base), detail)


@dataclass(frozen=True)
class PublicRelighter:
    """name: one of SIZES.  model: what `public.load` gives.  detail: of the photograph, see `detail.detailed`."""

    name: str
    model: Any
    detail: float = 1.0

    def relit(self, picture: Tensor, geometry: Geometry, light: NewLight, *, seed: int = 0) -> Tensor:
        """See `ImageRelighter`."""
        checked(picture, geometry)
        size = SIZES[self.name]
        top, left, height, width = box(geometry.mask)
        part = geometry.cropped(top, left, height, width)
        crop = picture[top : top + height, left : left + width]
        scale = size / max(height, width)
        small = part.resized(max(8, round(height * scale)), max(8, round(width * scale)))
        shown = _squared(resized(crop, *small.size), size)
        mask = _squared(small.mask[..., None].float(), size)
        made = self._made(2 * shown - 1, mask, small, light, Generator().manual_seed(seed))
        rows, columns = small.size
        after = srgb_to_linear(0.5 + 0.5 * made[0].permute(1, 2, 0)[:rows, :columns])
        full = detailed(srgb_to_linear(crop), after, part, CHANGE, self.detail)
        out = picture.clone()
        inside = torch.where(part.mask[..., None], linear_to_srgb(full.clamp(0, 1)), crop)
        out[top : top + height, left : left + width] = inside
        return out

    def _made(self, picture: Tensor, mask: Tensor, small: Geometry, light: NewLight, generator: Generator) -> Tensor:
        """(1, 3, size, size), -1 to 1, of (1, 3, size, size) and (1, 1, size, size)."""
        words = "" if light.description is None else light.description.words()
        if self.name.startswith("ic-light"):
            behind = None
            if self.name.endswith("fbc") and light.background is not None:
                behind = 2 * resized(light.background, *picture.shape[2:]).permute(2, 0, 1)[None] - 1
            side = None if behind is not None else side_of(light)
            return self.model.relight(picture * mask, words, background=behind, light=side, generator=generator)
        if self.name == "dilightnet":
            drawn = radiance_hints(small.surface, small.seeing(light.lights), rays(small, light.lights))
            hints = torch.cat([small.spread((h * light.exposure).clamp(0, 1)) for h in drawn], -1)
            hints = linear_to_srgb(_squared(hints, picture.shape[2]))
            return self.model.relight(picture, mask, hints, words, generator=generator)
        pictures: Any = load_target("relight.diffusion.public.neural_gaffer:light_pictures", self.name)
        log, clipped = pictures(_around(light, small), picture.shape[2])
        return self.model.relight(picture, log, clipped, generator=generator)


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
