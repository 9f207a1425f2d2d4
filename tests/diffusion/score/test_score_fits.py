"""What fits by score distillation make of pictures, what they keep, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from closed_forms import FIXED, LIGHT, at, gaussian, generator, gradient, light, shrink
from torch import Tensor

from relight.diffusion.protocol import NOTHING, Condition
from relight.diffusion.score.distillation import Health, Score, ScoreDistillation
from relight.diffusion.score.options import PRESETS, ScoreOptions
from relight.errors import DataError, RelightError, ShapeError
from relight.testing.denoisers import MixtureDenoiser


def fitted(options: ScoreOptions, model: MixtureDenoiser, x: Tensor, told: Condition, steps=150, rate=0.05) -> Tensor:
    """Pictures after so many steps of Adam."""
    picture = x.clone().requires_grad_()
    adam = torch.optim.Adam([picture], lr=rate)
    score = ScoreDistillation(model, options, generator(7))
    for step in range(steps):
        adam.zero_grad()
        score(picture, step / steps, told).loss.backward()
        adam.param_groups[0]["lr"] = rate * (1 - step / steps)
        adam.step()
    return picture.detach()


@pytest.mark.parametrize("guidance", ["x0", "sds", "csd", "ism", "sdi", "vsd", "sid"])
def test_pictures_move_to_the_mode_that_was_asked_for(guidance):
    means = torch.stack([torch.full((2, 3, 3), -0.5), torch.full((2, 3, 3), 0.5)])
    model = MixtureDenoiser(means, torch.tensor([0.15, 0.15]))
    told = Condition(tokens=model.token(1, 6))
    x = 0.2 * torch.randn(6, 2, 3, 3, generator=generator(3)) - 0.2
    options = ScoreOptions(guidance=guidance, scale=1.5, twin_rate=0.02, eta=0.1)
    found = fitted(options, model, x, told, steps=120)
    nearer = (found - means[1]).square().mean((1, 2, 3)) < (found - means[0]).square().mean((1, 2, 3))
    # CSD pulls on until the model expects the same without being told: past the mode, not to it.
    assert bool(nearer.all()) and float((found - 0.5).abs().mean()) < (0.6 if guidance == "csd" else 0.35)


def test_vsd_keeps_the_spread_of_pictures_and_sds_collapses():
    model = gaussian(mean=0.1, deviation=0.4)
    x = model.sample(256, generator(5))
    spread = {
        name: float(fitted(options, model, x, NOTHING, steps=250, rate=0.03).std())
        for name, options in {
            "sds": ScoreOptions(guidance="sds"),
            "vsd": ScoreOptions(guidance="vsd", twin_rate=0.02),
        }.items()
    }
    assert spread["sds"] < 0.1
    assert spread["vsd"] == pytest.approx(0.4, abs=0.1)


def test_vsd_spreads_pictures_that_were_all_alike():
    model = gaussian(mean=0.1, deviation=0.4)
    x = 0.7 + 0.05 * torch.randn(256, 1, 1, 1, generator=generator(5))
    found = fitted(ScoreOptions(guidance="vsd", twin_rate=0.02), model, x, NOTHING, steps=400, rate=0.03)
    assert float(found.mean()) == pytest.approx(0.1, abs=0.12) and float(found.std()) > 0.25


def test_same_seed_same_bits_and_the_weights_stay():
    means = 0.5 * torch.randn(2, 1, 2, 2, generator=generator(8))
    model = MixtureDenoiser(means, torch.tensor([0.6, 0.7]))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(2, 1, 2, 2, generator=generator())
    told, bad = Condition(tokens=model.token(1, 2)), Condition(tokens=model.token(0, 2))
    for name, options in PRESETS.items():
        one, two = (gradient(ScoreDistillation(model, options, generator(3)), x, told, negative=bad) for _ in range(2))
        assert torch.equal(one, two) and one.any(), name
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_no_graph_of_the_network_is_kept():
    """The loss holds the picture alone: its graph has no node but those of the square."""
    model = gaussian()
    picture = torch.ones(2, 1, 1, 1, requires_grad=True)
    found = ScoreDistillation(model, ScoreOptions(guidance="sds"), generator())(picture, 0.0)
    assert not found.target.requires_grad
    nodes, todo = 0, [found.loss.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None:
            nodes, todo = nodes + 1, todo + [n for n, _ in node.next_functions]
    assert nodes < 12


def test_the_record_of_gradients():
    health = Health()
    health.add(torch.tensor([0.05, 0.25, 0.27, 1.0]), torch.tensor([1.0, 2.0, 4.0, 7.0]))
    assert health.metrics() == {
        "score norm, t 0 to 0.1": 1.0, "score norm, t 0.2 to 0.3": 3.0, "score norm, t 0.9 to 1": 7.0
    }  # fmt: skip
    score = ScoreDistillation(gaussian(), at(FIXED, guidance="csd"), generator())
    found: Score = score(torch.zeros(4, 1, 1, 1), 0.0, light(4), without=NOTHING)
    expected = LIGHT * shrink(gaussian(), FIXED)
    assert torch.allclose(found.norm, torch.full((4,), expected), atol=1e-5)
    assert found.t.tolist() == pytest.approx([FIXED] * 4) and found.twin_loss is None
    assert score.health.metrics() == {"score norm, t 0.4 to 0.5": pytest.approx(expected, abs=1e-5)}


def test_mistakes_are_told():
    model, x = gaussian(), torch.zeros(2, 1, 4, 4)
    wide = MixtureDenoiser(torch.zeros(1, 1, 4, 4), torch.tensor([0.3]))
    score = ScoreDistillation(wide, ScoreOptions(), generator())
    with pytest.raises(ShapeError, match=r"picture: expected shape \(B, 1, H, W\)"):
        score(torch.zeros(2, 3, 4, 4), 0.0)
    with pytest.raises(ShapeError, match="mask: expected shape"):
        score(x, 0.0, mask=torch.ones(2, 4, 4))
    with pytest.raises(RelightError, match="progress: expected 0 to 1"):
        score(x, 20)
    with pytest.raises(RelightError, match="infinity or NaN at t ="):
        score(x * torch.nan, 0.0)
    with pytest.raises(RelightError, match="without: csd"):
        ScoreDistillation(wide, ScoreOptions(guidance="csd"), generator())(x, 0.0)
    options = ScoreOptions(guidance="csd", negative=(-1, -1))
    with pytest.raises(RelightError, match="negative: csd has a weight"):
        ScoreDistillation(model, options, generator())(x[..., :1, :1], 0.0, light(2), without=NOTHING)
    with pytest.raises(RelightError, match="needs `log_ratio`"):
        ScoreDistillation(model, ScoreOptions(guidance="vsd", divergence="js"), generator())


@pytest.mark.parametrize("guidance", ["sds", "vsd"])
def test_a_fit_goes_on_to_the_bit_from_its_state(guidance):
    model = gaussian()
    options = ScoreOptions(guidance=guidance, twin_rate=0.02)

    def run(score: ScoreDistillation, x: Tensor, steps: int) -> Tensor:
        for _ in range(steps):
            x = x - 0.1 * gradient(score, x)
        return x

    start = model.sample(8, generator(1))
    whole = run(ScoreDistillation(model, options, generator(2)), start, 8)
    first = ScoreDistillation(model, options, generator(2))
    middle = run(first, start, 5)
    saved = {name: value.clone() for name, value in first.state().items()}
    run(first, middle, 2)  # what happens after saving doesn't change what was saved
    resumed = ScoreDistillation(model, options, generator(99))
    resumed.restore(saved)
    assert torch.equal(run(resumed, middle, 3), whole)
    assert all(isinstance(v, Tensor) for v in saved.values())
    with pytest.raises(DataError, match="expected health"):
        resumed.restore({})
