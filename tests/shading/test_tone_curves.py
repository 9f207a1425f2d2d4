"""Tone curves at known values, and colour there and back."""

import pytest
import torch

from relight.shading import tonemap
from relight.shading.color import linear_to_srgb, srgb_to_linear


def grey(value: float) -> torch.Tensor:
    return torch.full((3,), value, dtype=torch.float64)


def test_srgb_both_ways():
    x = torch.linspace(-0.1, 1.5, 1001, dtype=torch.float64)
    assert torch.allclose(srgb_to_linear(linear_to_srgb(x)), x, atol=1e-7)
    assert float(linear_to_srgb(grey(0.214041)[0])) == pytest.approx(0.5, abs=1e-5)  # IEC 61966-2-1
    assert float(linear_to_srgb(grey(0.0031308)[0])) == pytest.approx(0.04045, abs=1e-5)


@pytest.mark.parametrize("name", tonemap.CURVES)
def test_curves_rise_stay_in_range_and_have_finite_slopes(name):
    x = torch.linspace(0, 30, 2000, dtype=torch.float64)[:, None].expand(-1, 3).clone().requires_grad_()
    y = tonemap.CURVES[name](x)
    assert float(y.detach().min()) >= 0 and float(y.detach().max()) <= 1
    assert bool((y[1:] - y[:-1] > -2e-3).all())
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert bool(slope.isfinite().all())
    assert torch.allclose(y[:, 0], y[:, 1], atol=6e-3), "grey stays grey"


def test_known_values():
    assert torch.allclose(tonemap.reinhard(grey(1.0)), grey(0.5))
    # Grey through Hill's rational curve by hand; the matrices leave grey alone to 1e-4.
    assert torch.allclose(tonemap.aces(grey(0.18)), grey(0.21311), atol=5e-4)
    assert torch.allclose(tonemap.aces(grey(1.0)), grey(0.76340), atol=5e-4)
    # Khronos PBR Neutral: F90 of 0.04 is taken off below the shoulder, 1.0 compresses to 0.8690.
    assert torch.allclose(tonemap.neutral(grey(0.5)), grey(0.46))
    assert torch.allclose(tonemap.neutral(grey(1.0)), grey(1 - 0.24**2 / (0.96 + 0.24 - 0.76)), atol=1e-9)
    # AgX puts 18 % grey in the middle of the encoded range.
    assert float(tonemap.agx(grey(0.18))[0] ** (1 / 2.2)) == pytest.approx(0.5, abs=0.01)


def test_neutral_keeps_hue_of_bright_colours_towards_white():
    y = tonemap.neutral(torch.tensor([8.0, 0.5, 0.5], dtype=torch.float64))
    assert float(y[0]) > float(y[1]) > 0.3 and torch.isclose(y[1], y[2])


def test_exposure_is_in_stops():
    assert torch.allclose(tonemap.expose(grey(0.25), 2.0), grey(1.0))
