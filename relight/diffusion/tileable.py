"""Textures that meet themselves: a convolutional network that doesn't know where its picture ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def tileable(network: nn.Module) -> Iterator[None]:
    """Within the block, the network's convolutions see the picture go on at its opposite edge.

    A U-Net then makes a torus of its map: rolled in, the same rolled out (by multiples of its stride).  The feature
    rolling of StableMaterials (Vecchio, arXiv 2406.09293), as published, rolls maps by chance before each convolution,
    pads them by what is at the opposite edge, and rolls back.  Padded so, a convolution gives the same wherever
    the map was cut, so its rolls cancel and this is it.  Attention without positions has no edges.
    """
    changed = [
        m for m in network.modules() if isinstance(m, nn.Conv2d) and m.padding_mode == "zeros" and any(m.padding)
    ]
    # Convolution of other than zeros reads a list that is made when the layer is.
    for layer in changed:
        layer.padding_mode = "circular"
    try:
        yield
    finally:
        for layer in changed:
            layer.padding_mode = "zeros"


def wrapped(picture: Tensor, margin: int) -> Tensor:
    """(B, C, H + 2 margin, W + 2 margin): with a rim of what is at the opposite edge, for a decoder."""
    return nn.functional.pad(picture, (margin,) * 4, mode="circular")


def seam(picture: Tensor) -> float:
    """How much more a picture (B, C, H, W) changes across its edges than elsewhere between neighbours: 1 is no seam."""
    down = (picture - picture.roll(1, -2)).abs().mean(dim=(0, 1, 3))
    right = (picture - picture.roll(1, -1)).abs().mean(dim=(0, 1, 2))
    inside = torch.cat([down[1:], right[1:]]).mean().clamp(min=1e-12)
    return float(torch.stack([down[0], right[0]]).mean() / inside)
