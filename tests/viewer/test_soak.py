"""Clients that come and go, and that send nonsense, while a fit runs: it goes on and memory stays flat."""

from __future__ import annotations

import gc
import threading
import time

import pytest

from relight.pipeline.events import Loaded, Progress, StageStarted
from relight.viewer.app import open_app
from relight.viewer.live import Live
from relight.viewer.server import Server

pytestmark = pytest.mark.slow
psutil = pytest.importorskip("psutil")
pytest.importorskip("viser")

NONSENSE = [
    b"", b"\x00" * 40, b"hello", "text instead of bytes", b"\x80", b"\x81\xa4type\xa3abc", b"\xc1" * 1000,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Queued a", "ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_two_hundred_clients_and_nonsense(scene, plain):
    import msgspec.msgpack

    from benchmarks.viewer_client import Client

    stop, steps = threading.Event(), [0]
    live = Live(stop)
    server = Server(port=0)
    port = server.viser.get_port()

    def fit() -> None:
        live(Loaded(scene, ("fit",)))
        live(StageStarted(0, 0))
        while not stop.is_set():
            steps[0] += 1
            live(Progress(0, steps[0], 10**6, 1.0, {"loss": 1 / steps[0]}, plain))
            time.sleep(0.01)

    def visit(number: int) -> None:
        with Client(port, (160, 120)) as client:
            since = client.move(0.1 * number)
            if number % 4 == 0:
                client.wait(since)
            if number % 4 == 1:
                client.kill()
            if number % 4 == 2:
                client.send(NONSENSE[number % len(NONSENSE)])
            if number % 4 == 3:
                hostile = {
                    "type": "ViewerCameraMessage", "wxyz": [float("nan")] * 4, "position": [1e30, 0, float("inf")],
                    "fov": -3.0, "near": 0, "far": 0, "image_height": 10**9, "image_width": -1,
                    "look_at": [0, 0, 0], "up_direction": [0, 0, 0],
                }  # fmt: skip
                client.send(msgspec.msgpack.encode(hostile))
                client.send(msgspec.msgpack.encode({"type": "GuiUpdateMessage", "uuid": "no", "updates": {"value": 1}}))

    thread = threading.Thread(target=fit)
    memory = psutil.Process().memory_info
    with open_app(None, server, None, live).serving() as app:
        thread.start()
        for number in range(60):
            visit(number)
        gc.collect()
        before, begun = memory().rss, steps[0]
        for number in range(60, 200):
            visit(number)
        deadline = time.monotonic() + 20
        while app.sessions and time.monotonic() < deadline:
            time.sleep(0.1)
        gc.collect()
        grown = memory().rss - before
        assert not app.sessions, "every client that left is forgotten"
        assert steps[0] > begun + 100, "the fit went on"
        with Client(port, (160, 120)) as last:
            last.wait(last.move(1.0))
        stop.set()
        thread.join()
    assert grown < 60 << 20, f"{grown >> 20} MB more after 140 clients"
