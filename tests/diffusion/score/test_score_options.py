"""Schedules, weights and mistakes of score distillation's options."""

from __future__ import annotations

import math

import pytest
import torch

from relight.diffusion.score.options import PRESETS, ScoreOptions


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"guidance": "magic"}, "guidance: expected one of x0, sds, .* \\(got magic\\)"),
        ({"steps": 0}, "steps: expected 1 to 50 \\(got 0\\)"),
        ({"low": 0.0}, "low: expected 0.01 < low <= high < 1"),
        ({"low": 0.9}, "low: expected"),
        ({"late_high": 1.0}, "late_low: expected"),
        ({"scale": math.nan}, "scale: expected"),
        ({"clip": 0.0}, "clip: expected above 0"),
        ({"twin_rate": -1.0}, "twin_rate: expected above 0"),
        ({"annealed_by": 1.5}, "annealed_by: expected above 0 to 1"),
        ({"strength": -1.0}, "strength: expected 0 or more"),
        ({"divergence": "js"}, "divergence: only vsd and sid"),
        ({"guidance": "csd", "null": (0.0, 0.0)}, "null: csd needs something to differ from"),
        ({"most_ratio": 0.5}, "most_ratio: expected 1 or more"),
    ],
)
def test_mistakes_are_told(wrong, line):
    with pytest.raises(ValueError, match=line):
        ScoreOptions(**wrong)


def test_all_mistakes_at_once():
    with pytest.raises(ValueError) as caught:
        ScoreOptions(steps=0, eta=2, times="sometimes")  # type: ignore[arg-type]
    assert str(caught.value).count("\n") == 2


def test_uniform_and_two_phase_times():
    uniform = ScoreOptions(low=0.1, high=0.7)
    t = uniform.time(4000, 0.9, generator())
    assert 0.1 <= t.min() < 0.11 and 0.69 < t.max() <= 0.7 and float(t.mean()) == pytest.approx(0.4, abs=0.01)
    phases = ScoreOptions(times="two_phase", low=0.2, high=0.8, late_low=0.02, late_high=0.5, switch=0.25)
    early, late = phases.time(4000, 0.24, generator()), phases.time(4000, 0.25, generator())
    assert early.min() >= 0.2 and early.max() > 0.79
    assert late.min() < 0.03 and late.max() <= 0.5
    assert phases.span == (0.02, 0.8) and uniform.span == (0.1, 0.7)


def test_falling_times():
    linear = ScoreOptions(times="linear_down", low=0.1, high=0.9)
    root = ScoreOptions(times="sqrt_down", low=0.1, high=0.9)
    for options in (linear, root):
        assert options.time(3, 0, generator()).tolist() == pytest.approx([0.9] * 3)
        assert options.time(3, 1, generator()).tolist() == pytest.approx([0.1] * 3)
    assert float(linear.time(1, 0.25, generator())) == pytest.approx(0.7)
    assert float(root.time(1, 0.25, generator())) == pytest.approx(0.5)


def test_guidance_fixed_random_and_annealed():
    assert ScoreOptions(scale=5).guidance_scale(4, 0.5, generator()) == 5
    drawn = ScoreOptions(cfg="random", scale=2, scale_to=6).guidance_scale(2000, 0.5, generator())
    assert isinstance(drawn, torch.Tensor) and drawn.shape == (2000, 1, 1, 1)
    assert 2 <= drawn.min() < 2.02 and 5.98 < drawn.max() <= 6
    annealed = ScoreOptions(cfg="annealed", scale=8, scale_to=2, annealed_by=0.5)
    assert [annealed.guidance_scale(1, p, generator()) for p in (0, 0.25, 0.5, 1)] == pytest.approx([8, 5, 2, 2])


def test_weights_by_time_are_those_of_papers_on_noise():
    t = torch.tensor([0.1, 0.5, 0.9])
    a, s = 1 - t, t
    on_noise = {"noise": torch.ones(3), "variance": s * s, "signal_variance": a * s * s, "picture": s / a}
    for weight, expected in on_noise.items():
        found = ScoreOptions(weight=weight).picture_weight(a, s)  # type: ignore[arg-type]
        assert torch.allclose(found, expected * a / s), weight


@pytest.mark.parametrize(
    ("divergence", "expected"),
    [
        ("rkl", (1, 1, 1)),
        ("softened_rkl", (4 / 5, 1 / 2, 1 / 5)),
        ("js", (1 / 5, 1 / 2, 4 / 5)),
        ("hellinger", (1 / 8, 1 / 4, 1 / 2)),
        ("fkl", (1 / 4, 1, 4)),
        ("jeffreys", (5 / 4, 2, 5)),
    ],
)
def test_weights_of_divergences_at_known_ratios(divergence, expected):
    options = ScoreOptions(guidance="vsd", divergence=divergence, most_ratio=100)
    ratios = torch.tensor([1 / 4, 1, 4])
    assert options.divergence_weight(ratios.log()).tolist() == pytest.approx(list(map(float, expected)))
    clamped = ScoreOptions(guidance="vsd", divergence=divergence, most_ratio=4)
    far = torch.tensor([-50.0, 0.0, 50.0])
    assert clamped.divergence_weight(far).tolist() == pytest.approx(list(map(float, expected)))


@pytest.mark.parametrize("divergence", ["rkl", "softened_rkl", "js", "hellinger", "fkl", "jeffreys"])
def test_weights_are_second_derivatives_of_the_divergences(divergence):
    """f''(r) r^2 of f as f-distill defines it."""
    f = {
        "rkl": lambda r: -r.log(),
        "softened_rkl": lambda r: (r + 1) * ((r + 1) / (2 * r)).log(),
        "js": lambda r: r * r.log() - (r + 1) * (0.5 * (r + 1)).log(),
        "hellinger": lambda r: 1 - r.sqrt(),
        "fkl": lambda r: r * r.log(),
        "jeffreys": lambda r: (r - 1) * r.log(),
    }[divergence]
    r = torch.tensor([0.3, 0.8, 1.7, 5.0], dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(f(r).sum(), r, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), r)
    found = ScoreOptions(guidance="vsd", divergence=divergence).divergence_weight(r.detach().log())
    assert torch.allclose(found, second * r.detach() ** 2)


def test_presets_are_valid_and_differ():
    assert len(PRESETS) == len(set(PRESETS.values())) >= 6
