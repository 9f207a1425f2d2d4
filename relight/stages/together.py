"""Followers: further processes that take part in the steps of a stage, and have no say in anything else.

The process that runs the stage starts them, gives them its state in a folder, and kills them when it needs them no
more; they keep nothing.  If it dies, the sums that they wait for fail, and they end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Protocol

import torch

from relight.errors import RelightError
from relight.fit.world import World, joined
from relight.scene import Scene
from relight.scene_io import load_scene, read_tensors, save_scene, write_tensors
from relight.stages.base import Checkpoint, Job, Stage

LAST_WORDS = 2000
"""Characters of a dead follower's messages that are shown."""


class Follows(Protocol):
    """A stage that others can take part in."""

    def follow(self, scene: Scene, job: Job, world: World) -> None:
        """Take the stage's steps from `job.restored` on, without end."""
        ...


@contextmanager
def followed(stage: Stage, size: int, scene: Scene, job: Job, now: Checkpoint) -> Iterator[World]:
    """Start size - 1 followers of a stage whose state is `now`, and join them until the end of the block.

    On CUDA each has a GPU of its own.  Raises RelightError if there are fewer, or if a follower dies.
    """
    if job.device.type == "cuda" and torch.cuda.device_count() < size:
        raise RelightError(f"processes: {size} need a GPU each, and this machine has {torch.cuda.device_count()}")
    with tempfile.TemporaryDirectory(prefix="relight-") as place:
        folder = Path(place)
        (folder / "scene").mkdir()
        save_scene(scene, folder / "scene", key="followed")
        write_tensors(folder / "state.safetensors", now.tensors)
        kind = type(stage)
        told = {
            "stage": f"{kind.__module__}:{kind.__qualname__}",
            "options": {f.name: getattr(stage, f.name) for f in fields(stage)},
            "size": size, "device": job.device.type, "backend": job.backend, "seed": job.seed,
            "step": now.step, "values": dict(now.values),
        }  # fmt: skip
        (folder / "told.json").write_text(json.dumps(told), encoding="utf-8")
        followers = [_Follower(folder, rank, size) for rank in range(1, size)]
        try:
            for follower in followers:
                follower.wait_until_ready()
            device = torch.device("cuda:0") if job.device.type == "cuda" else job.device
            with joined(0, size, device, folder / "store") as world:
                try:
                    yield world
                except RuntimeError as error:
                    # A sum fails when a process of it is gone; what those said explains more.
                    if dead := [f for f in followers if f.died()]:
                        said = "\n".join(f.words() for f in dead)
                        raise RelightError(f"processes: {len(dead)} of {size} died; run again:\n{said}") from error
                    raise
        finally:
            for follower in followers:
                follower.kill()


class _Follower:
    def __init__(self, folder: Path, rank: int, size: int):
        self.ready, self.log = folder / f"ready-{rank}", folder / f"log-{rank}"
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = str(max(1, usable // size))
        environment = {"OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads} | os.environ
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "relight.stages.together", str(folder), str(rank)],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def wait_until_ready(self) -> None:
        while not self.ready.exists():
            if self.process.poll() is not None:
                raise RelightError(f"processes: one of them could not start: {self.words()}")
            time.sleep(0.05)

    def died(self, patience: float = 5.0) -> bool:
        """Whether it ended by itself, or does within so many seconds."""
        try:
            return self.process.wait(patience) is not None
        except subprocess.TimeoutExpired:
            return False

    def words(self) -> str:
        said = self.log.read_text(encoding="utf-8", errors="replace").strip()[-LAST_WORDS:]
        return said or f"exit code {self.process.poll()}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class _FollowersJob:
    """What a follower has of a job: reports nothing, decides nothing."""

    device: torch.device
    backend: str
    seed: int
    folder: Path
    restored: Checkpoint | None

    def report(
        self, step: int, total: int, metrics: Mapping[str, float] | None = None, *, scene: Scene | None = None
    ) -> None:
        pass

    def enough(self) -> bool:
        return False

    def checkpoint_due(self) -> bool:
        return False

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        pass


def main() -> None:
    """Follow: arguments are the folder and the rank."""
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    told = json.loads((folder / "told.json").read_text(encoding="utf-8"))
    module, _, name = told["stage"].partition(":")
    stage: Follows = getattr(import_module(module), name)(**told["options"])
    scene = load_scene(folder / "scene")
    now = Checkpoint(told["step"], read_tensors(folder / "state.safetensors")[0], told["values"])
    device = torch.device(f"cuda:{rank}" if told["device"] == "cuda" else told["device"])
    job = _FollowersJob(device, told["backend"], told["seed"], folder, now)
    (folder / f"ready-{rank}").touch()
    with joined(rank, told["size"], device, folder / "store") as world:
        stage.follow(scene, job, world)


if __name__ == "__main__":
    main()
