"""Pictures from noise in few steps, by the schedulers of diffusers, over any `Denoiser`.

    how = Sampling("dpm", steps=20, guidance=3.0)
    picture = sample(model, how, (1, 3, 64, 64), Condition(maps=hints), generator=generator)

A scheduler has noise levels of its own, and so has a model.  Both say x_t = a x + s n, and what counts is s / a: the
model is asked at the time at which it expects the scheduler's, about the state scaled to its own a and s, and its
clean picture is told to the scheduler as what that takes.  So any sampler goes with any model.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from relight.diffusion.protocol import NOTHING, Condition, Denoiser, guided, noise_in, noised
from relight.errors import RelightError, ShapeError
from relight.plugins import did_you_mean

GRID = 1000
"""Times between which a model's noise is taken to grow evenly; as many training steps are told to schedulers."""
LEAST_ALPHA = 2.0**-24
"""a^2 that schedulers are told instead of 0: theirs divide by it (the same number as in diffusers)."""


@runtime_checkable
class FlowMap(Denoiser, Protocol):
    """A `Denoiser` on straight lines (a = 1 - t, s = t) that knows how far it is taken at its word."""

    def clean_until(self, noisy: Tensor, t: Tensor, until: Tensor, condition: Condition = NOTHING) -> Tensor:
        """(B, C, H, W): the straight line from `noisy` at t to this at 0 passes the right place at `until`, (B,).

        With until = t it is `clean`.  Shortcut models (Frans et al., arXiv 2410.12557), mean flows.
        """
        ...


@dataclass(frozen=True)
class Kind:
    """scheduler: class of diffusers.  space: its x_t: "vp" a^2 + s^2 = 1, "flow" a + s = 1, "trig" cos and sin.
    steps: when nothing else is said.  options: of the scheduler, where its defaults don't fit."""

    scheduler: str
    space: str
    steps: int
    options: Mapping[str, Any] = field(default_factory=dict)


SAMPLERS: Mapping[str, Kind] = MappingProxyType(
    {
        "ddim": Kind("DDIMScheduler", "vp", 20, {"timestep_spacing": "trailing", "clip_sample": False}),
        "dpm": Kind("DPMSolverMultistepScheduler", "vp", 20),
        "unipc": Kind("UniPCMultistepScheduler", "vp", 20),
        "lcm": Kind("LCMScheduler", "vp", 4),
        "tcd": Kind("TCDScheduler", "vp", 4),
        "scm": Kind("SCMScheduler", "trig", 2, {"sigma_data": 1.0}),
        "flow": Kind("FlowMatchEulerDiscreteScheduler", "flow", 20),
        "flow-lcm": Kind("FlowMatchLCMScheduler", "flow", 4),
        "flowmap": Kind("FlowMapEulerDiscreteScheduler", "flow", 4),
        "bridge": Kind("FlowMatchEulerDiscreteScheduler", "flow", 1),
    }
)
"""Hyper-SD's LoRAs go with "tcd", SANA-Sprint with "scm", shortcut models with "flowmap", LBM with "bridge"."""


@dataclass(frozen=True)
class Sampling:
    """name: one of `SAMPLERS`.  steps: how often the model is asked (twice each with guidance); None: the kind's own.
    guidance: see `protocol.guided`.  options: of the scheduler's class in diffusers, and `eta` (ddim, tcd) and
    `bridge_noise` (bridge: of the noise between steps, 0.005 at first).
    """

    name: str
    steps: int | None = None
    guidance: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in SAMPLERS:
            raise RelightError(f"unknown sampler {self.name!r}{did_you_mean(self.name, SAMPLERS)}")
        if self.steps is not None and self.steps < 1:
            raise RelightError(f"sampler {self.name}: {self.steps} steps; expected 1 or more")

    @property
    def kind(self) -> Kind:
        """What `SAMPLERS` says."""
        return SAMPLERS[self.name]

    @property
    def count(self) -> int:
        """Steps."""
        return self.steps or self.kind.steps


