"""Our pictures of Khronos's render-fidelity models against Blender Cycles, next to other engines.

    python -m benchmarks.render_fidelity [--samples 64] [SCENE ...]

Finds scenes.json, models and HDRIs in RELIGHT_DATA (default ../shared/data).  PSNR over pixels that both cover.
"""

from __future__ import annotations

import argparse
import json
import math

import numpy as np
import torch
from torch import Tensor

from benchmarks import DATA
from benchmarks.record import PICTURES, record
from relight.data.models import load_model
from relight.export.images import write_image
from relight.geometry.camera import Camera
from relight.images import read_image
from relight.render.meshes import create_mesh_rasterizer, render
from relight.render.monte_carlo import FastMonteCarlo
from relight.render.tracing import create_tracer
from relight.shading.environment import Environment
from relight.shading.shade import Estimator, SplitSum, shade
from relight.shading.tonemap import aces

SUPERSAMPLE, BOUNCES = 3, 4
"""The published pictures are made three times as large."""


def draw(scene: dict, estimator: Estimator) -> Tensor:
    """(3 H, 3 W, 4) linear, premultiplied."""
    mesh = load_model(DATA / scene["model"])
    light = Environment(read_image(DATA / scene["environment"]).rgb.float().contiguous())
    pose = torch.tensor(scene["camera_to_world_opengl"]) @ torch.diag(torch.tensor([1.0, -1, -1, 1]))
    width, height = (SUPERSAMPLE * n for n in scene["thumbnail_size"])
    focal = height / 2 / math.tan(math.radians(scene["vertical_fov_deg"]) / 2)
    camera = Camera(pose, focal, focal, width / 2, height / 2, width, height)
    tracer = create_tracer(mesh)
    with torch.no_grad():
        return render(
            mesh, camera, create_mesh_rasterizer(), lambda surface: shade(surface, light, estimator, tracer=tracer)
        )


def encode(linear: Tensor) -> Tensor:
    """(H, W, 4) as the reference pictures are: premultiplied colour through the curve, straight alpha beside it, and
    only then made smaller, by a Lanczos filter."""
    from PIL import Image

    encoded = torch.cat([aces(linear[..., :3]).clamp(0, 0.9999) ** (1 / 2.2), linear[..., 3:]], -1)
    size = (linear.shape[1] // SUPERSAMPLE, linear.shape[0] // SUPERSAMPLE)
    small = [Image.fromarray(c.numpy()).resize(size, Image.Resampling.LANCZOS) for c in encoded.unbind(-1)]
    return torch.stack([torch.from_numpy(np.array(c)) for c in small], -1).clamp(0, 1)


def psnr(ours: Tensor, cycles: Tensor) -> float:
    both = (ours[..., 3] > 250 / 255) & (cycles[..., 3] > 250 / 255)
    return -10 * math.log10(float((ours - cycles)[..., :3][both].double().square().mean()))


def picture(ours: Tensor, cycles: Tensor) -> Tensor:
    """(H, 3 W, 3) ours, Cycles' and five times the difference."""
    difference = 5 * (ours - cycles)[..., :3].abs() * torch.minimum(ours, cycles)[..., 3:]
    return torch.cat([ours[..., :3], cycles[..., :3] * cycles[..., 3:], difference.clamp(0, 1)], 1)


def main() -> None:
    folder = DATA / "references" / "gltf_render_fidelity"
    known = json.loads((folder / "scenes.json").read_text(encoding="utf-8"))
    names = [name.removeprefix("khronos-") for name in known["scenes"]]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", choices=[*names, []], metavar="SCENE", help=", ".join(names))
    parser.add_argument("--samples", type=int, default=64, help="a pixel of the threefold supersampled picture")
    options = parser.parse_args()
    table: dict[str, dict[str, float]] = {}
    for name in options.scenes or names:
        scene, others = known["scenes"][f"khronos-{name}"], known["scenes"][f"khronos-{name}"]["psnr_vs_blender_cycles"]
        cycles = read_image(next((folder / f"khronos-{name}").glob("blender-cycles*"))).values
        ours = encode(draw(scene, FastMonteCarlo(samples=options.samples, bounces=BOUNCES)))
        table[name] = {
            "relight, Monte Carlo": psnr(ours, cycles),
            "best other path tracer": max(v for k, v in others.items() if k in known["path_tracers"]),
            "relight, split-sum": psnr(encode(draw(scene, SplitSum())), cycles),
            "best real-time engine": max(v for k, v in others.items() if k in known["rasterizers"]),
        }
        print(name, table[name], flush=True)
        write_image(PICTURES / f"fidelity_{name}.jpg", picture(ours, cycles))
    record(
        "render_fidelity",
        sum(row["relight, Monte Carlo"] > row["best real-time engine"] for row in table.values()),
        f"of {len(table)} models",
        peer="the real-time engine closest to Cycles",
        detail={
            "title": "glTF render fidelity: models drawn closer to Blender Cycles than by any real-time engine",
            "PSNR_to_Cycles_in_dB": table, "samples": options.samples * SUPERSAMPLE**2, "bounces": BOUNCES,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
