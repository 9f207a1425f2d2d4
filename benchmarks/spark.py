"""Written splat files drawn by Spark, and by us: PSNR over the pixels that show something, on black.

    python -m benchmarks.spark [SPLAT ...]     SPARK_MODULES: a folder node_modules, of
                                               npm install @sparkjsdev/spark@2.2.0 three@0.187.0 playwright-core

Needs Chromium, which takes minutes, as it draws on the processor.  Without SPLAT: a cow of RELIGHT_DATA, and its INRIA
.ply, which has SH of degree 3.  Each file is drawn by Spark as it lies there, and compared with what we read from
it, so that what a format loses doesn't count.  Spark is told to draw as 3DGS does: by itself it sorts by distance, cuts
Gaussians off where they are at a 55th, and doesn't draw those with centres far outside of the picture.
Spark 2.2 reads .spz up to version 3, and leaves its axes as they are.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmarks import DATA
from benchmarks.record import PICTURES, record
from relight.compress.cameras import around
from relight.export.images import write_image
from relight.fit.evaluate import psnr
from relight.formats import read_splat, write_splat
from relight.formats.common import plain
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.images import read_image
from relight.render.protocol import RasterOptions
from relight.render.splats import create_rasterizer, render
from relight.render.trajectory import subject

SPLATS = {
    "spot": DATA / "splats/padilla/spot/spot_10k.splat",
    "inria": DATA / "splats/inria_style_ply/point_cloud_iter7000_9080g.ply",
}
FILES: dict[str, dict[str, Any]] = {
    "a.ply": {}, "a.compressed.ply": {}, "a.splat": {}, "a.spz": {"version": 3}, "a.sog": {}
}  # fmt: skip
SIZE = 240
SHOWN = 0.02


def theirs(file: Path, splat: Gaussians, camera: Camera, options: RasterOptions, modules: Path) -> torch.Tensor:
    """(H, W, 3) by Spark."""
    pose = camera.world_from_camera.double() @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])).double()
    scene = {
        "file": str(file), "name": f"/{file.name}", "width": camera.width, "height": camera.height,
        "near": options.near, "far": 1e5 * options.near,
        "fov": math.degrees(2 * math.atan(camera.height / 2 / float(camera.fy))), "pose": pose.flatten().tolist(),
        "turned": file.suffix == ".spz", "blur": options.low_pass, "compensated": splat.antialiased,
    }  # fmt: skip
    described, picture = file.with_suffix(".json"), file.with_suffix(".png")
    described.write_text(json.dumps(scene))
    script = Path(__file__).with_name("spark_view.mjs")
    subprocess.run(["node", str(script), str(modules), str(described), str(picture)], check=True, timeout=300)
    return read_image(picture).values[..., :3]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("splats", nargs="*", type=Path)
    arguments = parser.parse_args()
    splats = {path.stem: path for path in arguments.splats} or SPLATS
    modules = os.environ.get("SPARK_MODULES")
    if modules is None or not (Path(modules) / "@sparkjsdev" / "spark").is_dir():
        print("skipped: set SPARK_MODULES to a folder node_modules with @sparkjsdev/spark", file=sys.stderr)
        return 0
    rows: dict[str, dict[str, float]] = {file.partition(".")[2]: {} for file in FILES}
    rasterizer = create_rasterizer()
    for title, source in splats.items():
        original, strips = plain(read_splat(source)), []
        options = RasterOptions.for_extent(subject(original)[1])
        camera = around(original, 1, size=SIZE, seed=2)[0]
        for name, how in FILES.items():
            with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                write_splat(original, file := Path(place) / name, **how)
                splat = read_splat(file)
                found = theirs(file, splat, camera, options, Path(modules))
            with torch.no_grad():
                drawn = render(rasterizer, splat, camera, options=options)
            ours, kind = drawn.color.clamp(0, 1), name.partition(".")[2]
            rows[kind][f"{title}, dB"] = psnr(ours, found, drawn.alpha > SHOWN)
            print(title, kind, f"{rows[kind][f'{title}, dB']:.2f}", flush=True)
            strips.append(torch.cat([ours, found, (ours - found).abs().mul(4).clamp(0, 1)], 1))
        write_image(PICTURES / f"spark_{title}.jpg", torch.cat(strips))
    lowest = min(value for row in rows.values() for value in row.values())
    package = json.loads((Path(modules) / "@sparkjsdev" / "spark" / "package.json").read_text())
    detail = {"title": "written splat files drawn by Spark and by us", "scores": rows, "size": SIZE}
    record("spark", lowest, "dB PSNR, the lowest", peer=f"Spark {package['version']}", detail=detail)
    return 0


if __name__ == "__main__":
    sys.exit(main())
