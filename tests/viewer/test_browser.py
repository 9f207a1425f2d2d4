"""The viewer as people meet it: in a browser.  Needs Chromium and Playwright."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import Page, browser, relight
from meshed_ball import ball_mesh, photographed_ball, with_splat
from viewer_scenes import balls

from relight.data import load
from relight.data.models import load_model
from relight.export.gltf import write_glb
from relight.export.images import write_exr
from relight.formats import read_splat
from relight.scene import FeatureBasis, Frame, Scene
from relight.scene_io import load_scene, save_scene
from relight.shading.environment import Environment
from relight.shading.lighting import Lighting
from relight.testing.capture import write_capture
from relight.viewer.display import MODES
from relight.viewer.web import export_web

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


@pytest.fixture(autouse=True)
def nothing_stays_open(chromium):
    """A page of a test that failed would go on drawing beside the next ones."""
    yield
    for context in list(chromium.contexts):
        context.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of two stages, a folder of lights beside it."""
    folder = tmp_path_factory.mktemp("run")
    views = load(write_capture(folder / "capture", size=64, views=8)).views
    light = Environment(torch.rand(8, 16, 3, generator=torch.Generator().manual_seed(1)) + 0.5)
    gaussians = balls(3000)
    # Whose directions differ between the balls and with height.
    feature = torch.cat([gaussians.means, torch.ones(3000, 4)], 1)
    gaussians = replace(gaussians, channels={**gaussians.channels, "feature": feature})
    frame = Frame((0.0, 0.0, 0.0), 2.0, (0.0, 0.0, 1.0))
    directions = torch.zeros(7, 3)
    directions[0, :2] = torch.tensor([-1.0, 1.0])
    basis = FeatureBasis(torch.zeros(3), directions, "tests.viewer.viewer_scenes:Reader")
    scene = Scene(frame, views=views, gaussians=gaussians, light=Lighting.everywhere(light), feature_basis=basis)
    plain = replace(scene, light=None, feature_basis=None, gaussians=replace(balls(3000), channels={}))
    for name, stage in (("01-radiance", plain), ("02-distill", scene)):
        (folder / "balls" / name).mkdir(parents=True)
        save_scene(stage, folder / "balls" / name, key=name)
    (folder / "lights").mkdir()
    write_exr(folder / "lights" / "green.exr", {"RGB": torch.tensor([0.1, 1.5, 0.1]).expand(16, 32, 3)})
    write_exr(folder / "violet.exr", {"RGB": torch.tensor([1.5, 0.1, 1.5]).expand(16, 32, 3)})
    return folder


@pytest.fixture
def viewed(chromium, run):
    with relight("view", str(run / "balls"), "--lights", str(run / "lights"), "--port", "0", cwd=run) as (address, *_):
        page = Page(chromium, address)
        page.says("Mode")
        page.says(r"\d+ x \d+, (full|refined)")
        yield page
        assert page.errors == []
        page.page.context.close()


def test_every_mode_is_another_picture(viewed, tmp_path):
    seen = {"final": viewed.settled()}
    for mode in [m for m in MODES if m not in ("final", "visibility", "error", "photo", "radiance")]:
        before = viewed.picture()
        viewed.choose("Mode", mode)
        viewed.changes(before, 0.002)
        seen[mode] = viewed.settled()
        for other, picture in seen.items():
            assert other == mode or float(np.abs(picture - seen[mode]).mean()) > 0.001, (mode, other)


