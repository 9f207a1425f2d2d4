"""A diffusion model whose every answer is known in closed form, and what any `Denoiser` must keep."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from relight.diffusion.protocol import NOTHING, Condition, Denoiser, noise_in, noised
from relight.diffusion.score.variational import networks


class MixtureDenoiser(nn.Module):
    """What a perfectly trained model would answer if pictures were a mixture of K round Gaussians.

    means: (K, C, H, W).  deviations: (K,), above 0.  weights: (K,), of any sum; None: all the same.
    rates: "flow", a = 1 - t and s = t, or "vp", a = cos(pi t / 2) and s = sin(pi t / 2).

    Condition.tokens (B, L, K): their sum over L is added to the logarithms of the weights, so `token(k)` asks for
    component k.  Condition.maps (B, C, H, W) are added to all means, as another light would change a picture.

    Its parameters are not trained here, and a copy's may be: with K = 1 it is the exact model of any round Gaussian.
    """

    def __init__(
        self,
        means: Tensor,
        deviations: Tensor,
        weights: Tensor | None = None,
        rates: Literal["flow", "vp"] = "flow",
    ):
        super().__init__()
        self.channels, self.kind = means.shape[1], rates
        weights = torch.ones_like(deviations) if weights is None else weights
        self.means = nn.Parameter(means.clone(), requires_grad=False)
        self.log_deviations = nn.Parameter(deviations.log(), requires_grad=False)
        self.log_weights = nn.Parameter((weights / weights.sum()).log(), requires_grad=False)

    def token(self, component: int, count: int = 1) -> Tensor:
        """(count, 1, K) that leaves nothing but one component."""
        tokens = torch.full((count, 1, len(self.means)), -1e4, device=self.means.device)
        tokens[..., component] = 0
        return tokens

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """As `Denoiser` has them."""
        return (1 - t, t) if self.kind == "flow" else ((t * math.pi / 2).cos(), (t * math.pi / 2).sin())

    def clean(self, noisy: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        """Exactly the mean of clean pictures behind (B, C, H, W) noisy ones."""
        logits, offsets, a, variance, total = self._components(noisy, t, condition)
        gain = (a * variance / total)[..., None, None, None]
        expected = self._means(noisy, condition) + gain * offsets
        return (logits.softmax(1)[..., None, None, None] * expected).sum(1)

    def log_density(self, noisy: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        """(B,) log of the density of (B, C, H, W) noisy pictures at (B,) times."""
        return self._components(noisy, t, condition)[0].logsumexp(1)

    def sample(self, count: int, generator: torch.Generator, condition: Condition = NOTHING) -> Tensor:
        """(count, C, H, W) clean pictures.  condition: one for all, or (count, ...)."""
        at = torch.zeros(count, *self.means.shape[1:])
        chosen = torch.multinomial(self._log_weights(count, condition).exp(), 1, generator=generator)[:, 0]
        means = self._means(at, condition).expand(count, *self.means.shape)[torch.arange(count), chosen]
        noise = torch.randn(means.shape, generator=generator)
        return means + self.log_deviations.exp()[chosen].view(-1, 1, 1, 1) * noise

    def _means(self, noisy: Tensor, condition: Condition) -> Tensor:
        means = self.means[None].expand(len(noisy), *self.means.shape)
        return means if condition.maps is None else means + condition.maps[:, None]

    def _log_weights(self, count: int, condition: Condition) -> Tensor:
        told = self.log_weights if condition.tokens is None else self.log_weights + condition.tokens.sum(1)
        return told.log_softmax(-1).expand(count, -1)

    def _components(
        self, noisy: Tensor, t: Tensor, condition: Condition
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(B, K) log of weight times density, (B, K, C, H, W) distances from means, (B, 1) a, (K,) variances before
        and (B, K) after noise."""
        a, s = (rate[:, None] for rate in self.rates(t))
        variance = (2 * self.log_deviations).exp()
        total = a * a * variance + s * s
        offsets = noisy[:, None] - a[..., None, None, None] * self._means(noisy, condition)
        squares = offsets.square().sum((2, 3, 4)) / total
        logits = self._log_weights(len(noisy), condition) - 0.5 * (
            squares + self.means[0].numel() * (2 * math.pi * total).log()
        )
        return logits, offsets, a, variance, total


def tweedie_error(model: MixtureDenoiser, noisy: Tensor, t: Tensor, condition: Condition = NOTHING) -> float:
    """Largest difference of `clean` from (x_t + s^2 grad log p(x_t)) / a, by automatic differentiation of the density
    (Efron, Tweedie's formula, JASA 106, 2011)."""
    at = noisy.detach().clone().requires_grad_()
    (score,) = torch.autograd.grad(model.log_density(at, t, condition).sum(), at)
    a, s = (rate.view(-1, 1, 1, 1) for rate in model.rates(t))
    return float((model.clean(noisy, t, condition) - (noisy + s * s * score) / a).abs().max())


def check_denoiser(
    model: Denoiser, pictures: Tensor, generator: torch.Generator, condition: Condition = NOTHING, near: float = 0.1
) -> None:
    """Raise AssertionError naming the first promise of `Denoiser` that a model breaks.

    pictures: (B, C, H, W) that the model could have made, B at least 2.  near: most that it may be off, as root mean
    square, behind noise of time 0.02.
    """
    assert isinstance(model, Denoiser), f"{type(model).__name__}: expected channels, rates and clean"
    count, channels = pictures.shape[:2]
    assert model.channels == channels, f"channels: expected {channels}, found {model.channels}"
    times = torch.linspace(0, 1, 33).to(pictures)
    a, s = model.rates(times)
    assert a.shape == times.shape and s.shape == times.shape, "rates: expected one of each a time"
    assert bool((s.diff() > 0).all()), "rates: s must grow with t"
    assert bool((a[:-1] > 0).all()), "rates: a must be above 0 where t is below 1"
    assert abs(float(a[0]) - 1) < 0.02 and float(s[0]) < 0.05, "rates: time 0 is clean"
    noise = torch.randn(pictures.shape, generator=generator).to(pictures)
    middle = torch.linspace(0.3, 0.7, count).to(pictures)
    noisy = noised(model, pictures, noise, middle)
    back = noise_in(model, noisy, pictures, middle)
    assert torch.allclose(back, noise, atol=1e-3), "rates: the noise in a noisy picture is not the one put in"
    with torch.no_grad():
        found = model.clean(noisy, middle, condition)
        assert found.shape == pictures.shape, f"clean: expected {tuple(pictures.shape)}, found {tuple(found.shape)}"
        assert torch.equal(found, model.clean(noisy, middle, condition)), "clean: another answer when asked again"
        early = torch.full((count,), 0.02).to(pictures)
        little = model.clean(noised(model, pictures, noise, early), early, condition)
        off = float((little - pictures).square().mean().sqrt())
        assert off < near, f"clean: expected nearly the picture behind little noise, found {off:.3g} off"
        if condition.maps is None and condition.tokens is None:
            turned = model.clean(noisy.flip(0), middle.flip(0)).flip(0)
            assert torch.allclose(turned, found, atol=1e-3), "clean: a picture's answer depends on its neighbours'"
    at = noisy.clone().requires_grad_()
    model.clean(at, middle, condition).sum().backward()
    assert at.grad is not None and bool(at.grad.any()), "clean: no gradient reaches the noisy picture"
    weights = [p for network in networks(model).values() for p in network.parameters()]
    assert all(p.grad is None for p in weights), "clean: a gradient has reached the weights; freeze them"
