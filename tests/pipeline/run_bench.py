"""Runs of millisecond stages on a tiny capture, and what tests ask about them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import fake_stages

from relight import pipeline
from relight.config import Config, load_config
from relight.pipeline.events import Event

COUNT = "  - use: fake_stages:Count\n"
SHIFT = "  - use: fake_stages:Shift\n"
KEEP = "  - use: fake_stages:Keep\n"


@dataclass
class Bench:
    """A scene file, its run folder, and what the last run told."""

    folder: Path
    capture: Path
    events: list[Event] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    """Stages that were computed by the last run."""

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def config(self, stages: str, *words: str) -> Config:
        file = self.folder / "scene.yaml"
        file.write_text(f"data: {self.capture}\noutput: {self.out}\nstages:\n{stages}", encoding="utf-8")
        return load_config(file, words)

    def __call__(self, stages: str, *words: str, on_event: Callable[[Event], None] | None = None, **options):
        self.events.clear()
        fake_stages.RUNS.clear()

        def listen(event: Event) -> None:
            self.events.append(event)
            if on_event is not None:
                on_event(event)

        try:
            return pipeline.run(self.config(stages, *words), on_event=listen, **options)
        finally:
            self.ran = list(fake_stages.RUNS)

    def told(self, kind: type) -> list:
        """The events of a kind of the last run."""
        return [event for event in self.events if isinstance(event, kind)]

    def files(self) -> set[str]:
        """Every file of the run folder, hidden ones included."""
        return {p.relative_to(self.out).as_posix() for p in self.out.rglob("*") if not p.is_dir()}

    def folders(self) -> set[str]:
        return {p.name for p in self.out.iterdir() if p.is_dir()}


def inode(path: Path) -> int:
    return os.stat(path).st_ino
