"""Run the stages of a configuration, each once: what is on disk with the same content key is not computed again."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from relight.atomic import ADVICE
from relight.config import Config, StageConfig
from relight.errors import MissingPartError, RelightError
from relight.pipeline.events import Event, Listener, Loaded, Note, StageFinished, StageSkipped, StageStarted
from relight.pipeline.folder import RunFolder
from relight.pipeline.job import FolderJob
from relight.pipeline.keys import data_key, early_key, stage_key
from relight.plugins import did_you_mean
from relight.scene import Scene, StageRecord
from relight.scene_io import MANIFEST, load_scene, point_to_pictures, read_manifest, save_scene
from relight.stages.base import Interrupted


@dataclass(frozen=True)
class Result:
    """folder: of the run.  stage: of the last stage that was looked at.  scene: its result."""

    folder: Path
    stage: Path
    scene: Scene


def run(
    config: Config,
    *,
    resume: bool = True,
    until: str | None = None,
    on_event: Listener = lambda event: None,
    stop: threading.Event | None = None,
    enough: threading.Event | None = None,
    checkpoint_seconds: float = 30.0,
) -> Result:
    """Run all stages, or those up to the one named `until`.

    resume: continue a stage that was interrupted, and keep the result of one that was ended early; False starts both
    anew.  Finished stages are kept either way.
    stop: set it to stop at the next checkpoint, which the stage then makes at once; raises `Interrupted`.
    enough: set it to end the running stage with what it has, so that the next one begins, which clears it.
    Raises RelightError for whatever the user can mend, a full disk included; results on disk are as before then.
    """
    stages = config.stages[: _last(config.stages, until) + 1]
    scene = load_data(config)
    check_parts(config.stages, scene)
    on_event(Loaded(scene, tuple(s.name for s in stages)))
    try:
        with RunFolder(config.output, on_event) as folder:
            try:
                folder.write_config(config)
                stop, enough = stop or threading.Event(), enough or threading.Event()
                runner = _Runner(config, folder, on_event, stop, enough, checkpoint_seconds)
                result = runner.run(stages, scene, resume=resume)
                if len(stages) == len(config.stages):
                    folder.finish(len(stages))
                return result
            finally:
                folder.tidy()
    except OSError as error:
        advice = ADVICE.get(error.errno or 0)
        if advice is None:
            raise
        where = error.filename or config.output
        raise RelightError(
            f"{where}: {error.strerror}; {advice} and run again: finished stages and the last checkpoint are kept"
        ) from error


def load_data(config: Config) -> Scene:
    """The capture, as the configuration says it is read."""
    from relight.data import load

    return load(**{k: getattr(config.data, k) for k in config.data.__dataclass_fields__})


def check_parts(stages: Iterable[StageConfig], scene: Scene) -> None:
    """Follow `needs` and `gives` without running anything.  Raises MissingPartError."""
    have = {name for name in scene.__dataclass_fields__ if getattr(scene, name) is not None}
    # First points are found from the photographs where structure from motion left none.
    have |= {"points"} if "views" in have else set()
    problems = []
    for stage in stages:
        missing = [part for part in stage.stage.needs if part not in have]
        if missing:
            problems.append(
                f"{stage.name}: needs {', '.join(missing)}, which neither the capture nor an earlier stage gives; "
                f"it has {', '.join(sorted(have - {'frame', 'history'}))}"
            )
        have |= set(stage.stage.gives)
    if problems:
        raise MissingPartError("\n".join(problems))


def torch_device(name: str) -> torch.device:
    """ "auto" is CUDA where there is one.  Raises RelightError for "cuda" where there is none."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise RelightError("device: cuda, but PyTorch finds no CUDA device here; use device=cpu, or see relight doctor")
    return torch.device(name)


