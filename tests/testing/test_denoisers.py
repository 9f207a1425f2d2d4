"""The mixture of Gaussians answers exactly, and broken models are noticed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from relight.diffusion.protocol import NOTHING, Condition
from relight.testing.denoisers import MixtureDenoiser, check_denoiser, tweedie_error


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixture(rates="flow", cls=MixtureDenoiser) -> MixtureDenoiser:
    means = 0.5 * torch.randn(3, 2, 4, 4, generator=generator(1))
    return cls(means, torch.tensor([0.2, 0.4, 0.3]), torch.tensor([1.0, 2.0, 3.0]), rates)  # type: ignore[arg-type]


def conditions(model: MixtureDenoiser) -> dict[str, Condition]:
    light = torch.linspace(-0.5, 0.5, 4 * 2 * 16).view(4, 2, 4, 4)
    return {
        "nothing": NOTHING,
        "token": Condition(tokens=model.token(1, 4)),
        "maps": Condition(maps=light),
        "both": Condition(maps=light, tokens=torch.tensor([0.0, -1.0, 2.0]).expand(4, 2, 3)),
    }


@pytest.mark.parametrize("rates", ["flow", "vp"])
@pytest.mark.parametrize("kind", ["nothing", "token", "maps", "both"])
def test_expected_pictures_follow_from_the_density(rates, kind):
    model = mixture(rates).double()
    noisy = torch.randn(4, 2, 4, 4, generator=generator(2), dtype=torch.float64)
    t = torch.tensor([0.05, 0.3, 0.6, 0.95], dtype=torch.float64)
    condition = conditions(model)[kind]
    assert tweedie_error(model, noisy, t, condition) < 1e-9


def test_a_wrong_gain_is_noticed():
    class Faulty(MixtureDenoiser):
        def clean(self, noisy, t, condition=NOTHING):
            return 1.01 * super().clean(noisy, t, condition)

    noisy = torch.randn(4, 2, 4, 4, generator=generator(2))
    assert tweedie_error(mixture(cls=Faulty), noisy, torch.full((4,), 0.5)) > 1e-3


def test_samples_have_the_mean_and_spread_of_what_was_asked_for():
    model = mixture()
    found = model.sample(4000, generator(), Condition(tokens=model.token(2)))
    assert torch.allclose(found.mean(0), model.means[2], atol=0.03)
    assert float((found - model.means[2]).std()) == pytest.approx(0.3, abs=0.01)
    assert float(model.sample(4000, generator()).mean()) == pytest.approx(
        float((model.means.mean((1, 2, 3)) * torch.tensor([1, 2, 3]) / 6).sum()), abs=0.02
    )


class Unfrozen(MixtureDenoiser):
    def clean(self, noisy, t, condition=NOTHING):
        return super().clean(noisy, t, condition) * self.gain

    def __init__(self, *args):
        super().__init__(*args)
        self.gain = nn.Parameter(torch.ones(()))


class Deaf(MixtureDenoiser):
    def clean(self, noisy, t, condition=NOTHING):
        return super().clean(noisy.detach(), t, condition) + 0 * noisy


class Blurry(MixtureDenoiser):
    def clean(self, noisy, t, condition=NOTHING):
        return super().clean(noisy, t.clamp_min(0.5), condition)


class Random(MixtureDenoiser):
    def clean(self, noisy, t, condition=NOTHING):
        return super().clean(noisy, t, condition) + 1e-3 * torch.randn(noisy.shape)


class Mixing(MixtureDenoiser):
    def clean(self, noisy, t, condition=NOTHING):
        found = super().clean(noisy, t, condition)
        return found + 0.01 * torch.arange(len(found)).view(-1, 1, 1, 1)


class Backwards(MixtureDenoiser):
    def rates(self, t):
        return t, 1 - t


class Vanishing(MixtureDenoiser):
    def rates(self, t):
        return (1 - 1.5 * t).clamp_min(0), t


class Padded(MixtureDenoiser):
    def clean(self, noisy, t, condition=NOTHING):
        return nn.functional.pad(super().clean(noisy, t, condition), (0, 1))


@pytest.mark.parametrize(
    ("cls", "complaint"),
    [
        (Unfrozen, "weights"), (Deaf, "gradient reaches"), (Blurry, "little noise"), (Random, "asked again"),
        (Mixing, "neighbours"), (Backwards, "s must grow"), (Vanishing, "a must be above 0"), (Padded, "expected"),
    ],
)  # fmt: skip
def test_broken_models_are_noticed(cls, complaint):
    model = mixture(cls=cls)
    with pytest.raises(AssertionError, match=complaint):
        check_denoiser(model, model.sample(4, generator()), generator(1))


@pytest.mark.parametrize("rates", ["flow", "vp"])
def test_a_right_model_passes(rates):
    model = mixture(rates)
    pictures = model.sample(4, generator())
    check_denoiser(model, pictures, generator(1))
    check_denoiser(model, pictures, generator(1), Condition(maps=torch.zeros(4, 2, 4, 4)))
