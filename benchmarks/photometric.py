"""Photographs of four objects under twelve measured lights: materials and normals from eleven predict the twelfth.

    python -m benchmarks.photometric [--stride 4]

Data: photometric/uw_psm in RELIGHT_DATA (default ../shared/data), by courtesy of Steven Seitz, University of
Washington.
Every light is left out in turn and plays no part in its own prediction.  The baseline is Lambertian least squares over
the same pixels; both are the mean over lights of the PSNR inside the mask, 8-bit values taken as linear.

Each pixel has its own base colour and normal; roughness and specular vary smoothly, from a coarse grid, as eleven
lights say too little of a pixel's highlight.  Cast shadows are traced through the heights that the fitted normals
integrate to.

Settings are chosen for each object and each light left out, by how well they predict three of the other eleven lights,
each from the ten that remain, on fewer pixels; the picture that is scored plays no part.  (What there is to choose from
was written down after scores of earlier settings had been seen.)  Ours chooses between measured and refined directions,
among robust scales, and whether each flash has a strength of its own; the baseline between measured and refined
directions.  Refined directions come from the three other objects only.

What a model leaves over in the pictures it was fitted to, shadows and light between surfaces, can be interpolated to
the new light (kriging over directions, a width and a noise chosen in the same way): `residuals`, for both.

The goal of 2 dB over the baseline is met on gray only.  On rock the brightness of the unseen flash alone costs more.

`with exposure` multiplies each prediction, the baseline's too, by the one number that suits the test picture best: how
bright the twelfth flash was differs between captures, up to 21 %, and no other picture tells.

Pictures go where asked, not into the repository: the licence of the photographs is not stated.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import DATA
from benchmarks.record import record
from relight.export.images import write_image
from relight.images import read_image
from relight.shading.bsdf import Bsdf
from relight.shading.surface import Surface

OBJECTS = ("buddha", "gray", "owl", "rock")
HEADROOM = 2.0
"""Irradiance over pi: keeps base colours under 1."""
HOLD = 0.05
"""Of the squared change of the normals from the Lambertian ones, in the loss."""
MARGIN, SHARP = 0.1, 8.0
"""Of cast shadows, in slopes: how far a ray may dip below the heights, and how quickly it is then blocked."""


@dataclass(frozen=True)
class Settings:
    """refined: directions from the other objects.  scale: error at which a pixel's say begins to fall.  strengths: each
    flash fitted has its own."""

    refined: bool = True
    scale: float = 0.1
    strengths: bool = False

    def __str__(self) -> str:
        lights = "refined" if self.refined else "measured"
        return f"{lights}, {self.scale:g}, {'own' if self.strengths else 'equal'} strengths"


CHOICES = (
    Settings(), Settings(refined=False), Settings(scale=0.03), Settings(scale=0.3), Settings(strengths=True),
    Settings(scale=0.3, strengths=True),
)  # fmt: skip
KRIGING = (None, (0.3, 0.1), (0.3, 0.5), (0.6, 0.1), (0.6, 0.5))
"""Width in 1 - cosine, and noise beside 1, of the residuals."""


@dataclass(frozen=True)
class Capture:
    """mask: (H, W) bool.  values: (12, N, 3) of the pixels in it, 0 to 1.  lights: (12, 3) unit, towards the light; x
    to the right, y up, z to the camera."""

    mask: Tensor
    values: Tensor
    lights: Tensor


def load(folder: Path, name: str, stride: int) -> Capture:
    """One object; every `stride`th row and column."""
    lights = torch.from_numpy(np.loadtxt(folder / "lights.txt", skiprows=1)).float()
    mask = read_image(folder / name / f"{name}.mask.png").rgb[::stride, ::stride].mean(-1) > 0.5
    views = [read_image(folder / name / f"{name}.{k}.png").rgb[::stride, ::stride][mask] for k in range(len(lights))]
    return Capture(mask, torch.stack(views), functional.normalize(lights, dim=-1))


def lambertian(values: Tensor, lights: Tensor) -> Tensor:
    """(N, 3, 3) least squares: light coordinates to colour, for each pixel."""
    solution = torch.linalg.lstsq(lights, values.flatten(1)).solution
    return solution.reshape(3, -1, 3).permute(1, 0, 2)


def calibrated(captures: list[Capture]) -> Tensor:
    """(12, 3) directions of the lights, times brightness, that suit some captures better than those written down.

    Lambertian factorisation, alternating from the measured directions; the linear map that it leaves free is the one
    that comes nearest to them.  Called with captures of other objects than the one to be predicted.
    """
    measured = captures[0].lights
    found = []
    for capture in captures:
        lights = measured.clone()
        for _ in range(6):
            albedo = lambertian(capture.values, lights).transpose(1, 2).reshape(-1, 3)
            values = capture.values.flatten(1)
            off = values - lights @ albedo.mT
            # Shadows and highlights lose their say.
            weight = 1 / (1 + (off / 0.03) ** 2)
            matrix = torch.einsum("km,mi,mj->kij", weight, albedo, albedo)
            lights = torch.linalg.solve(matrix, torch.einsum("km,mi,km->ki", weight, albedo, values)[..., None])[..., 0]
            lights = lights @ torch.linalg.lstsq(lights, measured).solution
        found.append(lights)
    return torch.stack(found).median(0).values


class Fit:
    """Materials and normals of one object from some of its lights."""

    def __init__(self, capture: Capture, train: list[int], steps: int, cell: int, settings: Settings):
        self.capture, self.steps, self.settings = capture, steps, settings
        values, lights = capture.values[train], capture.lights[train]
        start = lambertian(values, lights).mean(-1)
        normal = self._trimmed(values.mean(-1), lights, start)
        self.normal = torch.nn.Parameter(normal)
        facing = (normal @ lights.mT).clamp_min(0).mT[..., None]
        color = (values * facing).sum(0) / (facing * facing).sum(0).clamp_min(1e-3)
        self.logit_color = torch.nn.Parameter(torch.logit((color / HEADROOM).clamp(0.005, 0.98)))
        height, width = capture.mask.shape
        grid = (1, 2, max(2, height // cell), max(2, width // cell))
        self.gloss = torch.nn.Parameter(torch.tensor([0.0, -2.0])[None, :, None, None].expand(grid).clone())
        self.ambient = torch.nn.Parameter(torch.tensor(-4.0))
        self.log_strength = torch.nn.Parameter(torch.zeros(len(train), 1, 1), requires_grad=settings.strengths)
        rows, columns = torch.nonzero(capture.mask, as_tuple=True)
        self.place = torch.stack([columns / (width - 1), rows / (height - 1)], -1)[None, None] * 2 - 1
        self._run(values, lights)
        # As if all flashes were equally bright: the new one's strength is not known.
        fitted = self.shown(lights, self.lit(lights)).detach()
        self.left_over = values / self.strengths().detach() - fitted

    def strengths(self) -> Tensor:
        """(K, 1, 1) of the flashes fitted, about 1."""
        return (self.log_strength - self.log_strength.mean()).exp()

    @staticmethod
    def _trimmed(grey: Tensor, lights: Tensor, start: Tensor) -> Tensor:
        """Normals (N, 3), by least squares reweighted so that shadows and highlights lose their say."""
        g = start
        for _ in range(10):
            residual = grey - (g @ lights.mT).mT
            weight = 1 / (1 + (residual / 0.03) ** 2)
            normal_matrix = torch.einsum("kn,ki,kj->nij", weight, lights, lights) + 1e-4 * torch.eye(3)
            g = torch.linalg.solve(normal_matrix, torch.einsum("kn,ki,kn->ni", weight, lights, grey)[..., None])[..., 0]
        albedo = g.norm(dim=-1)
        normal = g / albedo[:, None].clamp_min(1e-6)
        normal = torch.cat([normal[:, :2], normal[:, 2:].clamp_min(0.05)], -1)
        return functional.normalize(normal, dim=-1)

    def surface(self) -> Surface:
        """The fitted points as an orthographic camera on +z sees them; positions don't matter to distant lights."""
        normal = functional.normalize(self.normal, dim=-1)
        gloss = functional.grid_sample(self.gloss, self.place, align_corners=True)[0, :, 0]
        view = torch.tensor([0.0, 0.0, 1.0]).expand_as(normal)
        rough, specular = 0.1 + 0.9 * gloss[0].sigmoid(), gloss[1].sigmoid()
        return Surface(
            normal, normal, view, self.logit_color.sigmoid(), rough, torch.zeros_like(rough), specular=specular
        )

    def shown(self, lights: Tensor, lit: Tensor | float = 1.0) -> Tensor:
        """(K, N, 3) under (K, 3) lights.  lit: (K, N, 1) share of the light that arrives."""
        surface = self.surface()
        directions = lights.expand(surface.shape[0], -1, 3)
        reflected = Bsdf(surface).eval(directions).transpose(0, 1) * (torch.pi * HEADROOM)
        return reflected * lit + self.ambient.exp() * HEADROOM * surface.base_color

    def _run(self, values: Tensor, lights: Tensor) -> None:
        start, scale = self.normal.detach().clone(), self.settings.scale
        optimiser = torch.optim.Adam([
            {"params": [self.normal], "lr": 0.01}, {"params": [self.logit_color], "lr": 0.03},
            {"params": [self.gloss, self.ambient], "lr": 0.06}, {"params": [self.log_strength], "lr": 0.01},
        ])  # fmt: skip
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, [0.01, 0.03, 0.06, 0.01], total_steps=self.steps, pct_start=0.1
        )
        lit = torch.ones(len(lights), values.shape[1], 1)
        for step in range(self.steps):
            if step == self.steps // 3:
                lit = self.lit(lights)
            optimiser.zero_grad()
            off = (self.shown(lights, lit) * self.strengths() - values) / scale
            loss = (1 + off * off).log().mean() * scale**2 + HOLD * (self.normal - start).square().mean()
            loss.backward()
            optimiser.step()
            schedule.step()

    def heights(self) -> Tensor:
        """(H, W) pixels towards the camera, whose slopes fit the normals: least squares by conjugate gradients."""
        mask = self.capture.mask
        n = functional.normalize(self.normal.detach(), dim=-1)
        slope = torch.zeros(*mask.shape, 2)
        slope[mask] = torch.stack([-n[:, 0], n[:, 1]], -1) / n[:, 2:].clamp_min(0.15)
        both = [(mask[:, 1:] & mask[:, :-1]).float(), (mask[1:] & mask[:-1]).float()]
        wanted = [(slope[:, 1:, 0] + slope[:, :-1, 0]) / 2, (slope[1:, :, 1] + slope[:-1, :, 1]) / 2]

        def gathered(across: Tensor, down: Tensor) -> Tensor:
            across, down = across * both[0], down * both[1]
            pad = functional.pad
            return pad(across, (1, 0)) - pad(across, (0, 1)) + pad(down, (0, 0, 1, 0)) - pad(down, (0, 0, 0, 1))

        z, residual = torch.zeros(mask.shape), gathered(*wanted)
        direction, old = residual.clone(), residual.square().sum()
        for _ in range(3 * max(mask.shape)):
            image = gathered(direction[:, 1:] - direction[:, :-1], direction[1:] - direction[:-1]) + 1e-6 * direction
            step = old / (direction * image).sum().clamp_min(1e-12)
            z, residual = z + step * direction, residual - step * image
            new = residual.square().sum()
            direction, old = residual + new / old.clamp_min(1e-12) * direction, new
        return z

    def lit(self, lights: Tensor) -> Tensor:
        """(K, N, 1) 1 where light arrives, 0 in cast shadows, softly between."""
        z, mask = self.heights(), self.capture.mask
        height, width = mask.shape
        around = torch.where(mask, z, z[mask].min() - 1e3)
        rows, columns = torch.nonzero(mask, as_tuple=True)
        out = []
        for light in lights:
            flat = light[:2].norm().clamp_min(1e-6)
            rise, along = light[2] / flat, light[:2] / flat
            clear = torch.full((len(rows),), 1e3)
            for t in torch.arange(1.0, 0.6 * max(height, width), 1.0):
                x, y = (columns + t * along[0]).round().long(), (rows - t * along[1]).round().long()
                inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
                blocker = around[y.clamp(0, height - 1), x.clamp(0, width - 1)]
                margin = (z[mask] + t * rise - blocker) / t + MARGIN
                clear = torch.where(inside & (t > 2), torch.minimum(clear, margin), clear)
            out.append((clear * SHARP + 0.5).clamp(0, 1))
        return torch.stack(out)[..., None]

    @torch.no_grad()
    def predict(self, light: Tensor) -> Tensor:
        """(N, 3) under a (3,) light, clamped as a camera does."""
        return self.shown(light[None], self.lit(light[None]))[0].clamp(0, 1)


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * (a - b).square().mean().log10())


