"""The picture at the top of README.md: held-out photographs, what was found in them, and the same under other light.

    python -m benchmarks.front_page RUN PHOTOS [--views 0 9] [--size 320] [--samples 64]

RUN: a stage folder with materials, of a capture of RELIGHT_DATA/relightable.  PHOTOS: that capture's folder.  Columns:
photograph, base colour, roughness, and three of RELIGHT_DATA/hdri/512 (Poly Haven, CC0).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.record import PICTURES
from benchmarks.relightable import folder_of
from relight.cli import main
from relight.export.images import write_image
from relight.images import read_image
from relight.resize import bicubic

LIGHTS = ("kiara_1_dawn", "autoshop_01", "dancing_hall")


def over_grey(path: Path, size: int) -> torch.Tensor:
    """(size, size, 3), over the grey of a page."""
    seen = read_image(path)
    rgb = (
        seen.rgb if seen.alpha is None else torch.lerp(torch.full_like(seen.rgb, 0.93), seen.rgb, seen.alpha[..., None])
    )
    return bicubic(rgb.permute(2, 0, 1)[None], (size, size))[0].clamp(0, 1).permute(1, 2, 0)


def drawn(run: Path, folder: Path, size: int, *how: str) -> list[Path]:
    """Stills of the held-out views."""
    if main(["render", str(run), "-o", str(folder), "--size", f"{size}x{size}", *how]):
        raise SystemExit(f"relight render {' '.join(how)} failed")
    return sorted(folder.glob("*.png"))


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--views", type=int, nargs="+", default=[0, 9])
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--samples", type=int, default=64)
    arguments = parser.parse_args()
    hdri = folder_of("spot").parents[1] / "hdri" / "512"
    with tempfile.TemporaryDirectory() as scratch:
        shown = [["--show", name, "--background", "transparent"] for name in ("base_color", "roughness")]
        for name in LIGHTS:
            light = hdri / f"{name}_512.hdr"
            shown += [["--env", str(light), "--background", "surroundings", "--samples", str(arguments.samples)]]
        columns = [sorted((arguments.photos / "test").glob("*.png"))]
        columns += [drawn(arguments.run, Path(scratch) / str(i), arguments.size, *how) for i, how in enumerate(shown)]
        rows = [torch.cat([over_grey(c[view], arguments.size) for c in columns], 1) for view in arguments.views]
        write_image(PICTURES / "front_page.jpg", torch.cat(rows, 0))


if __name__ == "__main__":
    run()
