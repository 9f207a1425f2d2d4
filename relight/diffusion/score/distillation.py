"""Score distillation: pictures are pulled to where a frozen diffusion model expects them, by one loss for all variants.

Every variant is a difference of two clean pictures.  Noise, velocity and score that papers write it in are linear in
them: noise' - noise = (a / s) (x - x'), so where a paper has a difference of noises, here is one of pictures, times
a / s in the weight.  The loss is 0.5 |x - target|^2 with target = x - gradient held fixed: its gradient is the wanted
one, and its target can be looked at.

The network is asked without gradients, but for SiD, and its weights never get any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from relight.diffusion.protocol import NOTHING, Condition, Denoiser
from relight.diffusion.score.guidance import GUIDANCE, Ask, same
from relight.diffusion.score.options import ScoreOptions
from relight.diffusion.score.variational import Twin, twin_of
from relight.errors import DataError, RelightError, ShapeError

BINS = 10
"""Of time, in the record of gradients."""

LogRatio = Callable[[Tensor, Tensor, Condition], Tensor]
"""(B,) log of how much likelier noisy pictures (B, C, H, W) at (B,) times are under the prior than among the fit's own:
the logit of a discriminator that was trained on as many of both."""


@dataclass(frozen=True)
class Score:
    """What one call found.

    loss: scalar; differentiable in the picture alone.  target: (B, C, H, W), where the picture is pulled to; with
    weight "picture" it is what the prior expects.  t: (B,).  norm: (B,) root mean square of the gradient over the mask,
    before strength.  twin_loss: the online model's, mean of its steps.
    """

    loss: Tensor
    target: Tensor
    t: Tensor
    norm: Tensor
    twin_loss: float | None = None


class Health:
    """How large gradients have been, by time: a fit is in order where no bin runs away from the others."""

    def __init__(self) -> None:
        self.total, self.count = torch.zeros(BINS), torch.zeros(BINS)

    def add(self, t: Tensor, norm: Tensor) -> None:
        """(B,) times and norms."""
        at = (t * BINS).long().clamp(0, BINS - 1).cpu()
        self.total.index_add_(0, at, norm.detach().float().cpu())
        self.count.index_add_(0, at, torch.ones(len(at)))

    def metrics(self) -> dict[str, float]:
        """Mean norm in each bin that was met, by its name: {"score norm, t 0.2 to 0.3": 0.04}."""
        return {
            f"score norm, t {i / BINS:g} to {(i + 1) / BINS:g}": float(self.total[i] / self.count[i])
            for i in range(BINS)
            if self.count[i]
        }


def without_words(condition: Condition) -> Condition:
    """The condition without its tokens: maps, which tell light and shape, stay."""
    return Condition(maps=condition.maps)


class ScoreDistillation:
    """The loss of pictures over a model, call by call; what it keeps is the twin, if there is one, and the record.

    log_ratio: for divergences other than rkl.  generator: for all that is random; the same seed gives the same bits.
    Raises RelightError if the model can't do what the options ask for.
    """

    def __init__(
        self,
        model: Denoiser,
        options: ScoreOptions,
        generator: torch.Generator,
        *,
        twin: Twin | None = None,
        log_ratio: LogRatio | None = None,
    ):
        self.model, self.options, self.generator, self.log_ratio = model, options, generator, log_ratio
        self.health = Health()
        self.twin = twin or (twin_of(model, options, generator) if options.variational else None)
        if options.divergence != "rkl" and log_ratio is None:
            raise RelightError(
                f"divergence: {options.divergence} needs `log_ratio`, the logit of a discriminator; "
                "pass one, or use rkl, which needs none"
            )

    def __call__(
        self,
        picture: Tensor,
        progress: float,
        condition: Condition = NOTHING,
        *,
        without: Condition | None = None,
        negative: Condition | None = None,
        mask: Tensor | None = None,
    ) -> Score:
        """Loss of (B, C, H, W) pictures, -1 to 1, as the model has them.

        progress: share of the fit that is done, 0 to 1.  mask: (B or 1, 1, H, W), 0 to 1; other pixels get no gradient.
        without: what differences and guidance are taken from; by default the condition less its tokens.
        negative: of csd, what is to be led away from.

        A model that is told the light is told in every term: when each step draws another light, its maps belong into
        `condition`, `without` and `negative` alike, and what is left out of `without` is only what should be followed
        more, a text or a photograph.  Otherwise the difference of terms holds the light, and the material takes it.

        Raises ShapeError, and RelightError if the options need a condition that is missing, or the model gives
        infinities.
        """
        check_pictures(self.model, picture, mask)
        if not 0 <= progress <= 1:
            raise RelightError(f"progress: expected 0 to 1, the share of the fit that is done, found {progress}")
        options, count, x = self.options, len(picture), picture.detach()
        t = options.time(count, progress, self.generator).to(x)
        scale = options.guidance_scale(count, progress, self.generator)
        without = without_words(condition) if without is None else without
        if isinstance(scale, Tensor):
            scale = scale.to(x)
        if same(condition, without):
            scale = 1.0  # nothing to be led away from
        ask = Ask(
            model=self.model,
            options=options,
            twin=self.twin,
            x=x,
            t=t,
            noise=self._noise(x),
            fresh=self._noise(x) if options.guidance == "sdi" and options.eta else None,
            scale=scale,
            progress=progress,
            condition=condition,
            without=without,
            negative=negative,
            weight=torch.ones_like(x[:, :1]) if mask is None else mask.to(x).expand(count, 1, *x.shape[2:]),
        )
        with torch.no_grad():
            gradient = self._gradient(ask)
        if not bool(torch.isfinite(gradient).all()):
            times = ", ".join(f"{float(v):.3f}" for v in t)
            raise RelightError(
                f"score distillation: expected finite pictures and answers, found infinity or NaN at t = {times}"
                "; the picture must be -1 to 1, and half precision may overflow: try the model in float32"
            )
        target = x - gradient
        area = (ask.weight.sum((1, 2, 3)) * x.shape[1]).clamp_min(1e-6)
        norm = ((ask.weight * gradient.square()).sum((1, 2, 3)) / area).sqrt()
        self.health.add(t, norm)
        strength = options.strength * (1 - progress if options.fades else 1)
        error = 0.5 * (ask.weight * (picture - target).square()).sum()
        loss = strength * error / (count if options.average == "batch" else area.sum())
        return Score(loss, target, t, norm, self._teach(ask))

    def state(self) -> dict[str, Tensor]:
        """Tensors by name, for a checkpoint; with the state of the generator, which the caller may share."""
        found = {f"twin.{name}": value for name, value in self.twin.state().items()} if self.twin else {}
        return found | {
            "health.total": self.health.total.clone(),
            "health.count": self.health.count.clone(),
            "generator": self.generator.get_state(),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on, to the bit, from `state()`.  Raises DataError if it is of another model, changing nothing."""
        if missing := [k for k in ("health.total", "health.count", "generator") if k not in state]:
            raise DataError(f"state of score distillation: expected {', '.join(missing)}, found nothing; start anew")
        if self.twin is not None:
            self.twin.restore({k.removeprefix("twin."): v for k, v in state.items() if k.startswith("twin.")})
        self.health.total, self.health.count = state["health.total"].clone(), state["health.count"].clone()
        self.generator.set_state(state["generator"].cpu())

    def _gradient(self, ask: Ask) -> Tensor:
        """(B, C, H, W), of the sum over pixels."""
        options, x = self.options, ask.x
        difference, expected = GUIDANCE[options.guidance](ask)
        if options.normalise == "dmd":
            distance = (ask.weight * (x - expected).abs()).mean((1, 2, 3)) / ask.weight.mean((1, 2, 3)).clamp_min(1e-6)
            difference = difference / distance.clamp_min(1e-6).view(-1, 1, 1, 1)
        factor = options.picture_weight(*self.model.rates(ask.t))
        if options.divergence != "rkl":
            assert self.log_ratio is not None
            factor = factor * options.divergence_weight(self.log_ratio(ask.noisy, ask.t, ask.condition))
        gradient = factor.view(-1, 1, 1, 1) * difference
        if options.clip is not None:
            gradient = gradient.clamp(-options.clip, options.clip)
        return blurred(gradient, ask.weight, options.blur) if options.blur else gradient

    def _teach(self, ask: Ask) -> float | None:
        """Train the twin on the pictures; its loss."""
        if self.twin is None:
            return None
        losses = []
        low, high = self.options.span
        for _ in range(self.options.twin_updates):
            t = torch.rand(len(ask.x), generator=self.generator, device=self.generator.device).to(ask.x)
            t = low + (high - low) * t
            losses.append(self.twin.learn(ask.x, self._noise(ask.x), t, ask.condition, ask.weight))
        return sum(losses) / len(losses)

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator, device=self.generator.device).to(like)