def exposed(prediction: Tensor, truth: Tensor) -> Tensor:
    """Times the number that brings it nearest to the truth."""
    return (prediction * (prediction * truth).sum() / (prediction * prediction).sum()).clamp(0, 1)


def kriged(left_over: Tensor, lights: Tensor, light: Tensor, width: float, noise: float) -> Tensor:
    """(N, 3) residual under a (3,) light from (K, N, 3) under (K, 3) unit lights."""
    near = torch.exp((lights @ lights.mT - 1) / width) + noise * torch.eye(len(lights))
    weights = torch.linalg.solve(near, torch.exp((lights @ light - 1) / width))
    return torch.einsum("k,knc->nc", weights, left_over)


def predictions(captures: dict[bool, Capture], train: list[int], test: int, settings: Settings | bool,
                steps: int, cell: int, fits: dict[object, Fit]) -> list[Tensor]:  # fmt: skip
    """(N, 3) of the test light, one for each of KRIGING.  captures: by whether directions are refined.  settings: the
    baseline's is a bool, refined or not.  fits: those made so far, as two lights left out share one.
    """
    if isinstance(settings, bool):
        capture = captures[settings]
        lights, light = capture.lights[train], capture.lights[test]
        solution = lambertian(capture.values[train], lights)
        base, left_over = light @ solution, capture.values[train] - (lights @ solution).transpose(0, 1)
    else:
        capture = captures[settings.refined]
        lights, light = capture.lights[train], capture.lights[test]
        key = (settings, tuple(train))
        if key not in fits:
            fits[key] = Fit(capture, train, steps, cell, settings)
        fit = fits[key]
        base, left_over = fit.predict(light), fit.left_over
    extra = [0.0 if k is None else kriged(left_over, lights, light, *k) for k in KRIGING]
    return [(base + more).clamp(0, 1) for more in extra]


