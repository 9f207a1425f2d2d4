"""Which of its axes a Gaussian calls the first: a choice that pictures don't show, and files pay for."""

from __future__ import annotations

import itertools
from dataclasses import replace

import torch
from torch import Tensor

from relight.geometry.gaussians import Gaussians
from relight.geometry.transforms import quaternion_multiply, rotation_from_quaternion


def least_turned(gaussians: Gaussians) -> Gaussians:
    """The same Gaussians with the axes that are nearest to the world's, so that rotations take fewer values.

    An ellipsoid's axes have 24 right-handed orders and signs: up to 4.6 bits that say nothing.  A surfel's third is its
    normal, which stays; that leaves 4.
    """
    turns = _quarter_turns().to(gaussians.quats_wxyz.device)
    swaps = rotation_from_quaternion(turns)
    if gaussians.surfels:
        keeps_normal = swaps[:, 2, 2] > 0.5
        turns, swaps = turns[keeps_normal], swaps[keeps_normal]
    quats = torch.nn.functional.normalize(gaussians.quats_wxyz.double(), dim=1)
    found = quaternion_multiply(quats[:, None], turns)
    best = found[..., 0].abs().argmax(1)
    quats = found.gather(1, best[:, None, None].expand(-1, 1, 4))[:, 0]
    # Where an axis went, its scale goes.
    axes = swaps.abs().argmax(1)[best]
    return replace(
        gaussians, quats_wxyz=quats.to(gaussians.quats_wxyz), log_scales=gaussians.log_scales.gather(1, axes)
    )


def _quarter_turns() -> Tensor:
    """(24, 4) float64, wxyz: rotations that take a cube onto itself, each once."""
    signs = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=4)), dtype=torch.float64)
    size = signs.square().sum(1)
    first = signs.gather(1, (signs != 0).int().argmax(1, keepdim=True))[:, 0]
    chosen = ((size == 1) | (size == 2) | (size == 4)) & (first > 0)
    return torch.nn.functional.normalize(signs[chosen], dim=1)
