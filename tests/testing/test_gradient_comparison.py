"""The comparer of gradients notices what it should."""

import pytest
import torch

from relight.testing.gradients import assert_gradients_close, central_differences


def expected() -> torch.Tensor:
    return torch.randn(50, 3, generator=torch.Generator().manual_seed(0))


FAULTS = {
    "sign": lambda g: -g,
    "one channel 5 % off": lambda g: g * torch.tensor([1.0, 1.05, 1.0]),
    "rows permuted": lambda g: g.roll(1, 0),
    "a term missing": lambda g: torch.where(torch.arange(50)[:, None] < 3, 0.0, g),
    "NaN": lambda g: torch.where(torch.arange(50)[:, None] == 3, torch.nan, g),
    "other shape": lambda g: g[:, :2],
    "small bias": lambda g: g + 0.02,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_noticed(fault):
    with pytest.raises((AssertionError, ValueError)):
        assert_gradients_close(FAULTS[fault](expected()), expected())


def test_equal_and_nearly_equal_pass():
    assert_gradients_close(expected(), expected())
    assert_gradients_close(expected() * 1.001, expected())
    assert_gradients_close(torch.zeros(3), torch.zeros(3))
    with pytest.raises(AssertionError):
        assert_gradients_close(torch.ones(3), torch.zeros(3))


def test_central_differences_of_a_cubic():
    at = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    found = central_differences(lambda x: (x**3).sum(), at, 1e-4)
    assert torch.allclose(found, 3 * at**2, atol=1e-7)
