from __future__ import annotations

import threading
import time
from pathlib import Path

import torch

from relight.pipeline.events import Loaded, Note, Progress, StageFinished, StageSkipped, StageStarted
from relight.viewer.live import POINTS, Curve, Live


def started(scene, looked_at=lambda: False):
    live = Live(threading.Event(), looked_at=looked_at)
    live(Loaded(scene, ("first", "second")))
    live(StageStarted(0, 0))
    return live


def test_the_state_follows_the_events(scene):
    live = Live(threading.Event())
    live(Loaded(scene, ("first", "second", "third")))
    live(StageSkipped(0, Path("x")))
    live(StageStarted(1, 10))
    live(Progress(1, 60, 100, 5.0, {"loss": 0.5, "train_psnr": 20.0}))
    live(Note("something"))
    assert [s.state for s in live.stages] == ["skipped", "running", "waiting"]
    assert (live.stages[1].step, live.stages[1].total) == (60, 100) and live.stages[1].left is not None
    assert live.curves["loss"].values == [0.5] and list(live.notes) == ["something"]
    live(StageFinished(1, Path("x"), 7.0, {}))
    live(StageStarted(2, 0))
    assert live.stages[1].state == "done" and live.curves["loss"].values == []


def test_nothing_is_copied_while_nobody_looks(scene):
    looked = [False]
    live = started(scene, lambda: looked[0])
    live(Progress(0, 1, 9, 0.1, scene=scene))
    number, state = live.scene
    assert number == 1 and state is scene
    looked[0] = True
    live(Progress(0, 2, 9, 0.1, scene=scene))
    number, state = live.scene
    assert number == 2 and state.gaussians.means.data_ptr() != scene.gaussians.means.data_ptr()
    assert torch.equal(state.gaussians.means, scene.gaussians.means)


def test_pause_holds_the_fit_and_resume_lets_it_go(scene):
    live = started(scene)
    live.pause()
    assert live.duty() == 1
    reached = threading.Event()
    thread = threading.Thread(target=lambda: (live(Progress(0, 1, 9, 0.1)), reached.set()))
    thread.start()
    assert not reached.wait(0.3)
    live.resume()
    assert reached.wait(2)
    thread.join()
    assert live.duty() < 0.1
    live.finished(scene)
    assert live.duty() == 1


def test_stopping_ends_a_pause(scene):
    live = started(scene)
    live.pause()
    threading.Timer(0.1, live.stop_and_save).start()
    begun = time.monotonic()
    live(Progress(0, 1, 9, 0.1))
    assert live.stop.is_set() and time.monotonic() - begun < 2


def test_the_next_stage_is_wanted_and_a_pause_ends(scene):
    live = started(scene)
    live.pause()
    threading.Timer(0.1, live.next_stage).start()
    live(Progress(0, 1, 9, 0.1))
    assert live.enough.is_set() and not live.stop.is_set() and not live.paused


def test_stages_are_stepped_through(scene):
    live = started(scene)
    live.step_stages = True
    threading.Timer(0.1, live.resume).start()
    live(StageFinished(0, Path("x"), 1.0, {}))
    assert not live.paused
    live(StageFinished(1, Path("x"), 1.0, {}))
    assert not live.paused, "nothing comes after the last"


def test_curves_stay_short():
    curve = Curve()
    for i in range(100_000):
        curve.add(i, float(i))
    assert POINTS / 2 <= len(curve.steps) <= POINTS + 1
    assert curve.steps[0] == 0 and curve.steps[-1] > 95_000
    gaps = {b - a for a, b in zip(curve.steps, curve.steps[1:], strict=False)}
    assert len(gaps) <= 2
