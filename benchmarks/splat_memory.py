"""Peak memory: forward and backward of 1 M Gaussians at 800x800, or drawing 5 M with SH of degree 3.

python -m benchmarks.splat_memory [--draw]
"""

from __future__ import annotations

import argparse
import resource
import sys
from dataclasses import replace

import torch

from benchmarks.record import record
from benchmarks.workloads import random_splat, step
from relight.render.backends.splat_cpu import SplatCpu
from relight.render.splats import render

SIZE = 800
BOUNDS = {False: 4, True: 8}
"""GiB that the peak must not exceed."""


def draw(count: int) -> None:
    """One picture, as `relight render` makes it."""
    splat, camera = random_splat(count, SIZE, SIZE)
    splat = replace(splat, sh=torch.zeros(count, 16, 3))
    with torch.no_grad():
        render(SplatCpu(), splat, camera)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", action="store_true", help="5 M Gaussians, forward alone")
    drawn = parser.parse_args().draw
    count = 5_000_000 if drawn else 1_000_000
    if drawn:
        draw(count)
    else:
        step(SplatCpu(), *random_splat(count, SIZE, SIZE), 3)()
    peak, bound = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2, BOUNDS[drawn]
    record(
        "splat_memory_draw" if drawn else "splat_memory",
        peak,
        "GiB",
        detail={
            "title": f"peak memory, {count / 1e6:g} M Gaussians, {SIZE}x{SIZE}, "
            + ("drawn with SH of degree 3" if drawn else "forward + backward"),
            "gaussians": count,
            "size": SIZE,
            "channels": 3,
            "bound_gib": bound,
        },
    )
    if peak > bound:
        sys.exit(1)


if __name__ == "__main__":
    main()