def blurred(gradient: Tensor, weight: Tensor, deviation: float) -> Tensor:
    """(B, C, H, W) by a Gaussian of so many pixels, over what has (B, 1, H, W) weight; the background stays out."""
    reach = max(1, round(3 * deviation))
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1).to(gradient) / deviation) ** 2)

    def blur(image: Tensor) -> Tensor:
        flat = image.reshape(-1, 1, *image.shape[2:])
        flat = torch.nn.functional.conv2d(flat, taps.view(1, 1, 1, -1), padding=(0, reach))
        return torch.nn.functional.conv2d(flat, taps.view(1, 1, -1, 1), padding=(reach, 0)).view(image.shape)

    return blur(gradient * weight) / blur(weight).clamp_min(1e-6)


def check_pictures(model: Denoiser, picture: Tensor, mask: Tensor | None) -> None:
    """Raises ShapeError unless the model could make the pictures, and the mask is theirs."""
    if picture.ndim != 4 or picture.shape[1] != model.channels or not picture.is_floating_point():
        found = f"{tuple(picture.shape)} {picture.dtype}"
        raise ShapeError.expected("picture", f"(B, {model.channels}, H, W) of float", found)
    if mask is not None:
        height, width = picture.shape[2:]
        if mask.ndim != 4 or mask.shape[0] not in (1, len(picture)) or mask.shape[1:] != (1, height, width):
            raise ShapeError.expected("mask", f"({len(picture)} or 1, 1, {height}, {width})", tuple(mask.shape))