def test_the_divider_is_dragged_in_the_picture(viewed, tmp_path):
    line = viewed.page.get_by_role("separator", name="Divider")
    assert not line.is_visible()
    whole = viewed.settled()
    viewed.choose("Right side", "normal")
    line.wait_for()
    split = viewed.changes(whole, 0.003)
    half = split.shape[1] // 2
    box = viewed.page.locator("canvas").first.bounding_box()
    # The picture is looked at from 0.42 to 0.62 of the canvas: first the right part of it shows normals, then all.
    viewed.drag((0.5, 0.9), (0.44, 0.9))
    moved = viewed.changes(split, 0.003)
    assert float(np.abs(moved - split)[:, : half - 5].mean()) > 0.003, "left of where it was"
    assert abs(line.bounding_box()["x"] + 12 - box["x"] - 0.44 * box["width"]) < 2
    assert line.get_attribute("aria-valuenow") == "44"
    line.press("ArrowRight")
    assert line.get_attribute("aria-valuenow") == "46"
    assert float(np.abs(viewed.settled() - whole)[:-60, :10].mean()) < 0.01, "left of it nothing changed"
    viewed.shot(tmp_path, "split")
    viewed.page.get_by_role("button", name="off", exact=True).click()
    line.wait_for(state="hidden")


def test_before_and_after_and_the_photograph(viewed, tmp_path):
    line = viewed.page.get_by_role("separator", name="Divider")
    viewed.page.get_by_role("button", name="before", exact=True).click()
    line.wait_for()
    assert line.inner_text().split() == ["01-radiance", "02-distill"]
    before = viewed.settled()
    viewed.page.get_by_role("button", name="photo", exact=True).click()
    viewed.changes(before, 0.003)
    assert line.inner_text().split() == ["photo", "final"]
    viewed.shot(tmp_path, "photo")


def test_a_link_restores_the_view_elsewhere(viewed, chromium, tmp_path):
    viewed.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    start = viewed.page.url
    viewed.choose("Mode", "normal")
    viewed.settled()
    viewed.drag((0.5, 0.5), (0.7, 0.55))
    viewed.tab("Light")
    viewed.page.locator("[data-relight-light=green]").click()
    viewed.tab("View")
    mine = viewed.settled()
    viewed.page.get_by_role("button", name="Copy link").click()
    viewed.says("Link copied")
    link = viewed.page.evaluate("navigator.clipboard.readText()")
    assert link.startswith(start.split("?")[0]) and "?view=" in link
    viewed.page.wait_for_function("link => location.href == link", arg=link)
    other = Page(chromium, link)
    other.says(r"\d+ x \d+, (full|refined)")
    # It begins as every client does, and goes there once its page is connected.
    assert any(float(np.abs(other.settled() - mine).mean()) < 0.005 for _ in range(20))
    other.tab("Light")
    assert other.page.locator("input[value=green]").count() >= 1
    assert other.errors == []
    other.page.context.close()


def test_alt_and_drag_turns_the_light_and_not_the_camera(viewed):
    viewed.tab("Light")
    viewed.page.locator("[data-relight-light='built-in studio']").click()
    before = viewed.settled()
    viewed.page.keyboard.down("Alt")
    viewed.drag((0.2, 0.9), (0.45, 0.9))
    viewed.page.keyboard.up("Alt")
    viewed.says("Rotation")
    row = viewed.page.locator("xpath=//label[normalize-space()='Rotation']/ancestor::div[.//input][1]").first
    assert abs(float(row.locator("input").last.input_value()) - 90) < 3
    viewed.changes(before, 0.002)
    viewed.tab("View")
    viewed.choose("Mode", "normal")
    normals = viewed.settled()
    viewed.page.keyboard.down("Alt")
    viewed.drag((0.2, 0.9), (0.45, 0.9))
    viewed.page.keyboard.up("Alt")
    assert float(np.abs(viewed.settled() - normals).max()) < 0.02


def test_lights_change_the_picture(viewed, run, tmp_path):
    before = viewed.settled()
    viewed.tab("Light")
    viewed.choose("Light", "green")
    green = viewed.changes(before)
    assert green[..., 1].mean() > 2 * green[..., 0].mean()
    with viewed.page.expect_file_chooser() as chooser:
        viewed.page.get_by_role("button", name="Load .hdr or .exr").click()
    chooser.value.set_files(str(run / "violet.exr"))
    violet = viewed.changes(green)
    assert violet[..., 0].mean() > 2 * violet[..., 1].mean()
    viewed.page.get_by_role("button", name="Add sun").click()
    viewed.changes(violet)
    viewed.shot(tmp_path, "lights")


