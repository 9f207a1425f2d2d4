"""Directions in the space of features: those that explain most, what they look like as colours, and likeness."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

SAMPLE = 20_000
"""Features that colours are found from, at most."""
FAINTEST, BRIGHTEST = 0.02, 0.98
"""Quantiles of a principal component that are shown as 0 and 1."""


def principal(samples: Tensor, count: int) -> tuple[Tensor, Tensor, float]:
    """Mean (C,), `count` principal directions (count, C), unit rows, and the share of the variance that they explain.

    samples: (M, C).  Signs are fixed by each direction's largest element.
    """
    mean = samples.mean(0)
    apart = (samples - mean).double()
    values, vectors = torch.linalg.eigh(apart.T @ apart)
    directions = vectors[:, -count:].flip(1)
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    share = float(values[-count:].sum() / values.sum().clamp_min(1e-12))
    return mean, (directions * largest.sign()).T.to(samples), share


def principal_colors(feature: Tensor) -> Tensor:
    """(N, 3) 0 to 1: the three directions in which (N, F) features differ most, as red, green and blue; grey where F
    is less."""
    feature = feature.float()
    some = feature[:: max(1, len(feature) // SAMPLE)]
    mean, directions, _ = principal(some, min(3, feature.shape[1]))
    ends = torch.quantile((some - mean) @ directions.T, torch.tensor([FAINTEST, BRIGHTEST]).to(some), dim=0)
    colors = ((feature - mean) @ directions.T - ends[0]) / (ends[1] - ends[0]).clamp_min(1e-9)
    return pad(colors.clamp(0, 1), (0, 3 - len(directions)), value=0.5)


def likeness(feature: Tensor, weight: Tensor) -> Tensor:
    """(N,) cosines between (N, F) features and the mean direction of those with (N,) weight; 0 where none has any."""
    directions = normalize(feature.float(), dim=1)
    return directions @ normalize(weight.to(directions) @ directions, dim=0)
