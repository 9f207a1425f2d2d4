"""What a running pipeline tells whoever listens: terminal, viewer, tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from relight.scene import Scene


@dataclass(frozen=True)
class Loaded:
    """The capture was read.  names: of all stages that will be looked at, in order."""

    scene: Scene
    names: tuple[str, ...]


@dataclass(frozen=True)
class StageSkipped:
    """Its result with the same content key is already in `folder`."""

    index: int
    folder: Path


@dataclass(frozen=True)
class StageStarted:
    """step: 0, or that of the checkpoint it continues from."""

    index: int
    step: int


@dataclass(frozen=True)
class Progress:
    """`step` of `total` are done, after `seconds` of work.  metrics: new ones, often none.  At most ten a second,
    but every one that has metrics.  scene: the current state, when the stage gave it.
    """

    index: int
    step: int
    total: int
    seconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    scene: Scene | None = None


@dataclass(frozen=True)
class CheckpointSaved:
    """A kill from now on loses nothing up to `step`."""

    index: int
    step: int


@dataclass(frozen=True)
class StageFinished:
    """metrics: the last value of each."""

    index: int
    folder: Path
    seconds: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Note:
    """Something the user should know and need not act on."""

    text: str


Event: TypeAlias = "Loaded | StageSkipped | StageStarted | Progress | CheckpointSaved | StageFinished | Note"
Listener: TypeAlias = Callable[[Event], None]
