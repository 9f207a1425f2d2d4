"""Exports beside three.js: one .glb, one light, one camera, drawn by both; PSNR over the picture, on black.

    python -m benchmarks.three_js NODE_MODULES [RUN ...]      npm install three playwright-core; needs Chromium

RUN: run folders with the stage mesh; without any, the water bottle of RELIGHT_DATA/pbr, written and read back.
three.js prefilters the light and draws by split-sum without shadows, as our split-sum does; what is left is the lookup
of its filtered light (a cube map of 16x16 texels a side where it is roughest), multiple scattering, and silhouettes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import torch

from benchmarks import DATA
from benchmarks.record import PICTURES, record
from relight.data.environments import load_environment
from relight.data.models import load_model
from relight.export.gltf import write_glb
from relight.export.images import write_exr, write_image
from relight.export.runs import last_asset
from relight.export.texture_files import upright
from relight.fit.evaluate import psnr
from relight.geometry.camera import Camera
from relight.geometry.mesh import Mesh
from relight.geometry.transforms import look_at
from relight.images import read_image
from relight.render.relit_mesh import RelitMesh
from relight.shading.color import linear_to_srgb
from relight.shading.shade import SplitSum

SIZE, FOV = 384, 30.0
LIGHTS = ("studio_small_03_512", "noon_grass_512", "venice_sunset_512")


def beside(model: Path, mesh: Mesh, light_file: Path, modules: Path, place: Path) -> tuple[float, torch.Tensor]:
    """Decibels, and both pictures side by side, encoded."""
    low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
    target, radius = (low + high) / 2, float((high - low).norm()) / 2
    eye = target + torch.nn.functional.normalize(torch.tensor([0.8, 0.45, 1.0]), dim=0) * radius * 4.2
    pose = look_at(eye, target, torch.tensor([0.0, 1.0, 0.0]))
    camera = Camera.from_fov(pose, FOV * torch.pi / 180, SIZE, SIZE)
    light = load_environment(light_file)
    write_exr(place / "light.exr", {"RGB": light.radiance})
    described = {"model": str(model), "light": str(place / "light.exr"), "width": SIZE, "height": SIZE, "fov": FOV}
    (place / "scene.json").write_text(json.dumps(described | {"eye": eye.tolist(), "target": target.tolist()}))
    script = Path(__file__).with_name("three_view.mjs")
    command = ["node", str(script), str(modules), str(place / "scene.json"), str(place / "three.png")]
    subprocess.run(command, check=True, timeout=300)
    theirs = read_image(place / "three.png").values
    theirs = theirs[..., :3] * theirs[..., 3:]
    ours = RelitMesh(mesh, shadows=False).under(camera, light, SplitSum())
    straight = (ours[..., :3] / ours[..., 3:].clamp_min(1e-6)).clamp(0, 1)
    found = linear_to_srgb(straight) * ours[..., 3:].clamp(0, 1)
    return psnr(found, theirs), torch.cat([found, theirs, (found - theirs).abs()], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", type=Path, help="folder node_modules")
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--lights", nargs="+", default=LIGHTS)
    options = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        place, model = Path(name), Path(name) / "model.glb"
        for run in options.runs or [None]:
            if run is None:
                mesh, title = load_model(DATA / "pbr" / "WaterBottle" / "WaterBottle.gltf"), "water bottle, the model"
                write_glb(model, mesh)
            else:
                asset = last_asset(run)
                mesh, title = upright(asset), run.parent.name if run.name[:2].isdigit() else run.name
                write_glb(model, asset.mesh, turn=asset.y_up)
            rows[title], picture = {}, torch.zeros(1, 1, 3)
            for light in options.lights:
                score, picture = beside(model, mesh, DATA / "hdri" / "512" / f"{light}.hdr", options.modules, place)
                rows[title][f"{light}, dB"] = score
                print(title, light, f"{score:.2f}", flush=True)
            write_image(PICTURES / f"three_js_{title.split(',')[0].replace(' ', '_')}.png", picture.clamp(0, 1))
    scores = [value for row in rows.values() for value in row.values()]
    record(
        "three_js", min(scores), "dB PSNR, the lowest", peer="three.js",
        detail={"title": "exported .glb drawn by three.js and by us", "scores": rows, "size": SIZE},
    )  # fmt: skip


if __name__ == "__main__":
    main()
