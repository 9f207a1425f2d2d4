"""Many tasks over many processes: a task is a function by name, with a key and JSON arguments.

A scene file is one kind of task (`scene_tasks`); whatever can continue where it was cut off may be another.  An engine
runs tasks in processes of this machine or on a Ray cluster; `run_tasks` deals them out, and again those whose process
died.
"""

from relight.batch.engines import Engine, create_engine
from relight.batch.report import write_batch_report
from relight.batch.scenes import scene_tasks
from relight.batch.schedule import run_tasks
from relight.batch.tasks import Advanced, Again, Outcome, Started, Task

__all__ = [
    "Advanced", "Again", "Engine", "Outcome", "Started", "Task", "create_engine", "run_tasks", "scene_tasks",
    "write_batch_report",
]  # fmt: skip
