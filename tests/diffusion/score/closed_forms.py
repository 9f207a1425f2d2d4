"""Gaussians whose scores are known in closed form, and the gradients that score distillation gives of them."""

from __future__ import annotations

import torch
from torch import Tensor

from relight.diffusion.protocol import NOTHING, Condition
from relight.diffusion.score.distillation import ScoreDistillation
from relight.diffusion.score.options import ScoreOptions
from relight.testing.denoisers import MixtureDenoiser

DEVIATION, MEAN, LIGHT, MANY = 0.5, 0.2, 0.6, 60_000
FIXED = 0.4
"""Time of the closed forms."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(rates: str = "flow", mean: float = MEAN, deviation: float = DEVIATION) -> MixtureDenoiser:
    return MixtureDenoiser(torch.full((1, 1, 1, 1), mean), torch.tensor([deviation]), rates=rates)  # type: ignore[arg-type]


def at(t: float, **options) -> ScoreOptions:
    """Of one time alone."""
    return ScoreOptions(low=t, high=t, **options)


def light(count: int) -> Condition:
    """Shifts the mean of `gaussian` by LIGHT."""
    return Condition(maps=torch.full((count, 1, 1, 1), LIGHT))


def gradient(score: ScoreDistillation, x: Tensor, condition: Condition = NOTHING, progress=0.0, **kwargs) -> Tensor:
    """Of the sum over pictures."""
    picture = x.clone().requires_grad_()
    score(picture, progress, condition, **kwargs).loss.backward()
    assert picture.grad is not None
    return picture.grad * len(x)


def rates(model: MixtureDenoiser, t: float) -> tuple[float, float]:
    a, s = model.rates(torch.tensor([t]))
    return float(a), float(s)


def shrink(model: MixtureDenoiser, t: float, deviation: float = DEVIATION) -> float:
    """s^2 / (a^2 v + s^2): how far one step goes to the mean."""
    a, s = rates(model, t)
    return s * s / (a * a * deviation**2 + s * s)


def mean_gradient(options: ScoreOptions, model: MixtureDenoiser, x: float, told: bool = False, **kwargs) -> float:
    score = ScoreDistillation(model, options, generator(), **kwargs)
    pictures = torch.full((MANY, 1, 1, 1), x)
    if told:
        return float(gradient(score, pictures, light(MANY), without=NOTHING).mean())
    return float(gradient(score, pictures).mean())