@dataclass
class _Runner:
    config: Config
    folder: RunFolder
    emit: Listener
    stop: threading.Event
    enough: threading.Event
    checkpoint_seconds: float

    def run(self, stages: tuple[StageConfig, ...], scene: Scene, *, resume: bool) -> Result:
        captured, place, made_of, done = scene, None, data_key(scene), 0
        for index, stage in enumerate(stages):
            folder = self.folder.stage(index, stage.name)
            key = stage_key(stage, self.config.seed, made_of)
            found = self.folder.found(folder, key, early=resume)
            if found is None:
                break
            self._skip(index, folder, captured)
            if found != key:
                self.emit(Note(f"{folder.name}: ended early, and kept so; --no-resume takes all its steps"))
            place, made_of, done = folder, found, index + 1
        if place is not None:
            scene = load_scene(place)
        for index in range(done, len(stages)):
            if self.stop.is_set():
                raise Interrupted
            key = stage_key(stages[index], self.config.seed, made_of)
            restored = self.folder.restore(index, stages[index].name, key)
            if restored is not None:
                self.emit(Note(f"{restored.name}: an earlier result with these options was in .old and is used again"))
                self._skip(index, restored, captured)
                scene, place = load_scene(restored), restored
            else:
                scene, place = self._one(index, stages[index], key, scene, place, resume=resume)
            made_of = read_manifest(place)["key"]
        if place is None:
            raise RelightError(f"{self.config.source}: no stages to run")
        return Result(self.folder.path, place, scene)

    def _skip(self, index: int, folder: Path, captured: Scene) -> None:
        if captured.views is not None:
            point_to_pictures(folder, captured.views)
        self.emit(StageSkipped(index, folder))

    def _one(
        self, index: int, stage: StageConfig, key: str, scene: Scene, place: Path | None, *, resume: bool
    ) -> tuple[Scene, Path]:
        work = self.folder.working(index, stage.name, key, resume=resume)
        if self.folder.is_ready(work / "folder", key):  # killed between the last write and the rename
            folder = self.folder.install(work / "folder", index, stage.name)
            self.emit(StageSkipped(index, folder))
            return load_scene(folder), folder
        self._say_what_changed(index, stage)
        job = FolderJob(
            work,
            index,
            key,
            device=torch_device(self.config.device),
            backend=self.config.backend,
            seed=self.config.seed,
            stop=self.stop,
            enough=self.enough,
            emit=self.emit,
            checkpoint_seconds=self.checkpoint_seconds,
        )
        self.enough.clear()
        self.emit(StageStarted(index, job.restored.step if job.restored else 0))
        with job:
            torch.manual_seed(self.config.seed)
            result = stage.stage.run(self._with_points(stage, scene), job)
            job.close()
            for part in stage.stage.gives:
                if getattr(result, part) is None:
                    name = type(stage.stage).__qualname__
                    raise TypeError(f"{name} says it gives {part}, and returned a scene without")
            if job.ended_early:
                # Another result than the whole stage's, and so is all that comes of it.
                key = early_key(key, job.steps)
            record = StageRecord(stage.name, stage.options, key, job.seconds, job.metrics, job.steps, job.ended_early)
            result = replace(result, history=(*scene.history, record))
            save_scene(result, job.folder, key=key, earlier=None if place is None else (scene, place))
        folder = self.folder.install(job.folder, index, stage.name)
        self.emit(StageFinished(index, folder, record.seconds, record.metrics))
        return result, folder

    def _with_points(self, stage: StageConfig, scene: Scene) -> Scene:
        if "points" not in stage.stage.needs or scene.history:
            return scene
        from relight.data.initialise import initial_points

        generator = torch.Generator().manual_seed(self.config.seed)
        return replace(scene, points=initial_points(scene, stage.stage.first_points, generator))

    def _say_what_changed(self, index: int, stage: StageConfig) -> None:
        folder = self.folder.stage(index, stage.name)
        if not (folder / MANIFEST).is_file():
            return
        history = read_manifest(folder).get("history") or [{}]
        before, now = history[-1].get("options", {}), stage.options
        changed = [f"{k} {before.get(k)} -> {now.get(k)}" for k in {**before, **now} if before.get(k) != now.get(k)]
        otherwise = (
            "it was ended early"
            if history[-1].get("ended_early")
            else "its input, a file it reads, seed or version changed"
        )
        what = ", ".join(changed) or otherwise
        self.emit(Note(f"{folder.name}: computed again ({what}); the earlier result stays until the new one is ready"))


def _last(stages: tuple[StageConfig, ...], until: str | None) -> int:
    if until is None:
        return len(stages) - 1
    names = [s.name for s in stages]
    places = [i for i, name in enumerate(names) if until in (name, f"{i + 1:02d}-{name}")]
    if not places:
        raise RelightError(f"--until {until}: no stage of this scene{did_you_mean(until, names)}")
    return places[-1]


__all__ = ["Event", "Interrupted", "Listener", "Result", "check_parts", "load_data", "run", "torch_device"]
