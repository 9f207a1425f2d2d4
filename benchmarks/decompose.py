"""One picture to materials on held-out procedural views of 128 pixels: zooms, samples, and the way to the photo's size.

    python -m benchmarks.decompose [--views held.safetensors] [--prior material] [--count 48]

Two honest baselines: the photograph taken for the base colour (roughness 0.5, no metal), and what views have on average
(a constant, of the same views).  Only pixels that show something count.  `agreement`: correlation over pixels of the
spread between samples with the error.  The value is base colour's PSNR of the command's own settings.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from torch import Generator, Tensor

from benchmarks.record import record
from benchmarks.upscale import held_out
from relight.diffusion.own.prior import Prior
from relight.diffusion.pictures.decompose import Options, Photograph, decompose
from relight.diffusion.pictures.upscale import Upscaler, bundled

DEFAULT = "command's own"
CHOICES: dict[str, Options] = {
    DEFAULT: Options(),
    "whole picture only": Options(zooms=0),
    "mean of 8 samples": Options(samples=8, steps=1),
    "one sample": Options(samples=1, steps=1),
    "mean of 2 samples of 4 steps": Options(samples=2, steps=4),
    "bicubic": Options(upsampling="bicubic", zooms=0),
    "upscaler": Options(upsampling="upscaler", zooms=0),
}


def scores(found: Tensor, truth: Tensor, mask: Tensor) -> dict[str, float]:
    """PSNR of base colour (sRGB-encoded), mean absolute errors of roughness and metallic, where something is shown."""
    error, count = (found - truth).abs() * mask, float(mask.sum())
    return {
        "base colour psnr": round(-10 * math.log10(float((error[:, :3] ** 2).sum()) / (3 * count)), 2),
        "roughness mae": round(float(error[:, 3].sum()) / count, 4),
        "metallic mae": round(float(error[:, 4].sum()) / count, 4),
    }


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=Path, help="held-out views drawn earlier (else drawn: minutes)")
    parser.add_argument("--prior", default="material", help="name or file")
    parser.add_argument("--count", type=int, default=48, help="of views")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shown = held_out(arguments.views, arguments.count)
    truth, mask = torch.cat([shown.base_color, shown.roughness, shown.metallic], 1), shown.mask
    guess = torch.cat([shown.photo, torch.full_like(mask, 0.5), torch.zeros_like(mask)], 1)
    mean = (truth * mask).sum((0, 2, 3), keepdim=True) / mask.sum()
    table: dict[str, dict[str, float]] = {
        "photograph as base colour": scores(guess, truth, mask),
        "constant": scores(mean.expand_as(truth), truth, mask),
    }
    prior = Prior.load(arguments.prior)
    upscaler = Upscaler.load("upscale-material") if "upscale-material" in bundled() else None
    for name, options in CHOICES.items():
        if options.upsampling == "upscaler" and upscaler is None:
            continue
        begun, layers = time.process_time(), []
        for i in range(len(mask)):
            photo = Photograph(shown.photo[i, None], mask[i, None])
            layers.append(decompose(photo, prior, upscaler, options, Generator().manual_seed(i)))
        seconds = (time.process_time() - begun) / len(mask)
        found = torch.stack([torch.cat([x.base_color, x.roughness, x.metallic]) for x in layers])
        table[name] = scores(found, truth, mask) | {"seconds": round(seconds, 3)}
        if options.samples > 1:
            spread = torch.stack([x.spread for x in layers])
            both = torch.stack([spread[mask > 0], (found - truth).abs().mean(1, keepdim=True)[mask > 0]])
            table[name]["agreement"] = round(float(torch.corrcoef(both)[0, 1]), 3)
    base = table["photograph as base colour"]["base colour psnr"]
    value = table[DEFAULT]["base colour psnr"]
    record(
        "decompose", value, "dB base colour", peer=f"photograph as base colour, {base} dB",
        detail={
            "title": "One picture to materials, held-out views", "table": table, "views": len(mask),
            "trained": prior.info,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
