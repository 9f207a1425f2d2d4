"""Kills a fit with -9 at random moments and lets it finish: it must end as if nothing had happened.

python -m benchmarks.kill_resume [--kills 20]
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.record import record
from relight.scene_io import load_scene

SAMPLE = Path(__file__).parents[1] / "scenes" / "sample" / "scene.yaml"
STEPS = 150


def expected_files() -> set[str]:
    stage = {"cameras.json", "gaussians.safetensors", "metrics.jsonl", "points.safetensors", "scene.json"}
    return {"scene.yaml", "report.html", "report.png", *(f"01-radiance/{name}" for name in stage)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    generator = random.Random(0)
    good = 0
    with tempfile.TemporaryDirectory() as folder:
        # The whole range is hit: start-up, fitting, and the moves at the end.
        command = [sys.executable, "-m", "relight", "fit", str(SAMPLE), "--quiet", "data.max_size=64"]
        command += [f"radiance.iterations={STEPS}", "radiance.max_gaussians=3000", "radiance.initial_gaussians=2000"]
        start = time.perf_counter()
        subprocess.run([*command, f"output={folder}/whole"], check=True, capture_output=True)
        whole = time.perf_counter() - start
        for i in range(options.kills):
            run = Path(folder) / f"{i:02d}"
            process = subprocess.Popen(
                [*command, f"output={run}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            time.sleep(generator.uniform(0.05, 1.0) * whole)
            process.kill()
            process.wait()
            subprocess.run([*command, f"output={run}"], check=True, capture_output=True)
            found = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
            steps = load_scene(run / "01-radiance").history[-1].steps
            good += found == expected_files() and steps == STEPS
    record(
        "kill_resume",
        good,
        f"of {options.kills} kills survived",
        detail={"title": "kill -9 at a random moment, then resume: same steps, loadable, no stray files"},
    )
    if good != options.kills:
        sys.exit(1)


if __name__ == "__main__":
    main()