def chosen(captures: dict[bool, Capture], test: int, choices: Sequence[Settings | bool], steps: int,
           cell: int, fits: dict[object, Fit]) -> tuple[Settings | bool, tuple[Settings | bool, int]]:  # fmt: skip
    """Best settings without residuals, and best with (and which of KRIGING); by lights beside `test`."""
    count = len(captures[False].lights)
    totals = {choice: torch.zeros(len(KRIGING)) for choice in choices}
    for held in ((test + 1) % count, (test - 1) % count, (test + count // 2) % count):
        train = [k for k in range(count) if k not in (test, held)]
        for choice in choices:
            shown = predictions(captures, train, held, choice, steps, cell, fits)
            totals[choice] += torch.tensor([psnr(image, captures[False].values[held]) for image in shown])
    plain = max(choices, key=lambda choice: float(totals[choice][0]))
    full = max(
        ((choice, k) for choice in choices for k in range(len(KRIGING))), key=lambda p: float(totals[p[0]][p[1]])
    )
    return plain, full


def picture(capture: Capture, rows: list[Tensor]) -> Tensor:
    """(N, 3) images side by side on black, cropped to the mask."""
    inside = torch.nonzero(capture.mask)
    (top, left), (bottom, right) = inside.min(0).values, inside.max(0).values + 1
    canvas = torch.zeros(len(rows), *capture.mask.shape, 3)
    for image, values in zip(canvas, rows, strict=True):
        image[capture.mask] = values
    return torch.cat(list(canvas[:, top:bottom, left:right]), 1)


def study(name: str, folder: Path, stride: int, coarse: int, steps: int, cell: int, pictures: Path | None):
    """Scores (dB, mean over lights) and settings (how often each was chosen) of one object."""
    torch.set_num_threads(1)
    sets = []
    for s in (stride, coarse):
        every = {key: load(folder, key, s) for key in OBJECTS}
        lights = functional.normalize(calibrated([c for key, c in every.items() if key != name]), dim=-1)
        sets.append({False: every[name], True: replace(every[name], lights=lights)})
    fine, rough = sets
    scores: dict[str, list[float]] = {}
    picks: Counter[str] = Counter()
    fits: dict[object, Fit] = {}
    count = len(fine[False].lights)
    for test in range(count):
        train, truth = [k for k in range(count) if k != test], fine[False].values[test]
        shown: dict[str, Tensor] = {}
        for who, choices in (("Lambertian, chosen", (False, True)), ("ours", CHOICES)):
            plain, (best, kriging) = chosen(rough, test, choices, steps, cell // coarse, fits)
            made = {c: predictions(fine, train, test, c, steps, cell // stride, {}) for c in {plain, best}}
            shown[who], shown[f"{who}, residuals"] = made[plain][0], made[best][kriging]
            if who == "ours":
                picks[str(plain)] += 1
            else:
                shown["Lambertian, as measured"] = predictions(fine, train, test, False, steps, 0, {})[0]
                shown["Lambertian, refined"] = predictions(fine, train, test, True, steps, 0, {})[0]
        for key in ("Lambertian, as measured", "ours"):
            shown[f"{key}, with exposure"] = exposed(shown[key], truth)
        for key, image in shown.items():
            scores.setdefault(key, []).append(psnr(image, truth))
        if pictures and test == 1:
            rows = [truth, shown["ours"], (shown["ours"] - truth).abs() * 4]
            write_image(pictures / f"photometric_{name}.png", picture(fine[False], rows))
    return {key: sum(values) / count for key, values in scores.items()}, dict(picks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stride", type=int, default=4, help="use every so many rows and columns")
    parser.add_argument("--coarse", type=int, default=8, help="as stride, while settings are chosen")
    parser.add_argument("--steps", type=int, default=80, help="of Adam, for each light left out")
    parser.add_argument("--cell", type=int, default=36, help="pixels of the picture a sample of roughness and specular")
    parser.add_argument("--pictures", type=Path, help="folder for photograph, prediction, error times 4 (second light)")
    options = parser.parse_args()
    fixed = (DATA / "photometric" / "uw_psm", options.stride, options.coarse, options.steps, options.cell)
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        jobs = {name: pool.submit(study, name, *fixed, options.pictures) for name in OBJECTS}
        found = {name: job.result() for name, job in jobs.items()}
    table = {name: scores for name, (scores, _) in found.items()}
    baseline = "Lambertian, as measured"
    record(
        "photometric",
        min(row["ours"] - row[baseline] for row in table.values()),
        "dB over the baseline, worst of four objects",
        peer="Lambertian least squares",
        detail={
            "title": "twelfth light, photographs",
            "goal": "2 dB on every object",
            "stride": options.stride,
            "PSNR of the light left out, dB; settings chosen on the other eleven": table,
            "settings of ours (lights, robust scale, flashes), times chosen of twelve": {
                name: {str(choice): picks.get(str(choice), 0) for choice in CHOICES}
                for name, (_, picks) in found.items()
            },
        },
    )


if __name__ == "__main__":
    main()
