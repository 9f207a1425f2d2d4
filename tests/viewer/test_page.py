"""The websocket of page.js: who may speak, what is understood, and what becomes of nonsense."""

from __future__ import annotations

import json
import time

import pytest

pytest.importorskip("viser")
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from benchmarks.viewer_client import Client
from relight.formats import write_splat
from relight.viewer.app import open_app
from relight.viewer.display import STUDIO, Display
from relight.viewer.page import LONGEST
from relight.viewer.server import Server

pytestmark = pytest.mark.filterwarnings("ignore:Queued a")


@pytest.fixture
def session(scene, tmp_path):
    write_splat(scene.gaussians, tmp_path / "balls.ply")
    with open_app(tmp_path / "balls.ply", Server(port=0), None).serving() as app:
        with Client(app.server.viser.get_port()) as client:
            client.wait(client.move(0.0), 1)
            (session,) = app.sessions.values()
            assert until(lambda: session.page.key in app.server.pages._pages)
            yield session
        assert until(lambda: not app.server.pages._pages), "a page ends with its client"


def until(condition, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(condition())


def opened(session, key: str | None = None):
    port = session.app.server.viser.get_port()
    return connect(f"ws://127.0.0.1:{port}/relight/{session.page.key if key is None else key}")


def received(socket, name: str):
    while name not in (message := json.loads(socket.recv(timeout=10))):
        pass
    return message[name]


def test_the_page_moves_the_divider_and_is_told_where_it_is(session):
    session.change(other="normal")
    with opened(session) as page:
        first = json.loads(page.recv(timeout=10))
        assert (first["divider"], first["left"], first["right"]) == (0.5, "final", "normal")
        page.send(json.dumps({"divider": 0.25}))
        assert until(lambda: session.display.divider == 0.25)
        page.send(json.dumps({"divider": 7}))
        assert received(page, "divider") == 1.0, "where it was dragged to needs no echo"
        session.change(other=None)
        assert received(page, "divider") is None


def test_the_page_turns_and_chooses_light(session):
    with opened(session) as page:
        page.send(json.dumps({"turn": 30.0}))
        page.send(json.dumps({"turn": 160}))
        assert until(lambda: session.display.lighting.rotation == -170.0)
        page.send(json.dumps({"light": STUDIO}))
        assert until(lambda: session.display.lighting.environment == STUDIO)
        page.send(json.dumps({"light": "no such light"}))
        page.send(json.dumps({"turn": -10}))
        assert until(lambda: session.display.lighting.rotation == 180.0 or session.display.lighting.rotation == -180.0)
        assert session.display.lighting.environment == STUDIO


def test_the_address_follows_the_view_and_brings_it_back(session):
    with opened(session) as page:
        address = received(page, "view")
        session.change(mode="depth")
        later = received(page, "view")
        assert later != address
        page.send(json.dumps({"view": address}))
        assert until(lambda: session.display == Display())
        page.send(json.dumps({"view": "nonsense"}))
        page.send(json.dumps({"view": later}))
        assert until(lambda: session.display.mode == "depth"), "nonsense in an address is told, and ends nothing"
        session.page.do(copy="this")
        assert received(page, "copy") == "this"


def test_only_who_knows_the_key_may_speak(session):
    for key in ("", "guess", session.page.key[:-1], "../" + session.page.key):
        with opened(session, key) as page, pytest.raises(ConnectionClosed):
            page.send(json.dumps({"turn": 90}))
            page.recv(timeout=10)
            page.recv(timeout=10)
    assert session.display == Display()


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "7", b"\x00\xff", "{}", '{"divider": "left"}', '{"divider": NaN}', '{"divider": null}',
        '{"turn": 1e999}', '{"light": 3}', '{"view": []}', "[" * 50_000, json.dumps({"view": "a" * LONGEST}),
    ],
)  # fmt: skip
def test_nonsense_ends_the_connection_and_nothing_else(session, text):
    before = session.display
    with opened(session) as page:
        page.send(text)
        with pytest.raises(ConnectionClosed):
            for _ in range(10):
                page.recv(timeout=10)
    assert session.display == before
    with opened(session) as page:
        page.send(json.dumps({"turn": 90}))
        assert until(lambda: session.display.lighting.rotation == 90.0)
