"""Giving Gaussians features by averaging, against optimising them; and what many channels cost to draw.

    python -m benchmarks.uplift [--gaussians 100000] [--views 48] [--size 256] [--steps 1000]

The truth is a smooth field of unit vectors; the teacher's maps are renders of it at a quarter of the size, with noise.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace

import torch
from torch.nn.functional import avg_pool2d, cosine_similarity, normalize

from benchmarks.record import record
from benchmarks.workloads import random_splat
from relight.fit.uplift import Refinement, Seen, uplift
from relight.geometry.transforms import look_at
from relight.render.backends.splat_cpu import SplatCpu

NOISE = 0.5
"""Of the teacher, in standard deviations of a channel."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gaussians", type=int, default=100_000)
    parser.add_argument("--views", type=int, default=48)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=1000, help="of optimising that averaging is compared with")
    parser.add_argument("--measured", type=int, help="steps that are really made; their time is multiplied up")
    parser.add_argument("--channels", type=int, nargs="*", default=[64, 256])
    arguments = parser.parse_args()
    rasterizer, measured = SplatCpu(), arguments.measured or arguments.steps
    gaussians, camera = random_splat(arguments.gaussians, arguments.size, arguments.size)
    middle = gaussians.means.mean(0)
    rows = {}
    for channels in arguments.channels:
        g = torch.Generator().manual_seed(0)
        truth = normalize(torch.sin(3 * (gaussians.means - middle) @ torch.randn(3, channels, generator=g)), dim=1)
        pictures = []
        for i in range(arguments.views):
            angle = 2 * math.pi * i / arguments.views
            eye = camera.position + 0.8 * torch.tensor([math.cos(angle), math.sin(angle), 0.0])
            view = replace(camera, world_from_camera=look_at(eye, middle, torch.tensor([0.0, -1.0, 0.0])))
            with torch.no_grad():
                image = rasterizer.rasterize(gaussians, view, truth)
            values = image.features / image.alpha.clamp_min(1e-3)[..., None]
            small = avg_pool2d(values.permute(2, 0, 1)[None], 4)[0].permute(1, 2, 0)
            small = small + NOISE * truth.std() * torch.randn(small.shape, generator=g)
            pictures.append(Seen(view, small, (image.alpha > 0.5).float()))
        begun = time.perf_counter()
        feature, covered = uplift(rasterizer, gaussians, pictures)
        averaging = time.perf_counter() - begun
        shown = covered > 1
        start = torch.zeros_like(feature) + 1e-3 * torch.randn(feature.shape, generator=g)
        field = Refinement(rasterizer, gaussians, start, torch.eye(channels), torch.zeros(channels), rate=20.0)
        begun = time.perf_counter()
        for step in range(measured):
            field.step([pictures[(7 * step) % len(pictures)]])
        each = (time.perf_counter() - begun) / measured
        rows[f"{channels} channels"] = {
            "seconds": round(averaging, 2),
            "seconds of optimising": round(each * arguments.steps, 1),
            "times faster": round(each * arguments.steps / averaging, 1),
            "cosine to truth": round(float(cosine_similarity(feature, truth)[shown].mean()), 4),
            "cosine of optimised": round(float(cosine_similarity(field.feature.detach(), truth)[shown].mean()), 4),
            "steps made": measured,
        }
    costs = {}
    for channels in (3, 256):
        features = torch.randn(arguments.gaussians, channels)
        with torch.no_grad():
            rasterizer.rasterize(gaussians, camera, features)
            begun = time.perf_counter()
            for _ in range(3):
                rasterizer.rasterize(gaussians, camera, features)
        costs[channels] = (time.perf_counter() - begun) / 3
    last = rows[f"{arguments.channels[-1]} channels"]
    record(
        "uplift",
        last["seconds"],
        "s",
        peer=f"{arguments.steps} steps of optimising the same features",
        ratio=last["times faster"],
        detail={
            "title": f"features of {arguments.views} views onto {arguments.gaussians} Gaussians, "
            f"{arguments.channels[-1]} channels",
            "rows": rows,
            "256 channels over 3, cost": round(costs[256] / costs[3], 1),
            "of 256/3": round(costs[256] / costs[3] / (256 / 3), 3),
        },
    )


if __name__ == "__main__":
    main()
