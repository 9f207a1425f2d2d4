"""Forward + backward of 30k Gaussians at 400x400 on the CPU: milliseconds, against the reference twin, and the share
of the machine's multiply-add peak that compositing reaches.

    python -m benchmarks.splat_speed [--reference-count 600]

The twin blends every Gaussian at every pixel, so it is timed on fewer Gaussians and scaled linearly, which favours it:
its memory traffic grows faster.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from numba import njit, prange

from benchmarks.record import record
from benchmarks.workloads import random_splat, seconds, step
from relight.render.backends import splat_cpu
from relight.render.backends.splat_cpu import SplatCpu
from relight.render.kernels import composite
from relight.render.kernels.simd import LANES, fma, splat, store
from relight.render.reference import ReferenceRasterizer

COUNT, SIZE, CHANNELS = 30_000, 400, 3

# Floating-point operations per pixel of a row that a hit covers (a multiply-add counts as two, a division as one),
# counted in kernels/composite.py for ellipsoids and 4 channels.
FORWARD_OPERATIONS = 5 + 15 + 2 + 4 + 2 + 8
BACKWARD_OPERATIONS = 5 + 15 + 2 + 3 + (7 + 1 + 8) + 9 + 19


@njit(parallel=True)
def _multiply_add(workers, rounds, out):
    """12 independent chains hide the latency of the multiply-add units."""
    for worker in prange(workers):
        a = splat(np.float32(0.999999))  # pyright: ignore[reportCallIssue]
        b = splat(np.float32(1e-7))  # pyright: ignore[reportCallIssue]
        c0 = c1 = c2 = c3 = c4 = c5 = c6 = c7 = c8 = c9 = c10 = c11 = a
        for _ in range(rounds):
            c0, c1, c2, c3 = fma(c0, a, b), fma(c1, a, b), fma(c2, a, b), fma(c3, a, b)
            c4, c5, c6, c7 = fma(c4, a, b), fma(c5, a, b), fma(c6, a, b), fma(c7, a, b)
            c8, c9, c10, c11 = fma(c8, a, b), fma(c9, a, b), fma(c10, a, b), fma(c11, a, b)
        store(out, worker * LANES, c0 + c1 + c2 + c3 + c4 + c5 + c6 + c7 + c8 + c9 + c10 + c11)


def peak_gflops() -> float:
    """Billions of operations a second in multiply-adds on all threads."""
    workers, rounds = torch.get_num_threads(), 1_000_000
    out = np.zeros(workers * LANES, np.float32)
    best = seconds(lambda: _multiply_add(workers, rounds, out), repeats=5)[0]
    return 2 * 12 * LANES * rounds * workers / best / 1e9


class Watch:
    """Stands in for a kernel module inside the backend: times its functions and keeps their last arguments."""

    def __init__(self, module):
        self._module = module
        self.times: dict[str, list[float]] = {}
        self.arguments: dict[str, tuple] = {}

    def __getattr__(self, name: str):
        value = getattr(self._module, name)
        if name not in ("forward", "backward"):
            return value

        def timed(*arguments):
            start = time.perf_counter()
            value(*arguments)
            self.times.setdefault(name, []).append(time.perf_counter() - start)
            self.arguments[name] = arguments

        return timed


def covered_rows(arguments: tuple) -> int:
    """Pixel rows of tiles that hits cover, from the arguments of `composite.forward`: the work of compositing."""
    records, _, _, _, hits, tile_start, tiles_x = arguments[:7]
    records = records.reshape(-1, composite.RECORD)
    tile = np.repeat(np.arange(tile_start.size - 1), np.diff(tile_start))
    top = (tile // tiles_x) * composite.TILE
    low = np.ceil(records[hits, 1] - records[hits, 3] - 0.5 - top).clip(0, composite.TILE)
    high = np.floor(records[hits, 1] + records[hits, 3] - 0.5 - top).clip(-1, composite.TILE - 1)
    return int((high - low + 1).clip(0).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference-count", type=int, default=600, help="Gaussians given to the twin")
    options = parser.parse_args()

    watch = Watch(composite)
    splat_cpu.composite = watch  # type: ignore[assignment]
    times = seconds(step(SplatCpu(), *random_splat(COUNT, SIZE, SIZE), CHANNELS))
    quiet, usual = times[0] * 1e3, times[len(times) // 2] * 1e3
    peak = peak_gflops()
    operations = covered_rows(watch.arguments["forward"]) * LANES
    forward = operations * FORWARD_OPERATIONS / min(watch.times["forward"]) / 1e9
    backward = operations * BACKWARD_OPERATIONS / min(watch.times["backward"]) / 1e9

    few = random_splat(options.reference_count, SIZE, SIZE)
    reference = seconds(step(ReferenceRasterizer(), *few, CHANNELS), repeats=1, warm_up=0)[0]
    reference *= 1e3 * COUNT / options.reference_count
    record(
        "splat_forward_backward",
        quiet,
        "ms",
        peer=f"reference twin, scaled from {options.reference_count} Gaussians: {reference:.0f} ms",
        ratio=reference / quiet,
        detail={
            "title": "forward + backward, 30k Gaussians, 400x400, 3 channels",
            "median_ms": usual,
            "gaussians": COUNT,
            "size": SIZE,
            "channels": CHANNELS,
            "composite_forward_ms": min(watch.times["forward"]) * 1e3,
            "composite_backward_ms": min(watch.times["backward"]) * 1e3,
        },
    )
    record(
        "splat_peak_fraction",
        (forward * min(watch.times["forward"]) + backward * min(watch.times["backward"]))
        / (min(watch.times["forward"]) + min(watch.times["backward"]))
        / peak,
        "of multiply-add peak",
        detail={
            "title": "what compositing reaches of the processor",
            "peak_gflops": peak,
            "forward_gflops": forward,
            "backward_gflops": backward,
        },
    )


if __name__ == "__main__":
    main()
