"""A relighter's scores: stills, normals and clips."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from relight.diffusion.light_words import TEMPORAL, LightDescription
from relight.diffusion.own.procedural.draw import Draw
from relight.diffusion.own.procedural.environments import environment
from relight.diffusion.pictures.geometry import Geometry
from relight.diffusion.pictures.lumos.light_fit import FoundLight, light_of
from relight.diffusion.pictures.lumos.shots import Shot, Stage
from relight.diffusion.pictures.relighters import ALBEDO, ImageRelighter, NewLight, exposure_of
from relight.diffusion.video.motion import ExactMotion
from relight.diffusion.video.scores import unsteadiness
from relight.render.kernels.ssim import mean_ssim
from relight.shading.color import luminance, srgb_to_linear
from relight.shading.environment import Environment
from relight.shading.shade import Estimator

ATTRIBUTES = ("direction", "intensity", "hardness", "temperature", "variation", "source")
SIDES = ((-0.6, 0.2), (0.6, 0.2), (0.0, 0.75), (0.0, -0.5), (-0.35, 0.55), (0.35, 0.55))
"""Across and up of the lights that normals are recovered from; the rest is towards the viewer."""
MOVED, CHANGED = 12.0, 0.08
"""Degrees between directions, and deviation of the logarithm of brightness, from which a clip moves or changes."""
KEY = 0.2
"""Mean brightness that the picture to be relit is exposed to."""
SECONDS = 2.0
"""Of a clip."""


Model = Callable[[Shot], ImageRelighter]
"""What relights a shot: for models, the same for all."""


@dataclass(frozen=True)
class Truth:
    """The relighter that cannot be beaten: the shot drawn again.  estimator: as of `Shot.drawn`."""

    shot: Shot
    estimator: Estimator | None = None

    def relit(self, picture: Tensor, geometry: Geometry, light: NewLight, *, seed: int = 0) -> Tensor:
        """See `ImageRelighter`."""
        return self.shot.drawn(light.lights, light.exposure, self.estimator)


@dataclass(frozen=True)
class Plan:
    """scenes: for stills and for normals.  clips: of each kind.  size: pixels a side.  frames: of a clip.
    estimator: of the truth, None as of `Shot.drawn`.
    """

    scenes: int = 6
    clips: int = 1
    size: int = 128
    frames: int = 8
    seed: int = 90001
    estimator: Estimator | None = None


def measured(model: Model, plan: Plan, advance: Callable[[int], None] = lambda done: None) -> dict[str, Any]:
    """Means over the plan: of stills by attribute, likeness, normals, and clips.  advance: told of each scene.

    A relighter is told the true shape, so its own share of the error is what is scored.
    """
    stills, normals = [], []
    for i in range(plan.scenes):
        shot = Stage.of(plan.seed + i, plan.size).shot()
        stills.append(_still(model, shot, plan, plan.seed + i))
        if i % 2 == 0:
            normals.append(_normals(model, shot, plan, plan.seed + i))
        advance(1)
    clips = []
    for kind in ("static", "flickering", "moving"):
        for i in range(plan.clips):
            clips.append(clip(model, Stage.of(plan.seed + 1000 + i, plan.size), kind, plan, seed=plan.seed + i))
            advance(1)
    out = {"stills": means(stills), "normals": means(normals), "clips": means(clips)}
    matches = {name: out["stills"][f"{name} class"] for name in ATTRIBUTES if f"{name} class" in out["stills"]}
    matches["variation"] = out["clips"]["variation class"]
    return {**out, "attributes": {name: matches[name] for name in ATTRIBUTES}, "score": _mean(list(matches.values()))}


def means(rows: list[dict[str, float]]) -> dict[str, float]:
    """Of each column, over the rows that have it."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _mean([row[name] for row in rows if name in row]) for name in names}


def _mean(values: list[float]) -> float:
    return sum(values) / max(len(values), 1)


