"""Trains a prior or an upscaler of our own on procedural scenes, on a CPU or CUDA, until time or pictures are used up.

    python -m relight.diffusion.own.train material --out runs/material --minutes 240
    python -m relight.diffusion.own.train material --out runs/material --minutes 260 --words --size 16 --batch 128
    python -m relight.diffusion.own.train relight --out runs/relight --pictures 5000000 --batch 256 --views 60000
    python -m relight.diffusion.own.train panorama --out runs/panorama --minutes 240 --lights 8000
    python -m relight.diffusion.own.train upscale --out runs/upscale --minutes 60 --size 128 --rate 1e-3 --reuse 4

Killed, the same command goes on where the last checkpoint was.  In the folder: prior.safetensors or
upscaler.safetensors (averaged weights in half precision), training.jsonl, loss.png, samples.png (what it is told, the
truth, what it expects, a sample) and views.safetensors, the scenes.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path

import torch

from relight.diffusion.own.batches import BATCHES, captions
from relight.diffusion.own.network import PriorError
from relight.diffusion.own.pairs import PAIRS
from relight.diffusion.own.procedural.environments import APART, environments, lights
from relight.diffusion.own.procedural.frames import pool
from relight.diffusion.own.procedural.pano_views import panoramas
from relight.diffusion.own.procedural.views import Views, draw
from relight.diffusion.own.tasks import TASKS
from relight.diffusion.own.training import Plan, tell, train
from relight.diffusion.pictures.upscale import UPSCALERS

MUCH = 0.65
"""The time from which on a noisy picture tells less than words do."""


def scenes(path: Path, count: int, size: int, seed: int) -> Views:
    """Those drawn earlier, whatever their number, or `count` new ones, kept under `path`."""
    if path.exists():
        views = Views.load(path)
        if views.depth.shape[1] % size:
            raise PriorError(f"{path}: views of {views.depth.shape[1]} pixels a side can't be halved to {size}")
        return views.thinned(views.depth.shape[1] // size)
    tell(f"drawing {count} views into {path}, once")
    views = draw(count, size, seed, workers=os.cpu_count() or 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    views.save(path)
    return views


def main() -> None:
    """The command; see the module."""
    parser = argparse.ArgumentParser(
        prog="python -m relight.diffusion.own.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tasks = {**TASKS, **UPSCALERS}
    parser.add_argument("prior", choices=sorted(tasks), help="; ".join(f"{n}: {t.about}" for n, t in tasks.items()))
    parser.add_argument("--out", type=Path, required=True, help="folder; one that was begun is gone on with")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="of training, earlier runs in the folder included"
    )
    parser.add_argument("--pictures", type=float, default=math.inf, help="to be shown, earlier runs included")
    parser.add_argument("--batch", type=int, default=Plan.batch)
    parser.add_argument("--rate", type=float, default=Plan.rate, help="of AdamW (default %(default)g)")
    parser.add_argument("--reuse", type=int, default=Plan.reuse, help="times that each drawn batch is used")
    parser.add_argument("--views", type=int, default=8192, help="procedural views that are drawn first")
    parser.add_argument(
        "--lights",
        type=int,
        default=400,
        help="procedural environments that are drawn first; the panorama prior wants thousands",
    )
    parser.add_argument("--size", type=int, default=64, help="pixels a side")
    parser.add_argument("--scenes", type=Path, help="views drawn earlier, or for another prior")
    parser.add_argument(
        "--words",
        action="store_true",
        help="of material: teach it words alone, for which few pixels are enough (--size 16 --batch 128)",
    )
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    if math.isinf(arguments.minutes) and math.isinf(arguments.pictures):
        parser.error("say when to end: --minutes, --pictures, or both")
    if arguments.words and arguments.prior != "material":
        parser.error("--words: the material prior alone is taught so")
    plan = Plan(
        arguments.pictures, arguments.minutes, arguments.batch, arguments.rate, arguments.reuse, arguments.seed,
        least=MUCH if arguments.words else 0.0,
    )  # fmt: skip
    try:
        if arguments.prior == "panorama":
            batches = panoramas(environments(arguments.lights, plan.seed * APART))
        else:
            views = scenes(
                arguments.scenes or arguments.out / "views.safetensors", arguments.views, arguments.size, plan.seed
            )
            if arguments.words:
                batches = captions(views)
            else:
                batches = {**BATCHES, **PAIRS}[arguments.prior](views, pool(lights(arguments.lights, plan.seed)))
        train(arguments.prior, batches, plan, arguments.out, torch.device(arguments.device))
    except PriorError as error:
        tell(str(error))
        sys.exit(2)


if __name__ == "__main__":
    main()
