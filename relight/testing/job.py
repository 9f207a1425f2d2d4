"""A job without a pipeline: for tests of stages, ours and others'."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from relight.scene import Scene
from relight.stages.base import Checkpoint, Interrupted


class MemoryJob:
    """Keeps every report and the last checkpoint in memory.

    stop_at: ask to stop at this step, as Ctrl-C does: the stage's next checkpoint raises `Interrupted`.
    enough_at: want the next stage from this step on.
    """

    def __init__(
        self, folder: Path, *, seed: int = 0, restored: Checkpoint | None = None, stop_at: int | None = None,
        enough_at: int | None = None,
    ):  # fmt: skip
        self.device, self.backend, self.seed, self.folder = torch.device("cpu"), "auto", seed, folder
        self.restored, self.stop_at, self.enough_at = restored, stop_at, enough_at
        self.reports: list[tuple[int, int, dict[str, float]]] = []
        self.saved: Checkpoint | None = None

    def report(
        self, step: int, total: int, metrics: Mapping[str, float] | None = None, *, scene: Scene | None = None
    ) -> None:
        self.reports.append((step, total, dict(metrics or {})))

    def enough(self) -> bool:
        return self.enough_at is not None and self.reports[-1][0] >= self.enough_at

    def checkpoint_due(self) -> bool:
        return self.stop_at is not None and self.reports[-1][0] >= self.stop_at

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        self.saved = Checkpoint(
            checkpoint.step, {k: v.clone() for k, v in checkpoint.tensors.items()}, dict(checkpoint.values)
        )
        raise Interrupted

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of every metric."""
        out: dict[str, float] = {}
        for _, _, metrics in self.reports:
            out |= metrics
        return out
