"""The pair of pictures that holds high dynamic range: there and back, smooth, and what 8 bits keep."""

from __future__ import annotations

import torch

from relight.shading.encoding import BLEND, MOST, WHITE, decode, encode, from_display, from_logarithmic


def test_there_and_back():
    x = torch.logspace(-4, 4, 400, dtype=torch.float64).clamp_max(MOST)
    display, logarithmic = encode(x)
    for picture in (display, logarithmic):
        assert bool((picture[1:] >= picture[:-1]).all()) and float(picture[0]) >= 0 and float(picture[-1]) <= 1
    assert torch.allclose(decode(display, logarithmic), x, rtol=1e-9)
    assert torch.allclose(from_logarithmic(logarithmic), x, rtol=1e-9)
    dark = x < WHITE
    assert torch.allclose(from_display(display[dark]), x[dark], rtol=1e-9)
    ends = [0, WHITE, MOST, 2 * MOST]
    assert torch.allclose(encode(x.new_tensor(ends))[0], x.new_tensor([0, 1, 1, 1]))
    assert torch.allclose(encode(x.new_tensor(ends))[1][[0, 2, 3]], x.new_tensor([0, 1, 1]))


def test_eight_bits_keep_light_within_five_in_a_hundred():
    x = torch.logspace(-2, 4, 600, dtype=torch.float64)
    display, logarithmic = ((picture * 255).round() / 255 for picture in encode(x))
    assert float((decode(display, logarithmic) / x - 1).abs()[x > 0.01].max()) < 0.05
    # Either alone does worse somewhere.
    assert float((from_logarithmic(logarithmic) / x - 1).abs()[x > 0.01].max()) > 0.08
    assert float((from_display(display) / x - 1).abs().max()) > 0.9


def test_pictures_that_contradict_each_other_are_blended_smoothly():
    """A network's two answers rarely agree: no step may appear between them."""
    logarithmic = torch.linspace(0.2, 0.9, 2000, dtype=torch.float64, requires_grad=True)
    display = torch.full_like(logarithmic, 0.8)
    found = decode(display, logarithmic)
    shown = found.detach()
    assert float((shown[1:] / shown[:-1] - 1).abs().max()) < 0.02
    low, high = (encode(torch.tensor(b, dtype=torch.float64))[1] for b in BLEND)
    assert torch.allclose(shown[logarithmic < low], from_display(display)[0])
    assert torch.allclose(found[logarithmic > high], from_logarithmic(logarithmic)[logarithmic > high])
    found.sum().backward()
    assert logarithmic.grad is not None and bool(torch.isfinite(logarithmic.grad).all())
