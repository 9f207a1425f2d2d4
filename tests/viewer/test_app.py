"""The whole viewer with its real server, and a client that is no browser."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
import torch

pytest.importorskip("viser")

from meshed_ball import ball_mesh

from benchmarks.viewer_client import Client
from relight.data.models import load_model
from relight.errors import RelightError
from relight.export.gltf import write_glb
from relight.formats import write_splat
from relight.geometry.camera import Camera
from relight.pipeline.events import Loaded, Progress, StageStarted
from relight.render.splats import radiance
from relight.scene import Frame, Points, Scene
from relight.scene_io import save_scene
from relight.testing.capture import write_capture
from relight.viewer.app import open_app
from relight.viewer.content import Content, capture, find, gallery, load, save_selection, write_mesh
from relight.viewer.display import Display, Lighting, Shared
from relight.viewer.lights import Lamps, Library
from relight.viewer.live import Live
from relight.viewer.mesh_painter import MeshPainter
from relight.viewer.selection import Click
from relight.viewer.server import Server
from relight.viewer.splat_painter import SplatPainter
from relight.viewer.split import Beside

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
        first.selection.drag((0.0, 0.0), (1.0, 1.0), through=True)
        mask = first.selection.mask
        assert mask is not None and int(mask.sum()) == 400 and second.selection.mask is None
        app.shown(app.first).document.hide(mask)
        until(lambda: second.pictures > pictures)
        assert float(second.painter().gaussians.opacities.max()) < 1e-9
        text = first.shared()
        second.restore(text)
        assert second.display == first.display
        with pytest.raises(RelightError):
            second.restore("nonsense")
        # What is not here is left out, and the rest of the link shown.
        other = replace(Shared.from_text(text), name="04-mesh", display=Display("depth", lighting=Lighting("a lake")))
        second.restore(other.to_text())
        assert second.display == Display("depth") and second.name == app.first


def test_a_fit_is_drawn_only_for_somebody(scene, plain):
    live = Live(threading.Event())
    with open_app(None, Server(port=0), None, live).serving() as app:
        live(Loaded(scene, ("fit",)))
        live(StageStarted(0, 0))
        live(Progress(0, 1, 100, 0.1, {"loss": 0.5}, plain))
        time.sleep(0.7)
        assert app.renderer.pictures == 0 and app.shown("the fit") is None
        with Client(app.server.viser.get_port()) as client:
            client.wait(client.move(0.0), 1)
            until(lambda: app.renderer.busy_seconds > 0)
            begun = time.perf_counter()
            live(Progress(0, 2, 100, 0.1, {"loss": 0.4}, plain))
            client.wait(begun)
            # With the result, shadows and all the time there is.
            live.finished(scene)
            until(lambda: app.shown("the fit").content.scene is scene)
        until(lambda: not app.looked_at)


def test_a_fit_shows_its_capture_until_there_is_a_splat(plain):
    live = Live(threading.Event())
    points = Points(torch.rand(50, 3), torch.rand(50, 3))
    with open_app(None, Server(port=0), None, live).serving() as app:
        live(Loaded(replace(plain, gaussians=None, points=points), ("fit",)))
        with Client(app.server.viser.get_port()) as client:
            client.wait(client.move(0.0), 1)
            assert app.shown("the fit").content.captured and len(app.shown("the fit").document.gaussians) == 50
            live(StageStarted(0, 0))
            live(Progress(0, 1, 100, 0.1, {"loss": 0.5}, plain))
            until(lambda: not app.shown("the fit").content.captured)


def test_a_scene_file_shows_its_capture_and_then_its_run(scene, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "scene.yaml"
    file.write_text(f"data: {write_capture(tmp_path / 'photos')}\noutput: run\nstages:\n  - radiance\n")
    for path in (file, tmp_path):
        assert find(path) == file
    content = load(file)
    assert content.captured and content.scene.views is not None and len(content.scene.views) == 6
    assert content.scene.gaussians is not None and len(content.scene.gaussians) == 0, "structure from motion left none"
    camera = Camera.from_fov(content.scene.views[0].camera.world_from_camera, 0.7, 32, 24)
    for mode in ("final", "depth", "points"):
        assert float(SplatPainter(content.scene, Lamps(Library())).paint(camera, Display(mode)).max()) == 0
    with open_app(file, Server(port=0), None).serving() as app, Client(app.server.viser.get_port()) as client:
        client.wait(client.move(0.0), 1)
        (session,) = app.sessions.values()
        until(lambda: len(session.viewpoint._frustums) == 6)
    stage = tmp_path / "run" / "01-radiance"
    stage.mkdir(parents=True)
    save_scene(scene, stage, key="a")
    for path in (file, tmp_path, tmp_path / "run"):
        assert find(path) == tmp_path / "run"
    assert find(stage) == stage and not load(find(stage)).captured
    file.write_text("stages: [nonsense]\n")
    with pytest.raises(RelightError, match=r"scene\.yaml"):
        find(file)


def test_points_are_dots():
    points = Points(torch.rand(50, 3), torch.tensor([0.2, 0.4, 0.6]).repeat(50, 1))
    found = capture("a", Scene(Frame(radius=2.0), points=points)).scene.gaussians
    assert found is not None and torch.equal(found.means, points.positions)
    assert torch.allclose(radiance(found, torch.zeros(3)), points.colors, atol=1e-5)


def test_what_can_be_looked_at(scene, tmp_path):
    write_splat(scene.gaussians, tmp_path / "a.ply")
    found = load(tmp_path / "a.ply")
    assert found.name == "a.ply" and list(gallery(tmp_path / "a.ply")) == ["a.ply"]
    assert found.scene.frame.radius == pytest.approx(1.5, abs=0.6) and found.scene.frame.up == (0.0, -1.0, 0.0)
    (tmp_path / "a.txt").write_text("no splat")
    for name, message in (("a.txt", "not a Gaussian splat"), ("", "no finished stage"), ("b", "no such")):
        with pytest.raises(RelightError, match=message):
            load(tmp_path / name)


@pytest.mark.filterwarnings("ignore:.*has no place for")
@pytest.mark.parametrize("suffix", [".ply", ".compressed.ply", ".splat", ".spz", ".sog", ".glb"])
def test_every_kind_of_splat_file_is_shown(scene, camera, tmp_path, suffix):
    write_splat(scene.gaussians, tmp_path / f"balls{suffix}")
    found = load(find(tmp_path / f"balls{suffix}")).scene
    expected = SplatPainter(scene, Lamps(Library())).paint(camera, Display("radiance"))
    shown = SplatPainter(found, Lamps(Library())).paint(camera, Display("radiance"))
    assert float((shown - expected).abs().mean()) < 0.01


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


@pytest.fixture
def meshed(scene, tmp_path):
    """A run of three stages, of which the second makes a mesh, the third leaves it as it is."""
    both = replace(scene, asset=ball_mesh(8))
    for name, stage in (("01-radiance", scene), ("02-mesh", both), ("03-compress", both)):
        (tmp_path / "run" / name).mkdir(parents=True)
        save_scene(stage, tmp_path / "run" / name, key=name)
    kept = tmp_path / "run" / "03-compress" / "asset.safetensors"
    kept.unlink()
    kept.hardlink_to(tmp_path / "run" / "02-mesh" / "asset.safetensors")
    return tmp_path / "run"


def test_a_run_shows_its_splats_and_meshes(meshed):
    assert list(gallery(meshed)) == ["01-radiance", "02-mesh", "02-mesh (mesh)", "03-compress"]
    assert load(meshed).mesh and not load(meshed, mesh=False).mesh and not load(meshed / "01-radiance").mesh
    with pytest.raises(RelightError, match="no mesh"):
        load(meshed / "01-radiance", mesh=True)
    with open_app(meshed, Server(port=0), None).serving() as app, Client(app.server.viser.get_port()) as client:
        assert app.first == "03-compress (mesh)" == app.names()[-1]
        client.wait(client.move(0.0), 1)
        (session,) = app.sessions.values()
        assert isinstance(session.painter(), MeshPainter)
        session.compare_with_mesh()
        assert (session.name, session.beside) == ("03-compress", "03-compress (mesh)")
        assert isinstance(session.painter(), SplatPainter) and isinstance(session.request().painter, Beside)
        client.wait(time.perf_counter(), 1)
        session.compare_nothing()
        assert session.name == "03-compress (mesh)"
        session.compare_with_before()
        assert (session.name, session.beside) == ("02-mesh (mesh)", "03-compress (mesh)")
        session.show("02-mesh")
        session.compare("")
        session.compare_with_before()
        assert (session.name, session.beside) == ("01-radiance", "02-mesh")
        session.show("01-radiance")
        session.compare("")
        session.compare_with_mesh()
        assert (session.name, session.beside) == ("03-compress", "03-compress (mesh)"), "the last stage that has both"


def test_a_model_file_is_shown(tmp_path):
    write_glb(tmp_path / "ball.glb", ball_mesh(8))
    content = load(tmp_path / "ball.glb")
    assert content.mesh and content.scene.frame.up == (0.0, 1.0, 0.0)
    assert content.scene.frame.radius == pytest.approx(1.0, abs=1e-4)
    with (
        open_app(tmp_path / "ball.glb", Server(port=0), None).serving() as app,
        Client(app.server.viser.get_port()) as client,
    ):
        client.wait(client.move(0.0), 1)
        (session,) = app.sessions.values()
        # A splat's tools have nothing to work on, and say so.
        session.selection.click(0.5, 0.5, Click())
        session.selection.drag((0.0, 0.0), (1.0, 1.0), through=True)
        assert session.selection.mask is None
        with pytest.raises(RelightError, match="this is a mesh"):
            _ = session.panel.edit._document
        with pytest.raises(RelightError, match="both"):
            session.compare_with_mesh()
    write_mesh(content, tmp_path / "again.glb")
    again = load_model(tmp_path / "again.glb")
    assert torch.allclose(again.vertices, content.scene.asset.vertices, atol=1e-6)
    for name in ("broken.glb", "broken.obj"):
        (tmp_path / name).write_text("no model")
        with pytest.raises(RelightError, match=name):
            load(tmp_path / name)


def test_a_fit_that_made_a_mesh_shows_it_at_its_end(scene, plain):
    live = Live(threading.Event())
    with open_app(None, Server(port=0), None, live).serving() as app:
        live(Loaded(scene, ("mesh",)))
        live(StageStarted(0, 0))
        live(Progress(0, 1, 9, 0.1, {}, plain))
        with Client(app.server.viser.get_port()) as client:
            client.wait(client.move(0.0), 1)
            (session,) = app.sessions.values()
            assert app.names() == ["the fit"] and session.panel._name.options == ("the fit",)
            live.finished(replace(scene, asset=ball_mesh(8)))
            until(lambda: session.panel._name.options == ("the fit", "the fit (mesh)"))
            session.show("the fit (mesh)")
            assert isinstance(session.painter(), MeshPainter)