def described(generator: Generator) -> LightDescription:
    """A light of the benchmark: from anywhere but far behind, one word's number for each other attribute."""
    azimuth, elevation = Draw(generator).number(-110, 110), Draw(generator).number(-10, 65)
    source = Draw(generator).pick(("softbox", "softbox", "softbox", "lamp", "sky"))
    said = f"direction={azimuth:.1f},{elevation:.1f}" if source != "sky" else "ambient"
    parts = [
        said, f"intensity={Draw(generator).pick(('dim', 'moderate', 'bright'))}",
        f"hardness={Draw(generator).pick(('soft', 'medium', 'hard'))}",
        f"temperature={Draw(generator).pick(('warm', 'neutral', 'cool'))}", f"source={source}",
    ]  # fmt: skip
    return LightDescription.parse(" ".join(parts).replace("ambient", "direction=ambient"))


def source_of(shot: Shot, seed: int, estimator: Estimator | None) -> Tensor:
    """The picture that is to be relit, under procedural surroundings."""
    light = (Environment(environment(Generator().manual_seed(seed))),)
    return shot.drawn(light, KEY / ALBEDO / shot.received(light), estimator)


def lit_by(said: LightDescription, shot: Shot, exposure: float) -> NewLight:
    """What a relighter is told."""
    geometry = shot.geometry
    return NewLight(said.lights(geometry.world_from_viewer, geometry.middle, geometry.radius), exposure, said)


def _still(model: Model, shot: Shot, plan: Plan, seed: int) -> dict[str, float]:
    generator = Generator().manual_seed(seed)
    said = described(generator)
    before = source_of(shot, seed, plan.estimator)
    exposure = exposure_of(before, shot.geometry)
    light = lit_by(said, shot, exposure)
    truth = shot.drawn(light.lights, exposure, plan.estimator)
    made = model(shot).relit(before, shot.geometry, light, seed=seed)
    return {**attributes(made, truth, shot, exposure, said), **likeness(made, truth, shot.geometry.mask)}


def attributes(made: Tensor, truth: Tensor, shot: Shot, exposure: float, said: LightDescription) -> dict[str, float]:
    """Errors of each attribute of the light that the picture shows, and whether its word is right, 0 or 1.

    Direction: degrees, to the light that was asked for.  intensity: stops, to what the true picture shows as measured
    alike.  hardness: 0 to 1.  temperature: mireds (a million over kelvin).
    """
    found, known = light_of(made, shot, exposure), light_of(truth, shot, exposure)
    words, wanted = found.classes(1.0), known.classes(1.0)
    out: dict[str, float] = {}
    if said.direction is not None:
        out["direction, degrees"] = angle(found.direction, said.direction)
        out["hardness, error"] = abs(found.hardness - known.hardness)
    out["intensity, stops"] = abs(math.log2(max(found.intensity, 1e-4) / max(known.intensity, 1e-4)))
    out["temperature, mireds"] = abs(1e6 / found.temperature - 1e6 / said.temperature)
    for name in ("direction", "intensity", "hardness", "temperature", "source"):
        if name == "hardness" and said.direction is None:
            continue
        out[f"{name} class"] = float(words[name] == wanted[name])
    return out


def angle(one: tuple[float, float, float], two: tuple[float, float, float]) -> float:
    """Degrees between unit vectors."""
    return math.degrees(math.acos(max(-1.0, min(1.0, sum(a * b for a, b in zip(one, two, strict=True))))))


def likeness(made: Tensor, truth: Tensor, mask: Tensor) -> dict[str, float]:
    """PSNR, decibels, over the mask; SSIM of the whole; fMSE, over the mask, of values of 0 to 255."""
    error = float((made - truth)[mask].double().square().mean())
    planes = [x.permute(2, 0, 1).contiguous() for x in (made, truth)]
    return {
        "PSNR, dB": -10 * math.log10(max(error, 1e-10)),
        "SSIM": float(mean_ssim(planes[0], planes[1])),
        "fMSE": error * 255**2,
    }


def _normals(model: Model, shot: Shot, plan: Plan, seed: int) -> dict[str, float]:
    before = source_of(shot, seed, plan.estimator)
    exposure = exposure_of(before, shot.geometry)
    made = []
    for x, y in SIDES:
        said = LightDescription(direction=(x, y, math.sqrt(1 - x * x - y * y)), hardness=0.15)
        made.append((said, model(shot).relit(before, shot.geometry, lit_by(said, shot, exposure), seed=seed)))
    return {"normals, degrees": normals_error(made, shot)}


