"""Stages that take milliseconds, for scene files that say `use: fake_stages:Count`."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch

from relight.errors import RelightError
from relight.geometry.gaussians import Gaussians
from relight.scene import Scene
from relight.stages.base import Checkpoint, Job, Stage

RUNS: list[str] = []
"""Every stage that really ran in this process, in order; tests clear it."""


def splat(means: torch.Tensor) -> Gaussians:
    """Grey Gaussians at (N, 3) `means`."""
    n = len(means)
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(n, 1)
    return Gaussians(means, quats, torch.full((n, 3), -2.0), torch.zeros(n), torch.zeros(n, 1, 3))


@dataclass(frozen=True)
class Inner:
    """Options within an option."""

    gain: float = 1.0
    """A factor."""
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class Count(Stage):
    """A random walk of four Gaussians: its end depends on every step before it.

    The second paragraph is not part of the summary.
    """

    needs: ClassVar[tuple[str, ...]] = ("views",)
    gives: ClassVar[tuple[str, ...]] = ("gaussians",)

    steps: int = 6
    """How far
    it walks.  At least 1."""
    size: float = 0.5
    mode: Literal["even", "odd"] = "even"
    inner: Inner = Inner()
    tags: tuple[str, ...] = ()
    limit: int | None = None
    pause: float = 0.0
    """Seconds a step."""
    late: float = 0.0
    """Seconds of the second step."""
    nan_at: int = 0
    """The step whose metric is not a number; 0 for none."""
    fail_at: int = 0
    fill: int = 0
    """Bytes of another file in the stage's folder."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps: expected 1 or more (got {self.steps})")

    def run(self, scene: Scene, job: Job) -> Scene:
        """Return the walk's end."""
        RUNS.append("count")
        generator = torch.Generator().manual_seed(job.seed)
        means, start = torch.zeros(4, 3), 0
        if job.restored is not None:
            start, means = job.restored.step, job.restored.tensors["means"].clone()
            generator.set_state(job.restored.tensors["generator"])
        for step in range(start + 1, self.steps + 1):
            time.sleep(self.late if step == 2 and self.late else self.pause)
            if step == self.fail_at:
                raise RuntimeError("the fault that fail_at asks for")
            means += self.size * torch.randn(4, 3, generator=generator)
            value = math.nan if step == self.nan_at else float(step)
            job.report(step, self.steps, {"value": value, "distance": float(means.norm())})
            if step < self.steps and job.checkpoint_due():
                job.checkpoint(Checkpoint(step, {"means": means, "generator": generator.get_state()}, {"note": "hi"}))
            if step < self.steps and job.enough():
                break
        if self.fill:
            (job.folder / "extra.bin").write_bytes(bytes(self.fill))
        return replace(scene, gaussians=splat(means))


@dataclass(frozen=True, kw_only=True)
class Shift(Stage):
    """Moves the Gaussians."""

    needs: ClassVar[tuple[str, ...]] = ("gaussians",)
    gives: ClassVar[tuple[str, ...]] = ("gaussians",)

    by: float = 1.0
    pause: float = 0.0
    """Seconds."""

    def run(self, scene: Scene, job: Job) -> Scene:
        """Return the moved scene."""
        RUNS.append("shift")
        time.sleep(self.pause)
        assert scene.gaussians is not None
        return replace(scene, gaussians=replace(scene.gaussians, means=scene.gaussians.means + self.by))


@dataclass(frozen=True, kw_only=True)
class Keep(Stage):
    """Changes nothing."""

    needs: ClassVar[tuple[str, ...]] = ("views",)

    def run(self, scene: Scene, job: Job) -> Scene:
        """Return the scene as it is."""
        RUNS.append("keep")
        return scene


@dataclass(frozen=True, kw_only=True)
class Cloud(Stage):
    """A Gaussian at each of as many first points as it is told to ask for."""

    needs: ClassVar[tuple[str, ...]] = ("points",)
    gives: ClassVar[tuple[str, ...]] = ("gaussians",)

    ask: int = 70

    @property
    def first_points(self) -> int:
        return self.ask

    def run(self, scene: Scene, job: Job) -> Scene:
        """Return the splat."""
        assert scene.points is not None
        return replace(scene, gaussians=splat(scene.points.positions))


@dataclass(frozen=True, kw_only=True)
class Read(Stage):
    """Reads a file, and one more that may be a name."""

    needs: ClassVar[tuple[str, ...]] = ("views",)
    files: ClassVar[tuple[str, ...]] = ("table",)
    files_or_names: ClassVar[tuple[str, ...]] = ("prior",)

    table: str | None = None
    prior: str = "known"

    def run(self, scene: Scene, job: Job) -> Scene:
        """Return the scene as it is."""
        RUNS.append("read")
        return scene


@dataclass(frozen=True, kw_only=True)
class Unfinished(Stage):
    """Has no `run`, so it can't be used."""


class NotAStage:
    """Just a class."""


def remember(arguments, tell, stop):
    """A task: adds a line to a file, and misbehaves as it is told, until the file has `good` lines."""
    import os
    import signal
    from pathlib import Path

    path = Path(arguments["file"])
    with path.open("a") as file:
        file.write("tried\n")
    tries = len(path.read_text().splitlines())
    tell(0.5, "half")
    if tries <= arguments.get("bad", 0):
        if arguments["how"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError("it broke")
    if arguments.get("how") == "refuse":
        raise RelightError("not this one")
    print("what libraries print is no answer")
    return {"tries": tries}
