"""What the upscaler is shown in training: sharp procedural pictures, and what a coarser grid leaves of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Generator, Tensor
from torch.nn.functional import conv2d, pad

from relight.diffusion.own.procedural.draw import Draw
from relight.diffusion.own.procedural.frames import Light, frames
from relight.diffusion.own.procedural.leaves import leaves
from relight.diffusion.own.procedural.views import Views
from relight.resize import bicubic


@dataclass(frozen=True)
class Pairs:
    """sharp: (B, C, 2h, 2w).  coarse: (B, C, h, w).  guide: (B, 3, 2h, 2w) or None.  All 0 to 1, as displayed."""

    sharp: Tensor
    coarse: Tensor
    guide: Tensor | None = None

    def to(self, device: torch.device) -> Pairs:
        """On another device."""
        guide = None if self.guide is None else self.guide.to(device)
        return Pairs(self.sharp.to(device), self.coarse.to(device), guide)

    def __len__(self) -> int:
        return len(self.sharp)


PairSource = Callable[[int, Generator], Pairs]
"""Draws so many."""


def pictures(views: Views, light: Light, share: float = 0.5) -> PairSource:
    """For pictures of any kind: dead leaves (this `share`), photographs, base colours, roughness with metallic."""

    def draw(count: int, generator: Generator) -> Pairs:
        flat = round(share * count)
        size = views.depth.shape[1]
        (shown,) = frames(views.drawn(max(1, math.ceil((count - flat) / 3)), generator), light, generator)
        rough = torch.cat([shown.roughness, shown.metallic, shown.roughness], 1)
        parts = [shown.photo, shown.base_color, rough]
        # Of each kind alike, where they aren't all needed.
        whole = torch.stack(parts, 1).flatten(0, 1)[: count - flat]
        sharp = _antialiased(torch.cat([leaves(flat, size, generator), whole]), generator)
        return Pairs(sharp, _coarse(sharp, generator))

    return draw


def materials(views: Views, light: Light) -> PairSource:
    """For base colour, roughness and metallic, told the photograph.  The coarse ones are as a prior gives them: too
    smooth, and off by a little; the sharp ones are off alike, since that is no upscaler's to mend."""

    def draw(count: int, generator: Generator) -> Pairs:
        (shown,) = frames(views.drawn(count, generator), light, generator)
        told = torch.cat([shown.base_color, shown.roughness, shown.metallic, shown.photo], 1)
        told = _antialiased(told, generator)
        sharp, guide = told[:, :5], told[:, 5:]
        coarse = smoothed(halved(sharp), Draw(generator).number(0, 1.2))
        coarse = coarse + Draw(generator).number(0, 0.02) * torch.randn(coarse.shape, generator=generator)
        return Pairs(sharp, coarse.clamp(0, 1), guide)

    return draw


def halved(picture: Tensor) -> Tensor:
    """(B, C, H / 2, W / 2), bicubic and antialiased."""
    return bicubic(picture, (picture.shape[2] // 2, picture.shape[3] // 2)).clamp(0, 1)


def smoothed(picture: Tensor, sigma: float) -> Tensor:
    """Blurred by a Gaussian of `sigma` pixels."""
    if sigma < 0.05:
        return picture
    reach = math.ceil(3 * sigma)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=picture.device) / sigma) ** 2)
    taps = (taps / taps.sum()).to(picture)
    channels = picture.shape[1]
    across = conv2d(
        pad(picture, (reach, reach, 0, 0), mode="replicate"), taps.expand(channels, 1, 1, -1), groups=channels
    )
    return conv2d(
        pad(across, (0, 0, reach, reach), mode="replicate"), taps.view(1, 1, -1, 1).expand(channels, 1, -1, 1),
        groups=channels,
    )  # fmt: skip


def jpeg_like(picture: Tensor, step: float) -> Tensor:
    """(B, C, H, W), H and W multiples of 8: cosine coefficients of 8 x 8 blocks rounded to steps that grow with
    frequency, which is what JPEG's tables amount to."""
    d = _cosines().to(picture)
    b, c, h, w = picture.shape
    blocks = picture.reshape(b, c, h // 8, 8, w // 8, 8).transpose(3, 4)
    found = d @ blocks @ d.mT
    k = torch.arange(8).to(picture)
    steps = step * (1 + k[:, None] + k)
    return (d.mT @ ((found / steps).round() * steps) @ d).transpose(3, 4).reshape(b, c, h, w)


@cache
def _cosines() -> Tensor:
    """(8, 8) orthonormal DCT of type 2."""
    k = torch.arange(8)
    rows = ((2 * k[None] + 1) * k[:, None] * math.pi / 16).cos() / 2
    rows[0] /= math.sqrt(2)
    return rows


def _antialiased(picture: Tensor, generator: Generator) -> Tensor:
    """Rendered by one ray a pixel, a picture has steps that no camera gives: fewer pixels, each of several rays."""
    size = picture.shape[-1]
    side = 16 * Draw(generator).pick(range(max(1, size // 32), max(2, size // 20)))
    small = bicubic(picture, (side, side)).clamp(0, 1)
    return small if Draw(generator).chance(0.5) else small.mT


def _coarse(sharp: Tensor, generator: Generator) -> Tensor:
    """Half the size; in two of five cases also noisy, or squeezed as JPEG."""
    out = halved(sharp)
    if Draw(generator).chance(0.2):
        out = out + Draw(generator).number(0.002, 0.015) * torch.randn(out.shape, generator=generator)
    elif Draw(generator).chance(0.25):
        out = jpeg_like(out, Draw(generator).number(0.005, 0.02))
    return out.clamp(0, 1)


PAIRS: dict[str, Callable[[Views, Light], PairSource]] = {"upscale": pictures, "upscale-material": materials}
"""By task."""
