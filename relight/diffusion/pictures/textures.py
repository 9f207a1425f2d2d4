"""Material textures that tile: from words by our own prior, or like those of a photograph of a surface.

All are (B, 5, H, W), 0 to 1: base colour sRGB-encoded, perceptual roughness, metallic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from relight.diffusion.own.network import PriorError
from relight.diffusion.own.prior import Prior
from relight.diffusion.own.tasks import condition_maps
from relight.diffusion.pictures.decompose import Options, Photograph, estimated
from relight.diffusion.pictures.patches import like
from relight.diffusion.pictures.upscale import Upscaler
from relight.diffusion.protocol import Condition
from relight.diffusion.tileable import tileable
from relight.images import read_image
from relight.resize import bicubic
from relight.shading.color import linear_to_srgb, srgb_to_linear
from relight.shading.shade import SplitSum, shade
from relight.shading.studio import studio
from relight.shading.surface import Surface
from relight.shading.tonemap import reinhard

MARGIN = 16
"""Pixels of the opposite edge that an upscaler is shown."""


def flat(size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Mask, normal and depth of a surface seen from straight ahead, as the prior's swatches have them."""
    normal = torch.tensor([0.0, 0.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, *size)
    return torch.ones(1, 1, *size), normal, torch.full((1, 1, *size), 0.1)


@torch.no_grad()
def from_words(
    prior: Prior, words: Sequence[str], generator: Generator, *, count: int = 1, steps: int = 20, scale: float = 2.0
) -> Tensor:
    """`count` textures as large as the prior's pictures.  scale: of guidance by the words; 1 for none.

    Raises PriorError for words that the prior doesn't know, and for a prior of another task.
    """
    _check(prior)
    size = prior.config.size
    mask, normal, depth = flat(size)
    blank = Condition(condition_maps(None, mask, normal, depth).expand(count, -1, -1, -1))
    told = Condition(blank.maps, prior.tokens(words, count)) if words else blank
    with tileable(prior.network):
        made = prior.sample(
            told, (count, *size), steps=steps, scale=scale if words else 1.0, without=blank, generator=generator
        )
    return made * 0.5 + 0.5


def from_photograph(
    photo: Tensor,
    prior: Prior,
    size: tuple[int, int],
    generator: Generator,
    *,
    steps: int = 80,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Tensor:
    """(1, 5, *size) at the photograph's scale, without its light, as far as the prior can tell.

    photo: (1, 3, H, W) sRGB-encoded, of a flat surface that fills it.
    """
    return like(taken_apart(photo, prior, generator), size, generator, steps=steps, progress=progress)


def surface_photograph(path: str | Path, most: int) -> Tensor:
    """(1, 3, H, W) sRGB-encoded, its shorter side shrunk to `most` pixels.  Raises DataError."""
    picture = read_image(path).srgb.permute(2, 0, 1)[None]
    high, wide = picture.shape[2:]
    shrink = min(1.0, most / min(high, wide))
    return bicubic(picture, (round(high * shrink), round(wide * shrink))).clamp(0, 1)


def taken_apart(photo: Tensor, prior: Prior, generator: Generator) -> Tensor:
    """(1, 5, H, W) materials of a photograph of a flat surface: the prior's low frequencies, and for what is finer the
    photograph's own, as detail of base colour: its light is taken to be smooth.
    """
    _check(prior)
    size = (photo.shape[2], photo.shape[3])
    found, _ = estimated(Photograph(photo, *flat(size)), prior, Options(samples=1, zooms=0), generator)
    coarse = bicubic(found, size).clamp(0, 1)
    blurred = bicubic(bicubic(photo, (found.shape[2], found.shape[3])).clamp(0, 1), size).clamp(0, 1)
    ratio = (photo + 0.02) / (blurred + 0.02)
    return torch.cat([coarse[:, :3] * ratio, coarse[:, 3:]], 1).clamp(0, 1)


def enlarged(maps: Tensor, upscaler: Upscaler, size: tuple[int, int]) -> Tensor:
    """(B, 5, *size) by doublings that see the opposite edges, and an antialiased way back."""
    while maps.shape[2] < size[0] or maps.shape[3] < size[1]:
        around = pad(maps, (MARGIN,) * 4, mode="circular")
        rough = torch.cat([around[:, 3:], around[:, 3:4]], 1)
        twice = torch.cat([upscaler(around[:, :3]), upscaler(rough)[:, :2]], 1)
        maps = twice[..., 2 * MARGIN : -2 * MARGIN, 2 * MARGIN : -2 * MARGIN]
    return bicubic(maps, size).clamp(0, 1)


def _check(prior: Prior) -> None:
    if prior.config.task != "material":
        raise PriorError(f"textures: need a prior of the task 'material', found {prior.config.task!r}")


def ball(maps: Mapping[str, Tensor], size: int) -> Tensor:
    """(3, size, size) sRGB-encoded: a ball with (C, H, W) maps "base_color", "roughness", "metallic" about it four
    times, in a studio.
    """
    line = (torch.arange(size) + 0.5) / size * 2.2 - 1.1
    y, x = torch.meshgrid(-line, line, indexing="ij")
    inside = x * x + y * y < 1
    x, y = x[inside], y[inside]
    normal = torch.stack([x, y, (1 - x * x - y * y).clamp_min(0).sqrt()], -1)
    turns = torch.atan2(normal[:, 0], normal[:, 2]) / (2 * math.pi) * 4, torch.asin(y.clamp(-1, 1)) / math.pi * 2
    stacked = torch.cat([maps["base_color"], maps["roughness"], maps["metallic"]])
    high, wide = stacked.shape[1:]
    values = stacked[:, ((-turns[1] % 1) * high).long() % high, ((turns[0] % 1) * wide).long() % wide].T
    view = torch.tensor([0.0, 0.0, 1.0]).expand_as(normal)
    surface = Surface(normal, normal, view, srgb_to_linear(values[:, :3]), values[:, 3], values[:, 4])
    picture = torch.full((size, size, 3), 0.16)
    picture[inside] = linear_to_srgb(reinhard(shade(surface, studio(), SplitSum())).clamp(0, 1))
    return picture.permute(2, 0, 1)
