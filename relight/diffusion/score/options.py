"""Options of score distillation, and what of them changes over a fit: times, guidance, weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from relight.errors import outside

FIRST = 0.01
"""Time at which a clean picture stands for one that is hardly noisy: where DDIM inversion begins."""


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """Which loss, and how much of it.  Progress means the share of the fit that is done, 0 to 1.

    Raises ValueError with one line for every option that is wrong.
    """

    guidance: Literal["x0", "sds", "csd", "ism", "sdi", "vsd", "sid"] = "x0"
    """Where a picture is pulled to; docs/score.md compares them.
    x0: what `steps` deterministic steps make of the noisy picture (MaterialFusion, arXiv 2409.15273).
    sds: what one step makes of it (DreamFusion, arXiv 2209.14988).
    csd: along the difference that the condition makes (CSD, arXiv 2310.19415; DreamMat, arXiv 2405.17176).
    ism: from what an earlier time, told nothing, expects to what a later one expects (LucidDreamer, arXiv 2311.11284).
    sdi: sds with the noise that is the picture's own (SDI, arXiv 2405.15891).
    vsd: from what a model of the pictures themselves expects to what the prior expects (ProlificDreamer, 2305.16213).
    sid: vsd, and how both change with the picture; needs gradients through both networks (SiD, arXiv 2404.04057)."""
    steps: int = 4
    """Of x0: DDIM steps from the noisy picture to a clean one, 1 to 50.  1 is sds.  MaterialFusion: 5."""

    scale: float = 3.0
    """Classifier-free guidance: 1 none, 1.5 to 7.5 for priors told pictures, up to 100 for text with sds."""
    cfg: Literal["fixed", "random", "annealed"] = "fixed"
    """fixed: `scale`.  random: each picture another between `scale` and `scale_to` (SNOOPI, arXiv 2412.02687).
    annealed: from `scale` to `scale_to`, which it reaches at `annealed_by`."""
    scale_to: float = 3.0
    """The other end of `cfg` random or annealed."""
    annealed_by: float = 1.0
    """Progress at which `cfg` annealed and the weights of csd have reached their second value, above 0 to 1."""

    told: tuple[float, float] = (1.0, 1.0)
    """Of csd: weight of what is expected with the condition, at first and at last.  DreamMat: 1.05."""
    negative: tuple[float, float] = (0.0, 0.0)
    """Of csd: weight of what is expected with the negative condition.  DreamMat: -1 to -0.5."""
    null: tuple[float, float] = (-1.0, -1.0)
    """Of csd: weight of what is expected without.  DreamMat: 0 to -0.5.  The sum of the three is how much sds is in it.
    The fourth weight of DreamMat's formula, of the noise itself, has nothing to act on: in terms of clean pictures the
    noise of every term has cancelled already."""

    interval: float = 0.08
    """Of ism: time between the two, above 0 to 0.5.  LucidDreamer: 0.08, and 0.1 early."""
    inversion_steps: int = 5
    """Of ism and sdi: DDIM steps from the picture to its noisy one, 1 to 50.  LucidDreamer: 5, SDI: 10."""
    inversion_scale: float | None = None
    """Of sdi: guidance of the inversion; None is minus `scale`, as in the paper.  Ism inverts without."""
    eta: float = 0.3
    """Of sdi: share of fresh noise in the inverted, as standard deviation, 0 (deterministic) to 1."""

    alpha: float = 1.2
    """Of sid: 0.5 (a gradient of Fisher divergence) to 1.5; the paper's best is 1.2, above 1 can be unstable."""
    divergence: Literal["rkl", "softened_rkl", "js", "hellinger", "fkl", "jeffreys"] = "rkl"
    """Of vsd and sid: what is made small (f-distill, arXiv 2502.15681).  All but rkl need `log_ratio`, and weigh each
    picture by how likely it is under the prior against how likely among the fit's own."""
    most_ratio: float = 10.0
    """Bound of that ratio, both ways, 1 or more: a discriminator that is sure of itself gives any number."""

    twin: Literal["auto", "lora", "copy"] = "auto"
    """Of vsd and sid: the model of the fit's own pictures.  lora: an adapter in the prior's own network, for networks
    of diffusers.  copy: a whole one.  auto: a copy of a network of less than 50 million parameters, or that takes no
    adapters; else lora."""
    twin_rate: float = 1e-4
    """Learning rate of the twin (AdamW), above 0.  ProlificDreamer: 1e-4."""
    twin_updates: int = 1
    """Its steps a call, 1 to 100.  ProlificDreamer: 1, DMD2 (arXiv 2405.14867): 5."""
    rank: int = 8
    """Of lora, 1 to 256."""

    normalise: Literal["none", "dmd"] = "none"
    """dmd: each picture's gradient is divided by its mean distance from what the prior expects (DMD, arXiv 2311.18828),
    so that neither the time nor the guidance decides how large it is."""
    weight: Literal["picture", "noise", "variance", "signal_variance"] = "picture"
    """By time; in terms of a and s of x_t = a x + s noise.  picture: 1 on differences of clean pictures.  noise: 1 on
    differences of noise, a / s on pictures.  variance: s^2 on noise (DreamFusion).  signal_variance: a s^2 on noise
    (Fantasia3D)."""
    times: Literal["uniform", "two_phase", "linear_down", "sqrt_down"] = "uniform"
    """uniform: between `low` and `high`.  two_phase: that until `switch`, then between `late_low` and `late_high`
    (DreamMat, ProlificDreamer).  linear_down: from `high` to `low`, one time for all (DreamTime, arXiv 2306.12422).
    sqrt_down: the same by the root of progress, quick at first (HiFA, arXiv 2305.18766)."""
    low: float = 0.02
    """Above 0.01, below `high`: what has less noise says nothing."""
    high: float = 0.8
    """Below 1.  More than 0.8 moves layout, which a fit of materials has already."""
    late_low: float = 0.02
    """`low` after `switch`."""
    late_high: float = 0.5
    """`high` after `switch`."""
    switch: float = 0.125
    """Progress at which two_phase changes, 0 to 1.  DreamMat: 500 of 4000 steps."""

    strength: float = 1.0
    """Of the whole loss, 0 or more."""
    fades: bool = False
    """Strength falls to 0 along with the fit, linearly, so that photographs decide (MaterialFusion)."""
    average: Literal["batch", "pixels"] = "batch"
    """batch: the loss is a sum over pixels, as papers have it.  pixels: a mean over those in the mask, and channels, so
    that strength means the same in pictures of any size."""
    blur: float = 0.0
    """Standard deviation in pixels of a blur of the gradient, 0 (none) to 16, against the patterns of encoders."""
    clip: float | None = None
    """Most that one value of the gradient can be, before strength; above 0, or None."""

    def __post_init__(self) -> None:
        ranges = {
            "steps": (1, 50), "scale": (-100, 100), "scale_to": (-100, 100), "inversion_steps": (1, 50), "eta": (0, 1),
            "alpha": (0.5, 1.5), "most_ratio": (1, math.inf), "twin_updates": (1, 100), "rank": (1, 256),
            "switch": (0, 1), "strength": (0, math.inf), "blur": (0, 16),
        }  # fmt: skip
        wrong = outside(self, ranges)
        for name, most in {"annealed_by": 1.0, "interval": 0.5, "twin_rate": math.inf, "clip": math.inf}.items():
            if (value := getattr(self, name)) is not None and not 0 < value <= most:
                wrong.append(f"{name}: expected above 0{f' to {most:g}' if most < math.inf else ''} (got {value})")
        for low, high in (("low", "high"), ("late_low", "late_high")):
            if not FIRST < (least := getattr(self, low)) <= (most := getattr(self, high)) < 1:
                wrong.append(f"{low}: expected {FIRST:g} < {low} <= {high} < 1 (got {least} and {most})")
        for name, hint in get_type_hints(type(self)).items():
            known = get_args(hint) if get_origin(hint) is Literal else ()
            if known and (value := getattr(self, name)) not in known:
                wrong.append(f"{name}: expected one of {', '.join(known)} (got {value})")
        if self.divergence != "rkl" and not self.variational:
            wrong.append(f"divergence: only vsd and sid have one, expected rkl (got {self.divergence})")
        if self.guidance == "csd" and not any(self.negative) and not any(self.null):
            wrong.append("null: csd needs something to differ from; expected a weight of null or negative (got 0)")
        if wrong:
            raise ValueError("\n".join(wrong))

    @property
    def variational(self) -> bool:
        """Whether there is a twin to train."""
        return self.guidance in ("vsd", "sid")

    @property
    def span(self) -> tuple[float, float]:
        """The earliest and the latest time that a fit asks for."""
        if self.times != "two_phase":
            return self.low, self.high
        return min(self.low, self.late_low), max(self.high, self.late_high)

    def time(self, count: int, progress: float, generator: torch.Generator) -> Tensor:
        """(count,) times, on the generator's device."""
        if self.times in ("linear_down", "sqrt_down"):
            done = progress if self.times == "linear_down" else math.sqrt(progress)
            return torch.full((count,), self.high + (self.low - self.high) * done, device=generator.device)
        late = self.times == "two_phase" and progress >= self.switch
        low, high = (self.late_low, self.late_high) if late else (self.low, self.high)
        return low + (high - low) * torch.rand(count, generator=generator, device=generator.device)

    def guidance_scale(self, count: int, progress: float, generator: torch.Generator) -> float | Tensor:
        """What `protocol.guided` takes: a number, or (count, 1, 1, 1) on the generator's device."""
        if self.cfg == "random":
            share = torch.rand(count, generator=generator, device=generator.device).view(-1, 1, 1, 1)
            return self.scale + (self.scale_to - self.scale) * share
        return self.annealed((self.scale, self.scale_to), progress) if self.cfg == "annealed" else self.scale

    def annealed(self, ends: tuple[float, float], progress: float) -> float:
        """Between the first and the second, which it reaches at `annealed_by`."""
        return ends[0] + (ends[1] - ends[0]) * min(progress / self.annealed_by, 1)

    def picture_weight(self, a: Tensor, s: Tensor) -> Tensor:
        """`weight` as a factor of differences of clean pictures; any shape."""
        return {"picture": torch.ones_like(s), "noise": a / s, "variance": a * s, "signal_variance": a * a * s}[
            self.weight
        ]

    def divergence_weight(self, log_ratio: Tensor) -> Tensor:
        """f''(r) r^2 of `divergence`, for log r, r = p_prior / p_fit clamped by `most_ratio` (f-distill)."""
        r = log_ratio.clamp(-math.log(self.most_ratio), math.log(self.most_ratio)).exp()
        return {
            "rkl": torch.ones_like(r),
            "softened_rkl": 1 / (r + 1),
            "js": r / (r + 1),
            "hellinger": r.sqrt() / 4,
            "fkl": r,
            "jeffreys": r + 1,
        }[self.divergence]


PRESETS: dict[str, ScoreOptions] = {
    "materialfusion": ScoreOptions(guidance="x0", steps=5, high=0.98, fades=True),
    "dreamfusion": ScoreOptions(guidance="sds", scale=100, weight="variance", high=0.98),
    "dreammat": ScoreOptions(
        guidance="csd", told=(1.05, 1.05), negative=(-1, -0.5), null=(0, -0.5), annealed_by=0.5, weight="variance",
        times="two_phase", low=0.2, high=0.8, late_low=0.02, late_high=0.5, switch=0.125,
    ),
    "luciddreamer": ScoreOptions(guidance="ism", scale=7.5, inversion_steps=5, interval=0.08, high=0.5),
    "sdi": ScoreOptions(guidance="sdi", scale=7.5, inversion_steps=10, eta=0.3, times="linear_down", high=0.98),
    "prolificdreamer": ScoreOptions(
        guidance="vsd", scale=7.5, weight="variance", times="two_phase", high=0.98, late_high=0.5, switch=0.2
    ),
    "dmd": ScoreOptions(guidance="vsd", normalise="dmd", scale=3, high=0.98, twin_updates=5),
}  # fmt: skip
"""What the papers use, for models told text; materials on a known shape want `high` of 0.8 or less."""
