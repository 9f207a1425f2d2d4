"""Milliseconds of one training step, all included, at 225x400 with 30k Gaussians on photographs of the fox.

    python -m benchmarks.training_iteration [--opensplat PATH]

OpenSplat is the only other trainer that runs without a GPU.  With a path to its CPU binary both are timed in this run;
without, the peer is what was measured on two cores before, and the line says so.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks import DATA
from benchmarks.record import record
from relight import data
from relight.data.initialise import initial_points
from relight.export.images import write_image
from relight.scene import Points, Scene
from relight.stages.radiance import Radiance
from relight.testing.job import MemoryJob

COUNT, STEPS = 30_000, 100
KNOWN_MS = 1200.0
"""OpenSplat 1.1.4, CPU build, two cores, the same size of picture and splat."""


def ours(scene: Scene, folder: Path) -> float:
    """Milliseconds a step, density control left out, after a warm-up."""
    options = {"initial_gaussians": COUNT, "max_gaussians": COUNT, "coarse_until": 0.0, "refine_start": 0.999}
    Radiance(iterations=10, **options).run(replace(scene, views=_few(scene)), MemoryJob(folder))

    class Clock(MemoryJob):
        times: list[float]

        def report(self, step, total, metrics=None, *, scene=None):
            super().report(step, total, metrics, scene=scene)
            self.times.append(time.perf_counter())

    job = Clock(folder)
    job.times = []
    Radiance(iterations=STEPS, **options).run(scene, job)
    steps = sorted(b - a for a, b in zip(job.times[10:-2], job.times[11:-1], strict=True))
    return 1e3 * steps[len(steps) // 2]


def opensplat(binary: str, scene: Scene, folder: Path) -> float:
    """Milliseconds a step: the difference between two runs, so that loading does not count."""
    import json

    views = scene.views
    assert views is not None and scene.points is not None
    frames = []
    for i in range(len(views)):
        camera, photo = views.camera(i), views.photo(i)
        write_image(folder / f"{i:03d}.png", photo.rgb)
        pose = camera.world_from_camera @ torch.diag(torch.tensor([1.0, -1, -1, 1]))
        frames.append(
            {
                "file_path": f"{i:03d}.png", "transform_matrix": pose.tolist(), "w": camera.width, "h": camera.height,
                "fl_x": camera.fx, "fl_y": camera.fy, "cx": camera.cx, "cy": camera.cy,
            }
        )  # fmt: skip
    _write_points(folder / "points.ply", scene.points)
    text = json.dumps({"camera_model": "PINHOLE", "ply_file_path": "points.ply", "frames": frames})
    (folder / "transforms.json").write_text(text)
    seconds = []
    for steps in (10, 30):
        start = time.perf_counter()
        command = [binary, str(folder), "-n", str(steps), "-o", str(folder / "out.ply"), "--cpu"]
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return 1e3 * (seconds[1] - seconds[0]) / 20


def _write_points(path: Path, points: Points) -> None:
    kinds = [*(f"float {c}" for c in "xyz"), *(f"uchar {c}" for c in ("red", "green", "blue"))]
    lines = ["ply", "format ascii 1.0", f"element vertex {len(points.positions)}", *(f"property {k}" for k in kinds)]
    colors = (255 * points.colors).round().int().tolist()
    rows = [(*p, *c) for p, c in zip(points.positions.tolist(), colors, strict=True)]
    path.write_text("\n".join([*lines, "end_header", *(" ".join(map(str, r)) for r in rows)]) + "\n")


def _few(scene: Scene):
    assert scene.views is not None
    return replace(scene.views, views=scene.views.views[:4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--opensplat", help="path to an OpenSplat binary")
    options = parser.parse_args()
    scene = data.load(DATA / "multiview" / "ngp_fox", max_size=400)
    scene = replace(scene, points=initial_points(scene, COUNT, torch.Generator().manual_seed(0)))
    with tempfile.TemporaryDirectory() as folder:
        mine = ours(scene, Path(folder))
        peer = opensplat(options.opensplat, scene, Path(folder)) if options.opensplat else KNOWN_MS
    how = "in this run" if options.opensplat else "measured before, not in this run"
    record(
        "training_iteration",
        mine,
        "ms",
        peer=f"OpenSplat on the CPU: {peer:.0f} ms, {how}",
        ratio=peer / mine,
        detail={"title": "training step, 30k Gaussians, 225x400", "gaussians": COUNT},
    )


if __name__ == "__main__":
    main()
