"""What Adam keeps in checkpoints: a fit goes on from them to the bit, wherever its parameters lie."""

from __future__ import annotations

import pytest
import torch

from relight.fit.densify import AdaptiveDensity, Schedule
from relight.fit.moments import PARTS, moments, restore_moments


def fitted(steps: int, tensor: torch.Tensor, adam: torch.optim.Adam) -> None:
    for _ in range(steps):
        adam.zero_grad()
        ((tensor - 3) ** 4).sum().backward()
        adam.step()


def leaf(device: str = "cpu") -> torch.Tensor:
    return torch.zeros(5, 2, device=device, requires_grad=True)


@pytest.mark.parametrize("fused", [False, True])
def test_a_fit_goes_on_to_the_bit(fused):
    one, two = leaf(), leaf()
    first, second = (torch.optim.Adam([t], lr=0.1, fused=fused) for t in (one, two))
    fitted(3, one, first)
    saved = {"other": one} | moments(first, one, "adam.{}.color")
    assert set(saved) == {"other", *(f"adam.{part}.color" for part in PARTS)}
    with torch.no_grad():
        two.copy_(one)
    restore_moments(second, two, saved, "adam.{}.color")
    fitted(2, one, first)
    fitted(2, two, second)
    assert torch.equal(one, two)
    fresh = leaf()
    other = torch.optim.Adam([fresh], lr=0.1, fused=fused)
    with torch.no_grad():
        fresh.copy_(saved["other"])
    fitted(2, fresh, other)
    assert not torch.equal(fresh, one), "moments that make no difference prove nothing"


def test_what_was_not_saved_begins_anew():
    tensor = leaf()
    adam = torch.optim.Adam([tensor], lr=0.1)
    assert moments(adam, tensor, "adam.{}") == {}
    fitted(2, tensor, adam)
    restore_moments(adam, tensor, {}, "adam.{}")
    assert tensor not in adam.state


def test_moments_come_back_to_the_device_of_their_parameter():
    """A checkpoint is read into main memory."""
    tensor = leaf()
    adam = torch.optim.Adam([tensor], lr=0.1)
    fitted(1, tensor, adam)
    saved = moments(adam, tensor, "{}")
    far = leaf("meta")
    restore_moments(other := torch.optim.Adam([far], lr=0.1), far, saved, "{}")
    where = {part: value.device.type for part, value in other.state[far].items()}
    assert where == {"step": "cpu", "exp_avg": "meta", "exp_avg_sq": "meta"}
    density = AdaptiveDensity(Schedule(0, 10, 1, 100), 1.0, 1e-4, 0.01, 0.01, 0)
    density.restore({"density.sum": torch.ones(3), "density.count": torch.ones(3)}, torch.device("meta"))
    assert density.sum.device.type == density.count.device.type == "meta"
