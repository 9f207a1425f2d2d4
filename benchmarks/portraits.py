"""Portraits: public-domain photographs under real light and before other backgrounds; rendered heads, measured.

    python -m benchmarks.portraits [--heads 8] [--size 640] [--kept FILE]

Photographs of RELIGHT_DATA/people_video (works of the US government: the White House's of Obama and Biden, NASA's of
Eileen Collins) under three maps and before three crops of others go to results/pictures/portrait_*.jpg.  A head made
from formulas, under one known light, is relit to another: degrees between the light that the result shows and that of
the true picture, both by `lumos.light_fit`, likeness, and seconds go to results/portraits.json.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
from torch import Generator, Tensor

from benchmarks import DATA
from benchmarks.head import portrait
from benchmarks.record import PICTURES, record
from relight.data.environments import load_environment
from relight.diffusion.light_words import LightDescription
from relight.diffusion.own.prior import Prior
from relight.diffusion.pictures.geometry import Geometry
from relight.diffusion.pictures.lumos.light_fit import light_of
from relight.diffusion.pictures.lumos.scores import angle, likeness, means
from relight.diffusion.pictures.lumos.shots import Shot
from relight.diffusion.pictures.outline import estimated
from relight.diffusion.pictures.relighters import (
    ALBEDO,
    ImageRelighter,
    NewLight,
    PriorRelighter,
    ShadingRelighter,
    metered,
)
from relight.diffusion.portrait.sitting import Sitting
from relight.diffusion.surroundings.framing import Frame, photographed
from relight.diffusion.surroundings.panorama import DiffusionPanorama
from relight.export.images import write_image
from relight.images import read_image
from relight.render.monte_carlo import FastMonteCarlo
from relight.resize import resized
from relight.shading.color import linear_to_srgb, luminance
from relight.shading.environment import Environment

PHOTOGRAPHS = ("us_gov_portraits/obama.jpg", "us_gov_portraits/biden.jpg", "us_gov_portraits/obama_and_biden.jpg",
               "skimage/astronaut.png")  # fmt: skip
MAPS = ("venice_sunset", "studio_small_03", "sunny_vondelpark")
BACKGROUNDS = ("kloppenheim_05", "vestibule", "dancing_hall")
ROWS, TILE, SIZE = 128, 230, 192
"""Rows of maps, of a picture in a sheet, and pixels of a rendered head."""
WALL = (0.55, 0.58, 0.62)
"""sRGB of what is behind a rendered head."""
KEY = 0.2


def sheet(name: str, size: int) -> tuple[float, float]:
    """Write one photograph in all lights; seconds of finding and cutting out, and of relighting once."""
    picture = read_image(DATA / "people_video" / name).rgb
    scale = size / max(picture.shape[:2])
    picture = resized(picture, *(round(n * scale) for n in picture.shape[:2]))
    begun = time.perf_counter()
    sitting = Sitting.of(picture)
    found = time.perf_counter() - begun
    tiles, lit = [picture], 0.0
    for light in [*map(_mapped, MAPS), *(_behind(b, picture) for b in BACKGROUNDS)]:
        begun = time.perf_counter()
        exposed = NewLight(light.lights, _exposure(sitting, light), background=light.background)
        tiles.append(sitting.lit(exposed))
        lit += time.perf_counter() - begun
    whole = torch.cat([resized(t, TILE, round(t.shape[1] * TILE / t.shape[0])) for t in tiles], 1)
    write_image(PICTURES / f"portrait_{Path(name).stem}.jpg", whole)
    return found, lit / (len(MAPS) + len(BACKGROUNDS))


def _map(name: str) -> Environment:
    return Environment(resized(load_environment(DATA / "hdri" / "512" / f"{name}_512.hdr").radiance, ROWS, 2 * ROWS))


def _mapped(name: str) -> NewLight:
    return NewLight((_map(name),))


def _behind(name: str, picture: Tensor) -> NewLight:
    """A crop of 60 degrees, and the light that is estimated from nothing else."""
    height, width = picture.shape[:2]
    frame = Frame.of(60.0, width / height)
    radiance = _map(name).radiance
    view = photographed(radiance, frame, height, width)[0]
    view = view * (0.2 / luminance(view).median().clamp_min(1e-6))
    small = resized(view.clamp(0, 1), round(height / 4), round(width / 4))
    made = DiffusionPanorama(Prior.load("panorama")).estimate(small, frame, 64)
    return NewLight((Environment(made),), background=linear_to_srgb(view.clamp(0, 1)))


def _exposure(sitting: Sitting, light: NewLight) -> float:
    own = metered(sitting.cut.front, sitting.geometry, light.lights)
    return own if light.background is None else min(max(1.0, 0.5 * own), 2.0 * own)


def head(number: int) -> dict[str, dict[str, float]]:
    """Scores by method, of one head and two lights."""
    generator = Generator().manual_seed(number)
    shot = portrait(SIZE, yaw=(number % 3 - 1) * 0.35)
    before, _ = _pictured(shot, _drawn(generator))
    said = _drawn(generator)
    truth, exposure = _pictured(shot, said)
    known = light_of(truth, shot, exposure)
    # Relighters are told exposures as if the mean albedo were ALBEDO.
    told = exposure * float(luminance(shot.surface.base_color).mean()) / ALBEDO
    rows = {}
    for label, made in _made(before, said, told, PriorRelighter(Prior.load("relight"))).items():
        found = light_of(made, shot, exposure)
        row = likeness(made, truth, shot.geometry.mask)
        rows[label] = {**row, "light, degrees": angle(found.direction, known.direction)}
    return rows


def _drawn(generator: Generator) -> LightDescription:
    """Light from somewhere before the head."""
    azimuth, up, hard = (torch.rand(3, generator=generator) * 2 - 1).tolist()
    a, b = azimuth * math.radians(80), math.radians(20 + 35 * up)
    way = (math.sin(a) * math.cos(b), math.sin(b), math.cos(a) * math.cos(b))
    return LightDescription(way, hardness=0.35 + 0.2 * hard)


def _pictured(shot: Shot, said: LightDescription) -> tuple[Tensor, float]:
    """A picture of the head before a wall, and its exposure."""
    geometry = shot.geometry
    lights = said.lights(geometry.world_from_viewer, geometry.middle, geometry.radius)
    exposure = KEY / ALBEDO / shot.received(lights)
    drawn = shot.drawn(lights, exposure, FastMonteCarlo(64))
    return torch.where(geometry.mask[..., None], drawn, torch.tensor(WALL)), exposure


def _made(before: Tensor, said: LightDescription, exposure: float, prior: ImageRelighter) -> dict[str, Tensor]:
    """Nothing is told but the picture and the light: cut and shape are found; `relight relight` is given the cut."""
    sitting = Sitting.of(before)
    outline = estimated(before, sitting.cut.alpha > 0.5)

    def told(shape: Geometry) -> NewLight:
        return NewLight(said.lights(shape.world_from_viewer, shape.middle, shape.radius), exposure, said)

    return {
        "unchanged": before,
        "relight relight, outline: shading": ShadingRelighter().relit(before, outline, told(outline)),
        "relight relight, outline: prior": prior.relit(before, outline, told(outline)),
        "relight portrait": sitting.lit(told(sitting.geometry)),
        "relight portrait, half of the prior": sitting.lit(told(sitting.geometry), refiner=prior, share=0.5),
    }


def main() -> None:
    """The command; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--size", type=int, default=640, help="of photographs, longer side")
    parser.add_argument("--kept", type=Path, help="file of what was measured, for a run that goes on where it was")
    parser.add_argument("--only", help="one photograph or head, by name or number, into --kept; nothing is recorded")
    parser.add_argument("--record", action="store_true", help="what --kept holds, and measure nothing more")
    arguments = parser.parse_args()
    kept = json.loads(arguments.kept.read_text()) if arguments.kept and arguments.kept.exists() else {}
    for name in (*PHOTOGRAPHS, *map(str, range(arguments.heads))):
        if name in kept or arguments.record or arguments.only not in (None, name, Path(name).stem):
            continue
        kept[name] = head(int(name)) if name.isdigit() else sheet(name, arguments.size)
        print(name, json.dumps(kept[name]), flush=True)
        if arguments.kept:
            arguments.kept.write_text(json.dumps(kept))
    if arguments.only:
        return
    rows = [kept[str(k)] for k in range(arguments.heads) if str(k) in kept]
    table = {label: means([row[label] for row in rows]) for label in rows[0]}
    own, other = (table[name]["light, degrees"] for name in ("relight portrait", "relight relight, outline: prior"))
    timed = [kept[name] for name in PHOTOGRAPHS if name in kept]
    seconds = [sum(one[k] for one in timed) / len(timed) for k in range(2)]
    record(
        "portraits", own, "degrees", peer="relight relight, shape from the outline", ratio=other / own,
        detail={
            "title": "Relit heads: direction of light, error", "heads": len(rows), "table": table,
            f"seconds, photographs of {arguments.size} pixels": {
                "a picture": {"find and cut out": seconds[0], "relight": seconds[1]}
            },
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
