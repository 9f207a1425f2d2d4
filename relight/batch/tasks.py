"""What is dealt out, how it is performed, and what is told of it."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, cast

from relight.errors import RelightError
from relight.plugins import load_target
from relight.stages.base import Interrupted

TELL_SECONDS = 0.5
"""Between two reports of progress by one task."""


@dataclass(frozen=True)
class Task:
    """key: a name that no other task of the batch has.  target: "module:function" of a `Work`.
    arguments: JSON values.  refused: why it cannot be tried at all, if that is known.
    """

    key: str
    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    refused: str | None = None


class Work(Protocol):
    """What a task's target is.  Called again with the same arguments after its process died, so it must continue from
    what is on disk or start over without harm."""

    def __call__(
        self, arguments: Mapping[str, Any], tell: Callable[[float, str], None], stop: threading.Event
    ) -> Mapping[str, Any]:
        """Return JSON values.  tell: progress of 0 to 1, and where it is in a word; cheap.  stop: save, and raise
        `Interrupted`.  A `RelightError` is final; anything else that is raised is tried again.
        """
        ...


Status: TypeAlias = Literal["done", "refused", "broken", "stopped"]
"""refused: by a `RelightError`, which another try would raise again.  broken: by anything else, a dead process too."""


@dataclass(frozen=True)
class Ending:
    """How one try ended.  seconds: of this try.  message: of what went wrong."""

    status: Status
    seconds: float = 0.0
    message: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a task ended after all its tries.  seconds: of all of them."""

    task: Task
    ending: Ending
    tries: int
    seconds: float

    @property
    def done(self) -> bool:
        return self.ending.status == "done"


@dataclass(frozen=True)
class Started:
    """number: of the try, from 1."""

    task: Task
    number: int


@dataclass(frozen=True)
class Advanced:
    """By key, of tasks that run: progress of 0 to 1, and where they are."""

    running: Mapping[str, tuple[float, str]]


@dataclass(frozen=True)
class Again:
    """A try broke and the task waits for another."""

    task: Task
    ending: Ending


Event: TypeAlias = "Started | Advanced | Again | Outcome"


def perform(task: Task, tell: Callable[[float, str], None], stop: threading.Event) -> Ending:
    """One try, in this process.  Raises nothing that a task may raise."""
    begun, told = time.monotonic(), [-TELL_SECONDS]

    def seldom(fraction: float, place: str) -> None:
        if (now := time.monotonic()) - told[0] >= TELL_SECONDS:
            told[0] = now
            tell(fraction, place)

    def ending(status: Status, message: str = "", result: Mapping[str, Any] | None = None) -> Ending:
        return Ending(status, time.monotonic() - begun, message, result or {})

    try:
        work = cast("Work", load_target(task.target, f"task {task.key}"))
        return ending("done", result=work(task.arguments, seldom, stop))
    except Interrupted:
        return ending("stopped", "stopped and saved")
    except RelightError as error:
        return ending("refused", str(error))
    except Exception as error:
        return ending("broken", "".join(traceback.format_exception(error)))
