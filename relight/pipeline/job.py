"""The job of a stage that runs in a run folder: metrics, checkpoints and the wish to stop."""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from relight.atomic import replacing
from relight.errors import MALFORMED, DataError
from relight.pipeline.events import CheckpointSaved, Listener, Note, Progress
from relight.scene import Scene
from relight.scene_io import flush, read_tensors, write_tensors
from relight.stages.base import Checkpoint, Interrupted

CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.jsonl"
MOST_OF_THE_TIME = 20
"""A checkpoint is due at the earliest this many times as long after the last one as that one took to write."""


@dataclass
class _Progress:
    """What a checkpoint remembers besides the stage's own state."""

    step: int = 0
    seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)


class FolderJob:
    """`relight.stages.base.Job` in a folder of its own.

    Open with `with`, which ends reports.
    work: the folder; holds the checkpoint and, in `folder`, what becomes the stage's result.
    key: content key of the stage; a checkpoint of another key is not continued from.
    """

    def __init__(
        self,
        work: Path,
        index: int,
        key: str,
        *,
        device: torch.device,
        backend: str,
        seed: int,
        stop: threading.Event,
        enough: threading.Event,
        emit: Listener,
        checkpoint_seconds: float,
    ):
        self.device, self.backend, self.seed = device, backend, seed
        self.work, self.folder = work, work / "folder"
        self._index, self._key, self._stop, self._enough, self._emit = index, key, stop, enough, emit
        self.ended_early = False
        """Whether the stage was told so when it asked."""
        self._interval = checkpoint_seconds
        self.restored, self._progress = self._restore()
        if self.restored is None and work.exists():
            shutil.rmtree(work)
        self.folder.mkdir(parents=True, exist_ok=True)
        _cut(self.folder / METRICS, self._progress.step)
        self._metrics_file = (self.folder / METRICS).open("a", encoding="utf-8")
        self._started = self._saved_at = time.monotonic()
        self._save_took = 0.0
        self._told_at = -math.inf

    @property
    def seconds(self) -> float:
        """Of work on this stage, interruptions left out."""
        return self._progress.seconds + time.monotonic() - self._started

    @property
    def steps(self) -> int:
        return self._progress.step

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of each."""
        return dict(self._progress.metrics)

    def report(
        self, step: int, total: int, metrics: Mapping[str, float] | None = None, *, scene: Scene | None = None
    ) -> None:
        self._progress.step = step
        now = time.monotonic()
        if metrics:
            finite = {k: float(v) if math.isfinite(v) else None for k, v in metrics.items()}
            line = {"step": step, "total": total, "seconds": round(self.seconds, 3), **finite}
            self._metrics_file.write(json.dumps(line) + "\n")
            self._metrics_file.flush()
            self._progress.metrics |= {k: v for k, v in finite.items() if v is not None}
        if metrics or scene is not None or step == total or now - self._told_at >= 0.1:
            self._told_at = now
            self._emit(Progress(self._index, step, total, self.seconds, dict(metrics or {}), scene))

    def enough(self) -> bool:
        self.ended_early |= self._enough.is_set()
        return self.ended_early

    def checkpoint_due(self) -> bool:
        wait = max(self._interval, MOST_OF_THE_TIME * self._save_took)
        return self._stop.is_set() or time.monotonic() - self._saved_at >= wait

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        begun = time.monotonic()
        os.fsync(self._metrics_file.fileno())
        state = {
            "key": self._key,
            "step": checkpoint.step,
            "seconds": self.seconds,
            "metrics": self._progress.metrics,
            "values": dict(checkpoint.values),
        }
        with replacing(self.work / CHECKPOINT) as temporary:
            write_tensors(temporary, checkpoint.tensors, {"relight": json.dumps(state)})
        flush(self.work)
        self._saved_at = time.monotonic()
        self._save_took = self._saved_at - begun
        self._emit(CheckpointSaved(self._index, checkpoint.step))
        if self._stop.is_set():
            raise Interrupted

    def close(self) -> None:
        """No more reports.  Metrics are on the device after this."""
        if not self._metrics_file.closed:
            with self._metrics_file as file:
                file.flush()
                os.fsync(file.fileno())
            if not (self.folder / METRICS).stat().st_size:
                (self.folder / METRICS).unlink()

    def __enter__(self) -> FolderJob:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        finally:
            # Without a checkpoint nothing here is of use again, and it may be what filled the disk.
            if failure is not None and not (self.work / CHECKPOINT).is_file():
                shutil.rmtree(self.work, ignore_errors=True)

    def _restore(self) -> tuple[Checkpoint | None, _Progress]:
        path = self.work / CHECKPOINT
        if not path.is_file():
            return None, _Progress()
        try:
            tensors, metadata = read_tensors(path)
            state = json.loads(metadata["relight"])
            checkpoint = Checkpoint(state["step"], tensors, state["values"])
            progress = _Progress(state["step"], state["seconds"], state["metrics"])
        except (DataError, *MALFORMED) as error:
            self._emit(Note(f"{path}: unreadable, so the stage starts anew ({error})"))
            return None, _Progress()
        return (checkpoint, progress) if state["key"] == self._key else (None, _Progress())


def checkpoint_key(work: Path) -> str | None:
    """Content key of the stage whose checkpoint is in a working folder; None without a readable one."""
    try:
        return str(json.loads(read_tensors(work / CHECKPOINT)[1]["relight"])["key"])
    except (DataError, *MALFORMED):
        return None


def _cut(path: Path, step: int) -> None:
    """Drop lines after `step`, and a last one that was not written whole."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except MALFORMED:
            continue
    with replacing(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")
