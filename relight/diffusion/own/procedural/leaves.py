"""Dead leaves: shapes of every size that cover each other, which have the edges and spectra of photographs.

Lee, Mumford and Huang, IJCV 2001; networks that restore pictures learn from them nearly as well as from photographs
(Achddou et al., CVIU 2023).
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from relight.diffusion.own.procedural.draw import Draw

SMALLEST, LARGEST = 0.02, 0.6
"""Radii, of a picture's side; their density falls with the cube, so no scale is told from another."""


def leaves(count: int, size: int, generator: Generator, *, most: int = 160) -> Tensor:
    """(count, 3, size, size), 0 to 1, sRGB-encoded: `most` leaves each, ellipses and rectangles, with grain and a slope
    of brightness, on a backdrop that is one too.  Edges are as wide as a pixel.
    """
    draw = Draw(generator)
    line = torch.arange(size) + 0.5
    y, x = line[:, None], line[None, :]
    noise = torch.stack([draw.noise(draw.number(0.3, 1.5), size) for _ in range(4)])
    # One scale for all colours of a picture, or every picture would be a carnival.
    gaudy = draw.uniform(0.1, 1, count, 1)
    out = _paint(draw, gaudy)[:, :, None, None].expand(-1, -1, size, size).clone()
    for _ in range(most):
        u = draw.uniform(0, 1, count)
        low, high = SMALLEST**-2, LARGEST**-2
        radius = size * (low + u * (high - low)).rsqrt()
        stretch, turn = draw.uniform(0.4, 1, count), draw.uniform(0, math.pi, count)
        middle = draw.uniform(0, size, count, 2)
        dx, dy = x - middle[:, 0, None, None], y - middle[:, 1, None, None]
        cos, sin = turn.cos()[:, None, None], turn.sin()[:, None, None]
        along, across = cos * dx + sin * dy, (cos * dy - sin * dx) / stretch[:, None, None]
        box = draw.uniform(0, 1, count)[:, None, None] < 0.5
        away = torch.where(box, torch.maximum(along.abs(), across.abs()), (along**2 + across**2).sqrt())
        cover = (radius[:, None, None] - away + 0.5).clamp(0, 1)[:, None]
        shift = int(draw.number(0, size))
        grain = noise[draw.count(0, 3)].roll((shift, shift // 2), (0, 1)) * draw.log(0.003, 0.15)
        slope = (along / size)[:, None] * draw.number(-0.6, 0.6)
        out = torch.lerp(out, _paint(draw, gaudy)[:, :, None, None] + grain + slope, cover)
    return out.clamp(0, 1)


def _paint(draw: Draw, gaudy: Tensor) -> Tensor:
    """(count, 3) colours."""
    grey = draw.uniform(0, 1, len(gaudy), 1)
    return torch.lerp(grey, draw.uniform(0, 1, len(gaudy), 3), gaudy)
