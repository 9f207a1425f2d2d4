"""Our Monte Carlo pictures of Khronos's render-fidelity models against Blender Cycles, next to other engines.

    python -m benchmarks.render_fidelity [--samples 64] [SCENE ...]

Finds scenes.json, models and HDRIs in RELIGHT_DATA (default ../shared/data).  PSNR over pixels that both cover.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.record import record
from relight.data.models import load_model
from relight.export.images import write_image
from relight.geometry.camera import Camera
from relight.images import read_image
from relight.render.meshes import create_mesh_rasterizer, render
from relight.render.tracing import EmbreeTracer
from relight.shading.environment import Environment
from relight.shading.shade import MonteCarlo, shade
from relight.shading.tonemap import aces

PICTURES = Path(__file__).parent / "results" / "pictures"
SIZE, SUPERSAMPLE = 512, 2


def draw(root: Path, scene: dict, samples: int) -> Tensor:
    """(H, W, 4) linear, premultiplied."""
    mesh = load_model(root / scene["model"])
    light = Environment(read_image(root / scene["environment"]).rgb.float().contiguous())
    pose = torch.tensor(scene["camera_to_world_opengl"]) @ torch.diag(torch.tensor([1.0, -1, -1, 1]))
    focal = SIZE / 2 / math.tan(math.radians(scene["vertical_fov_deg"]) / 2)
    camera = Camera(pose, focal, focal, SIZE / 2, SIZE / 2, SIZE, SIZE)
    tracer = EmbreeTracer(mesh)
    estimator = MonteCarlo(samples=samples, bounces=1)
    with torch.no_grad():
        return render(
            mesh, camera, create_mesh_rasterizer(),
            lambda surface: shade(surface, light, estimator, tracer=tracer), supersample=SUPERSAMPLE,
        )  # fmt: skip


def encode(linear: Tensor) -> Tensor:
    """As the reference pictures are: premultiplied colour through the curve, straight alpha beside it."""
    color = aces(linear[..., :3]).clamp(0, 0.9999) ** (1 / 2.2)
    return torch.cat([color, linear[..., 3:]], -1)


def main() -> None:
    root = Path(os.environ.get("RELIGHT_DATA", "../shared/data")).resolve()
    folder = root / "references" / "gltf_render_fidelity"
    known = json.loads((folder / "scenes.json").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help=", ".join(known["scenes"]))
    parser.add_argument("--samples", type=int, default=64, help="a pixel of the twofold supersampled picture")
    options = parser.parse_args()
    table: dict[str, dict[str, float]] = {}
    for name in options.scenes or known["scenes"]:
        scene = known["scenes"][name]
        ours = encode(draw(root, scene, options.samples))
        cycles = read_image(next((folder / name).glob("blender-cycles*"))).values
        both = (ours[..., 3] > 250 / 255) & (cycles[..., 3] > 250 / 255)
        error = (ours[..., :3] - cycles[..., :3])[both].double().square().mean()
        others = scene["psnr_vs_blender_cycles"]
        table[name.removeprefix("khronos-")] = {
            "relight": -10 * math.log10(float(error)),
            "best path tracer": max(v for k, v in others.items() if k in known["path_tracers"]),
            "best real-time engine": max(v for k, v in others.items() if k in known["rasterizers"]),
        }
        print(name, table[name.removeprefix("khronos-")], flush=True)
        cover = ours[..., 3:]
        pair = [
            ours[..., :3],
            cycles[..., :3] * cycles[..., 3:],
            (4 * (ours - cycles)[..., :3].abs() * cover).clamp(0, 1),
        ]
        write_image(PICTURES / f"fidelity_{name.removeprefix('khronos-')}.png", torch.cat(pair, 1))
    ahead = [row["relight"] - row["best real-time engine"] for row in table.values()]
    record(
        "render_fidelity",
        sum(a > 0 for a in ahead),
        f"of {len(table)} models closer to Cycles than any real-time engine",
        detail={"title": "glTF render fidelity, Monte Carlo with one bounce", "psnr_to_cycles": table},
    )


if __name__ == "__main__":
    main()
