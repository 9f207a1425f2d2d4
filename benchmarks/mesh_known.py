"""Materials and light from photographs of a known shape: the real models of RELIGHT_DATA/relightable.

    python -m benchmarks.mesh_known [spot ...] [--method split_sum] [--known-light]

Captures that are not named keep their earlier scores if the method's options are the same.

Each model comes with its texture coordinates and normal map, nothing else; the stage `materials` finds the rest.
split_sum is what nvdiffrec does (Munkberg et al., CVPR 2022): prefiltered light, no shadows.  monte_carlo ends with
samples, shadows and light by way of the model itself (Hasselgren et al., Shape, Light, and Material Decomposition from
Images using Monte Carlo Rendering and Denoising, NeurIPS 2022, without denoising).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.real_meshes import MODELS, real_mesh
from benchmarks.record import PICTURES, earlier, record, with_mean
from benchmarks.relightable import EVERY, SAMPLES, folder_of
from relight.cli.truth import find_truth
from relight.data import load
from relight.export.images import write_image
from relight.fit.relighting import measure
from relight.geometry.material import Material
from relight.images import read_image
from relight.render.monte_carlo import FastMonteCarlo
from relight.render.relit_mesh import RelitMesh
from relight.shading.color import linear_to_srgb
from relight.shading.lighting import Lighting
from relight.shading.lights import Light
from relight.stages.materials import MeshMaterials
from relight.testing.job import MemoryJob
from relight.views import Views

METHODS = {
    "split_sum": {"iterations": 600, "sampled_iterations": 0, "shadows": False},
    "monte_carlo": {"iterations": 300, "sampled_iterations": 300},
}


def kept(method: str) -> dict[str, dict[str, float]]:
    """Scores of the last result with the same options, by capture."""
    detail = earlier(f"mesh_known_{method}")
    if detail.get("options") != METHODS[method]:
        return {}
    return {name: row for name, row in detail["scores"].items() if name in MODELS}


def bare(name: str):
    """The model with its normal map, if it has one material, and no other."""
    mesh = real_mesh(name)
    used = torch.zeros(1).long() if mesh.material_ids is None else mesh.material_ids.unique()
    if len(used) > 1:
        return replace(mesh, materials=(), material_ids=None, uv=None, uv1=None, tangents=None)
    m = mesh.materials[int(used[0])]
    kept = Material(normal_texture=m.normal_texture, normal_scale=m.normal_scale, double_sided=True)
    return replace(mesh, materials=(kept,), material_ids=None)


def shadowed(name: str, light: Light, views: Views) -> float:
    """Share of the light that shadows take away, net of what the model casts on itself, of its true materials."""
    real, light_left = real_mesh(name), []
    for shadows in (True, False):
        relit = RelitMesh(real, shadows=shadows)
        pictures = [relit.under(views.camera(i), light, FastMonteCarlo(SAMPLES)) for i in range(0, len(views), EVERY)]
        light_left.append(sum(float(p[..., :3].sum()) for p in pictures))
    return 1 - light_left[0] / light_left[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"captures (default: {' '.join(MODELS)})")
    parser.add_argument("--method", choices=METHODS, default="monte_carlo")
    parser.add_argument("--known-light", action="store_true", help="printed, not recorded: materials alone are sought")
    options = parser.parse_args()
    rows = {} if options.known_light else kept(options.method)
    for name in options.names or MODELS:
        scene = replace(load(folder_of(name)), asset=bare(name))
        assert scene.views is not None
        views, folder = scene.views.test, folder_of(name)
        truth = find_truth(folder, views, folder.parents[1] / "hdri" / "512", scene.frame.up, 0.0)
        if options.known_light:
            assert truth.light is not None
            scene = replace(scene, light=Lighting({"": truth.light}, measured=True))
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as place:
            found = MeshMaterials(**METHODS[options.method]).run(scene, MemoryJob(Path(place)))
        row = {"minutes": (time.perf_counter() - start) / 60}
        relit = RelitMesh(found.asset, found.light)
        score = measure(relit, views, truth, FastMonteCarlo(SAMPLES), every=EVERY)
        for where in ("picture", "foreground"):
            row[f"albedo, per channel, {where}, dB"] = score["albedo"]["per channel"][f"sRGB, {where}"]
        row["albedo, unscaled, picture, dB"] = score["albedo"]["unscaled"]["sRGB, picture"]
        row |= {key: score[key]["foreground"] for key in ("roughness MAE", "metallic MAE")}
        for alignment in ("unscaled", "per channel"):
            row[f"relit, {alignment}, dB"] = score["relit, mean"][alignment]["PSNR"]
        assert truth.light is not None
        row["taken by shadows"] = shadowed(name, truth.light, views)
        row["light"] = score["light, relative error of irradiance"]["per channel"]
        rows[name] = row
        print(
            name,
            options.method,
            "known light" * options.known_light,
            {key: round(value, 3) for key, value in row.items()},
            flush=True,
        )
        seen = relit.buffer(views.camera(0))
        s = seen.surface
        tiles = [read_image(truth.albedo[0]).values[..., :3], linear_to_srgb(seen.spread(s.base_color))]
        tiles += [seen.spread(x[:, None]).expand(-1, -1, 3) for x in (s.roughness, s.metallic)]
        output = PICTURES / f"mesh_known_{options.method}_{name}.png"
        write_image(output, torch.cat(tiles, 1).clamp(0, 1))
    if options.known_light:
        return
    scores = with_mean(rows)
    words = options.method.replace("_", " ")
    record(
        f"mesh_known_{options.method}",
        scores["mean"]["albedo, per channel, picture, dB"],
        "dB PSNR of albedo",
        detail={"title": f"materials and light on a known shape, {words}", "options": METHODS[options.method],
                "scores": scores},
    )  # fmt: skip


if __name__ == "__main__":
    main()
