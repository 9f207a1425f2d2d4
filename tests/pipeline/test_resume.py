"""Stopping, and continuing at the step where it stopped."""

from __future__ import annotations

import json
import math
import threading

import pytest
import torch
from run_bench import COUNT, SHIFT

from relight.pipeline import Interrupted
from relight.pipeline.events import CheckpointSaved, Note, Progress, StageStarted
from relight.pipeline.job import CHECKPOINT
from relight.scene_io import load_scene, read_manifest

WORK = ".work/01-count"


def means(folder) -> torch.Tensor:
    gaussians = load_scene(folder).gaussians
    assert gaussians is not None
    return gaussians.means


@pytest.fixture
def stop_at(bench):
    """Runs until this step, where the user asks to stop."""

    def stop_at(step: int, *words: str, stages: str = COUNT) -> None:
        stop = threading.Event()

        def ask(event) -> None:
            if isinstance(event, Progress) and event.step == step:
                stop.set()

        with pytest.raises(Interrupted):
            bench(stages, *words, on_event=ask, stop=stop)

    return stop_at


def metrics(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_stop_saves_and_the_next_run_continues_at_that_step(bench, stop_at):
    whole = bench(COUNT).stage
    expected, steps = means(whole), [line["step"] for line in metrics(whole)]
    assert steps == [1, 2, 3, 4, 5, 6]
    bench.out.rename(bench.folder / "whole")

    stop_at(2)
    assert [e.step for e in bench.told(CheckpointSaved)] == [2]
    assert bench.folders() == {".work"}
    stop_at(4)
    assert bench.told(StageStarted)[0].step == 2
    assert [e.step for e in bench.told(Progress)] == [3, 4]
    result = bench(COUNT)
    assert bench.told(StageStarted)[0].step == 4
    assert bench.folders() == {"01-count"}
    assert torch.equal(means(result.stage), expected), "as if it had never stopped"
    found = metrics(result.stage)
    assert [line["step"] for line in found] == steps
    seconds = [line["seconds"] for line in found]
    assert seconds == sorted(seconds)
    assert result.scene.history[-1].steps == 6
    assert result.scene.history[-1].metrics["value"] == 6


def test_the_seconds_of_a_stage_are_those_of_all_its_runs(bench, stop_at):
    stop_at(3, "count.pause=0.03")
    record = bench(COUNT, "count.pause=0.03").scene.history[-1]
    assert record.seconds >= 6 * 0.03
    assert metrics(bench.out / "01-count")[3]["seconds"] >= 4 * 0.03


def test_a_stop_between_stages(bench, stop_at):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        bench(COUNT + SHIFT, stop=stop)
    assert bench.ran == [] and bench.folders() == set()
    # The last step is not followed by a checkpoint: the stage is finished, and the next one doesn't start.
    stop_at(6, stages=COUNT + SHIFT)
    assert bench.ran == ["count"] and bench.folders() == {"01-count"}


def test_without_resume_it_starts_anew_and_keeps_what_is_finished(bench, stop_at):
    bench(COUNT, "count.steps=3")
    stop_at(2)
    assert (bench.out / WORK / CHECKPOINT).is_file()
    bench(COUNT, resume=False)
    assert bench.told(StageStarted)[0].step == 0
    bench(COUNT, resume=False)
    assert bench.ran == []


def test_unfinished_work_with_other_options_is_set_aside_not_continued(bench, stop_at):
    stop_at(3)
    bench(COUNT, "count.size=2")
    assert bench.told(StageStarted)[0].step == 0
    assert (bench.out / ".old" / "01-count.1.unfinished" / CHECKPOINT).is_file()
    assert (bench.out / "01-count").is_dir() and not (bench.out / ".work").exists()


def test_unfinished_work_of_a_stage_that_is_gone_is_set_aside(bench, stop_at):
    stop_at(3)
    bench("  - use: fake_stages:Keep\n")
    assert bench.folders() == {"01-keep", ".old"}
    assert (bench.out / ".old" / "01-count.1.unfinished" / CHECKPOINT).is_file()


def test_finished_results_stay_while_new_ones_are_computed(bench, stop_at):
    bench(COUNT + SHIFT)
    stop_at(3, "count.size=2", stages=COUNT + SHIFT)
    assert bench.folders() == {"01-count", "02-shift", ".work"}
    bench(COUNT + SHIFT)
    assert bench.ran == [], "back to the old options: they are still there"


@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "not ours"])
def test_a_damaged_checkpoint_is_noted_and_the_stage_starts_anew(bench, stop_at, damage):
    stop_at(3)
    path = bench.out / WORK / CHECKPOINT
    content = path.read_bytes()
    if damage == "not ours":
        from relight.scene_io import write_tensors

        write_tensors(path, {"means": torch.zeros(1)})
    else:
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "noise": b"\xff" * 500}[damage])
    result = bench(COUNT)
    assert bench.told(StageStarted)[0].step == 0
    (note,) = bench.told(Note)
    assert f"{CHECKPOINT}: unreadable, so the stage starts anew" in note.text
    assert [line["step"] for line in metrics(result.stage)] == [1, 2, 3, 4, 5, 6]