def test_a_click_selects_and_a_ply_comes_out(viewed, run, tmp_path):
    viewed.tab("Edit")
    viewed.choose("Tool", "click")
    viewed.page.wait_for_timeout(500)
    box = viewed.page.locator("canvas").first.bounding_box()
    viewed.page.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    viewed.says(r"[\d,]+ Gaussians selected")
    viewed.shot(tmp_path, "selected")
    with viewed.page.expect_download() as download:
        viewed.page.get_by_role("button", name="Download selection as PLY").click()
    download.value.save_as(tmp_path / "selection.ply")
    found = read_splat(tmp_path / "selection.ply")
    assert 0 < len(found) < 3000 and "roughness" in found.channels


def test_a_box_selects_and_what_it_selects_can_go_and_come_back(viewed):
    viewed.tab("Edit")
    viewed.choose("Tool", "box")
    viewed.page.wait_for_timeout(500)
    viewed.drag((0.01, 0.4), (0.98, 0.98))
    viewed.says(r"[\d,]+ Gaussians selected")
    before = viewed.settled()
    viewed.page.get_by_role("button", name="Delete", exact=True).click()
    gone = viewed.changes(before, 0.003)
    viewed.says("Nothing selected")
    viewed.page.get_by_role("button", name="Undo").click()
    viewed.changes(gone, 0.003)


def test_words_select_where_features_know_them(viewed, tmp_path):
    viewed.tab("Edit")
    viewed.field("Words").fill("a red ball")
    viewed.page.get_by_role("button", name="Select what they name").click()
    viewed.says("1,500 Gaussians selected")
    before = viewed.settled()
    viewed.choose("Selection", "add")
    viewed.field("Words").fill("a blue ball")
    viewed.page.get_by_role("button", name="Select what they name").click()
    viewed.says("3,000 Gaussians selected")
    viewed.page.get_by_role("button", name="Back", exact=True).click()
    viewed.says("1,500 Gaussians selected")
    viewed.shot(tmp_path, "words")
    viewed.page.get_by_role("button", name="Delete", exact=True).click()
    gone = viewed.changes(before, 0.003)
    viewed.page.get_by_role("button", name="Undo").click()
    viewed.changes(gone, 0.003)
    viewed.field("Words").fill("a unicorn")
    viewed.page.get_by_role("button", name="Select what they name").click()
    viewed.says("nothing here is more like 'a unicorn'")
    viewed.tab("View")
    viewed.choose("Scene", "01-radiance")
    viewed.tab("Edit")
    viewed.says("Words need features of a teacher")
    assert not viewed.page.get_by_role("button", name="Select what they name").is_visible()


@pytest.fixture(scope="module")
def meshed(tmp_path_factory) -> Path:
    """A run of one stage with a splat and a mesh with textures, and the mesh alone as a file."""
    folder = tmp_path_factory.mktemp("meshed")
    scene = replace(with_splat(photographed_ball(folder / "photographs")), asset=ball_mesh(32))
    (folder / "ball" / "01-mesh").mkdir(parents=True)
    save_scene(scene, folder / "ball" / "01-mesh", key="mesh")
    write_glb(folder / "ball.glb", ball_mesh(32))
    return folder


