"""Pipeline events on a terminal: bars with time left; plain lines every ten seconds where nobody watches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from relight.batch import tasks as batch
from relight.pipeline.events import Event, Loaded, Note, Progress, StageFinished, StageSkipped, StageStarted

SHOWN = {"loss": "loss {:.4f}", "train_psnr": "{:.2f} dB", "gaussians": "{:,.0f} Gaussians",
         "bytes": "{:,.0f} bytes", "lost": "{:.2f} dB lost"}  # fmt: skip
"""Metrics beside the bar."""
LINE_SECONDS = 10.0
Item = TypeVar("Item")


def _bars(console: Console, *, quiet: bool) -> Bars:
    return Bars(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"), console=console, disable=quiet or not console.is_terminal,
    )  # fmt: skip


@contextmanager
def bar(title: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """One bar on standard error: `advance(steps)`, and `advance(0, total=n)` once it is known."""
    with _bars(Console(stderr=True), quiet=False) as bars:
        task = bars.add_task(title, total=total, note="")
        yield lambda steps, **changes: bars.update(task, advance=steps, **changes)


def counted(title: str, total: int, items: Iterable[Item]) -> Iterator[Item]:
    """The items, and a bar that tells how many were done with."""
    with bar(title, total) as advance:
        for item in items:
            yield item
            advance(1)


class Terminal:
    """A pipeline listener; open with `with`."""

    def __init__(self, *, quiet: bool = False):
        # Results go to standard output, so that they can be piped; this doesn't.
        self.console = Console(quiet=quiet, stderr=True, highlight=False)
        self.bars = _bars(self.console, quiet=quiet)
        self.names: tuple[str, ...] = ()
        self.task: TaskID | None = None
        self.printed, self.printed_step = 0.0, 0

    def __enter__(self) -> Terminal:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case Loaded(scene, names):
                self.names = names
                views = scene.views
                if views is not None:
                    self.say(f"{len(views.train)} photographs to fit, {len(views.test)} held out")
            case StageSkipped(_, folder):
                self.say(f"{folder.name}: already done")
            case StageStarted(index, step):
                self.task = self.bars.add_task(self.names[index], total=None, note="")
                self.printed, self.printed_step = time.monotonic(), step
                if step:
                    self.say(f"{self.names[index]}: continuing at step {step}")
            case Progress():
                self._progress(event)
            case StageFinished(_, folder, seconds, _):
                self.say(f"{folder.name}: done in {_duration(seconds)}")
            case Note(text):
                self.say(text)

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, markup=False, soft_wrap=True)

    def _progress(self, event: Progress) -> None:
        note = "  ".join(form.format(event.metrics[k]) for k, form in SHOWN.items() if k in event.metrics)
        if self.task is not None and not self.bars.disable:
            self.bars.update(self.task, completed=event.step, total=event.total)
            if note:
                self.bars.update(self.task, note=note)
        elif note and (now := time.monotonic()) - self.printed > LINE_SECONDS:
            # By the steps since the last line: the first ones wait for kernels to compile.
            rate = (event.step - self.printed_step) / (now - self.printed)
            left = _duration((event.total - event.step) / rate) if rate > 0 else "?"
            self.printed, self.printed_step = now, event.step
            self.say(f"{self.names[event.index]} {event.step}/{event.total}  {note}  {left} left")


class BatchTerminal:
    """A listener of `run_tasks`; open with `with`."""

    def __init__(self, total: int, *, quiet: bool = False):
        self.console = Console(quiet=quiet, stderr=True, highlight=False)
        self.bars = _bars(self.console, quiet=quiet)
        self.bar = self.bars.add_task("all", total=total, note="")
        self.rows: dict[str, TaskID] = {}
        self.total, self.ended = total, 0
        self.begun = self.printed = time.monotonic()

    def __enter__(self) -> BatchTerminal:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def __call__(self, event: batch.Event) -> None:
        match event:
            case batch.Started(task, number):
                self.rows[task.key] = self.bars.add_task(f"  {task.key}", total=100, note="")
                self.say(f"{task.key}: started" if number == 1 else f"{task.key}: try {number}")
            case batch.Again(task, ending):
                self._gone(task.key)
                self.say(f"{task.key}: broke, and is tried again: {ending.message.splitlines()[0]}")
            case batch.Outcome(task, ending):
                self._gone(task.key)
                self.ended += 1
                after = f" in {_duration(event.seconds)}" if event.tries else ""
                self.say(f"{task.key}: {ending.status}{after}")
                if not event.done and ending.message:
                    self.console.print(ending.message, markup=False, soft_wrap=True, style="red")
            case batch.Advanced(running):
                self._advanced(running)

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, markup=False, soft_wrap=True)

    def _gone(self, key: str) -> None:
        if key in self.rows:
            self.bars.remove_task(self.rows.pop(key))

    def _advanced(self, running: Mapping[str, tuple[float, str]]) -> None:
        whole = self.ended + sum(fraction for fraction, _ in running.values())
        self.bars.update(self.bar, completed=whole)
        for key, (fraction, place) in running.items():
            self.bars.update(self.rows[key], completed=100 * fraction, note=place)
        now = time.monotonic()
        if self.bars.disable and running and now - self.printed > LINE_SECONDS:
            self.printed = now
            # What was done before (a batch that continues) passes in no time, so this errs on the short side at first.
            left = _duration((now - self.begun) * (self.total - whole) / whole) if whole > 0 else "?"
            shown = ", ".join(f"{key} {100 * fraction:.0f} %" for key, (fraction, _) in running.items())
            self.say(f"{self.ended} of {self.total} ended; {shown}; {left} left")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
