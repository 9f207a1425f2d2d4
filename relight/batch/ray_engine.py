"""Tasks on Ray: this machine, or a cluster whose machines see the same files under the same paths."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from relight.batch.engines import thread_limits, threads_each
from relight.batch.tasks import Ending, Task, perform
from relight.errors import RelightError

ASK_SECONDS = 2.0
"""Between two questions of a worker whether it is to stop."""


class Board:
    """A Ray actor: what tasks tell, and whether they are to stop."""

    def __init__(self) -> None:
        self.told: dict[str, tuple[float, str]] = {}
        self.stopping = False

    def tell(self, key: str, fraction: float, place: str) -> None:
        """By a worker."""
        self.told[key] = fraction, place

    def read(self) -> dict[str, tuple[float, str]]:
        """What was told last, by key."""
        return self.told

    def stop(self) -> None:
        """To everybody."""
        self.stopping = True

    def is_stopping(self) -> bool:
        """Asked by workers."""
        return self.stopping


def perform_remotely(document: Mapping[str, Any], board: Any, threads: int) -> dict[str, Any]:
    """In a worker of Ray.  document: the fields of a `Task`.  threads: that it may use."""
    import ray

    # Before kernels are loaded.  Not as Ray's runtime_env, whose workers take half a minute to start.
    os.environ.update(thread_limits(threads))
    task, stop, over = Task(**document), threading.Event(), threading.Event()

    def ask() -> None:
        while not over.wait(ASK_SECONDS):
            if ray.get(board.is_stopping.remote()):
                stop.set()

    threading.Thread(target=ask, daemon=True).start()
    try:
        return asdict(perform(task, lambda fraction, place: board.tell.remote(task.key, fraction, place), stop))
    finally:
        over.set()


class RayEngine:
    """See `create_engine`.  Without an address Ray is started here and ends with us."""

    def __init__(self, workers: int | None, address: str | None, gpus: float):
        try:
            # Ray would tell its makers of every cluster it starts.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
            # Ray's own 15 starves workers on a machine that does anything else.
            os.environ.setdefault("RAY_worker_niceness", "0")
            import ray
        except ImportError as error:
            raise RelightError(f"--engine ray needs Ray ({error}): pip install 'relight[ray]'") from error
        self.ray: Any = ray
        self.address, self.gpus = address, gpus
        here = workers or 1
        self.threads = threads_each(here)
        # A cluster knows best for how many it has room.
        self.slots = here if address is None or workers is not None else 1 << 30
        self._keys: dict[Any, tuple[str, float]] = {}
        self._read_at, self._told = 0.0, dict[str, tuple[float, str]]()

    def __enter__(self) -> RayEngine:
        here: dict[str, Any] = {"num_cpus": self.slots * self.threads, "include_dashboard": False}
        try:
            self.ray.init(
                log_to_driver=False, logging_level="ERROR",
                **(here if self.address is None else {"address": self.address}),
            )  # fmt: skip
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise RelightError(f"Ray at {self.address or 'this machine'} cannot be reached ({error})") from error
        self.board = self.ray.remote(num_cpus=0)(Board).remote()
        self.perform = self.ray.remote(
            num_cpus=self.threads,
            num_gpus=self.gpus,
            max_retries=0,  # the schedule tries again, and says so
        )(perform_remotely)
        return self

    def __exit__(self, *_: object) -> None:
        for reference in self._keys:
            self.ray.cancel(reference, force=True)
        self.ray.shutdown()

    def start(self, task: Task) -> None:
        self._keys[self.perform.remote(asdict(task), self.board, self.threads)] = task.key, time.monotonic()

    def ended(self, seconds: float) -> list[tuple[str, Ending]]:
        ready, _ = self.ray.wait(list(self._keys), num_returns=1, timeout=seconds)
        found = []
        for reference in ready:
            key, begun = self._keys.pop(reference)
            try:
                ending = Ending(**self.ray.get(reference))
            except self.ray.exceptions.RayError as error:
                lines = str(error).strip().splitlines() or [type(error).__name__]
                ending = Ending("broken", time.monotonic() - begun, f"its process died: {lines[0]}")
            found.append((key, ending))
        return found

    def progress(self) -> Mapping[str, tuple[float, str]]:
        if (now := time.monotonic()) - self._read_at >= 1.0:
            self._read_at, self._told = now, self.ray.get(self.board.read.remote())
        return self._told

    def stop(self) -> None:
        self.ray.get(self.board.stop.remote())
