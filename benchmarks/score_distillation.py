"""The guidances of score distillation on one task: quality against seconds and calls of the network.

    python -m benchmarks.score_distillation [analytic] [--steps 200] [--seeds 2] [--only sds vsd]

A task is a function that returns a `Task`: a model, what is fitted, how it is drawn and what the model is told of the
drawing, and how good the result is.  `TASKS` names them; another prior or scene is another small function there.

analytic: pictures of 16x16 pixels, of six kinds, each a round Gaussian about a smooth picture of its own, whose
model is known in closed form (`relight.testing.denoisers`).  Eight pictures of one kind, named by a token, are fitted
from grey; each step adds another light, reddish in the mean, which the model is told by a map.  The best answer is the
kind's own spread about its own mean, without any light.  Seconds are of one core's work, and of this model, which costs
next to nothing: for a network count calls.

material: four held-out procedural views; the package's material prior is told photographs of them in several lights.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.prior_material import HELD_OUT, scores
from benchmarks.record import record
from relight.diffusion.own.batches import material_picture
from relight.diffusion.own.prior import Prior
from relight.diffusion.own.procedural.environments import lights
from relight.diffusion.own.procedural.frames import frames, pool
from relight.diffusion.own.procedural.views import draw
from relight.diffusion.own.tasks import condition_maps
from relight.diffusion.protocol import NOTHING, Condition, Denoiser
from relight.diffusion.score.distillation import ScoreDistillation
from relight.diffusion.score.options import ScoreOptions
from relight.testing.denoisers import MixtureDenoiser

MOMENTS = (0.1, 0.25, 0.5, 1.0)
"""Shares of the fit at which quality is looked at."""
LIGHTS = 4
"""That each view of the task "material" is photographed in."""
CALLS: Counter[str] = Counter()


@dataclass(frozen=True)
class View:
    """A drawing of what is fitted, differentiable, and what the model is told of it."""

    picture: Tensor
    condition: Condition
    without: Condition
    mask: Tensor | None = None


@dataclass(frozen=True)
class Task:
    """view: of the parameters, under a light that it draws.  quality: of the parameters, "error" among its numbers, the
    less the better.  options: for all guidances.  rate: of Adam."""

    model: Denoiser
    start: Callable[[torch.Generator], Tensor]
    view: Callable[[Tensor, torch.Generator], View]
    quality: Callable[[Tensor], dict[str, float]]
    options: ScoreOptions
    rate: float


class Counted:
    """A model whose calls are counted, and those of its copies."""

    def __init__(self, model: Denoiser):
        self.model, self.channels = model, model.channels

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.rates(t)

    def clean(self, noisy: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        CALLS["clean"] += 1
        return self.model.clean(noisy, t, condition)


def smooth(count: int, size: int, deviation: float, generator: torch.Generator) -> Tensor:
    """(count, 3, size, size) of slow waves."""
    coarse = torch.randn(count, 3, size // 4, size // 4, generator=generator)
    return deviation * functional.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)


def analytic(count: int = 8, size: int = 16, deviation: float = 0.15) -> Task:
    """See the top of the file."""
    model = MixtureDenoiser(smooth(6, size, 0.3, torch.Generator().manual_seed(1)), torch.full((6,), deviation))
    kind, tokens = 0, model.token(0, count)
    sun = torch.tensor([0.4, 0.2, 0.1]).view(1, 3, 1, 1)
    truth = model.means[kind].detach()

    def view(parameters: Tensor, generator: torch.Generator) -> View:
        light = (smooth(1, size, 0.3, generator) + sun).expand(count, -1, -1, -1)
        return View(parameters + light, Condition(light, tokens), Condition(light))

    def quality(parameters: Tensor) -> dict[str, float]:
        mean = parameters.mean(0)
        spread = float((parameters - mean).square().sum((1, 2, 3)).div(truth.numel()).sum().div(count - 1).sqrt())
        error = float((mean - truth).square().mean().sqrt())
        # Of two Gaussians, a value: what the fitted pictures are and what they should be.
        divergence = math.log(deviation / max(spread, 1e-6)) + (spread**2 + error**2) / (2 * deviation**2) - 0.5
        return {
            "error": error,
            "PSNR of the mean": 20 * math.log10(2 / error),
            "spread, of the prior's": spread / deviation,
            "KL to the prior": divergence,
        }

    return Task(
        model=model,
        start=lambda generator: 0.05 * torch.randn(count, 3, size, size, generator=generator),
        view=view,
        quality=quality,
        options=ScoreOptions(scale=1.5, twin_rate=0.03),
        rate=0.03,
    )


def material(count: int = 4, size: int = 64) -> Task:
    """Materials of procedural views that the package's prior never saw, each from photographs in `LIGHTS` lights.

    Every step has another of them, which the prior is told by radiance hints; without them, the null terms keep the
    light and the shape and lose the photograph.  The parameters are pictures of materials, from grey.
    """
    prior = Prior.load("material")
    views, light = draw(count, size, HELD_OUT), pool(lights(LIGHTS, HELD_OUT))
    drawn = [frames(views, light, torch.Generator().manual_seed(i))[0] for i in range(LIGHTS)]
    truth, mask = material_picture(drawn[0]), drawn[0].mask

    def view(parameters: Tensor, generator: torch.Generator) -> View:
        shown = drawn[int(torch.randint(LIGHTS, (), generator=generator))]
        known = (shown.normal, shown.depth, shown.hints)
        told, untold = (Condition(condition_maps(photo, mask, *known)) for photo in (shown.photo, None))
        return View(parameters.clamp(-1, 1), told, untold, mask)

    def quality(parameters: Tensor) -> dict[str, float]:
        found = parameters.clamp(-1, 1)
        error = ((found - truth).square() * mask).sum() / (5 * mask.sum())
        return {"error": float(error.sqrt()), **scores(found, truth, mask)}

    return Task(
        model=prior,
        start=lambda generator: torch.zeros(count, 5, size, size),
        view=view,
        quality=quality,
        options=ScoreOptions(scale=1.5, low=0.3, high=0.95, twin_rate=1e-4),
        rate=0.05,
    )


TASKS: dict[str, Callable[[], Task]] = {"analytic": analytic, "material": material}

VARIANTS: dict[str, Mapping[str, object]] = {
    "SDS": {"guidance": "sds"},
    "x0, 4 steps": {"guidance": "x0", "steps": 4},
    "SDS, time falls": {"guidance": "sds", "times": "sqrt_down"},
    "CSD": {"guidance": "csd"},
    "ISM": {"guidance": "ism"},
    "SDI": {"guidance": "sdi", "inversion_scale": 1.0, "times": "linear_down"},
    "VSD": {"guidance": "vsd"},
    "VSD, DMD's normaliser": {"guidance": "vsd", "normalise": "dmd"},
    "VSD, random guidance": {"guidance": "vsd", "cfg": "random", "scale": 1.0, "scale_to": 2.0},
    "SiD": {"guidance": "sid"},
    "SDS, light told to one term": {"guidance": "sds"},
}
"""Options by name.  The last is a mistake, for comparison: the light is left out of `without`."""
MISTAKEN = "SDS, light told to one term"


def fit(
    task: Task, options: ScoreOptions, steps: int, seed: int, mistaken: bool = False
) -> dict[float, dict[str, float]]:
    """Quality, seconds and calls at each of `MOMENTS`."""
    generator = torch.Generator().manual_seed(seed)
    parameters = task.start(generator).requires_grad_()
    score = ScoreDistillation(Counted(task.model), options, generator)
    adam = torch.optim.Adam([parameters], lr=task.rate)
    CALLS.clear()
    found, started = {}, time.process_time()
    for step in range(steps):
        adam.param_groups[0]["lr"] = task.rate * (1 - step / steps)
        adam.zero_grad()
        view = task.view(parameters, generator)
        without = NOTHING if mistaken else view.without
        score(view.picture, step / steps, view.condition, without=without, mask=view.mask).loss.backward()
        adam.step()
        if (step + 1) in (moments := {round(share * steps): share for share in MOMENTS}):
            spent = {"CPU seconds": time.process_time() - started, "calls": float(CALLS["clean"])}
            found[moments[step + 1]] = task.quality(parameters.detach()) | spent
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", nargs="?", choices=TASKS, default="analytic")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    options = parser.parse_args()
    task = TASKS[options.task]()
    final: dict[str, dict[str, float]] = {}
    course: dict[str, dict[str, float]] = {}
    for name in options.only:
        chosen = replace(task.options, **VARIANTS[name])  # type: ignore[arg-type]
        runs = [fit(task, chosen, options.steps, seed, name == MISTAKEN) for seed in range(options.seeds)]
        means = {m: {k: fmean(run[m][k] for run in runs) for k in runs[0][m]} for m in MOMENTS}
        final[name] = {k: v for k, v in means[1.0].items() if k != "error"}
        course[name] = {f"{m:.0%} of the steps": means[m]["error"] for m in MOMENTS}
    end = "100% of the steps"
    best = min((name for name in final if name != MISTAKEN), key=lambda name: course[name][end])
    mistaken = course[MISTAKEN][end] / course["SDS"][end] if {MISTAKEN, "SDS"} <= set(course) else None
    record(
        f"score_distillation_{options.task}",
        course["SDS" if mistaken else best][end],
        "root mean square error of the mean picture, of -1 to 1",
        peer=MISTAKEN if mistaken else None,
        ratio=mistaken,
        detail={
            "title": f"score distillation, {options.task}, {'SDS' if mistaken else best}",
            "at the end": final,
            "error by then": course,
            "least error": best,
            "steps": options.steps,
            "seeds": options.seeds,
        },
    )


if __name__ == "__main__":
    main()
