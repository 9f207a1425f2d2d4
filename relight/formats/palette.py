"""Vector quantisation: a codebook of numbers, a palette of vectors.

Both are Lloyd's algorithm.  In one dimension it is exact: over sorted values a cell is an interval, and its mean a
difference of prefix sums.  For palettes of up to 65,536 vectors the search for the nearest entry goes through an
inverted file: entries are gathered in about sqrt(size) coarse cells, and a vector looks into the `PROBES` nearest of
them only (Jegou et al., "Product Quantization for Nearest Neighbor Search", PAMI 2011, section 4).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

PROBES, PROBES_IN_FIT = 6, 2
"""Coarse cells that are searched for a vector's entry: at the end, and while entries still move."""
SAMPLE = 1 << 18
"""Vectors that a palette is fitted to; all of them are then assigned."""
BLOCK = 1 << 17
"""Vectors compared with the coarse cells at a time."""


def codebook(
    values: np.ndarray, size: int = 256, weights: np.ndarray | None = None, iterations: int = 20
) -> np.ndarray:
    """(size,) float32, ascending: numbers that stand for `values` (M,) with a small mean squared error.

    weights: (M,), not negative.  Fewer distinct values than `size` are kept as they are, and the last is repeated.
    The lowest and highest value are always entries, so that no value is moved by more than its neighbourhood.
    """
    values = np.asarray(values, np.float32).ravel()
    if len(values) == 0:
        return np.zeros(size, np.float32)
    distinct = np.unique(values)
    if len(distinct) <= size:
        return np.concatenate([distinct, np.full(size - len(distinct), distinct[-1], np.float32)])
    order = np.argsort(values, kind="stable")
    x = values[order].astype(np.float64)
    w = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64).ravel()[order] + 1e-12
    mass, moment = (np.concatenate([[0], np.cumsum(v)]) for v in (w, w * x))
    # Optimal quantisers are as dense as the cube root of the density (Panter and Dite, 1951).
    count, edges = np.histogram(x, 4096, weights=w)
    dense = np.concatenate([[0], np.cumsum(np.cbrt(count) + 1e-3 * np.cbrt(count.max()))])
    entries = np.interp(np.linspace(0, dense[-1], size), dense, edges)
    for _ in range(iterations):
        entries[0], entries[-1] = x[0], x[-1]
        bounds = np.concatenate([[0], np.searchsorted(x, (entries[1:] + entries[:-1]) / 2), [len(x)]])
        inside = mass[bounds[1:]] - mass[bounds[:-1]]
        mean = (moment[bounds[1:]] - moment[bounds[:-1]]) / np.maximum(inside, 1e-300)
        entries = np.sort(np.where(inside > 0, mean, entries))
    entries[0], entries[-1] = x[0], x[-1]
    return entries.astype(np.float32)


def nearest_number(entries: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Index of the nearest of at most 256 ascending `entries` for every value, uint8."""
    return np.searchsorted((entries[1:] + entries[:-1]) / 2, values).astype(np.uint8)


def palette(
    vectors: Tensor, size: int, *, weights: Tensor | None = None, iterations: int = 5, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """(K, D) entries, K <= size, and (N,) int64 index of an entry near each of `vectors` (N, D), float32.

    weights: (N,), not negative: what an error in this vector costs, for instance the share it has in pictures.
    Deterministic for a seed.  Not more than `size` distinct vectors become entries as they are, so that a palette of
    what a palette gave is the same.
    """
    n = len(vectors)
    if n <= size:
        return vectors.clone(), torch.arange(n)
    # A sample tells most of those that have more apart, and sorting rows is slow.
    if len(torch.unique(vectors[:: max(1, n // (4 * size))], dim=0)) <= size:
        distinct, labels = torch.unique(vectors, dim=0, return_inverse=True)
        if len(distinct) <= size:
            return distinct, labels
    generator = torch.Generator().manual_seed(seed)
    some = torch.randperm(n, generator=generator)[: max(SAMPLE, size)]
    x = vectors[some]
    w = torch.ones(len(x)) if weights is None else weights[some].float() + 1e-12
    # With a chance in proportion to the square root of the weight, as Panter and Dite's rule has it in many dimensions.
    keys = torch.rand(len(x), generator=generator).log() / w.sqrt()
    entries = x[keys.argsort(descending=True)[:size]].clone()
    for _ in range(iterations):
        labels, distance = nearest(entries, x, PROBES_IN_FIT)
        mass = torch.zeros(len(entries)).index_add_(0, labels, w)
        total = torch.zeros_like(entries).index_add_(0, labels, x * w[:, None])
        empty = mass <= 0
        entries = torch.where(empty[:, None], entries, total / mass.clamp_min(1e-30)[:, None])
        # An entry without vectors moves to where the error is largest.
        worst = (distance * w).topk(min(int(empty.sum()), len(x))).indices
        entries[empty.nonzero()[: len(worst), 0]] = x[worst]
    return entries, nearest(entries, vectors)[0]


def nearest(entries: Tensor, vectors: Tensor, probes: int = PROBES) -> tuple[Tensor, Tensor]:
    """(N,) index of an entry near each vector and (N,) squared distance to it; the nearest one almost always."""
    k = len(entries)
    cells = max(1, round(k**0.5))
    coarse = _coarse(entries, cells)
    home = _closest(coarse, entries, 1)[:, 0]
    visits = _closest(coarse, vectors, min(probes, cells))
    best = torch.full((len(vectors),), torch.inf)
    label = torch.zeros(len(vectors), dtype=torch.int64)
    # One column of visits after the other, sorted by cell: a cell's vectors meet its entries in one product.
    members = _grouped(home, cells)
    for column in visits.unbind(1):
        for cell, rows in enumerate(_grouped(column, cells)):
            inside = members[cell]
            if len(rows) and len(inside):
                e = entries[inside]
                score, found = torch.addmm(0.5 * (e * e).sum(1), vectors[rows], e.T, alpha=-1).min(1)
                better = score < best[rows]
                best[rows[better]] = score[better]
                label[rows[better]] = inside[found[better]]
    distance = torch.cat(
        [((v - entries[i]) ** 2).sum(1) for v, i in zip(vectors.split(BLOCK), label.split(BLOCK), strict=True)]
    )
    return label, distance


def _coarse(entries: Tensor, cells: int) -> Tensor:
    """(cells, D) centres of the entries, by a few of Lloyd's steps from evenly spaced ones."""
    centers = entries[torch.linspace(0, len(entries) - 1, cells).long()].clone()
    for _ in range(4):
        label = _closest(centers, entries, 1)[:, 0]
        mass = torch.zeros(cells).index_add_(0, label, torch.ones(len(entries)))
        total = torch.zeros_like(centers).index_add_(0, label, entries)
        centers = torch.where(mass[:, None] > 0, total / mass.clamp_min(1)[:, None], centers)
    return centers


def _closest(centers: Tensor, vectors: Tensor, count: int) -> Tensor:
    """(N, count) indices of the nearest centres, nearest first."""
    half = 0.5 * (centers * centers).sum(1)
    scores = (torch.addmm(half, v, centers.T, alpha=-1) for v in vectors.split(BLOCK))
    return (
        torch.cat([s.topk(count, largest=False).indices for s in scores])
        if len(vectors)
        else torch.zeros(0, count).long()
    )


def _grouped(labels: Tensor, count: int) -> tuple[Tensor, ...]:
    """For every label from 0 to count - 1, the indices that have it."""
    order = labels.argsort(stable=True)
    return order.split(torch.bincount(labels, minlength=count).tolist())
