"""Scene files as tasks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from relight.batch.tasks import Task
from relight.config import GENERIC_NAMES, inline_text, load_config
from relight.errors import RelightError

TARGET = "relight.batch.scenes:fit_scene"


def scene_tasks(files: Sequence[str | Path], overrides: Sequence[str] = ()) -> list[Task]:
    """One for each scene file, named after its run folder.  overrides: key=value words for all of them.

    A file with mistakes becomes a task that is refused; one that is named twice is one task.  Raises RelightError for
    two scenes that would write to one folder.
    """
    tasks, folders = [], dict[Path, Path]()
    for path in dict.fromkeys(Path(f).resolve() for f in files):
        try:
            output = load_config(path, overrides).output
        except RelightError as error:
            named = path.parent if path.stem in GENERIC_NAMES else path.with_suffix("")
            tasks.append(Task(str(named), TARGET, refused=str(error)))
            continue
        if output in folders:
            raise RelightError(f"{path} and {folders[output]}: both write to {output}; give one of them another output")
        folders[output] = path
        # Where it goes must not depend on where a worker starts.
        words = [*overrides, f"output={inline_text(str(output))}"]
        tasks.append(Task(str(output), TARGET, {"scene": str(path), "overrides": words}))
    return _short(tasks)


def _short(tasks: list[Task]) -> list[Task]:
    """The same with keys cut to their last parts, as long as those differ."""
    for parts in range(1, 8):
        names = ["/".join(Path(t.key).parts[-parts:]) for t in tasks]
        if len(set(names)) == len(tasks):
            return [replace(t, key=name) for t, name in zip(tasks, names, strict=True)]
    return tasks


def fit_scene(
    arguments: Mapping[str, Any], tell: Callable[[float, str], None], stop: threading.Event
) -> dict[str, Any]:
    """What `relight fit` does: stages that are done are kept, the rest is computed, and the report written.

    Result: run and stage folder, seconds of all stages, the last metrics, report (None without a splat).
    """
    from relight import pipeline
    from relight.pipeline import events

    names: tuple[str, ...] = ()

    def listen(event: events.Event) -> None:
        nonlocal names
        match event:
            case events.Loaded(_, names):
                pass
            case events.Progress(index, step, total):
                tell((index + step / max(total, 1)) / len(names), names[index])
            case events.StageFinished(index) | events.StageSkipped(index):
                tell((index + 1) / len(names), names[index])

    config = load_config(arguments["scene"], arguments["overrides"])
    result = pipeline.run(config, on_event=listen, stop=stop)
    history = result.scene.history
    return {
        "run": str(result.folder),
        "stage": str(result.stage),
        "stages": [record.name for record in history],
        "seconds": sum(record.seconds for record in history),
        "metrics": dict(history[-1].metrics),
        "report": _report(result),
    }


def _report(result: Any) -> str | None:
    """Written unless there is one of this very result."""
    from relight.export.report import write_report
    from relight.scene_io import MANIFEST

    if result.scene.gaussians is None or result.scene.views is None:
        return None
    report = result.folder / "report.html"
    manifest = result.stage / MANIFEST
    if not report.is_file() or report.stat().st_mtime < manifest.stat().st_mtime:
        write_report(result.folder, report)
    return str(report)
