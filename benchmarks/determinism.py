"""The same fit in several processes: the same bits on one machine, and how far another's instructions lead away.

    python -m benchmarks.determinism [--full] [--variants threads torch avx2 seed]

`again` must not differ by a bit.  `threads`: two instead of one.  `torch`: its code for a processor without AVX-512.
`avx2`: that, and kernels compiled for one.  `seed`: another seed, to compare the others with.  Differences are of what
a fit is for, PSNR on held-out photographs, and between the pictures it draws.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.batch_scenes import write_scene
from benchmarks.record import record
from relight.render.splats import create_rasterizer, render
from relight.scene_io import load_scene, read_tensors, stage_folders

TORCH_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
KERNELS_AVX2 = {
    "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+bmi,+bmi2,+f16c,+popcnt,+sse4.2"
}  # fmt: skip
VARIANTS: dict[str, tuple[dict[str, str], list[str]]] = {
    "again": ({}, []),
    "threads": ({"OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"}, []),
    "torch": (TORCH_AVX2, []),
    "avx2": (TORCH_AVX2 | KERNELS_AVX2, []),
    "seed": ({}, ["seed=1"]),
}
RADIANCE = "  - radiance: {iterations: 80, initial_gaussians: 200, max_gaussians: 400, sh_degree: 1}\n"
REST = """  - distill:
      specular: {iterations: 4}
      diffuse: {iterations: 8}
      joint: {iterations: 4}
      refine: {iterations: 6, samples: 4}
      light_size: 8
  - mesh: {triangles: 800, outline_steps: 10, occlusion_rays: 8, max_texture: 64}
  - compress: {count: 150, iterations: 10, polish: 10, views: 2, cameras: 4, view_size: 48}
"""


def fitted(folder: Path, stages: str, variant: str | None = None) -> Path:
    """The run folder of one fit in a process of its own, on one thread unless the variant says otherwise."""
    environment, words = VARIANTS[variant] if variant else ({}, [])
    scene = write_scene(folder, 0) if not (folder / "scene.yaml").is_file() else folder / "scene.yaml"
    scene.write_text(f"data: photos\nstages:\n{stages}")
    run = folder / (variant or "first")
    one_thread = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", "relight", "fit", str(scene), "--quiet", f"output={run}", *words],
        check=True, stdout=subprocess.DEVNULL, env=os.environ | one_thread | environment,
    )  # fmt: skip
    return run


def different_files(a: Path, b: Path) -> list[str]:
    """Tensors of all stages whose bits differ, as STAGE/FILE:TENSOR."""
    found = []
    for stage in stage_folders(a):
        for file in sorted(stage.glob("*.safetensors")):
            mine, yours = (read_tensors(run / stage.name / file.name)[0] for run in (a, b))
            found += [
                f"{stage.name}/{file.name}:{n}" for n in sorted({*mine, *yours}) if _bits(mine, n) != _bits(yours, n)
            ]
    return found


def _bits(tensors: dict[str, Tensor], name: str) -> bytes | None:
    return tensors[name].contiguous().numpy().tobytes() if name in tensors else None


def difference(a: Path, b: Path) -> dict[str, Any]:
    """Of the first stages of two runs: how many Gaussians, PSNR, and the pictures of all views."""
    scenes, pictures, rasterizer = [load_scene(run / "01-radiance") for run in (a, b)], [], create_rasterizer()
    for scene in scenes:
        assert scene.views is not None and scene.gaussians is not None
        with torch.no_grad():
            pictures.append(torch.stack([render(rasterizer, scene.gaussians, v.camera).color for v in scene.views]))
    apart = (pictures[0] - pictures[1]).abs()
    psnr = [s.history[-1].metrics["test_psnr"] for s in scenes]
    return {
        "Gaussians": [len(s.gaussians) for s in scenes if s.gaussians is not None],
        "PSNR apart, dB": abs(psnr[0] - psnr[1]),
        "largest difference of a pixel": float(apart.max()),
        "mean difference of a pixel": float(apart.mean()),
        "tensors whose bits differ": len(different_files(a, b)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all core stages, not the first alone")
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    options = parser.parse_args()
    stages = RADIANCE + (REST if options.full else "")
    with tempfile.TemporaryDirectory() as place:
        first = fitted(Path(place), stages)
        found = {}
        for name in options.variants:
            found[name] = difference(first, fitted(Path(place), stages, name))
            print(name, json.dumps(found[name]), file=sys.stderr, flush=True)
    worst = max((f["largest difference of a pixel"] for n, f in found.items() if n != "seed"), default=0.0)
    record(
        "determinism",
        worst,
        "of white, largest difference of a pixel",
        detail={"title": f"Fits of one scene against the first: {', '.join(found)}", **found},
    )
    if "again" in found and found["again"]["tensors whose bits differ"]:
        raise SystemExit("not the same bits")


if __name__ == "__main__":
    main()
