"""Principal directions of features, as colours, and how like features are."""

from __future__ import annotations

import pytest
import torch

from relight.fit.feature_space import likeness, principal, principal_colors


def test_principal_directions_are_those_of_the_data():
    g = torch.Generator().manual_seed(4)
    wide = torch.randn(500, 2, generator=g) * torch.tensor([3.0, 1.0]) @ torch.tensor([[1.0, 1, 0, 0], [0, 0, 0.0, 1]])
    mean, directions, explained = principal(wide + 5, 2)
    torch.testing.assert_close(mean, (wide + 5).mean(0))
    assert explained > 0.999 and torch.allclose(directions @ directions.T, torch.eye(2), atol=1e-5)
    assert directions[0, :2].sub(0.5**0.5).abs().max() < 0.05


@pytest.mark.parametrize("width", [1, 2, 3, 40])
def test_principal_colors_of_any_width(width):
    feature = torch.randn(300, width, generator=torch.Generator().manual_seed(1))
    colors = principal_colors(feature)
    assert colors.shape == (300, 3) and bool(((colors >= 0) & (colors <= 1)).all())
    assert torch.allclose(principal_colors(feature.clone()), colors)
    assert bool((colors[:, :width].amax(0) == 1).all() and (colors[:, :width].amin(0) == 0).all())
    assert bool((colors[:, width:] == 0.5).all()), "no direction is grey"


def test_a_few_wild_features_leave_the_others_their_colours():
    feature = torch.randn(1000, 4, generator=torch.Generator().manual_seed(2))
    wild = feature.clone()
    wild[0] = 1e4
    assert float(principal_colors(wild).std(0).amin()) > 0.2


def test_likeness_is_a_cosine_to_the_weighted_mean_direction():
    feature = torch.tensor([[2.0, 0.0], [0.0, 5.0], [-1.0, 0.0], [3.0, 3.0]])
    torch.testing.assert_close(likeness(feature, torch.tensor([1.0, 0, 0, 0])), torch.tensor([1.0, 0, -1, 0.5**0.5]))
    both = likeness(feature, torch.tensor([True, True, False, False]))
    torch.testing.assert_close(both[3], torch.tensor(1.0)), "length does not count"
    assert float(likeness(feature, torch.zeros(4)).abs().max()) == 0
