"""Random choices from a torch generator: the same seed gives the same scene on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Generator, Tensor
from torch.nn.functional import normalize

T = TypeVar("T")


def between(generator: Generator, low: float, high: float) -> float:
    """Uniform."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def chance(generator: Generator, share: float) -> bool:
    """True in this share of cases."""
    return float(torch.rand((), generator=generator)) < share


def pick(generator: Generator, choices: Sequence[T]) -> T:
    """One of them, all alike."""
    return choices[int(torch.randint(len(choices), (), generator=generator))]


def direction(generator: Generator) -> Tensor:
    """(3,) unit, uniform over the sphere."""
    return normalize(torch.randn(3, generator=generator), dim=0)
