"""Materials and light of real captures, where no truth is known: held-out photographs, baked light, and pictures.

    python -m benchmarks.real_relit [cape fox] [--set distill.shadows=false] [--keep FOLDER]

Each sheet shows held-out views from left to right: photograph, what was fitted, base colour, roughness, metallic, and
materials under three other lights.  Captures and lights are found in RELIGHT_DATA (default ../shared/data).
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import nullcontext
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from benchmarks import DATA
from benchmarks.record import PICTURES, record
from benchmarks.relightable import RADIANCE, minutes
from relight.config import load_config
from relight.data.environments import load_environment
from relight.export.images import pillow
from relight.fit.evaluate import evaluate, means
from relight.fit.relighting import baked_as_found
from relight.pipeline import run
from relight.render.monte_carlo import FastMonteCarlo
from relight.render.relit import Relit
from relight.render.splats import create_rasterizer
from relight.scene import Scene
from relight.shading.color import linear_to_srgb

CAPTURES: dict[str, tuple[str, str]] = {
    "cape": ("nerd_gold_cape", "gold cape, 400x400, masks"),
    "fox": ("ngp_fox", "fox, 225x400, with its surroundings"),
}
"""Name to folder and title."""
LIGHTS = ("studio_small_03_512", "sunny_vondelpark_512", "venice_sunset_512")
SHOWN, TILE = 3, 176
"""Held-out views, and the height of a picture in pixels."""


def fitted(name: str, place: Path, overrides: list[str]) -> Scene:
    scene = place / f"{name}.yaml"
    path = DATA / "multiview" / CAPTURES[name][0]
    scene.write_text(f"data: {{path: {path}, max_size: 400}}\nstages:\n  - radiance: {RADIANCE}\n  - distill: {{}}\n")
    return run(load_config(scene, [*overrides, f"output={place / name}"])).scene


def sheet(scene: Scene, relit: Relit) -> Image.Image:
    assert scene.views is not None
    views, rows = scene.views.test, []
    lights = [load_environment(DATA / "hdri" / "512" / f"{n}.hdr").upright(scene.frame.up) for n in LIGHTS]
    found: list[Tensor] = []
    evaluate(scene, create_rasterizer(), "test", lambda view, photo, picture: found.append(picture))
    for i in sorted({k * (len(views) - 1) // (SHOWN - 1) for k in range(SHOWN)}):
        camera, photo = views.camera(i), views.photo(i)
        buffer = relit.buffer(camera)
        surface = buffer.surface
        tiles = [
            photo.rgb if photo.alpha is None else photo.rgb * photo.alpha[..., None] + 1 - photo.alpha[..., None],
            found[i],
            linear_to_srgb(buffer.spread(surface.base_color)),
            *(buffer.spread(v[:, None]).expand(-1, -1, 3) for v in (surface.roughness, surface.metallic)),
        ]
        for light in lights:
            linear = relit.under(camera, light, FastMonteCarlo(64), seed=i)
            straight = linear[..., :3] / linear[..., 3:].clamp_min(1e-6)
            tiles.append(linear_to_srgb(straight.clamp(0, 1)) * linear[..., 3:])
        picture = pillow(torch.cat(tiles, 1))
        rows.append(picture.resize((picture.width * TILE // picture.height, TILE), Image.Resampling.LANCZOS))
    page = Image.new("RGB", (rows[0].width, sum(r.height for r in rows)))
    for i, row in enumerate(rows):
        page.paste(row, (0, i * TILE))
    return page


def measure(name: str, place: Path, overrides: list[str]) -> None:
    scene = fitted(name, place, overrides)
    assert scene.views is not None and scene.gaussians is not None
    relit = Relit(scene.gaussians, scene.mesh, scene.light, extent=scene.frame.radius)
    baked, score = baked_as_found(relit, scene.views.test), means(evaluate(scene, create_rasterizer()))
    radiance = next(done for done in scene.history if done.name == "radiance")
    channels = scene.gaussians.channels
    PICTURES.mkdir(parents=True, exist_ok=True)
    sheet(scene, relit).save(PICTURES / f"relit_{name}.jpg", quality=85)
    record(
        f"real_{name}",
        score["psnr"],
        "dB PSNR, held-out views, of the distilled scene",
        detail={
            "title": f"materials of {CAPTURES[name][1]}",
            "ssim": score["ssim"],
            "radiance alone, dB": radiance.metrics["test_psnr"],
            "base colour and irradiance, correlation": baked.correlation,
            "base colour and irradiance, share": baked.slope,
            "metallic, mean": float(channels["metallic"].mean()),
            "roughness, mean": float(channels["roughness"].mean()),
            "minutes": minutes(scene),
            "lights": LIGHTS,
            "options": overrides,
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="CAPTURE", help=f"default: {' '.join(CAPTURES)}")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="options of the fit")
    parser.add_argument("--keep", type=Path, help="folder where fits are kept")
    options = parser.parse_args()
    if wrong := [name for name in options.names if name not in CAPTURES]:
        parser.error(f"{wrong[0]}: no such capture; there are {', '.join(CAPTURES)}")
    with tempfile.TemporaryDirectory() if options.keep is None else nullcontext(options.keep) as place:
        Path(place).mkdir(parents=True, exist_ok=True)
        for name in options.names or CAPTURES:
            measure(name, Path(place), options.set)


if __name__ == "__main__":
    main()