def normals_error(made: list[tuple[LightDescription, Tensor]], shot: Shot) -> float:
    """Degrees, mean over matte points, between true normals and those that pictures under several lights show by
    photometric stereo (Woodham 1980); of each point the darkest pictures, where shadows are, are left out.
    """
    mask, view = shot.geometry.mask, shot.geometry.world_from_viewer
    values = torch.stack([luminance(srgb_to_linear(picture[mask])) for _, picture in made], 1)
    directions = torch.tensor([said.direction for said, _ in made]) @ view.mT
    best = values.topk(4, dim=1).indices
    rows, seen = directions[best], values.gather(1, best)
    design = torch.cat([rows, torch.full_like(rows[..., :1], 0.3)], -1)
    gram = design.mT @ design + 1e-3 * torch.eye(4)
    solved = torch.linalg.solve(gram, (design.mT @ seen[..., None]))[..., 0]
    normal = torch.nn.functional.normalize(solved[:, :3], dim=1)
    cosine = (normal * shot.surface.normal).sum(1).clamp(-1, 1)
    return float(torch.rad2deg(cosine.acos())[shot.telling].mean())


def clip(model: Model, stage: Stage, kind: str, plan: Plan, *, seed: int) -> dict[str, float]:
    """Of a clip whose light is static while the camera moves, or flickers or moves while the camera stands still."""
    said = replace(LightDescription.parse("direction=-40,25 hardness=0.4 temperature=4500"), variation=kind)
    shots = [stage.shot(0.06 * i if kind == "static" else 0.0) for i in range(plan.frames if kind == "static" else 1)]
    before = [source_of(shot, seed, plan.estimator) for shot in shots]
    exposure = exposure_of(before[0], shots[0].geometry)
    made, truth = [], []
    for i in range(plan.frames):
        k = i if len(shots) > 1 else 0
        light = lit_by(said.at(i * SECONDS / plan.frames), shots[k], exposure)
        truth.append(shots[k].drawn(light.lights, exposure, plan.estimator))
        made.append(model(shots[k]).relit(before[k], shots[k].geometry, light, seed=seed))
    every = [shots[i if len(shots) > 1 else 0] for i in range(plan.frames)]
    found = [light_of(picture, shot, exposure) for picture, shot in zip(made, every, strict=True)]
    out = {"variation class": float(temporal(found, every) == TEMPORAL[kind]), **brightness(made, truth, every)}
    if kind == "static":
        motion = ExactMotion([shot.geometry for shot in shots], tolerance=0.01)
        own, true = unsteadiness(made, motion), unsteadiness(truth, motion)
        out |= {"warp error": own["warp"], "flicker of pixels": own["flicker"]}
        out |= {"warp error of the truth": true["warp"], "flicker of pixels of the truth": true["flicker"]}
    return out


def temporal(found: list[FoundLight], shots: list[Shot]) -> str:
    """Class of a clip by the lights that its pictures show: "static", "changing" or "moving" (in the world)."""
    world = [shot.geometry.world_from_viewer @ torch.tensor(f.direction) for f, shot in zip(found, shots, strict=True)]
    mean = torch.nn.functional.normalize(torch.stack(world).mean(0), dim=0)
    apart = torch.rad2deg(torch.acos((torch.stack(world) @ mean).clamp(-1, 1)))
    if float(apart.median()) > MOVED:
        return "moving"
    bright = torch.tensor([max(f.intensity, 1e-4) for f in found]).log()
    return "changing" if float(bright.std()) > CHANGED else "static"


def brightness(made: list[Tensor], truth: list[Tensor], shots: list[Shot]) -> dict[str, float]:
    """Flicker of the mean: second differences of the logarithm of the subject's mean brightness that the truth hasn't,
    root mean square, per cent."""

    def course(pictures: list[Tensor]) -> Tensor:
        values = [
            luminance(srgb_to_linear(p[s.geometry.mask])).mean().clamp_min(1e-4).log()
            for p, s in zip(pictures, shots, strict=True)
        ]
        return torch.stack(values)

    off = course(made) - course(truth)
    second = off[2:] - 2 * off[1:-1] + off[:-2]
    return {"flicker of the mean, %": 100 * float(second.square().mean().sqrt()) if len(second) else 0.0}
