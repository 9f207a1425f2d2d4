"""Relighting single pictures: our prior against the picture unchanged and against shading by hand.

    python -m benchmarks.image_relighting [--prior runs/relight/prior.safetensors] [--scenes 24] [--views 4]

Procedural scenes that no prior was trained on, under other surroundings, and views of RELIGHT_DATA/relightable
(path-traced elsewhere) under three real environment maps, once with the true normals and once with the shape estimated
from the outline.  Lights and exposures are given; what has to be found is what the picture looks like in them.
Means go to results/image_relighting.json, pictures to --pictures.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Generator, Tensor

from benchmarks import DATA
from benchmarks.record import record
from relight.data.environments import load_environment
from relight.diffusion.own.prior import Prior
from relight.diffusion.own.procedural.environments import environment
from relight.diffusion.pictures.geometry import Geometry, from_maps
from relight.diffusion.pictures.lumos.light_fit import light_of
from relight.diffusion.pictures.lumos.scores import angle, likeness, means
from relight.diffusion.pictures.lumos.shots import Shot, Stage
from relight.diffusion.pictures.outline import estimated
from relight.diffusion.pictures.relighters import (
    ALBEDO,
    ImageRelighter,
    NewLight,
    PriorRelighter,
    ShadingRelighter,
    Unchanged,
)
from relight.export.images import write_image
from relight.geometry.camera import Camera
from relight.images import read_image
from relight.render.monte_carlo import FastMonteCarlo
from relight.resize import resized
from relight.shading.color import srgb_to_linear
from relight.shading.environment import Environment
from relight.shading.surface import Surface
from relight.vectors import unit

CAPTURES = ("spot", "damask_chair", "water_bottle")
HELD_OUT = 700_000
"""Seeds of scenes and lights; priors are trained on smaller ones."""
KEY = 0.2
SAMPLES = 32


def models(prior: Prior | None) -> dict[str, ImageRelighter]:
    """By the name of a row."""
    found: dict[str, ImageRelighter] = {"unchanged": Unchanged(), "shading": ShadingRelighter()}
    if prior is not None:
        found["prior"] = PriorRelighter(prior)
        found["prior, no detail"] = PriorRelighter(prior, detail=0.0)
    return found


def scored(made: Tensor, truth: Tensor, shot: Shot, exposure: float) -> dict[str, float]:
    """Likeness, and degrees between the lights that both show, measured alike."""
    found, known = light_of(made, shot, exposure), light_of(truth, shot, exposure)
    row = likeness(made, truth, shot.geometry.mask)
    return row if known.source == "sky" else {**row, "light, degrees": angle(found.direction, known.direction)}


def procedural(number: int, size: int) -> tuple[Shot, Geometry, Tensor, list[tuple[NewLight, Tensor]]]:
    """A scene, its shape, the picture that is given, and lights with true pictures."""
    shot = Stage.of(HELD_OUT + number, size).shot()
    pictures = []
    for k in range(2):
        light = (Environment(environment(Generator().manual_seed(HELD_OUT + 2 * number + k))),)
        exposure = KEY / ALBEDO / shot.received(light)
        pictures.append((NewLight(light, exposure), shot.drawn(light, exposure, FastMonteCarlo(SAMPLES))))
    return shot, shot.geometry, pictures[0][1], pictures[1:]


def captured(name: str, index: int, known: bool) -> tuple[Shot, Geometry, Tensor, list[tuple[NewLight, Tensor]]]:
    """A test view.  known: are its normals given?"""
    folder = DATA / "relightable" / name
    said = json.loads((folder / "transforms_test.json").read_text("utf-8"))
    frame = said["frames"][index]
    file = Path(frame["file_path"]).with_suffix(".png").name
    stored = read_image(folder / "test" / file)
    mask = stored.alpha > 0.99 if stored.alpha is not None else torch.ones(stored.rgb.shape[:2], dtype=torch.bool)
    height, width = mask.shape
    focal = width / 2 / math.tan(said["camera_angle_x"] / 2)
    pose = torch.tensor(frame["transform_matrix"]) * torch.tensor([1.0, -1.0, -1.0, 1.0])
    camera = Camera(pose, focal, focal, width / 2, height / 2, width, height)

    def there(part: str) -> Tensor:
        return read_image(folder / f"test_{part}" / file).rgb

    normal = unit(there("normal") * 2 - 1)
    viewer = pose[:3, :3] * torch.tensor([1.0, -1.0, -1.0])
    true = from_maps(mask, normal=normal @ viewer, camera=camera)
    surface = Surface(
        true.position[mask], true.normal[mask], -camera.ray_directions()[mask],
        srgb_to_linear(there("albedo")[mask]), there("roughness")[mask][:, 0], there("metallic")[mask][:, 0],
    )  # fmt: skip
    shape = true
    if not known:
        guess = estimated(stored.rgb * mask[..., None], mask)
        shape = from_maps(mask, normal=guess.normal @ guess.world_from_viewer, depth=guess.depth, camera=camera)
    targets = []
    for place in sorted(folder.glob("relight_*")):
        loaded = load_environment(DATA / "hdri" / "512" / f"{place.name.removeprefix('relight_')}.hdr")
        light = Environment.z_up(resized(loaded.radiance, 128, 256))
        targets.append((NewLight((light,), 1.0), read_image(place / file).rgb * mask[..., None]))
    return Shot(surface, true), shape, stored.rgb * mask[..., None], targets


def main() -> None:
    """The command; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", help="name or file of a prior for relight; none: baselines only")
    parser.add_argument("--scenes", type=int, default=24, help="procedural")
    parser.add_argument("--views", type=int, default=4, help="of each capture, evenly among its 16 test views")
    parser.add_argument("--size", type=int, default=128, help="of procedural pictures")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each case")
    arguments = parser.parse_args()
    prior = Prior.load(arguments.prior) if arguments.prior else None
    sets: dict[str, list] = {"procedural": [(procedural, (i, arguments.size)) for i in range(arguments.scenes)]}
    views = [round(i * 16 / max(arguments.views, 1)) for i in range(arguments.views)]
    for known in (True, False):
        name = f"path-traced, {'true normals' if known else 'estimated shape'}"
        sets[name] = [(captured, (c, v, known)) for c in CAPTURES for v in views]
    table: dict[str, Mapping[str, float]] = {}
    for name, cases in sets.items():
        rows: dict[str, list[dict[str, float]]] = {}
        for number, (make, options) in enumerate(cases):
            shot, shape, before, targets = make(*options)
            tiles = [before]
            for light, truth in targets:
                tiles.append(truth)
                for label, model in models(prior).items():
                    made = model.relit(before, shape, light, seed=number)
                    rows.setdefault(label, []).append(scored(made, truth, shot, light.exposure))
                    if label in ("shading", "prior"):
                        tiles.append(made)
            if arguments.pictures is not None:
                write_image(arguments.pictures / f"{name.replace(', ', '_').replace(' ', '_')}_{number:02d}.png",
                            torch.cat(tiles, 1))  # fmt: skip
        table |= {f"{name}: {label}": means(found) for label, found in rows.items()}
        print(name, json.dumps({label: means(found) for label, found in rows.items()}), flush=True)
    best = "prior" if prior is not None else "shading"
    gain = [table[f"{name}: {best}"]["PSNR, dB"] - table[f"{name}: unchanged"]["PSNR, dB"] for name in sets]
    record(
        "image_relighting", min(gain), "dB", peer="the picture unchanged",
        detail={
            "title": "Relit photographs: least gain in PSNR over the input unchanged, of three sets",
            "of": f"{best} at its own options", "prior": {} if prior is None else prior.info, "table": table,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
