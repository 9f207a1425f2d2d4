"""A fit that is watched: its state for the panel, its scene for the renderer, and the wish to pause, go on or stop.

The fit calls `Live` as a pipeline listener.  Without clients that costs a few assignments; nothing is copied or drawn.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from relight.pipeline.events import Event, Loaded, Note, Progress, StageFinished, StageSkipped, StageStarted
from relight.scene import Scene

CURVES = ("loss", "train_psnr")
"""Metrics that are plotted."""
POINTS = 400
"""Of a curve; beyond that, every second one is dropped."""
DUTY = 0.04
"""Share of the time that is spent drawing while a fit runs and somebody looks.  A fit loses more than that, as its
threads wait for the one that was interrupted."""


@dataclass
class StageState:
    """state: "waiting", "running", "done" or "skipped".  seconds: of work.  left: seconds, None if unknown."""

    name: str
    state: str = "waiting"
    step: int = 0
    total: int = 0
    seconds: float = 0.0
    left: float | None = None


@dataclass
class Curve:
    """Steps and values, thinned as they grow."""

    steps: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    stride: int = 1
    seen: int = 0

    def add(self, step: float, value: float) -> None:
        """One more."""
        self.seen += 1
        if self.seen % self.stride:
            return
        self.steps.append(step)
        self.values.append(value)
        if len(self.steps) > POINTS:
            self.steps, self.values, self.stride = self.steps[::2], self.values[::2], 2 * self.stride


class Live:
    """stop, enough: the events that the pipeline was given.  looked_at: whether anybody does; asked in the fit's
    thread."""

    def __init__(
        self,
        stop: threading.Event,
        enough: threading.Event | None = None,
        looked_at: Callable[[], bool] = lambda: False,
    ):
        self.stop, self.enough, self.looked_at = stop, enough or threading.Event(), looked_at
        self.stages: list[StageState] = []
        self.curves: dict[str, Curve] = {name: Curve() for name in CURVES}
        self.notes: deque[str] = deque(maxlen=5)
        self.captured: Scene | None = None
        self.running = True
        self.step_stages = False
        self.loaded = threading.Event()
        self._going = threading.Event()
        self._going.set()
        self._latest: Scene | None = None
        self._number = 0
        self._started: tuple[float, int] = (0.0, 0)

    def __call__(self, event: Event) -> None:
        """In the fit's thread.  Blocks while paused."""
        match event:
            case Loaded(scene, names):
                self.captured = scene
                self.stages = [StageState(name) for name in names]
                self.loaded.set()
            case StageSkipped(index, _):
                self.stages[index].state = "skipped"
            case StageStarted(index, step):
                self.stages[index].state = "running"
                self.curves = {name: Curve() for name in CURVES}
                self._started = (time.monotonic(), step)
            case Progress():
                self._progress(event)
            case StageFinished(index, _, seconds, _):
                self.stages[index].state, self.stages[index].seconds, self.stages[index].left = "done", seconds, None
                if self.step_stages and index + 1 < len(self.stages):
                    self.pause()
            case Note(text):
                self.notes.append(text)
        while not self._going.is_set() and not self.stop.is_set():
            paused = time.monotonic()
            self._going.wait(0.2)
            self._started = (self._started[0] + time.monotonic() - paused, self._started[1])

    def _progress(self, event: Progress) -> None:
        stage = self.stages[event.index]
        stage.step, stage.total, stage.seconds = event.step, event.total, event.seconds
        begun, first = self._started
        rate = (event.step - first) / max(time.monotonic() - begun, 1e-9)
        stage.left = (event.total - event.step) / rate if rate > 0 else None
        for name, curve in self.curves.items():
            if name in event.metrics:
                curve.add(event.step, event.metrics[name])
        if event.scene is not None and event.scene.gaussians is not None:
            # The stage goes on writing into its tensors, so who looks gets a copy; who does not look costs nothing.
            if self.looked_at():
                self._latest = replace(event.scene, gaussians=event.scene.gaussians.map(lambda t: t.detach().clone()))
            else:
                self._latest = event.scene
            self._number += 1

    @property
    def scene(self) -> tuple[int, Scene | None]:
        """The newest state, and a number that says which."""
        return self._number, self._latest

    @property
    def paused(self) -> bool:
        return not self._going.is_set()

    def pause(self) -> None:
        """Hold the fit at its next report."""
        self._going.clear()

    def resume(self) -> None:
        """Go on, into the next stage too."""
        self._going.set()

    def next_stage(self) -> None:
        """The running stage ends with what it has, and the next one begins."""
        self.enough.set()
        self._going.set()

    def stop_and_save(self) -> None:
        """The stage saves a checkpoint and ends; the same command continues."""
        self.stop.set()
        self._going.set()

    def finished(self, scene: Scene) -> None:
        """The fit is over: from here on drawing may take what it wants.  scene: its result."""
        self.running = False
        if scene.gaussians is not None:
            self._latest, self._number = scene, self._number + 1

    def duty(self) -> float:
        """For `Renderer`."""
        return DUTY if self.running and not self.paused else 1.0
