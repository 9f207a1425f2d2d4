"""What shading costs: seconds a step of each phase of `distill` against a step of radiance alone.

    python -m benchmarks.shading_cost [spot] [--steps 40] [--iterations 800] [--profile]

Both take turns on the same Gaussians and photographs, in one process, with all the threads there are.  A step of
radiance alone is what the stage `radiance` does late in a fit of surfels: colour, normals, loss, gradients, Adam.
--profile tells instead where the time goes.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from benchmarks.record import record
from benchmarks.relightable import CAPTURES, configured, phases
from relight.fit.losses import normal_consistency, photometric
from relight.fit.parameters import Parameters
from relight.pipeline import run
from relight.render.protocol import RasterOptions
from relight.render.splats import create_rasterizer, render
from relight.scene import Scene
from relight.stages.distill import GEOMETRY, LOOK, Distill
from relight.testing.job import MemoryJob

WARM_UP = 5
"""Steps of each phase that don't count: kernels are compiled, meshes made, visibility baked."""


def with_steps(steps: int) -> Distill:
    stage = Distill()
    return replace(stage, **{name: replace(phase, iterations=steps) for name, phase in phases(stage).items()})


def radiance_step(scene: Scene) -> Callable[[int], None]:
    """A step of radiance alone on photograph i, as far as it takes time; nothing moves, so that Gaussians stay the
    same."""
    assert scene.gaussians is not None and scene.views is not None
    start, views, generator = scene.gaussians, scene.views.train, torch.Generator().manual_seed(0)
    parameters = Parameters({name: getattr(start, name) for name in (*GEOMETRY, *LOOK)}, dict.fromkeys(
        (*GEOMETRY, *LOOK), 0.0
    ))  # fmt: skip
    rasterizer, options = create_rasterizer(), RasterOptions.for_extent(scene.frame.radius)

    def step(i: int) -> None:
        photo, camera = views.photo(i % len(views)), views.camera(i % len(views))
        background = torch.rand(3, generator=generator)
        expected = photo.rgb
        if photo.alpha is not None:
            expected = photo.rgb * photo.alpha[..., None] + background * (1 - photo.alpha[..., None])
        gaussians = replace(start, **{name: parameters[name] for name in (*GEOMETRY, *LOOK)})
        image = render(rasterizer, gaussians, camera, options=options, background=background, normals=True)
        loss = photometric(image.color.permute(2, 0, 1), expected.permute(2, 0, 1), 0.2, photo.mask)
        loss = loss + 0.2 * normal_consistency(image, camera)
        loss.backward()
        parameters.step()

    return step


class TakingTurns(MemoryJob):
    """After each step of the stage, one of radiance.  Milliseconds of both, by step."""

    def __init__(self, folder: Path, step: Callable[[int], None]):
        super().__init__(folder)
        self.step = step
        self.shaded: list[float] = []
        self.alone: list[float] = []
        self.begun = time.perf_counter()

    def report(self, step, total, metrics=None, *, scene=None) -> None:
        self.shaded.append(1e3 * (time.perf_counter() - self.begun))
        begun = time.perf_counter()
        self.step(step)
        self.alone.append(1e3 * (time.perf_counter() - begun))
        self.begun = time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("capture", nargs="?", choices=CAPTURES, default="spot")
    parser.add_argument("--steps", type=int, default=40, help="of each phase")
    parser.add_argument("--iterations", type=int, default=800, help="of radiance, before")
    parser.add_argument("--profile", action="store_true", help="print where the time goes; records nothing")
    options = parser.parse_args()
    if options.steps <= WARM_UP:
        parser.error(f"--steps {options.steps}: expected more than {WARM_UP}")
    with tempfile.TemporaryDirectory() as place:
        config = configured(options.capture, Path(place) / "run", [f"radiance.iterations={options.iterations}"])
        scene = run(config, until="radiance").scene
        assert scene.gaussians is not None and scene.views is not None
        stage, job = with_steps(options.steps), TakingTurns(Path(place), radiance_step(scene))
        if options.profile:
            stage.run(scene, MemoryJob(Path(place)))  # compiles
            profile = cProfile.Profile()
            profile.runcall(stage.run, scene, MemoryJob(Path(place)))
            pstats.Stats(profile).sort_stats("tottime").print_stats(45)
            return
        job.step(0)
        stage.run(scene, job)
    rows = {}
    for i, name in enumerate(phases(stage)):
        part = slice(i * options.steps + WARM_UP, (i + 1) * options.steps)
        if not job.shaded[part]:
            continue
        shaded, alone = median(job.shaded[part]), median(job.alone[part])
        rows[name] = {"shaded, ms": shaded, "radiance alone, ms": alone, "times as long": shaded / alone}
    photo = scene.views.train.photo(0).rgb
    worst = max(row["times as long"] for row in rows.values())
    record(
        "shading_cost",
        worst,
        "times a step of radiance alone, slowest phase of `distill`",
        detail={
            "title": "cost of shading in a fit",
            "capture": options.capture,
            "gaussians": len(scene.gaussians),
            "picture": f"{photo.shape[1]}x{photo.shape[0]}",
            "threads": torch.get_num_threads(),
            "steps": rows,
        },
    )


if __name__ == "__main__":
    main()
