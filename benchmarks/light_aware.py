"""Score distillation of shaded pictures, with and without telling the model the light (DreamMat's claim).

    python -m benchmarks.light_aware [--prior relight] [--views 12] [--steps 200]

Procedural views that the prior never saw, whose true materials are known.  Materials of every pixel are fitted from
grey: in each step they are shaded in another light and pulled to what the relight prior expects, which is told a
photograph of the view in one other light, the shape, and, or not, radiance hints of the light of the step.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from statistics import fmean

import torch
from torch import Generator, Tensor

from benchmarks.prior_material import HELD_OUT, scores
from benchmarks.record import record
from relight.diffusion.own.prior import Prior
from relight.diffusion.own.procedural.environments import lights
from relight.diffusion.own.procedural.frames import Light, frames, pool, surface_of
from relight.diffusion.own.procedural.views import Views, draw
from relight.diffusion.own.tasks import condition_maps
from relight.diffusion.pictures.hints import Seen, radiance_hints, shown
from relight.diffusion.protocol import Condition
from relight.diffusion.score.distillation import ScoreDistillation
from relight.diffusion.score.options import ScoreOptions
from relight.shading.color import linear_to_srgb, srgb_to_linear
from relight.shading.shade import SplitSum, shade

METERED = 0.4
"""Mean radiance of a white matte surface."""
UNSEEN = 4
"""Lights that the fitted materials are relit by."""


def fitted(view: Views, prior: Prior, light: Light, options: ScoreOptions, steps: int, tells: bool) -> dict[str, float]:
    """Scores of one view."""
    generator = Generator().manual_seed(0)
    (before,) = frames(view, light, generator)
    truth, visible, mask = surface_of(view)
    logits = torch.zeros(len(truth.view), 5, requires_grad=True)
    adam = torch.optim.Adam([logits], lr=0.1)
    score = ScoreDistillation(prior, options, generator)

    def picture(values: Tensor, blank: float = 0.0) -> Tensor:
        out = values.new_full((*mask.shape, values.shape[1]), blank)
        return out.index_put((mask,), values).permute(2, 0, 1)[None]

    def surface(values: Tensor):
        return replace(truth, base_color=srgb_to_linear(values[:, :3]), roughness=values[:, 3], metallic=values[:, 4])

    mean_light = torch.zeros(len(truth.view))
    for step in range(steps):
        seen = Seen(light(generator), visible)
        exposure = METERED / float(seen.irradiance(truth.normal).mean().clamp_min(1e-6))
        mean_light = mean_light + seen.irradiance(truth.normal).mean(1) * exposure / steps
        shaded = linear_to_srgb((shade(surface(logits.sigmoid()), seen, SplitSum()) * exposure).clamp(0, 1))
        hints = None
        if tells:
            hints = picture(torch.cat([shown(h, exposure) for h in radiance_hints(truth, [seen])], 1))
        told = condition_maps(before.photo, before.mask, before.normal, before.depth, hints)
        adam.param_groups[0]["lr"] = 0.1 * (1 - step / steps) + 0.005
        score(2 * picture(shaded) - 1, step / steps, Condition(told), mask=before.mask).loss.backward()
        adam.step()
        adam.zero_grad()
    with torch.no_grad():
        found = logits.sigmoid()
        true = torch.cat([linear_to_srgb(truth.base_color), truth.roughness[:, None], truth.metallic[:, None]], 1)
        row = scores(picture(2 * found - 1), picture(2 * true - 1), before.mask)
        # What of the error in base colour goes with the light that the steps had in the mean.
        error = (found[:, :3] - true[:, :3]).mean(1)
        row["baked light, correlation"] = float(torch.corrcoef(torch.stack([error, mean_light]))[0, 1])
        row["relit, dB"] = fmean(relit(surface(found), truth, Seen(light(generator), visible)) for _ in range(UNSEEN))
    return row


def relit(found, truth, light: Seen) -> float:
    """PSNR, sRGB, within the mask, in a light."""
    exposure = METERED / float(light.irradiance(truth.normal).mean().clamp_min(1e-6))
    a, b = (linear_to_srgb((shade(s, light, SplitSum()) * exposure).clamp(0, 1)) for s in (found, truth))
    return float(-10 * (a - b).square().mean().clamp_min(1e-6).log10())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", default="relight")
    parser.add_argument("--views", type=int, default=12)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--size", type=int, default=64)
    arguments = parser.parse_args()
    prior, light = Prior.load(arguments.prior), pool(lights(48, HELD_OUT))
    views = draw(arguments.views, arguments.size, HELD_OUT + 1)
    options = ScoreOptions(guidance="x0", steps=1, scale=1.0, low=0.3, high=0.9, average="pixels", strength=100.0)
    rows = {}
    for name, tells in (("told the light", True), ("not told", False)):
        found = [fitted(views[i : i + 1], prior, light, options, arguments.steps, tells) for i in range(len(views))]
        rows[name] = {k: fmean(f[k] for f in found) for k in found[0]}
        print(name, {k: round(v, 3) for k, v in rows[name].items()}, flush=True)
    told, untold = (rows[n]["relit, dB"] for n in ("told the light", "not told"))
    record(
        "light_aware", told - untold, "dB, relit", peer="not told the light",
        detail={
            "title": "score distillation told the light of each step, relit, against not told",
            "trained": prior.info, "views": arguments.views, "steps": arguments.steps, "scores": rows,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
