"""Features of a splat as colours: their principal components, and how like they are to those of a selection."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

SAMPLE = 20_000
"""Gaussians that principal components are found from."""


def principal_colors(feature: Tensor) -> Tensor:
    """(N, 3) 0 to 1: the three directions in which (N, F) features differ most, as red, green and blue."""
    feature = feature.float()
    some = feature[:: max(1, len(feature) // SAMPLE)]
    mean = some.mean(0)
    apart = some - mean
    directions = torch.linalg.eigh(apart.T @ apart).eigenvectors[:, -3:].flip(1)
    # An eigenvector's sign means nothing; colours shall be the same every time.
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    shares = (feature - mean) @ (directions * largest.sign())
    low, high = torch.quantile(shares[:: max(1, len(shares) // SAMPLE)], torch.tensor([0.02, 0.98]), dim=0)
    colors = ((shares - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)
    return torch.nn.functional.pad(colors, (0, 3 - colors.shape[1]), value=0.5)


def similarity(feature: Tensor, selected: Tensor | None) -> Tensor:
    """(N,) 0 to 1: cosine between (N, F) features and the mean direction of those selected; 0 where none is."""
    if selected is None or not bool(selected.any()):
        return torch.zeros(len(feature))
    directions = normalize(feature.float(), dim=1)
    return (directions @ normalize(directions[selected].mean(0), dim=0)).clamp(0, 1)
