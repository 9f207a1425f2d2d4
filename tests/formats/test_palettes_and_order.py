"""Codebooks, palettes and the Morton curve."""

from __future__ import annotations

import numpy as np
import torch

from relight.formats.morton import BITS, order
from relight.formats.palette import codebook, nearest, nearest_number, palette


def lloyd(x: torch.Tensor, size: int, iterations: int) -> float:
    """Mean squared error of plain k-means, every vector against every entry: the slow twin of `palette`."""
    entries = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:size]].clone()
    for _ in range(iterations):
        label = torch.cdist(x, entries).argmin(1)
        mass = torch.zeros(size).index_add_(0, label, torch.ones(len(x)))
        total = torch.zeros_like(entries).index_add_(0, label, x)
        entries = torch.where(mass[:, None] > 0, total / mass.clamp_min(1)[:, None], entries)
    return float(torch.cdist(x, entries).min(1).values.pow(2).mean())


def vectors(n: int, width: int = 24) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    centers = torch.randn(300, width, generator=generator)
    which = torch.randint(300, (n,), generator=generator)
    return centers[which] + 0.3 * torch.randn(n, width, generator=generator)


def test_a_palette_is_as_good_as_plain_k_means():
    x = vectors(6000)
    entries, labels = palette(x, 512)
    found = float((entries[labels] - x).pow(2).sum(1).mean())
    assert found < 1.05 * lloyd(x, 512, 5)
    again, same = palette(x, 512)
    assert torch.equal(entries, again) and torch.equal(labels, same)


def test_the_nearest_entry_is_found_almost_always():
    x = vectors(6000)
    entries = x[:1024] + 0.01
    label, distance = nearest(entries, x)
    exact = torch.cdist(x, entries).pow(2).min(1)
    assert float((label == exact.indices).float().mean()) > 0.97
    torch.testing.assert_close(distance, (x - entries[label]).pow(2).sum(1))


def test_few_vectors_are_their_own_palette():
    x = vectors(10)
    entries, labels = palette(x, 64)
    assert torch.equal(entries[labels], x)


def test_what_matters_more_is_kept_better():
    x = vectors(4000)
    important = torch.arange(4000) < 400
    errors = []
    for weights in (None, torch.where(important, 50.0, 1.0)):
        entries, labels = palette(x, 128, weights=weights)
        errors.append(float((entries[labels] - x)[important].pow(2).mean()))
    assert errors[1] < 0.9 * errors[0]


def test_codebooks():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=20000), [50.0, -40.0]])
    entries = codebook(x)
    assert entries.shape == (256,) and (np.diff(entries) >= 0).all()
    assert (entries[0], entries[-1]) == (-40, 50), "outliers are kept"
    error = np.abs(entries[nearest_number(entries, x)] - x)
    assert error[:20000].mean() < 0.02
    brute = np.abs(entries.astype(np.float64)[None] - x[:500, None]).min(1)
    np.testing.assert_allclose(error[:500], brute, atol=1e-6)
    few = codebook(np.array([1.0, 2.0, 2.0, 7.0]))
    np.testing.assert_array_equal(few[nearest_number(few, np.array([1.0, 2, 7]))], [1, 2, 7])


def test_morton_order_is_bit_by_bit_interleaving():
    rng = np.random.default_rng(1)
    cells = np.concatenate([rng.integers(0, 1 << BITS, (200, 3)), [[0, 0, 0], [(1 << BITS) - 1] * 3]])
    codes = [
        sum(((int(c[axis]) >> bit) & 1) << (3 * bit + axis) for bit in range(BITS) for axis in range(3)) for c in cells
    ]
    found = order(torch.from_numpy(cells.astype(np.float64)))
    assert [codes[i] for i in found] == sorted(codes)
    assert order(torch.zeros(0, 3)).tolist() == [] and order(torch.ones(3, 3)).tolist() == [0, 1, 2]
