"""Meshed assets against path-traced truth and the real models: RELIGHT_DATA/relightable.

    python -m benchmarks.mesh_assets [spot ...] [--runs FOLDER] [--surface poisson] [--label poisson] [--fit]

FOLDER/NAME is a distilled run; without it radiance and distill are fitted first, as in benchmarks.relightable.
--fit adds the stage materials.  Scores: pictures relit by the mesh renderer and by the splat's, distance to the real
model where photographs show it, and materials on the surface.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.real_meshes import MODELS, distances, real_mesh
from benchmarks.record import PICTURES, record, with_mean
from benchmarks.relightable import EVERY, SAMPLES, configured, folder_of, minutes
from relight.cli.truth import find_truth
from relight.export.images import write_image
from relight.export.runs import last_stage
from relight.fit.evaluate import psnr
from relight.fit.relighting import measure
from relight.images import read_image
from relight.pipeline import run
from relight.render.monte_carlo import FastMonteCarlo
from relight.render.relit import Relit
from relight.render.relit_mesh import RelitMesh
from relight.scene import Scene
from relight.scene_io import load_scene
from relight.shading.color import linear_to_srgb
from relight.stages.materials import MeshMaterials
from relight.stages.mesh import MeshAsset
from relight.testing.job import MemoryJob


def scored(name: str, scene: Scene) -> tuple[dict[str, float], torch.Tensor]:
    """One number a column, and a picture: truth, mesh and splat under one light, then base colours."""
    assert scene.views is not None and scene.asset is not None
    views, folder = scene.views.test, folder_of(name)
    truth = find_truth(folder, views, folder.parents[1] / "hdri" / "512", scene.frame.up, 0.0)
    mesh = RelitMesh(scene.asset, scene.light)
    splat = Relit(scene.gaussians, scene.mesh, scene.light, extent=scene.frame.radius)
    estimator = FastMonteCarlo(SAMPLES)
    found = {k: measure(r, views, truth, estimator, every=EVERY) for k, r in (("mesh", mesh), ("splat", splat))}
    row: dict[str, float] = {}
    for alignment in ("unscaled", "per channel"):
        row[f"relit, {alignment}, dB"] = found["mesh"]["relit, mean"][alignment]["PSNR"]
    row["relit splat, per channel, dB"] = found["splat"]["relit, mean"]["per channel"]["PSNR"]
    row["albedo, per channel, picture, dB"] = found["mesh"]["albedo"]["per channel"]["sRGB, picture"]
    row["albedo, per channel, foreground, dB"] = found["mesh"]["albedo"]["per channel"]["sRGB, foreground"]
    row["albedo of the splat, same, dB"] = found["splat"]["albedo"]["per channel"]["sRGB, foreground"]
    row["normals with map, degrees"] = found["mesh"]["normal MAE, degrees"]["foreground"]
    row |= {key: found["mesh"][key]["foreground"] for key in ("roughness MAE", "metallic MAE")}
    row |= distances(scene.asset, real_mesh(name), scene.views.train)
    light, paths = truth.relit[sorted(truth.relit)[0]]
    shown, apart = [], []
    i = 0
    for i in range(0, len(views), EVERY):
        pictures = [
            r.under(views.camera(i), light, FastMonteCarlo(128), scale=None)[..., :3].clamp(0, 1) for r in (mesh, splat)
        ]
        shown = [linear_to_srgb(p) for p in pictures]
        apart.append(psnr(*shown))
    row["mesh beside splat, dB"] = sum(apart) / len(apart)
    expected = read_image(paths[i]).values
    buffers = [mesh.buffer(views.camera(i)), splat.buffer(views.camera(i))]
    colors = [linear_to_srgb(b.spread(b.surface.base_color)) for b in buffers]
    albedo = read_image(truth.albedo[i]).values[..., :3]
    return row, torch.cat([expected[..., :3] * expected[..., 3:], *shown, albedo, *colors], 1).clamp(0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"captures (default: {' '.join(MODELS)})")
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="of distilled runs")
    parser.add_argument("--surface", choices=("tsdf", "poisson"), default="tsdf")
    parser.add_argument("--fit", action="store_true", help="also the stage materials")
    parser.add_argument("--label", help="names the result")
    options = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    label = f"_{options.label}" if options.label else ""
    for name in options.names or MODELS:
        with tempfile.TemporaryDirectory() as place:
            if options.runs is None:
                scene = run(configured(name, Path(place) / "run", [])).scene
            else:
                scene = load_scene(last_stage(options.runs / name))
            before = minutes(scene)
            start = time.perf_counter()
            scene = MeshAsset(surface=options.surface).run(scene, MemoryJob(Path(place)))
            meshed = (time.perf_counter() - start) / 60
            if options.fit:
                scene = MeshMaterials().run(scene, MemoryJob(Path(place)))
            took = (time.perf_counter() - start) / 60
            row, picture = scored(name, scene)
            rows[name] = {"minutes": before + took, "of them mesh": meshed, "materials": took - meshed, **row}
            print(name, {key: round(value, 3) for key, value in rows[name].items()}, flush=True)
            write_image(PICTURES / f"mesh_assets{label}_{name}.png", picture)
    scores = with_mean(rows)
    title = f"textured meshes relit, against path-traced truth{label.replace('_', ', ')}"
    record(
        f"mesh_assets_{options.label}" if options.label else "mesh_assets",
        scores["mean"]["relit, per channel, dB"],
        "dB PSNR, unseen lights",
        detail={"title": title, "surface": options.surface, "fitted": options.fit, "samples": SAMPLES,
                "scores": scores},
    )  # fmt: skip


if __name__ == "__main__":
    main()
