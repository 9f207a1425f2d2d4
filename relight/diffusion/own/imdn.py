"""The network of the upscaler: IMDN (Hui et al., ACM MM 2019).

Three changes.  It adds to a bicubic enlargement.  A picture of the sharp size can be told: folded to the coarse grid,
it is further channels of the input, so all of the work stays at the coarse size.  And what a block pays attention to
can be handed in, so that the tiles of a picture agree: the paper's statistics are those of whatever it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, pixel_shuffle, pixel_unshuffle

SLOPE = 0.05
"""Of leaky rectifiers below 0, as in the paper."""


@dataclass(frozen=True)
class Shape:
    """channels: of pictures.  guide: channels of the sharp picture that is told, 0 for none.  width: of features, a
    multiple of 4.  blocks: how many.  factor: by which sides grow.
    """

    channels: int = 3
    guide: int = 0
    width: int = 40
    blocks: int = 5
    factor: int = 2

    @property
    def json(self) -> dict[str, Any]:
        """Arguments that make it again."""
        return asdict(self)

    @property
    def reach(self) -> int:
        """Coarse pixels from which a pixel of the result can be told, to each side."""
        return 4 * self.blocks + 3


class Attention(nn.Module):
    """Contrast-aware channel attention: gates from the sum of each channel's mean and standard deviation."""

    def __init__(self, width: int, narrow: int = 16):
        super().__init__()
        self.squeeze = nn.Conv2d(width, max(1, width // narrow), 1)
        self.expand = nn.Conv2d(max(1, width // narrow), width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, 1, 1), 0 to 1."""
        variance, mean = torch.var_mean(x, (2, 3), unbiased=False, keepdim=True)
        contrast = mean + (variance + 1e-8).sqrt()
        return torch.sigmoid(self.expand(torch.relu(self.squeeze(contrast))))


class Block(nn.Module):
    """Information multi-distillation: a quarter of the features is kept after each convolution, the rest goes on."""

    def __init__(self, width: int):
        super().__init__()
        self.kept = width // 4
        self.convs = nn.ModuleList(
            nn.Conv2d(width if i == 0 else width - self.kept, self.kept if i == 3 else width, 3, padding=1)
            for i in range(4)
        )
        self.attention = Attention(width)
        self.last = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, gates: Tensor | None) -> tuple[Tensor, Tensor]:
        """Features and the (B or 1, width, 1, 1) gates that were used: those given, or those of x."""
        parts, rest = [], x
        for conv in self.convs[:3]:
            kept, rest = leaky_relu(conv(rest), SLOPE).split([self.kept, x.shape[1] - self.kept], 1)
            parts.append(kept)
        found = torch.cat([*parts, self.convs[3](rest)], 1)
        gates = gates if gates is not None else cast(Tensor, self.attention(found))
        return self.last(found * gates) + x, gates


class Imdn(nn.Module):
    """What a bicubic enlargement lacks, added to it."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        area = shape.factor**2
        self.first = nn.Conv2d(shape.channels + shape.guide * area, shape.width, 3, padding=1)
        self.blocks = nn.ModuleList(Block(shape.width) for _ in range(shape.blocks))
        self.fuse = nn.Conv2d(shape.width * shape.blocks, shape.width, 1)
        self.smooth = nn.Conv2d(shape.width, shape.width, 3, padding=1)
        self.last = nn.Conv2d(shape.width, shape.channels * area, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, coarse: Tensor, guide: Tensor | None, gates: Sequence[Tensor] | None = None) -> Tensor:
        """(B, channels, f H, f W) of (B, channels, H, W), 0 to 1, not clipped.  guide: (B, guide, f H, f W).

        gates: of each block, as of `gates`; None: those of each picture itself, as in training.
        """
        x, _ = self._trunk(coarse, guide, gates)
        base = interpolate(coarse, scale_factor=float(self.shape.factor), mode="bicubic", align_corners=False)
        return base + pixel_shuffle(self.last(x), self.shape.factor)

    def gates(self, coarse: Tensor, guide: Tensor | None) -> list[Tensor]:
        """(1, width, 1, 1) of each block: the means over a batch of samples of one picture."""
        return self._trunk(coarse, guide, None, together=True)[1]

    def _trunk(
        self, coarse: Tensor, guide: Tensor | None, gates: Sequence[Tensor] | None, *, together: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        told = [coarse - 0.5]
        if guide is not None:
            told.append(pixel_unshuffle(guide - 0.5, self.shape.factor))
        x = first = self.first(torch.cat(told, 1))
        found, used = [], []
        for i, block in enumerate(self.blocks):
            x, own = block(x, None if gates is None else gates[i])
            found.append(x)
            used.append(own.mean(0, keepdim=True) if together else own)
        return self.smooth(leaky_relu(self.fuse(torch.cat(found, 1)), SLOPE)) + first, used
