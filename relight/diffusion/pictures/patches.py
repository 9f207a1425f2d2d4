"""Pictures by their patches: whatever else they are, their patches are distributed like those of an example.

The distance is the sliced Wasserstein distance of patches (Heitz et al., CVPR 2021; Elnekave and Weiss, ECCV 2022): on
random lines through the space of patches, how far one picture's have to be moved to lie like the other's.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn.functional import conv2d, interpolate, pad

PATCH = 7
"""Pixels a side."""
RATE = 0.12
"""Of Adam, on values of 0 to 1; falls to a tenth at each scale."""
COARSEST = 24
"""Pixels of the shorter side of an example at the scale where large forms are laid out."""


def lines(channels: int, count: int, generator: Generator, patch: int = PATCH) -> Tensor:
    """(count, channels, patch, patch) random directions of length 1."""
    drawn = torch.randn(count, channels, patch, patch, generator=generator)
    return drawn / drawn.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def along(picture: Tensor, directions: Tensor, mask: Tensor | None = None, *, around: bool = False) -> Tensor:
    """(D, N): where the patches of a (1, C, H, W) picture lie along each of D directions.

    mask: (H, W) bool; patches that leave it don't count.  around: the picture goes on at its opposite edge.
    """
    patch = directions.shape[-1]
    if around:
        picture = pad(picture, (0, patch - 1, 0, patch - 1), mode="circular")
    found = conv2d(picture, directions)[0]
    if mask is None:
        return found.flatten(1)
    ones = torch.ones(1, 1, patch, patch, device=picture.device)
    return found[:, conv2d(mask[None, None].to(picture), ones)[0, 0] > patch * patch - 0.5]


def apart(found: Tensor, expected: Tensor) -> Tensor:
    """Mean distance, over directions, of sorted values (D, N) from as many quantiles of (D, M) others."""
    count, others = found.shape[1], expected.shape[1]
    places = ((torch.arange(count, device=found.device) + 0.5) * (others / count)).long().clamp(max=others - 1)
    return (found.sort(1).values - expected.sort(1).values[:, places]).abs().mean()


def like(
    example: Tensor,
    size: tuple[int, int],
    generator: Generator,
    *,
    tileable: bool = True,
    steps: int = 80,
    directions: int = 48,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Tensor:
    """(1, C, *size), 0 to 1: a new picture at the scale of a (1, C, h, w) example, whose patches are like its.

    Laid out at a coarse scale, from noise about the example's mean, then made finer.  tileable: opposite edges meet.
    steps: at each scale.  directions: fresh ones at each step.  progress: steps done, and of how many.
    """
    shorter = min(*example.shape[2:], *size)
    levels = max(0, math.floor(math.log2(shorter / COARSEST)))
    made = None
    for level in range(levels, -1, -1):
        there, here = (
            interpolate(example, _shrunk(example.shape[2:], level), mode="area") if level else example,
            _shrunk(size, level),
        )
        if made is None:
            mean, spread = there.mean((2, 3), keepdim=True), there.std((2, 3), keepdim=True)
            made = mean + spread * torch.randn(1, example.shape[1], *here, generator=generator)
        else:
            made = _finer(made, here) if tileable else interpolate(made, here, mode="bicubic", align_corners=False)
        made = made.clamp(0, 1).requires_grad_()
        adam = torch.optim.Adam([made], lr=RATE)
        for step in range(steps):
            adam.param_groups[0]["lr"] = RATE * 0.1 ** (step / steps)
            drawn = lines(example.shape[1], directions, generator)
            loss = apart(along(made, drawn, around=tileable), along(there, drawn))
            adam.zero_grad()
            loss.backward()
            adam.step()
            progress((levels - level) * steps + step + 1, (levels + 1) * steps)
        made = made.detach().clamp(0, 1)
    assert made is not None
    return made


def _shrunk(size: tuple[int, ...], level: int) -> tuple[int, int]:
    return max(PATCH, round(size[0] / 2**level)), max(PATCH, round(size[1] / 2**level))


def _finer(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic, of a picture that goes on at its opposite edges: each coarse pixel becomes whole fine ones."""
    margin = 4
    high, wide = picture.shape[2:]
    more = (round(size[0] * (1 + 2 * margin / high)), round(size[1] * (1 + 2 * margin / wide)))
    wide_picture = interpolate(pad(picture, (margin,) * 4, mode="circular"), more, mode="bicubic", align_corners=False)
    top, left = (more[0] - size[0]) // 2, (more[1] - size[1]) // 2
    return wide_picture[..., top : top + size[0], left : left + size[1]]
