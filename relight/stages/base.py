"""What a stage is, and what it is given to work with."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from relight.errors import outside
from relight.scene import Scene


@dataclass(frozen=True, kw_only=True)
class Stage(ABC):
    """A stage *is* its configuration: a frozen dataclass whose fields are the options of scene.yaml.

    The docstring under each field is its help text: meaning, unit, range, source.
    `needs` and `gives` name fields of `Scene`; `relight check` follows them without running anything.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[int] = 1
    """Raised when the same options give another result, so that stored results are not reused."""
    files: ClassVar[tuple[str, ...]] = ()
    """Options that name a file or folder, relative to the scene file.  What it holds is part of the content key."""
    files_or_names: ClassVar[tuple[str, ...]] = ()
    """The same for options that may also be a name: of a prior that comes with relight, of a model at a hub.  A word
    without a folder or a suffix is a name; ./word is a file."""
    by_renderer: ClassVar[Mapping[str, str]] = {}
    """Stages that do the same by another renderer: a scene file's `renderer` to a stage's name, whose options count."""

    @classmethod
    def paths(cls, options: Mapping[str, object]) -> dict[str, str]:
        """What is meant as a path, by option."""
        given = {name: value for name, value in options.items() if isinstance(value, str) and value}
        return {name: given[name] for name in cls.files if name in given} | {
            name: given[name]
            for name in cls.files_or_names
            if name in given and (os.path.split(given[name])[0] or os.path.splitext(given[name])[1])
        }

    @property
    def first_points(self) -> int:
        """Most points of the first cloud that a stage finds which needs `points`."""
        return 50_000

    def check_ranges(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        """For `__post_init__`.  ranges: see `outside`.  Raises ValueError with a line for every option outside."""
        if wrong := outside(self, ranges):
            raise ValueError("\n".join(wrong))

    @abstractmethod
    def run(self, scene: Scene, job: Job) -> Scene:
        """Return a new scene.  Never prints, never writes outside `job.folder`, never changes `scene`."""


class Interrupted(Exception):  # noqa: N818 - not an error: the user asked for it
    """Raised by `Job.checkpoint` after it has saved, when the user asked to stop."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a stage at the end of `step`: tensors by name, and small JSON values."""

    step: int
    tensors: Mapping[str, Tensor]
    values: Mapping[str, object]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Copies of the tensors whose names begin so, without the prefix."""
        return {k.removeprefix(prefix): v.clone() for k, v in self.tensors.items() if k.startswith(prefix)}


class Job(Protocol):
    """What is not configuration.  The pipeline provides it; tests use `relight.testing.MemoryJob`."""

    device: torch.device
    backend: str
    """Name of the splat backend, or "auto"."""
    seed: int
    folder: Path
    """A working folder that becomes the stage's folder when `run` returns: extra files go here."""
    restored: Checkpoint | None
    """Where to continue from, if an earlier run was interrupted."""

    def report(
        self, step: int, total: int, metrics: Mapping[str, float] | None = None, *, scene: Scene | None = None
    ) -> None:
        """Tell whoever listens (terminal, metrics.jsonl, viewer) that `step` of `total` steps are done.

        Cheap: call every step, with metrics when there are any.  `scene` is the current state, for viewers.
        """
        ...

    def enough(self) -> bool:
        """True once the user wants the next stage: return the scene as it is, complete enough to be used and kept.

        Ask between steps, while any are left.  A stage that never asks, or cannot stop half way, runs to its end.
        """
        ...

    def checkpoint_due(self) -> bool:
        """True when enough time has passed since the last checkpoint, or the user asked to stop."""
        ...

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Save atomically.  Raises `Interrupted` if the user asked to stop."""
        ...
