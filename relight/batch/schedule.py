"""Deals tasks out to an engine until each is done, refused, or broke too often."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence

from relight.batch.engines import Engine
from relight.batch.tasks import Advanced, Again, Ending, Event, Outcome, Started, Task
from relight.errors import RelightError

POLL_SECONDS = 0.25


def run_tasks(
    tasks: Sequence[Task],
    engine: Engine,
    *,
    retries: int = 2,
    on_event: Callable[[Event], None] = lambda event: None,
    stop: threading.Event | None = None,
) -> list[Outcome]:
    """Outcomes in the order of `tasks`.  A failed task stops no other.

    retries: more tries for a task whose process died or that raised what is no `RelightError`.
    stop: set it to let running tasks save and end; those that wait are not begun.
    Raises RelightError for two tasks of one key.
    """
    twice = [key for key, count in Counter(task.key for task in tasks).items() if count > 1]
    if twice:
        raise RelightError(f"{', '.join(twice)}: more than one task of this name; leave one out")
    waiting, running = deque(tasks), dict[str, Task]()
    tries, seconds, outcomes = Counter[str](), dict.fromkeys((t.key for t in tasks), 0.0), dict[str, Outcome]()
    stop, stopping = stop or threading.Event(), False

    def end(task: Task, ending: Ending) -> None:
        outcomes[task.key] = Outcome(task, ending, tries[task.key], seconds[task.key])
        on_event(outcomes[task.key])

    while waiting or running:
        if stop.is_set() and not stopping:
            stopping = True
            engine.stop()
        while waiting and (stopping or len(running) < engine.slots):
            task = waiting.popleft()
            if stopping or task.refused is not None:
                end(task, Ending("stopped", message="not begun") if stopping else
                    Ending("refused", message=task.refused or ""))  # fmt: skip
                continue
            running[task.key] = task
            tries[task.key] += 1
            on_event(Started(task, tries[task.key]))
            engine.start(task)
        for key, ending in engine.ended(POLL_SECONDS) if running else ():
            task = running.pop(key)
            seconds[key] += ending.seconds
            if ending.status == "broken" and tries[key] <= retries and not stopping:
                waiting.append(task)
                on_event(Again(task, ending))
            else:
                end(task, ending)
        on_event(Advanced({key: engine.progress().get(key, (0.0, "")) for key in running}))
    return [outcomes[task.key] for task in tasks]