def test_metrics_after_the_checkpoint_and_half_lines_are_dropped(bench, stop_at):
    stop_at(3)
    path = bench.out / WORK / "folder" / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 4, "seconds": 1.0, "value": 9}\n[]\n7\n\x00\n{"step": 5, "sec')
    result = bench(COUNT)
    assert [(line["step"], line["value"]) for line in metrics(result.stage)] == [(i, i) for i in range(1, 7)]


def test_missing_metrics_don_t_hinder(bench, stop_at):
    stop_at(3)
    (bench.out / WORK / "folder" / "metrics.jsonl").unlink()
    result = bench(COUNT)
    assert [line["step"] for line in metrics(result.stage)] == [4, 5, 6]


def test_a_metric_that_is_not_a_number_is_null(bench):
    result = bench(COUNT, "count.nan_at=6")
    lines = (result.stage / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1], parse_constant=pytest.fail)["value"] is None
    assert result.scene.history[-1].metrics["value"] == 5, "the last one that is a number"
    assert all(math.isfinite(v) for v in read_manifest(result.stage)["history"][0]["metrics"].values())
    event = bench.told(Progress)[-1]
    assert math.isnan(event.metrics["value"]), "listeners are told as it is"


def test_a_checkpoint_waits_at_least_twenty_times_as_long_as_it_takes(bench, monkeypatch):
    from relight.pipeline import job

    bench(COUNT, "count.steps=40", checkpoint_seconds=0)
    few = len(bench.told(CheckpointSaved))
    monkeypatch.setattr(job, "MOST_OF_THE_TIME", 0)
    bench(COUNT, "count.steps=41", checkpoint_seconds=0)
    assert len(bench.told(CheckpointSaved)) == 40 > few


def test_no_checkpoint_before_its_time(bench):
    bench(COUNT, "count.steps=20", checkpoint_seconds=1000)
    assert bench.told(CheckpointSaved) == []


def test_progress_is_told_ten_times_a_second_at_most_unless_it_carries_news(bench, tmp_path):
    from relight.pipeline.job import FolderJob

    events: list = []
    job = FolderJob(
        tmp_path / "work", 0, "key", device=torch.device("cpu"), backend="auto", seed=0, stop=threading.Event(),
        enough=threading.Event(),
        emit=events.append, checkpoint_seconds=30,
    )  # fmt: skip
    with job:
        for step in range(1, 101):
            job.report(step, 100, {"loss": 1.0} if step == 50 else None)
    steps = [e.step for e in events]
    assert {1, 50, 100} <= set(steps) and len(steps) <= 10
    assert job.steps == 100 and job.metrics == {"loss": 1.0}
    assert [line["step"] for line in metrics(tmp_path / "work" / "folder")] == [50]


def test_a_stage_without_metrics_has_no_file_of_them(bench):
    bench(COUNT + SHIFT)
    assert not (bench.out / "02-shift" / "metrics.jsonl").exists()


@pytest.mark.parametrize("text", ["", "{", '{"schema": 1}'])
def test_a_manifest_of_work_in_progress_that_a_power_cut_damaged_is_written_again(bench, stop_at, text):
    stop_at(3)
    (bench.out / WORK / "folder" / "scene.json").write_text(text)
    bench(COUNT)
    assert bench.told(StageStarted)[0].step == 3
    assert load_scene(bench.out / "01-count").history[0].steps == 6