@torch.no_grad()
def sample(
    model: Denoiser,
    how: Sampling,
    shape: Sequence[int] | None = None,
    condition: Condition = NOTHING,
    *,
    without: Condition = NOTHING,
    start: Tensor | None = None,
    strength: float = 1.0,
    generator: torch.Generator | None = None,
    first: Denoiser | None = None,
    first_guidance: float | None = None,
    replace_x0: Callable[[int, Tensor], Tensor] | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """(B, channels, H, W), in what the model makes: pictures from -1 to 1, or latents.

    shape: (B, channels, H, W); not needed with `start`, a picture of that shape to begin with instead of noise alone
    ("img2img"), noised as strongly as `strength` (0, 1] says: the last part of a longer schedule, so that the model is
    asked `how.steps` times all the same.  For "bridge", `start` is what the bridge leads away from, and is not noised.

    without: what `guidance` leads away from.  generator: of all noise; the same state gives the same picture.
    first: a model asked instead of `model` at the first step, with `first_guidance`: a teacher, whose variety of
    layouts its student of few steps has lost (hybrid inference of Gandikota and Bau, Distilling Diversity and Control
    in Diffusion Models, arXiv 2503.10637).  Its noise levels may differ from the student's.
    replace_x0: (step from 0, clean picture expected) to the one to go on with.

    Not differentiated.  Raises RelightError for what the scheduler or the model can't do, ShapeError.
    """
    if start is not None:
        shape, device = tuple(start.shape), start.device
    if shape is None or len(shape) != 4 or shape[1] != model.channels:
        raise ShapeError.expected("picture to sample", f"(B, {model.channels}, H, W)", shape)
    if not 0 < strength <= 1 or (strength < 1 and start is None):
        raise RelightError(f"strength {strength}: expected above 0 and up to 1, and below 1 only with a start")
    run = _Run(model, how, strength)

    def noise() -> Tensor:
        where = generator.device if generator is not None else device
        return torch.randn(tuple(shape), generator=generator, device=where).to(device)

    state = run.begin(start, noise)
    for index in range(how.count):
        asked, guidance = model, how.guidance
        if index == 0 and first is not None:
            asked = first
            guidance = how.guidance if first_guidance is None else first_guidance
        expected = run.ask(asked, index, state, condition, without, guidance)
        if replace_x0 is not None:
            expected = replace_x0(index, expected)
        state = run.step(index, state, expected, generator, noise)
    return state


def ddim(model: Denoiser, noisy: Tensor, times: Sequence[Tensor], clean: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(B, C, H, W) at the first of some (B,) times, carried to the last without fresh noise, up or down
    (Song et al., arXiv 2010.02502).

    clean: what is expected behind a noisy picture at a time above 0.
    """
    for now, then in pairwise(times):
        expected = clean(noisy, now)
        noisy = noised(model, expected, noise_in(model, noisy, expected, now), then)
    return noisy


class _Run:
    """A scheduler of diffusers and the noise levels of its steps."""

    def __init__(self, model: Denoiser, how: Sampling, strength: float):
        try:
            import diffusers
        except ImportError as error:
            raise RelightError("sampling needs diffusers; pip install 'relight[diffusion]' installs it") from error
        self.how, self.space, self.name = how, how.kind.space, how.name
        self.levels_of: dict[int, _Levels] = {}
        levels = self._levels(model)
        options = {**how.kind.options, **how.options}
        self.eta = options.pop("eta", None)
        self.bridge_noise = float(options.pop("bridge_noise", 0.005))
        if self.space == "vp":
            options |= {"trained_betas": levels.betas(), "prediction_type": "sample"}
        if self.name in ("flowmap", "bridge") and abs(levels.most - 1) > 1e-3:
            raise RelightError(f"sampler {self.name}: the model must go all the way, a = 0 at t = 1; choose another")
        if self.name == "flowmap" and not _knows_steps(model):
            raise RelightError("sampler flowmap: the model isn't told how far a step goes; use flow or flow-lcm")
        factory = getattr(diffusers, how.kind.scheduler, None)
        if factory is None:
            raise RelightError(
                f"sampler {self.name}: diffusers {diffusers.__version__} has no {how.kind.scheduler}; update it"
            )
        unknown = set(options) - set(inspect.signature(factory.__init__).parameters)
        if unknown:
            raise RelightError(f"sampler {self.name}: {how.kind.scheduler} has no {', '.join(sorted(unknown))}")
        try:
            self.scheduler: Any = factory(**options)
            skipped = self._set_steps(how.count, strength, levels)
        except ValueError as error:
            raise RelightError(f"sampler {self.name}: {error}") from error
        self.noise = self._noise()[skipped:]
        self.times = self.scheduler.timesteps[skipped:]
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(skipped)
        takes = inspect.signature(self.scheduler.step).parameters
        self.takes_eta, self.takes_generator = "eta" in takes, "generator" in takes

    def _levels(self, model: Denoiser) -> _Levels:
        if id(model) not in self.levels_of:
            self.levels_of[id(model)] = _Levels(model)
        return self.levels_of[id(model)]

    def _set_steps(self, count: int, strength: float, levels: _Levels) -> int:
        """Tell the scheduler; how many of its steps are left out."""
        if self.name in ("lcm", "tcd"):  # theirs are subsets of the steps of their training
            self.scheduler.set_timesteps(count, strength=strength)
            return 0
        whole = max(count, round(count / strength))
        if self.space == "flow":
            # To 1 / n and not to 0.001, as the class would: the last step of few counts as much as the others.
            self.scheduler.set_timesteps(sigmas=[levels.most * (1 - k / whole) for k in range(whole)])
        elif self.space == "trig":
            most = math.atan2(levels.most, 1 - levels.most)
            self.scheduler.set_timesteps(
                whole, max_timesteps=most, intermediate_timesteps=min(1.3, most) if whole == 2 else None
            )
        else:
            self.scheduler.set_timesteps(whole)
        return whole - count

    def _noise(self) -> list[tuple[float, float]]:
        """a and s of the scheduler's own state at each of its steps."""
        scheduler, times = self.scheduler, self.scheduler.timesteps
        if self.space == "flow":
            return [(1 - float(s), float(s)) for s in scheduler.sigmas[: len(times)]]
        if self.space == "trig":
            return [(max(math.cos(t), 0.0), math.sin(t)) for t in times[:-1].tolist()]
        if hasattr(scheduler, "sigmas"):
            ratios = [float(s) for s in scheduler.sigmas[: len(times)]]
            return [(1 / math.hypot(1, r), r / math.hypot(1, r)) for r in ratios]
        squares = scheduler.alphas_cumprod[times.cpu().long()].double().tolist()
        return [(math.sqrt(a), math.sqrt(1 - a)) for a in squares]

    def begin(self, start: Tensor | None, noise: Callable[[], Tensor]) -> Tensor:
        """The state before the first step."""
        if self.name == "bridge":
            if start is None:
                raise RelightError("sampler bridge: leads away from a picture; give it as start")
            return start.clone()
        a, s = self.noise[0]
        # Where a model's noise ends before a is 0, it is begun with noise of the variance that all would have.
        return math.hypot(a, s) * noise() if start is None else a * start + s * noise()

    def ask(
        self, model: Denoiser, index: int, state: Tensor, condition: Condition, without: Condition, guidance: float
    ) -> Tensor:
        """What the model expects behind the state."""
        a, s = self.noise[index]
        t = state.new_full((len(state),), self._levels(model).time(s / (a + s)))
        a_model, s_model = (float(rate[0]) for rate in model.rates(t))
        if self.name == "flowmap" and _knows_steps(model):
            later = self.noise[index + 1][1] if index + 1 < len(self.noise) else 0.0
            model = _Until(model, torch.full_like(t, later))  # type: ignore[arg-type]
        return guided(model, state * ((a_model + s_model) / (a + s)), t, condition, without, guidance)

    def step(
        self,
        index: int,
        state: Tensor,
        expected: Tensor,
        generator: torch.Generator | None,
        noise: Callable[[], Tensor],
    ) -> Tensor:
        """The state after a step."""
        a, s = self.noise[index]
        if self.space == "vp":
            said = expected
        elif self.space == "flow":
            said = (state - expected) / s
        else:
            said = (a * state - expected) / s
        more: dict[str, Any] = {"generator": generator} if self.takes_generator else {}
        if self.takes_eta and self.eta is not None:
            more["eta"] = self.eta
        after = self.scheduler.step(said, self.times[index], state, **more, return_dict=False)[0]
        if self.name == "bridge" and index + 1 < len(self.noise):
            t = self.noise[index + 1][1]
            after = after + self.bridge_noise * math.sqrt(t * (1 - t)) * noise()
        return after


def _knows_steps(model: Denoiser) -> bool:
    return isinstance(model, FlowMap) and getattr(model, "steps_known", True)


class _Until:
    """A flow map, asked about one step.  A `Denoiser`."""

    def __init__(self, model: FlowMap, until: Tensor):
        self.model, self.until, self.channels, self.rates = model, until, model.channels, model.rates

    def clean(self, noisy: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        return self.model.clean_until(noisy, t, self.until, condition)


class _Levels:
    """A model's noise, s / (a + s), at `GRID` + 1 times: from 0 to 1, without gaps where a or s is 0."""

    def __init__(self, model: Denoiser):
        self.t = np.arange(GRID + 1) / GRID
        a, s = (rate.double().numpy() for rate in model.rates(torch.from_numpy(self.t).float()))
        self.share = s / (a + s)
        self.most = float(self.share[-1])

    def time(self, share: float) -> float:
        """At which the model expects this noise, or its most."""
        return float(np.interp(share, self.share, self.t))

    def betas(self) -> list[float]:
        """(GRID,) of a variance preserving schedule with the same s / a."""
        squares = (1 - self.share) ** 2 / ((1 - self.share) ** 2 + self.share**2)
        squares = np.maximum(squares, LEAST_ALPHA)
        return (1 - squares[1:] / squares[:-1]).tolist()
