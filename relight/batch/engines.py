"""Where tasks run: what the schedule asks of it, and processes of this machine."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import Any, Literal, Protocol

from relight.batch.tasks import Ending, Task
from relight.errors import RelightError

LAST_WORDS = 2000
"""Characters of what a dead process wrote to its standard error that are shown."""


class Engine(Protocol):
    """Open with `with`; what still runs at its end is killed."""

    slots: int
    """Tasks that may run at once."""

    def start(self, task: Task) -> None:
        """Begin a try.  Returns at once."""
        ...

    def ended(self, seconds: float) -> list[tuple[str, Ending]]:
        """Tries that ended since the last call, by key; waits up to `seconds` for one."""
        ...

    def progress(self) -> Mapping[str, tuple[float, str]]:
        """What tasks last told, by key."""
        ...

    def stop(self) -> None:
        """Ask what runs to save and end."""
        ...

    def __enter__(self) -> Engine: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


def create_engine(
    name: Literal["local", "ray"], *, workers: int | None = None, address: str | None = None, gpus: float = 0.0
) -> Engine:
    """workers: tasks at once; None for one of this machine, and for as many as a cluster has room for.
    address: of a Ray cluster.  gpus: of a task; a fraction is a share of one.

    Processors of this machine are divided evenly among the workers.  Raises RelightError for what does not go
    together, and for a missing Ray.
    """
    if name == "ray":
        from relight.batch.ray_engine import RayEngine

        return RayEngine(workers, address, gpus)
    if address is not None:
        raise RelightError("--address is of a Ray cluster; add --engine ray")
    return LocalEngine(workers or 1, gpus)


def threads_each(workers: int) -> int:
    """Processors of this machine for each of so many workers."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // workers)


def thread_limits(threads: int) -> dict[str, str]:
    """Environment of a process that computes with so many threads; what the user has set wins."""
    names = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {name: os.environ.get(name, str(threads)) for name in names} | {"OMP_WAIT_POLICY": "PASSIVE"}


class LocalEngine:
    """A process for each try, so that one that dies takes nothing with it."""

    def __init__(self, workers: int, gpus: float = 0.0):
        self.slots, self.gpus = workers, gpus
        self._free = list(range(workers))
        self._processes: dict[str, tuple[subprocess.Popen[str], int]] = {}
        self._told: dict[str, tuple[float, str]] = {}
        self._endings: queue.SimpleQueue[tuple[str, Ending]] = queue.SimpleQueue()

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(self, *_: object) -> None:
        for process, _slot in self._processes.values():
            # The whole session: an encoder that the worker started goes too.
            with suppress(ProcessLookupError):
                _kill_session(process)
            process.wait()
        self._processes.clear()

    def start(self, task: Task) -> None:
        slot = self._free.pop(0)
        environment = os.environ | thread_limits(threads_each(self.slots))
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus_of(slot, self.gpus)))
        self._told.pop(task.key, None)
        # A file: a pipe that nobody empties would block whoever writes much.
        errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - closed by the thread
        process = subprocess.Popen(
            [sys.executable, "-m", "relight.batch.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=errors, text=True, env=environment,
            start_new_session=True,  # Ctrl-C is for us alone; we tell the workers
        )  # fmt: skip
        self._processes[task.key] = process, slot
        threading.Thread(target=self._follow, args=(task, process, errors), daemon=True).start()

    def ended(self, seconds: float) -> list[tuple[str, Ending]]:
        found = []
        with suppress(queue.Empty):
            found.append(self._endings.get(timeout=seconds))
            while True:
                found.append(self._endings.get_nowait())
        for key, _ in found:
            self._free.append(self._processes.pop(key)[1])
        return found

    def progress(self) -> Mapping[str, tuple[float, str]]:
        return dict(self._told)

    def stop(self) -> None:
        for process, _ in self._processes.values():
            with suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]

    def _follow(self, task: Task, process: subprocess.Popen[str], errors: Any) -> None:
        """In a thread: hand the task over, listen until the process is gone."""
        begun, ending = time.monotonic(), None
        try:
            with suppress(OSError, ValueError):
                process.stdin.write(json.dumps(asdict(task)) + "\n")  # type: ignore[union-attr]
                process.stdin.flush()  # type: ignore[union-attr]
            for line in process.stdout or ():
                with suppress(ValueError, TypeError, KeyError):  # a process that dies may leave half a line
                    said = json.loads(line)
                    if "ending" in said:
                        ending = Ending(**said["ending"])
                    else:
                        self._told[task.key] = said["progress"], said["place"]
            code = process.wait()
            if ending is None:
                errors.seek(0)
                how = f"signal {-code}" if code < 0 else f"exit code {code}"
                message = f"its process ended by {how}\n{errors.read()[-LAST_WORDS:]}".strip()
                ending = Ending("broken", time.monotonic() - begun, message)
        finally:
            errors.close()
            for stream in (process.stdin, process.stdout):
                with suppress(OSError):
                    stream.close()  # type: ignore[union-attr]
            self._endings.put((task.key, ending or Ending("broken", time.monotonic() - begun, "was not followed")))


def _kill_session(process: subprocess.Popen[str]) -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)


def gpus_of(slot: int, each: float) -> list[int]:
    """Numbers of the GPUs that the worker in a slot uses, when each has so many or, below 1, such a share of one."""
    if each < 1:
        return [int(slot // int(1 / each))]
    return list(range(slot * int(each), (slot + 1) * int(each)))
