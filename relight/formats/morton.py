"""Morton order: neighbours in space become neighbours in the file, which every entropy coder likes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

BITS = 21
"""An axis; three of them fill a 64-bit code."""


def order(means: Tensor) -> Tensor:
    """(N,) indices that sort finite positions (N, 3) along the Z curve of their bounding box, stable; int64.

    Source: G. M. Morton, "A Computer Oriented Geodetic Data Base and a New Technique in File Sequencing" (IBM, 1966).
    """
    x = means.detach().cpu().numpy().astype(np.float64)
    if len(x) == 0:
        return torch.zeros(0, dtype=torch.int64)
    low, extent = x.min(0), np.ptp(x, axis=0)
    cells = ((x - low) / np.where(extent > 0, extent, 1) * ((1 << BITS) - 1)).astype(np.uint64)
    code = _spread(cells[:, 0]) | _spread(cells[:, 1]) << np.uint64(1) | _spread(cells[:, 2]) << np.uint64(2)
    return torch.from_numpy(np.argsort(code, kind="stable"))


def _spread(v: np.ndarray) -> np.ndarray:
    """Two zero bits between each two of 21 bits."""
    for shift, mask in (
        (32, 0x1F00000000FFFF),
        (16, 0x1F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):
        v = (v | v << np.uint64(shift)) & np.uint64(mask)
    return v
