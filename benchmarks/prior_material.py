"""The material prior on procedural scenes that it never saw: materials from one photograph, by steps of sampling.

    python -m benchmarks.prior_material [--prior PATH] [--views 256]

Shapes, textures and lights are of other seeds than those of training.  Two baselines: the photograph for base colour,
and constants, the means of the training scenes.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Generator, Tensor

from benchmarks.record import record
from relight.diffusion.own.batches import material_picture
from relight.diffusion.own.prior import Prior
from relight.diffusion.own.procedural.environments import lights
from relight.diffusion.own.procedural.frames import Frames, frames, pool
from relight.diffusion.own.procedural.views import draw
from relight.diffusion.own.tasks import condition_maps
from relight.diffusion.protocol import Condition

HELD_OUT = 999_999
"""Seed; training has small ones."""
STEPS = (1, 2, 4, 20)
BATCH = 32
KINDS = ("photo", "photo and geometry", "photo, geometry and light")
"""What the prior is told."""


def scores(found: Tensor, truth: Tensor, mask: Tensor) -> dict[str, float]:
    """Of (B, 5, H, W) pictures, -1 to 1, within the (B, 1, H, W) mask.  PSNR is the mean over pictures, of sRGB."""
    error = ((found - truth) / 2) * mask
    count = mask.sum((1, 2, 3)).clamp_min(1)
    square = error[:, :3].square().sum((1, 2, 3)) / (3 * count)
    rough, metal = (error[:, i].abs().sum((1, 2)) / count for i in (3, 4))
    return {
        "base colour, dB": float((-10 * square.clamp_min(1e-6).log10()).mean()),
        "roughness MAE": float(rough.mean()),
        "metallic MAE": float(metal.mean()),
    }


def conditions(shown: Frames, kind: str) -> Condition:
    """What the prior is told."""
    maps = {
        "photo": condition_maps(shown.photo, shown.mask),
        "photo and geometry": condition_maps(shown.photo, shown.mask, shown.normal, shown.depth),
        "photo, geometry and light": condition_maps(shown.photo, shown.mask, shown.normal, shown.depth, shown.hints),
    }
    return Condition(maps[kind])


def answered(prior: Prior, condition: Condition, size: int, steps: int) -> Tensor:
    """(B, 5, S, S): one sample each, or what is expected for 0 steps."""
    assert condition.maps is not None
    out = []
    for part in condition.maps.split(BATCH):
        told, shape = Condition(part), (len(part), size, size)
        if steps:
            out.append(prior.sample(told, shape, steps=steps, generator=Generator().manual_seed(0)))
        else:
            out.append(prior.expected(told, shape))
    return torch.cat(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", default="material", help="name or file")
    parser.add_argument("--views", type=int, default=256)
    parser.add_argument("--size", type=int, default=64)
    arguments = parser.parse_args()
    prior = Prior.load(arguments.prior)
    views, light = draw(arguments.views, arguments.size, HELD_OUT), pool(lights(64, HELD_OUT))
    (shown,) = frames(views, light, Generator().manual_seed(HELD_OUT))
    truth = material_picture(shown)
    (usual,) = frames(draw(128, arguments.size, 1), light, Generator().manual_seed(1))
    known = usual.mask.expand_as(material_picture(usual)) > 0
    mean = torch.stack([material_picture(usual)[:, i][known[:, i]].mean() for i in range(5)]).view(1, 5, 1, 1)
    photo = torch.cat([2 * shown.photo - 1, mean[:, 3:].expand(len(views), -1, *truth.shape[2:])], 1)
    rows = {
        "constant": scores(mean.expand_as(truth), truth, shown.mask),
        "the photograph": scores(photo, truth, shown.mask),
    }
    for kind in KINDS:
        told = conditions(shown, kind)
        for steps in (0, *STEPS) if kind == KINDS[-1] else (0,):
            begun = time.perf_counter()
            found = answered(prior, told, arguments.size, steps)
            spent = 1000 * (time.perf_counter() - begun) / len(views)
            how = f"sampled in {steps}" if steps else "expected"
            rows[f"{kind}: {how}"] = {**scores(found, truth, shown.mask), "ms a picture": round(spent, 1)}
    best, peer = f"{KINDS[-1]}: expected", "constant"
    gain = rows[best]["base colour, dB"] - rows[peer]["base colour, dB"]
    record(
        "prior_material", gain, "dB more", peer=peer,
        detail={
            "title": f"material prior, held-out procedural scenes of {arguments.size} pixels: base colour",
            "trained": prior.info, "views": arguments.views, "scores": rows,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
