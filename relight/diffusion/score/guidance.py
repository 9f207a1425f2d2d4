"""What each variant of score distillation follows: a difference of two clean pictures, and how they are come by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from relight.diffusion.protocol import Condition, Denoiser, guided, noise_in, noised
from relight.diffusion.samplers import ddim
from relight.diffusion.score.options import FIRST, ScoreOptions
from relight.errors import RelightError

if TYPE_CHECKING:
    from relight.diffusion.score.variational import Twin


@dataclass(frozen=True)
class Ask:
    """One call: what was drawn and what was given.

    x, noise, fresh: (B, C, H, W); t: (B,); weight: the mask, (B, 1, H, W).  scale: as `protocol.guided` takes it.
    """

    model: Denoiser
    options: ScoreOptions
    twin: Twin | None
    x: Tensor
    t: Tensor
    noise: Tensor
    fresh: Tensor | None
    scale: float | Tensor
    progress: float
    condition: Condition
    without: Condition
    negative: Condition | None
    weight: Tensor

    @property
    def noisy(self) -> Tensor:
        """The picture at time t with the noise that was drawn."""
        return noised(self.model, self.x, self.noise, self.t)

    def expected(self, noisy: Tensor, t: Tensor) -> Tensor:
        """By the prior, told and guided."""
        return guided(self.model, noisy, t, self.condition, self.without, self.scale)


Found = tuple[Tensor, Tensor]
"""The difference that is followed, and what the prior expects, which `normalise` measures distance from."""


def _sds(ask: Ask) -> Found:
    expected = ask.expected(ask.noisy, ask.t)
    return ask.x - expected, expected


def _x0(ask: Ask) -> Found:
    steps = ask.options.steps
    noisy = ddim(ask.model, ask.noisy, [ask.t * (1 - k / steps) for k in range(steps)], ask.expected)
    expected = ask.expected(noisy, ask.t / steps)
    return ask.x - expected, expected


def _csd(ask: Ask) -> Found:
    """The weights' sum times x, less the weighted mean of what is expected: 0 times x if they sum to 0, as in CSD."""
    options, noisy = ask.options, ask.noisy
    told, negative, null = (options.annealed(w, ask.progress) for w in (options.told, options.negative, options.null))
    if negative and ask.negative is None:
        raise RelightError("negative: csd has a weight for a negative condition, expected one in the call, found none")
    if null and same(ask.condition, ask.without):
        raise RelightError(
            "without: csd follows the difference that the condition makes, expected one to differ from, found the same"
            "; pass `without`, with the maps of light and shape and less what should be followed"
        )
    expected = ask.model.clean(noisy, ask.t, ask.condition)
    difference = told * (ask.x - expected)
    for weight, condition in ((negative, ask.negative), (null, ask.without)):
        if weight and condition is not None:
            difference = difference + weight * (ask.x - ask.model.clean(noisy, ask.t, condition))
    return difference, expected


def _ism(ask: Ask) -> Found:
    """The paper's difference of the noises at the two times is one of the pictures behind them: x_t is a DDIM step from
    x_s, so it is a(t) times what s expects plus s(t) times the noise at s."""
    earlier = (ask.t - ask.options.interval).maximum(0.5 * (ask.t + FIRST))
    noisy = inverted(ask.model, ask.x, earlier, ask.options.inversion_steps, _told(ask, ask.without))
    before = ask.model.clean(noisy, earlier, ask.without)
    a, s = (rate.view(-1, 1, 1, 1) for rate in ask.model.rates(ask.t))
    expected = ask.expected(a * before + s * noise_in(ask.model, noisy, before, earlier), ask.t)
    return before - expected, expected


def _sdi(ask: Ask) -> Found:
    options = ask.options
    scale = -ask.scale if options.inversion_scale is None else options.inversion_scale
    noisy = inverted(
        ask.model,
        ask.x,
        ask.t,
        options.inversion_steps,
        lambda noisy, t: guided(ask.model, noisy, t, ask.condition, ask.without, scale),
    )
    if ask.fresh is not None:
        own = noise_in(ask.model, noisy, ask.x, ask.t)
        noisy = noised(ask.model, ask.x, (1 - options.eta**2) ** 0.5 * own + options.eta * ask.fresh, ask.t)
    expected = ask.expected(noisy, ask.t)
    return ask.x - expected, expected


def _vsd(ask: Ask) -> Found:
    assert ask.twin is not None
    noisy = ask.noisy
    expected = ask.expected(noisy, ask.t)
    return ask.twin.clean(noisy, ask.t, ask.condition) - expected, expected


def _sid(ask: Ask) -> Found:
    """Gradient of (f - g) . ((f - x) - alpha (f - g)), f of the prior and g of the twin, through both."""
    assert ask.twin is not None
    with torch.enable_grad():
        x = ask.x.clone().requires_grad_()
        noisy = noised(ask.model, x, ask.noise, ask.t)
        expected = ask.expected(noisy, ask.t)
        away = expected - ask.twin.clean(noisy, ask.t, ask.condition)
        total = (ask.weight * away * ((expected - x) - ask.options.alpha * away)).sum()
        (gradient,) = torch.autograd.grad(total, x)
    return gradient, expected.detach()


GUIDANCE: dict[str, Callable[[Ask], Found]] = {
    "x0": _x0,
    "sds": _sds,
    "csd": _csd,
    "ism": _ism,
    "sdi": _sdi,
    "vsd": _vsd,
    "sid": _sid,
}


def _told(ask: Ask, condition: Condition) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda noisy, t: ask.model.clean(noisy, t, condition)


def inverted(
    model: Denoiser, picture: Tensor, t: Tensor, steps: int, clean: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """The noisy picture at (B,) times t that deterministic sampling would turn into the picture, nearly.

    It begins at `FIRST`, where a clean picture times a stands for a noisy one.
    """
    first = torch.full_like(t, FIRST)
    times = [first + (t - first) * (k / steps) for k in range(steps + 1)]
    return ddim(model, noised(model, picture, torch.zeros_like(picture), first), times, clean)


def same(one: Condition, other: Condition) -> bool:
    """Whether two conditions are made of the same tensors."""
    return one.maps is other.maps and one.tokens is other.tokens
