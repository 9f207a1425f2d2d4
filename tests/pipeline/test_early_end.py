"""A stage that the user ends early: its result is kept as what it is, and not taken for the whole stage's."""

from __future__ import annotations

import threading

import pytest
import torch
from run_bench import COUNT, KEEP, SHIFT

from relight.pipeline import Interrupted
from relight.pipeline.events import Note, Progress, StageStarted
from relight.scene_io import load_scene, read_manifest


@pytest.fixture
def end_at(bench):
    """Runs, and wants the next stage at this step."""

    def end_at(step: int, *words: str, stages: str = COUNT + SHIFT, stop: threading.Event | None = None):
        enough = threading.Event()

        def ask(event) -> None:
            if isinstance(event, Progress) and (event.index, event.step) == (0, step):
                enough.set()
            if isinstance(event, StageStarted):
                assert not enough.is_set(), "the wish was for the stage before"
                if event.index == 1 and stop is not None:
                    stop.set()

        return bench(stages, *words, on_event=ask, enough=enough, stop=stop)

    return end_at


def key(folder) -> str:
    return read_manifest(folder)["key"]


def test_the_next_stage_begins_with_what_there_is(bench, end_at):
    result = end_at(2)
    assert bench.ran == ["count", "shift"]
    assert [e.step for e in bench.told(Progress) if e.index == 0] == [1, 2]
    first, second = result.scene.history
    assert (first.steps, first.ended_early) == (2, True) and not second.ended_early
    early, shifted = load_scene(bench.out / "01-count"), load_scene(bench.out / "02-shift")
    assert early.gaussians is not None and shifted.gaussians is not None
    assert torch.equal(shifted.gaussians.means, early.gaussians.means + 1)
    short = bench(COUNT, "count.steps=2").scene.gaussians
    assert torch.equal(short.means, early.gaussians.means), "two steps are two steps"


def test_the_same_command_keeps_it_and_says_so(bench, end_at):
    end_at(2)
    bench(COUNT + SHIFT)
    assert bench.ran == []
    assert any("01-count: ended early" in note.text for note in bench.told(Note))


def test_a_run_that_was_stopped_later_continues_from_it(bench, end_at):
    stages = COUNT + SHIFT + KEEP
    with pytest.raises(Interrupted):
        end_at(2, stages=stages, stop=threading.Event())
    assert bench.folders() == {"01-count", "02-shift"}
    bench(stages)
    assert bench.ran == ["keep"], "the third stage alone"
    assert load_scene(bench.out / "03-keep").history[0].ended_early


def test_without_resume_it_takes_all_its_steps_and_so_does_what_comes_of_it(bench, end_at):
    end_at(2)
    early = key(bench.out / "01-count"), key(bench.out / "02-shift")
    bench(COUNT + SHIFT, resume=False)
    assert bench.ran == ["count", "shift"]
    assert any("it was ended early" in note.text for note in bench.told(Note))
    whole = key(bench.out / "01-count"), key(bench.out / "02-shift")
    assert set(early).isdisjoint(whole)
    assert {key(f) for f in (bench.out / ".old").iterdir()} == set(early), "nothing is lost"
    assert load_scene(bench.out / "01-count").history[0].steps == 6
    bench(COUNT + SHIFT)
    assert bench.ran == []


def test_with_other_options_it_is_computed_again(bench, end_at):
    end_at(2)
    bench(COUNT + SHIFT, "count.size=2")
    assert bench.ran == ["count", "shift"]
    assert not load_scene(bench.out / "01-count").history[0].ended_early


def test_a_wish_after_the_last_step_changes_nothing(bench, end_at):
    assert not end_at(6).scene.history[0].ended_early
    bench(COUNT + SHIFT, resume=False)
    assert bench.ran == []


def test_killed_between_the_last_write_and_the_rename(bench, end_at):
    end_at(2, stages=COUNT)
    whole = key(bench.out / "01-count")
    (bench.out / ".work" / "01-count").mkdir(parents=True)
    (bench.out / "01-count").rename(bench.out / ".work" / "01-count" / "folder")
    result = bench(COUNT)
    assert bench.ran == [] and key(result.stage) == whole
