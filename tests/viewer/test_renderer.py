from __future__ import annotations

import threading
import time
import warnings

import pytest
import torch

from relight.viewer.display import Display
from relight.viewer.painter import Superseded
from relight.viewer.renderer import Renderer, Request


class Slow:
    """A painter that takes `seconds` for the full picture, and less for fewer pixels."""

    def __init__(self, seconds: float = 0.02, steps: int = 2, fail: bool = False):
        self.seconds, self.steps, self.fail = seconds, steps, fail
        self.given_up = 0

    def paint(self, camera, display):
        if self.fail:
            raise RuntimeError("planted")
        time.sleep(self.seconds * camera.width * camera.height / (640 * 480))
        return torch.zeros(camera.height, camera.width, 3)

    def refined(self, camera, display, give_up):
        for _ in range(self.steps):
            until = time.monotonic() + self.seconds
            while time.monotonic() < until:
                if give_up():
                    self.given_up += 1
                    raise Superseded
                time.sleep(0.002)
            yield torch.ones(camera.height, camera.width, 3)


class Log:
    def __init__(self):
        self.seen: list[tuple[str, int]] = []
        self.done = threading.Event()
        self.until = ""

    def __call__(self, picture, stage):
        self.seen.append((stage, picture.shape[1]))
        if stage == self.until:
            self.done.set()

    def wait(self, stage: str) -> list[tuple[str, int]]:
        self.until = stage
        assert self.done.wait(10), self.seen
        return list(self.seen)


@pytest.fixture
def large(camera):
    return camera.resized(640, 480)


def test_first_quick_then_full_then_better(large):
    log = Log()
    with Renderer() as renderer:
        renderer.open(1, log)
        renderer.ask(1, lambda: Request(Slow(), large, Display()))
        seen = log.wait("refined")
    assert [stage for stage, _ in seen][:3] == ["quick", "full", "refined"]
    assert seen[0][1] < 640 and seen[1][1] == 640


def test_the_quick_picture_is_as_large_as_time_allows(large):
    def width(seconds: float) -> int:
        log, renderer = Log(), Renderer()
        with renderer:
            renderer.open(1, log)
            for _ in range(8):
                log.done.clear()
                log.until = "quick"
                renderer.ask(1, lambda: Request(Slow(seconds, 0), large, Display()))
                assert log.done.wait(10)
        return [w for stage, w in log.seen if stage == "quick"][-1]

    assert width(1.5) < width(0.3) <= 640


def test_while_somebody_drags_nothing_slow_is_begun(large):
    log, painter = Log(), Slow(0.3)
    with Renderer() as renderer:
        renderer.open(1, log)
        for _ in range(20):
            renderer.ask(1, lambda: Request(painter, large, Display()))
            time.sleep(0.02)
        assert {stage for stage, _ in log.seen} == {"quick"}
        log.wait("refined")


def test_a_movement_ends_a_refinement(large):
    log, painter = Log(), Slow(0.5)
    with Renderer() as renderer:
        renderer.open(1, log)
        renderer.ask(1, lambda: Request(painter, large, Display()), moving=False)
        log.wait("full")
        time.sleep(0.1)
        begun = time.monotonic()
        log.done.clear()
        log.until = "quick"
        renderer.ask(1, lambda: Request(painter, large, Display()))
        assert log.done.wait(2) and time.monotonic() - begun < 0.45
    assert painter.given_up == 1


def test_drawing_keeps_to_its_share(large):
    log, renderer = Log(), Renderer(lambda: 0.1)
    with renderer:
        renderer.open(1, log)
        begun = time.monotonic()
        while time.monotonic() - begun < 3:
            renderer.ask(1, lambda: Request(Slow(0.2, 0), large, Display()), moving=False)
            time.sleep(0.01)
    # What was saved up, the share, and one picture that was begun with the last of it.
    assert renderer.busy_seconds < 0.6 + 0.1 * 3.5 + 0.3
    assert renderer.pictures >= 3


def test_one_slow_picture_does_not_stop_the_others_for_minutes(large):
    """As the first one is, which loads kernels."""
    log, renderer = Log(), Renderer(lambda: 0.5)
    with renderer:
        renderer.open(1, log)
        renderer._spend(60)
        renderer.ask(1, lambda: Request(Slow(0, 0), large, Display()), moving=False)
        log.wait("full")


def test_a_quick_picture_that_is_complete_is_a_full_one(large):
    log = Log()
    log.until = "full"
    with Renderer() as renderer:
        renderer.open(1, log)
        while not log.done.wait(0.05) and len(log.seen) < 100:
            renderer.ask(1, lambda: Request(Slow(0, 0), large, Display()))
    assert all((width == 640) == (stage == "full") for stage, width in log.seen)
    assert log.seen[-1] == ("full", 640)


def test_nothing_is_drawn_for_nobody(large):
    log, renderer = Log(), Renderer()
    with renderer:
        renderer.open(1, log)
        renderer.ask(1, lambda: Request(Slow(0, 0), large, Display()))
        log.wait("full")
        renderer.close(1)
        time.sleep(0.1)
        before = renderer.pictures
        renderer.ask(1, lambda: Request(Slow(), large, Display()))
        time.sleep(0.2)
        assert renderer.pictures == before


def test_everybody_gets_pictures(large):
    logs = [Log() for _ in range(3)]
    with Renderer() as renderer:
        for i, log in enumerate(logs):
            renderer.open(i, log)
            renderer.ask(i, lambda: Request(Slow(0.05), large, Display()))
        for log in logs:
            log.wait("refined")


def test_a_picture_that_fails_ends_nothing(large):
    log = Log()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Renderer() as renderer:
            renderer.open(1, log)
            renderer.ask(1, lambda: Request(Slow(fail=True), large, Display()))
            time.sleep(0.3)
            assert log.seen == []
            renderer.ask(1, lambda: Request(Slow(), large, Display()))
            log.wait("full")


def test_a_still_is_refined(large):
    with Renderer() as renderer:
        assert float(renderer.still(Request(Slow(), large, Display())).mean()) == 1
        assert float(renderer.still(Request(Slow(), large, Display()), refine=False).mean()) == 0
