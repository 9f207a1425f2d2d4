"""The upscaler against bicubic and Lanczos: PSNR and SSIM on held-out procedural pictures and on real photographs.

    python -m benchmarks.upscale [--views held.safetensors] [--out FOLDER]

The coarse pictures are the sharp ones, halved by bicubic averaging without noise.  Photographs: every other one of
multiview/{ngp_fox,nerd_gold_cape,strecha_fountain_p11} in RELIGHT_DATA (default ../shared/data), antialiased to 448
pixels on their long side, so that neither JPEG's blocks nor a camera's colour filter are what is scored.  Two pixels
at the border don't count.  Materials: base colour, roughness and metallic of held-out views from half the size, told
the photograph, against bicubic and a guided filter.  Seconds are for a million sharp pixels on one thread.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor

from benchmarks import DATA
from benchmarks.record import record
from relight.diffusion.own.pairs import halved
from relight.diffusion.own.procedural.environments import lights
from relight.diffusion.own.procedural.frames import Frames, frames, pool
from relight.diffusion.own.procedural.views import Views, draw
from relight.diffusion.pictures.decompose import guided_upsampling
from relight.diffusion.pictures.upscale import Upscaler, bundled
from relight.export.images import write_image
from relight.fit.evaluate import psnr
from relight.fit.losses import mean_ssim
from relight.images import read_image
from relight.resize import bicubic

CAPTURES = ("ngp_fox", "nerd_gold_cape", "strecha_fountain_p11")
LONG = 448
HELD = 2001
"""Seed of the held-out views; training takes 0 unless told otherwise."""
Way = Callable[[Tensor], Tensor]


def twice(coarse: Tensor) -> Tensor:
    """Twice the size, bicubic."""
    return bicubic(coarse, (2 * coarse.shape[2], 2 * coarse.shape[3])).clamp(0, 1)


def lanczos(coarse: Tensor) -> Tensor:
    """Twice the size, by Pillow's filter of three lobes, each channel in floating point."""
    size = (2 * coarse.shape[3], 2 * coarse.shape[2])
    planes = [Image.fromarray(plane.numpy(), mode="F").resize(size, Image.Resampling.LANCZOS) for plane in coarse[0]]
    return torch.stack([torch.from_numpy(np.array(plane)) for plane in planes])[None].clamp(0, 1)


def scores(pictures: list[Tensor], ways: Mapping[str, Way]) -> dict[str, dict[str, float]]:
    """Mean PSNR and SSIM of each way over (1, 3, H, W) pictures."""
    sums = {name: [0.0, 0.0] for name in ways}
    for sharp in pictures:
        coarse = halved(sharp)
        for name, way in ways.items():
            found, expected = (x[0, :, 2:-2, 2:-2].contiguous() for x in (way(coarse), sharp))
            sums[name][0] += psnr(found.permute(1, 2, 0), expected.permute(1, 2, 0))
            sums[name][1] += float(mean_ssim(found, expected))
    n = len(pictures)
    return {name: {"psnr": round(a / n, 3), "ssim": round(b / n, 4)} for name, (a, b) in sums.items()}


def photographs(count: int) -> dict[str, list[Tensor]]:
    """By capture."""
    out = {}
    for name in CAPTURES:
        paths = sorted(
            p for p in (DATA / "multiview" / name / "images").iterdir() if p.suffix.lower() in (".jpg", ".png")
        )
        out[name] = [_even(read_image(p).rgb.permute(2, 0, 1)[None]) for p in paths[::2][: min(count, 12)]]
    return out


def _even(photo: Tensor) -> Tensor:
    scale = LONG / max(photo.shape[2:])
    return bicubic(photo, (round(photo.shape[2] * scale / 16) * 16, round(photo.shape[3] * scale / 16) * 16)).clamp(
        0, 1
    )


def held_out(path: Path | None, count: int) -> Frames:
    """Views that weren't trained on, under lights that weren't."""
    views = Views.load(path)[:count] if path is not None else draw(count, 128, HELD)
    return frames(views, pool(lights(24, HELD)), Generator().manual_seed(HELD))[0]


def materials(shown: Frames, upscaler: Upscaler) -> dict[str, dict[str, float]]:
    """Of each way from half the size: PSNR of base colour, mean absolute errors of roughness and metallic."""
    truth = torch.cat([shown.base_color, shown.roughness, shown.metallic], 1)
    truth, guide = halved(truth), halved(shown.photo)  # several rays a pixel
    coarse, inside = halved(truth), halved(shown.mask) > 0.5
    ways = {
        "upscaler": upscaler(coarse, guide), "guided filter": guided_upsampling(coarse, guide),
        "bicubic": twice(coarse),
    }  # fmt: skip
    out = {}
    for name, found in ways.items():
        error, count = (found - truth).abs() * inside, float(inside.sum())
        square = float((error[:, :3] ** 2).sum()) / (3 * count)
        out[name] = {
            "base colour psnr": round(-10 * math.log10(square), 3),
            "roughness mae": round(float(error[:, 3].sum()) / count, 5),
            "metallic mae": round(float(error[:, 4].sum()) / count, 5),
        }
    return out


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=Path, help="held-out views drawn earlier (else drawn: minutes)")
    parser.add_argument("--count", type=int, default=48, help="of held-out views, and at most of photographs a capture")
    parser.add_argument("--weights", default="upscale", help="of pictures: a name or a file")
    parser.add_argument("--material-weights", default="upscale-material")
    parser.add_argument("--out", type=Path, help="folder for pictures side by side")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    upscaler = Upscaler.load(arguments.weights)
    ways: dict[str, Way] = {"upscaler": upscaler, "bicubic": twice, "lanczos": lanczos}
    shown = held_out(arguments.views, arguments.count)
    sets: dict[str, list[Tensor]] = {
        "procedural photographs": list(halved(shown.photo).split(1)),
        "procedural base colours": list(halved(shown.base_color).split(1)),
        **photographs(arguments.count),
    }
    found = {name: scores(pictures, ways) for name, pictures in sets.items()}
    real = [found[name] for name in CAPTURES]
    gain = sum(f["upscaler"]["psnr"] - f["bicubic"]["psnr"] for f in real) / len(real)

    coarse = torch.rand(1, 3, 256, 256, generator=Generator().manual_seed(0))
    seconds = {}
    for name, way in ways.items():
        way(coarse)
        begun = time.process_time()
        way(coarse)
        seconds[name] = round((time.process_time() - begun) / (4 * 256 * 256 / 1e6), 4)
    told = {}
    if Path(arguments.material_weights).is_file() or arguments.material_weights in bundled():
        told["materials"] = materials(shown, Upscaler.load(arguments.material_weights))
    record(
        "upscale", gain, "dB over bicubic on real photographs, mean of three captures", peer="bicubic",
        detail={
            "title": "Upscaler, twice the size, against bicubic", **found,
            **told,
            "seconds a megapixel": seconds, "trained": upscaler.info,
        },
    )  # fmt: skip
    if arguments.out is not None:
        for name in CAPTURES:
            sharp = sets[name][0][..., 100:196, 60:220]
            row = [twice(halved(sharp)), upscaler(halved(sharp)), sharp]
            picture = torch.cat(row, 3)[0].permute(1, 2, 0).repeat_interleave(3, 0).repeat_interleave(3, 1)
            write_image(arguments.out / f"{name}.png", picture)


if __name__ == "__main__":
    main()