def test_a_textured_mesh_is_lit(chromium, meshed, run, tmp_path):
    with relight("view", "ball.glb", "--lights", str(run / "lights"), "--port", "0", cwd=meshed) as (address, *_):
        page = Page(chromium, address)
        page.says(r"\d+ x \d+, (full|refined)")
        seen = {"final": page.settled()}
        for mode in ("base_color", "roughness", "normal", "depth", "specular"):
            before = page.picture()
            page.choose("Mode", mode)
            page.changes(before, 0.002)
            seen[mode] = page.settled()
        for name, picture in seen.items():
            for other in seen:
                assert name == other or float(np.abs(picture - seen[other]).mean()) > 0.001, (name, other)
        page.choose("Mode", "final")
        page.tab("Light")
        page.page.locator("[data-relight-light=green]").click()
        green = page.changes(seen["final"])
        assert green[..., 1].mean() > 1.5 * green[..., 0].mean()
        page.shot(tmp_path, "mesh")
        page.tab("Edit")
        page.page.get_by_role("button", name="Recolour").click()
        page.says("this is a mesh")
        with page.page.expect_download() as download:
            page.page.get_by_role("button", name="Download all").click()
        assert download.value.suggested_filename == "scene.glb"
        download.value.save_as(tmp_path / "scene.glb")
        assert len(load_model(tmp_path / "scene.glb").faces) == len(ball_mesh(32).faces)
        assert page.errors == []
        page.page.context.close()


def test_splat_and_mesh_of_a_run(chromium, meshed, tmp_path):
    with relight("view", "ball", "--port", "0", cwd=meshed) as (address, *_):
        page = Page(chromium, address)
        page.says(r"\d+ x \d+, (full|refined)")
        mesh = page.settled()
        page.choose("Scene", "01-mesh")
        splat = page.changes(mesh, 0.002)
        page.choose("Mode", "ellipsoids")
        page.changes(splat, 0.002)
        page.choose("Scene", "01-mesh (mesh)")
        page.settled()
        assert page.page.locator("input[value=ellipsoids]").count() == 0, "a mesh has no Gaussians"
        page.page.get_by_role("button", name="mesh", exact=True).click()
        line = page.page.get_by_role("separator", name="Divider")
        line.wait_for()
        page.settled()
        assert "(mesh)" in line.inner_text()
        page.shot(tmp_path, "splat_and_mesh")
        assert page.errors == []
        page.page.context.close()


def test_turning_the_camera_and_screenshots(viewed, tmp_path):
    before = viewed.settled()
    viewed.drag((0.5, 0.5), (0.8, 0.55))
    viewed.changes(before, 0.003)
    with viewed.page.expect_download() as download:
        viewed.page.get_by_role("button", name="Screenshot").click()
    download.value.save_as(tmp_path / "shot.png")
    assert (tmp_path / "shot.png").stat().st_size > 2000


def test_two_clients_have_views_of_their_own(viewed, chromium):
    other = Page(chromium, viewed.page.url.split("?")[0])
    other.says(r"\d+ x \d+, (full|refined)")
    mine, theirs = viewed.settled(), other.settled()
    other.choose("Mode", "normal")
    other.changes(theirs)
    assert float(np.abs(viewed.settled() - mine).mean()) < 0.01
    assert other.errors == []
    other.page.context.close()


def test_a_fit_is_watched_paused_and_stopped(chromium, tmp_path):
    capture = write_capture(tmp_path / "capture", size=96, views=12)
    (tmp_path / "scene.yaml").write_text(
        f"data: {capture}\noutput: run\nstages:\n  - radiance: {{iterations: 60000}}\n"
    )
    with relight("fit", "scene.yaml", "--view", "--port", "0", cwd=tmp_path) as (address, process, lines):
        page = Page(chromium, address)
        page.says(r"radiance: \d+ of 60000")
        page.says(r"\d+ x \d+, \w+")
        page.changes(page.picture(), 0.0005)
        page.page.get_by_role("button", name="Pause", exact=True).click()
        page.says("Resume")
        page.page.wait_for_timeout(1500)
        step = page.page.inner_text("body").split("radiance: ")[1].split(" of")[0]
        page.page.wait_for_timeout(1500)
        assert page.page.inner_text("body").split("radiance: ")[1].split(" of")[0] == step
        page.shot(tmp_path, "fit")
        page.page.get_by_role("button", name="Resume").click()
        page.says(r"radiance: (?!" + step + r" )\d+ of 60000")
        assert page.errors == []
        page.page.get_by_role("button", name="Stop and save").click()
        assert process.wait(60) == 130, lines
        page.page.context.close()
    assert any((tmp_path / "run" / ".work").rglob("checkpoint.safetensors"))


