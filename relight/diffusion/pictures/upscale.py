"""Twice as many pixels a side: pictures, and materials told by the photograph they belong to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from relight.diffusion.own import kept
from relight.diffusion.own.imdn import Imdn, Shape
from relight.diffusion.own.network import PriorError
from relight.resize import bicubic

HEADER = "upscaler"
SAMPLE = 48
"""Coarse pixels a side of the parts of a picture that say what its blocks attend to; about what training shows."""
SAMPLES = 3
"""Of them a side."""


@dataclass(frozen=True)
class Upscaling:
    """shape: of the network that is trained."""

    shape: Shape
    about: str


UPSCALERS: dict[str, Upscaling] = {
    "upscale": Upscaling(Shape(3), "pictures to twice the size"),
    "upscale-material": Upscaling(Shape(5, guide=3), "materials to twice the size, told the photograph"),
}
"""Those that are trained."""


class Upscaler:
    """Doubles the sides of pictures, sRGB-encoded or data, 0 to 1.

    tile: coarse pixels a side that are worked on at once.  Tiles overlap by as much as the network sees, and what each
    attends to is asked of the whole picture once, so there are no seams to blend: the result doesn't depend on `tile`.
    info: what its file says of how it was made.
    """

    def __init__(self, network: Imdn, info: Mapping[str, str] | None = None, *, tile: int = 192):
        self.network = network.eval().requires_grad_(False)
        self.shape, self.info, self.tile = network.shape, dict(info or {}), tile

    @staticmethod
    def load(source: str | Path = "upscale", device: str | torch.device = "cpu") -> Upscaler:
        """By the name of one that comes with the package (see `bundled`), or from a file that `save` or training wrote.

        Raises PriorError.
        """
        network, info = kept.read(source, HEADER, HEADER, lambda values: Imdn(Shape(**values)))
        return Upscaler(network.to(device), info)

    def save(self, path: Path) -> None:
        """In half precision, with what it is."""
        kept.write(path, self.network, HEADER, self.shape.json, self.info)

    @torch.no_grad()
    def __call__(self, picture: Tensor, guide: Tensor | None = None) -> Tensor:
        """(B, C, 2 H, 2 W), 0 to 1, of (B, C, H, W).  guide: (B, guide, 2 H, 2 W), for a network that is told one.

        Raises PriorError for other shapes.
        """
        self._check(picture, guide)
        return torch.cat([self._one(p[None], None if guide is None else guide[i, None]) for i, p in enumerate(picture)])

    def to_size(self, picture: Tensor, size: tuple[int, int], guide: Tensor | None = None) -> Tensor:
        """(B, C, *size) of (B, C, H, W), by as many doublings as it takes and an antialiased way back.

        guide: (B, guide, *size).  Sizes less than a tenth above a doubling are stretched.
        """
        growth = max(size[0] / picture.shape[2], size[1] / picture.shape[3])
        for _ in range(max(0, math.ceil(math.log2(growth / 1.1)))):
            twice = (2 * picture.shape[2], 2 * picture.shape[3])
            picture = self(picture, None if guide is None else bicubic(guide, twice).clamp(0, 1))
        return picture if tuple(picture.shape[2:]) == size else bicubic(picture, size).clamp(0, 1)

    def _check(self, picture: Tensor, guide: Tensor | None) -> None:
        if picture.ndim != 4 or picture.shape[1] != self.shape.channels or 0 in picture.shape:
            raise PriorError(
                f"upscaler: expected pictures (B, {self.shape.channels}, H, W), found {tuple(picture.shape)}"
            )
        if (guide is None) != (self.shape.guide == 0):
            raise PriorError(f"upscaler: {'needs' if guide is None else 'takes no'} picture of the size to come")
        f = self.shape.factor
        expected = (len(picture), self.shape.guide, f * picture.shape[2], f * picture.shape[3])
        if guide is not None and tuple(guide.shape) != expected:
            raise PriorError(f"upscaler: expected a guide {expected}, found {tuple(guide.shape)}")

    def _one(self, picture: Tensor, guide: Tensor | None) -> Tensor:
        height, width = picture.shape[2:]
        gates = self._gates(picture, guide)
        rows = []
        for top in range(0, height, self.tile):
            row = [self._tile(picture, guide, gates, top, left) for left in range(0, width, self.tile)]
            rows.append(torch.cat(row, 3))
        return torch.cat(rows, 2).clamp(0, 1)

    def _tile(self, picture: Tensor, guide: Tensor | None, gates: Sequence[Tensor], top: int, left: int) -> Tensor:
        reach, f = self.shape.reach, self.shape.factor
        y, y0, y1 = _span(top, self.tile, reach, picture.shape[2])
        x, x0, x1 = _span(left, self.tile, reach, picture.shape[3])
        told = None if guide is None else guide[..., f * y0 : f * y1, f * x0 : f * x1]
        found = self.network(picture[..., y0:y1, x0:x1], told, gates)
        return found[..., f * (top - y0) : f * (y - y0), f * (left - x0) : f * (x - x0)]

    def _gates(self, picture: Tensor, guide: Tensor | None) -> list[Tensor]:
        """Of samples spread over the picture, of the size that training shows."""
        f = self.shape.factor
        side = min(SAMPLE, *picture.shape[2:])
        places = [
            (y, x) for y in _spread(picture.shape[2] - side, SAMPLES) for x in _spread(picture.shape[3] - side, SAMPLES)
        ]
        coarse = torch.cat([picture[..., y : y + side, x : x + side] for y, x in places])
        told = None
        if guide is not None:
            told = torch.cat([guide[..., f * y : f * (y + side), f * x : f * (x + side)] for y, x in places])
        return self.network.gates(coarse, told)


def _span(start: int, length: int, reach: int, whole: int) -> tuple[int, int, int]:
    """Where a tile ends, and from where to where it is worked out."""
    end = min(start + length, whole)
    return end, max(0, start - reach), min(end + reach, whole)


def _spread(last: int, count: int) -> list[int]:
    """0 to `last` in at most `count` even steps."""
    return sorted({round(last * i / (count - 1)) for i in range(count)})


def charbonnier(found: Tensor, expected: Tensor, soft: float = 1e-3) -> Tensor:
    """Mean of sqrt(error ** 2 + soft ** 2): absolute errors, smooth at 0 (Lai et al., CVPR 2017)."""
    return ((found - expected) ** 2 + soft**2).sqrt().mean()


def bundled() -> list[str]:
    """Names of the upscalers that come with the package."""
    return kept.bundled(HEADER)
