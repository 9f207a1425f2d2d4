"""What torch has for vectors of any length, made for those of three numbers."""

from __future__ import annotations

import torch
from torch import Tensor


def unit(vectors: Tensor, shortest: float = 1e-12) -> Tensor:
    """(..., D) vectors of length 1; those under `shortest` stay shorter, zero stays zero.  Differentiable; gradients of
    float32 are finite where `shortest` is at least 1e-12.

    `torch.nn.functional.normalize` takes several times as long for the three numbers of a direction.
    """
    return vectors * torch.linalg.vecdot(vectors, vectors).clamp_min(shortest * shortest).rsqrt()[..., None]
