"""Peak memory of forward + backward of 1 M Gaussians at 800x800.

python -m benchmarks.splat_memory
"""

from __future__ import annotations

import resource

from benchmarks.record import record
from benchmarks.workloads import random_splat, step
from relight.render.backends.splat_cpu import SplatCpu


def main() -> None:
    step(SplatCpu(), *random_splat(1_000_000, 800, 800), 3)()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    record(
        "splat_memory",
        peak,
        "GiB",
        detail={
            "title": "peak memory, 1 M Gaussians, 800x800, forward + backward",
            "gaussians": 1_000_000,
            "size": 800,
            "channels": 3,
            "bound_gib": 4,
        },
    )


if __name__ == "__main__":
    main()
