"""Materials, light and relighting against path-traced truth: the captures of RELIGHT_DATA/relightable and the sample.

    python -m benchmarks.relightable [spot damask_chair water_bottle sample] [--ablation shadows=false] [--share 0.1]

Fits radiance and distill with one set of options for all captures, then scores by the field's protocols (see
`relight.fit.relighting`).  Means go to results/relightable.json; an ablation goes to relightable_without_NAME.json.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import DATA, ROOT
from benchmarks.record import PICTURES, record, with_mean
from relight.atomic import replacing
from relight.cli.truth import find_truth
from relight.config import Config, load_config
from relight.export.images import write_image
from relight.fit.evaluate import evaluate, means
from relight.fit.relighting import measure
from relight.images import read_image
from relight.pipeline import run
from relight.render.monte_carlo import FastMonteCarlo
from relight.render.relit import Relit
from relight.render.splats import create_rasterizer
from relight.scene import Scene
from relight.shading.color import linear_to_srgb
from relight.stages.distill import Distill, Phase

CAPTURES = ("spot", "damask_chair", "water_bottle", "sample")
STEPS = 3000
"""Of radiance."""
RADIANCE = f"{{iterations: {STEPS}, max_gaussians: 30000, initial_gaussians: 8000, sh_degree: 3, primitive: surfel, \
normal_weight: 0.2, normal_start: 0.3}}"
SAMPLES, EVERY = 32, 4
"""Of relighting: samples a point, and which test views are relit."""


def folder_of(name: str) -> Path:
    return ROOT / "scenes" / "sample" if name == "sample" else DATA / "relightable" / name


def configured(name: str, place: Path, overrides: Sequence[str]) -> Config:
    """Radiance, then distill; the run's folder is `place`."""
    text = f"data: {{path: {folder_of(name)}}}\nstages:\n  - radiance: {RADIANCE}\n  - distill: {{}}\n"
    place.mkdir(parents=True, exist_ok=True)
    with replacing(scene := place.parent / f"{place.name}.yaml") as temporary:
        temporary.write_text(text)
    return load_config(scene, [*overrides, f"output={place}"])


def phases(stage: Distill) -> dict[str, Phase]:
    """By name, in the order in which they run."""
    return {name: value for name, value in vars(stage).items() if isinstance(value, Phase)}


def shortened(share: float) -> list[str]:
    """Overrides: that share of all steps."""
    steps = {"radiance": STEPS} | {f"distill.{name}": phase.iterations for name, phase in phases(Distill()).items()}
    return [f"{name}.iterations={max(1, round(share * count))}" for name, count in steps.items()]


def minutes(scene: Scene) -> float:
    """That its stages took."""
    return sum(done.seconds for done in scene.history) / 60


def scored(name: str, scene: Scene, *, samples: int = SAMPLES, every: int = EVERY) -> tuple[dict[str, float], Relit]:
    """One number a column of the table."""
    assert scene.views is not None and scene.gaussians is not None
    views, folder = scene.views.test, folder_of(name)
    relit = Relit(scene.gaussians, scene.mesh, scene.light, extent=scene.frame.radius)
    truth = find_truth(folder, views, folder.parents[1] / "hdri" / "512", scene.frame.up, 0.0)
    found = measure(relit, views, truth, FastMonteCarlo(samples), every=every)
    row = {"novel views, dB": means(evaluate(scene, create_rasterizer()))["psnr"]}
    for alignment in ("unscaled", "per channel"):
        row[f"relit, {alignment}, dB"] = found["relit, mean"][alignment]["PSNR"]
    row["relit, per channel, foreground, dB"] = found["relit, mean"]["per channel"]["PSNR, foreground"]
    for where in ("picture", "foreground"):
        row[f"albedo, per channel, {where}, dB"] = found["albedo"]["per channel"][f"sRGB, {where}"]
    row["normals, degrees"] = found["normal MAE, degrees"]["foreground"]
    row |= {key: found[key]["foreground"] for key in ("roughness MAE", "metallic MAE")}
    row["light"] = found["light, relative error of irradiance"]["per channel"]
    row["baked light, correlation"] = found["baked light"]["correlation"]
    row["baked light, share"] = found["baked light"]["slope"]
    return row, relit


def picture(name: str, scene: Scene, relit: Relit, path: Path) -> None:
    """Photograph, base colour, roughness, metallic; then truth and found under another light, for one test view."""
    assert scene.views is not None
    views, folder = scene.views.test, folder_of(name)
    camera, buffer = views.camera(0), relit.buffer(views.camera(0))
    truth = find_truth(folder, views, folder.parents[1] / "hdri" / "512", scene.frame.up, 0.0)
    light, paths = truth.relit[sorted(truth.relit)[-1]]
    linear = relit.under(camera, light, FastMonteCarlo(128))
    expected = read_image(paths[0]).values
    photo = views.photo(0)
    tiles = [
        photo.rgb if photo.alpha is None else photo.rgb * photo.alpha[..., None],
        linear_to_srgb(buffer.spread(buffer.surface.base_color)),
        buffer.spread(buffer.surface.roughness[:, None]).expand(-1, -1, 3),
        buffer.spread(buffer.surface.metallic[:, None]).expand(-1, -1, 3),
        expected[..., :3] * expected[..., 3:],
        linear_to_srgb(linear[..., :3].clamp(0, 1)),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    write_image(path, torch.cat(tiles, 1).clamp(0, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"captures (default: {' '.join(CAPTURES)})")
    parser.add_argument("--ablation", action="append", default=[], metavar="OPTION=VALUE", help="of distill")
    parser.add_argument("--label", help="of the ablation; names the result")
    parser.add_argument("--share", type=float, default=1.0, help="of the steps, to see whether it runs")
    options = parser.parse_args()
    if wrong := [name for name in options.names if name not in CAPTURES]:
        parser.error(f"{wrong[0]}: no such capture; there are {', '.join(CAPTURES)}")
    rows: dict[str, dict[str, float]] = {}
    for name in options.names or CAPTURES:
        with tempfile.TemporaryDirectory() as place:
            overrides = [*shortened(options.share), *(f"distill.{word}" for word in options.ablation)]
            scene = run(configured(name, Path(place) / "run", overrides)).scene
            row, relit = scored(name, scene)
            rows[name] = {"minutes": minutes(scene), **row}
            if not options.ablation:
                picture(name, scene, relit, PICTURES / f"relightable_{name}.png")
    scores = with_mean(rows)
    suffix = f"_{options.label}" if options.label else ""
    record(
        f"relightable{suffix}",
        scores["mean"]["relit, per channel, dB"],
        "dB PSNR, unseen lights",
        detail={
            "title": "materials and light from photographs under one unknown light",
            "options of distill": options.ablation,
            "share of the steps": options.share,
            "samples": SAMPLES,
            "scores": scores,
        },
    )


if __name__ == "__main__":
    main()
