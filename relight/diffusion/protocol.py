"""What losses, samplers and stages ask of a diffusion model, whatever it predicts and whoever trained it.

Everything is said in terms of the clean picture x that a model expects behind a noisy one, x_t = a(t) x + s(t) noise:
it has a visible meaning, and noise, velocity and score follow from it (Kingma and Gao, arXiv 2303.00848).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """What a model is told.

    maps: (B, C, H, W) laid beside the noisy picture, pixel for pixel.  tokens: (B, L, D), attended to, as text is.
    None: that part is left out, in the way in which the model was trained to do without it.
    """

    maps: Tensor | None = None
    tokens: Tensor | None = None


NOTHING = Condition()
"""The condition of a model that is told nothing."""


@runtime_checkable
class Denoiser(Protocol):
    """channels: of the pictures (B, channels, H, W), -1 to 1, that it makes.

    Frozen: gradients go through its inputs where a caller wants them, and never into its weights.
    """

    channels: int

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """a and s, (B,), of (B,) times from 0 (clean) to 1 (noise).  s grows with t, and a is above 0 below 1."""
        ...

    def clean(self, noisy: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        """(B, channels, H, W) the picture expected behind (B, channels, H, W) at (B,) times."""
        ...


def noised(model: Denoiser, picture: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t of (B, C, H, W) and (B,) times."""
    a, s = (rate.view(-1, 1, 1, 1) for rate in model.rates(t))
    return a * picture + s * noise


def noise_in(model: Denoiser, noisy: Tensor, picture: Tensor, t: Tensor) -> Tensor:
    """The noise that takes the picture to the noisy one: inverse of `noised`.  t above 0."""
    a, s = (rate.view(-1, 1, 1, 1) for rate in model.rates(t))
    return (noisy - a * picture) / s


def guided(
    model: Denoiser,
    noisy: Tensor,
    t: Tensor,
    condition: Condition,
    without: Condition = NOTHING,
    scale: float | Tensor = 1.0,
) -> Tensor:
    """`Denoiser.clean`, led away from what the model expects `without` (Ho and Salimans, arXiv 2207.12598).

    scale: a number, or (B, 1, 1, 1), one a picture.  The number 1 asks the model once, for the condition alone.
    """
    told = model.clean(noisy, t, condition)
    if not isinstance(scale, Tensor) and scale == 1:
        return told
    untold = model.clean(noisy, t, without)
    return untold + scale * (told - untold)
