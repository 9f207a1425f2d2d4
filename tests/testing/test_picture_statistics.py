"""Comparisons of noisy pictures: seldom wrong about equal ones, never about faulty ones."""

from __future__ import annotations

import pytest
import torch

from relight.testing.statistics import Estimate, same_expectation

SHAPE = (24, 24, 3)


def smooth(count: int, seed: int) -> torch.Tensor:
    """Noise like that of a diffuse surface: gamma distributed about pixels of different brightness."""
    g = torch.Generator().manual_seed(seed)
    truth = torch.rand(SHAPE, generator=torch.Generator().manual_seed(99)) + 0.1
    return truth * (1 + 0.2 * torch.randn(count, *SHAPE, generator=g)).abs()


def rare(count: int, seed: int) -> torch.Tensor:
    """Pixels that a fraction of the rays reach, down to one in a hundred."""
    g = torch.Generator().manual_seed(seed)
    chance = torch.rand(SHAPE, generator=torch.Generator().manual_seed(99)) ** 2 + 0.01
    return (torch.rand(count, *SHAPE, generator=g) < chance) * (1 + 0.1 * torch.rand(count, *SHAPE, generator=g))


@pytest.mark.parametrize("kind", [smooth, rare])
def test_equal_pictures_are_seldom_told_apart(kind):
    found = [(Estimate.of(kind(48, 2 * i)), Estimate.of(kind(256, 2 * i + 1))) for i in range(40)]
    assert min(same_expectation(a, b, few=True) for a, b in found) > 1e-3
    tiles = [same_expectation(a.tiles(8), b.tiles(8)) for a, b in found]
    assert min(tiles) > 1e-3 and 0.25 < sum(tiles) / len(tiles) < 0.75


def brighter(samples: torch.Tensor) -> torch.Tensor:
    return 1.02 * samples


def one_pixel(samples: torch.Tensor) -> torch.Tensor:
    changed = samples.clone()
    changed[:, 5, 7] *= 1.3
    return changed


def shifted(samples: torch.Tensor) -> torch.Tensor:
    return samples.roll(1, dims=2)


def leaking(samples: torch.Tensor) -> torch.Tensor:
    return samples + 0.02


@pytest.mark.parametrize("fault", [brighter, one_pixel, shifted, leaking])
def test_faults_are_noticed(fault):
    a, b = Estimate.of(fault(smooth(96, 1))), Estimate.of(smooth(1024, 2))
    assert min(same_expectation(a, b, few=True), same_expectation(a.tiles(8), b.tiles(8))) < 1e-6


def test_missing_geometry_is_noticed_where_few_rays_hit():
    without = rare(96, 1)
    without[:, :8, :8] = 0
    a, b = Estimate.of(without), Estimate.of(rare(1024, 2))
    assert min(same_expectation(a, b, few=True), same_expectation(a.tiles(8), b.tiles(8))) < 1e-6


def test_pictures_without_noise():
    picture = torch.rand(4, 4, 3).expand(8, 4, 4, 3)
    exact = Estimate.of(picture)
    assert same_expectation(exact, exact) == pytest.approx(1)
    assert same_expectation(exact, Estimate.of(1.001 * picture)) < 1e-6
    black = Estimate.of(torch.zeros(8, 4, 4, 3))
    assert same_expectation(black, black) == pytest.approx(1)


def test_tiles_keep_the_mean_and_shrink_the_noise():
    g = torch.Generator().manual_seed(0)
    estimate = Estimate.of(torch.rand(400, 8, 8, 1, generator=g))
    tiles = estimate.tiles(4)
    assert tiles.mean.shape == (2, 2, 1) and tiles.count == 400
    torch.testing.assert_close(tiles.mean.mean(), estimate.mean.mean())
    assert float(tiles.variance.mean()) == pytest.approx(1 / 12 / 16, rel=0.05)
