"""The whole viewer with its real server, and a client that is no browser."""

from __future__ import annotations

import threading
import time

import pytest

pytest.importorskip("viser")

from benchmarks.viewer_client import Client
from relight.errors import RelightError
from relight.formats import write_splat
from relight.pipeline.events import Loaded, Progress, StageStarted
from relight.viewer.app import open_app
from relight.viewer.content import Content, gallery, load, save_selection
from relight.viewer.live import Live
from relight.viewer.server import Server

pytestmark = pytest.mark.filterwarnings("ignore:Queued a")


def until(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def served(scene, tmp_path):
    write_splat(scene.gaussians, tmp_path / "balls.ply")
    with open_app(tmp_path / "balls.ply", Server(port=0), None).serving() as app:
        yield app, app.server.viser.get_port()


def test_a_client_gets_a_quick_and_a_full_picture(served):
    app, port = served
    with Client(port, (640, 480)) as client:
        begun = client.move(0.2)
        assert client.wait(begun).width <= 640
        assert client.wait(begun, 640).width == 640
        until(lambda: app.renderer._clients and all(c.stage == "done" for c in app.renderer._clients.values()))
        before = app.renderer.pictures
        time.sleep(0.4)
        assert app.renderer.pictures == before, "nothing is drawn while nothing changes"
    until(lambda: not app.sessions and not app.renderer._clients)


def test_clients_have_displays_of_their_own_and_edits_in_common(served):
    app, port = served
    with Client(port) as one, Client(port) as two:
        for client in (one, two):
            client.wait(client.move(0.0), 640)
        first, second = app.sessions.values()
        first.change(mode="normal")
        assert (first.display.mode, second.display.mode) == ("normal", "final")
        pictures = second.pictures
        first.drag((0.0, 0.0), (1.0, 1.0), through=True, how="replace")
        assert first.selected is not None and int(first.selected.sum()) == 400 and second.selected is None
        app.shown(app.first).document.hide(first.selected)
        until(lambda: second.pictures > pictures)
        assert float(second.painter().gaussians.opacities.max()) < 1e-9
        text = first.shared()
        second.restore(text)
        assert second.display == first.display
        with pytest.raises(RelightError):
            second.restore("nonsense")


def test_a_fit_is_drawn_only_for_somebody(scene, plain):
    live = Live(threading.Event())
    with open_app(None, Server(port=0), None, live).serving() as app:
        live(Loaded(scene, ("fit",)))
        live(StageStarted(0, 0))
        live(Progress(0, 1, 100, 0.1, {"loss": 0.5}, plain))
        time.sleep(0.7)
        assert app.renderer.pictures == 0 and app.shown("the fit") is None
        with Client(app.server.viser.get_port()) as client:
            client.wait(client.move(0.0))
            until(lambda: app.renderer.busy_seconds > 0)
            begun = time.perf_counter()
            live(Progress(0, 2, 100, 0.1, {"loss": 0.4}, plain))
            client.wait(begun)
            # With the result, shadows and all the time there is.
            live.finished(scene)
            until(lambda: app.shown("the fit").content.scene is scene)
        until(lambda: not app.looked_at)


def test_what_can_be_looked_at(scene, tmp_path):
    write_splat(scene.gaussians, tmp_path / "a.ply")
    found = load(tmp_path / "a.ply")
    assert found.name == "a.ply" and list(gallery(tmp_path / "a.ply")) == ["a.ply"]
    assert found.scene.frame.radius == pytest.approx(1.5, abs=0.6) and found.scene.frame.up == (0.0, -1.0, 0.0)
    (tmp_path / "a.txt").write_text("no splat")
    for name, message in (("a.txt", "not a Gaussian splat"), ("", "no finished stage"), ("b", "no such")):
        with pytest.raises(RelightError, match=message):
            load(tmp_path / name)


def test_a_selection_becomes_a_scene(scene, tmp_path):
    write_splat(scene.gaussians, tmp_path / "a.ply")
    content = load(tmp_path / "a.ply")
    for i in (1, 2):
        run = save_selection(content, scene.gaussians[:50])
        assert run == tmp_path / f"a-selection-{i}"
        found = load(run)
        assert found.scene.gaussians is not None and len(found.scene.gaussians) == 50
        assert found.scene.frame == content.scene.frame
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a-selection-1", "a-selection-2", "a.ply"]
    with pytest.raises(RelightError, match="the fit"):
        save_selection(Content("the fit", scene), scene.gaussians)
