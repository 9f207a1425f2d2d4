"""Seconds to the first picture and gradient: with an empty kernel cache, and with a filled one.

python -m benchmarks.kernel_compile
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

from benchmarks.record import record

PROGRAM = """
from benchmarks.workloads import random_splat, step
from relight.render.backends.splat_cpu import SplatCpu
step(SplatCpu(), *random_splat(1000, 64, 64), 3)()
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        times = []
        for _ in range(2):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True)
            times.append(time.perf_counter() - start)
    record(
        "kernel_compile",
        times[0],
        "s",
        detail={"title": "compiling all kernels, once", "cached_s": times[1], "includes": "importing torch and numba"},
    )


if __name__ == "__main__":
    main()