def test_a_stage_is_ended_early_from_the_browser(chromium, tmp_path):
    capture = write_capture(tmp_path / "capture", size=64, views=8)
    phases = "specular: {iterations: 2}, diffuse: {iterations: 2}, joint: {iterations: 2}, refine: {iterations: 0}"
    (tmp_path / "scene.yaml").write_text(
        f"data: {capture}\noutput: run\nstages:\n  - radiance: {{iterations: 60000}}\n"
        f"  - distill: {{shadows: false, {phases}}}\n"
    )
    with relight("fit", "scene.yaml", "--view", "--port", "0", cwd=tmp_path) as (address, process, lines):
        page = Page(chromium, address)
        page.says(r"radiance: [1-9]\d* of 60000")
        page.page.get_by_role("button", name="Next stage").click()
        page.says("The fit has ended")
        page.shot(tmp_path, "ended")
        assert page.errors == []
        page.page.context.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, lines
    first, second = load_scene(tmp_path / "run" / "02-distill").history
    assert first.ended_early and 0 < first.steps < 60000 and not second.ended_early


def test_a_scene_file_shows_cameras_and_photographs(chromium, tmp_path):
    capture = write_capture(tmp_path / "capture", size=64, views=8)
    (tmp_path / "scene.yaml").write_text(f"data: {capture}\noutput: run\nstages:\n  - radiance\n")
    with relight("view", "scene.yaml", "--port", "0", cwd=tmp_path) as (address, *_):
        page = Page(chromium, address)
        page.says(r"\d+ x \d+, (full|refined)")
        before = page.changes(np.zeros_like(page.picture()), 0.002)
        page.settled()
        page.shot(tmp_path, "capture")
        page.page.get_by_role("button", name="photo", exact=True).click()
        page.changes(before, 0.01)
        assert page.errors == []
        page.page.context.close()


def test_a_token_is_needed_from_other_machines(chromium, run):
    with relight("view", str(run / "balls"), "--host", "0.0.0.0", "--port", "0", cwd=run) as (address, *_):
        bare = Page(chromium, address.split("?")[0])
        bare.says("open the address with")
        bare.page.context.close()
        page = Page(chromium, address)
        page.says(r"\d+ x \d+, (full|refined)")
        assert "token" not in page.page.url, "the cookie keeps it"
        page.page.wait_for_url("**/?view=*")
        page.page.reload()
        page.says(r"\d+ x \d+, (full|refined)")
        assert page.errors == []
        page.page.context.close()


def test_ctrl_c_ends_the_viewer(run):
    with relight("view", str(run / "balls"), "--port", "0", cwd=run) as (_, process, lines):
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, lines


def test_the_exported_page_opens_from_a_disk(chromium, run, tmp_path):
    export_web(run / "balls", tmp_path / "page.html")
    page = Page(chromium, (tmp_path / "page.html").as_uri())
    requests: list[str] = []
    page.page.on("request", lambda r: requests.append(r.url))
    page.page.wait_for_function("Number(document.body.dataset.drawn) > 0")
    before = page.settled()
    assert before.std() > 0.05, "something is drawn"
    page.page.get_by_role("button", name="studio").click()
    lit = page.changes(before)
    page.settled()
    page.page.mouse.move(500, 300)
    page.page.mouse.down()
    page.page.mouse.move(700, 320, steps=4)
    page.page.mouse.up()
    page.changes(lit, 0.003)
    page.shot(tmp_path, "web")
    assert page.errors == [] and not [r for r in requests if not r.startswith(("file:", "data:"))]
    page.page.context.close()
