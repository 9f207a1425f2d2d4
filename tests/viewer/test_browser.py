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
from tiny_capture import write_capture
from viewer_scenes import balls

from relight.data import load
from relight.export.images import write_exr
from relight.formats import read_splat
from relight.scene import Frame, Scene
from relight.scene_io import save_scene
from relight.shading.environment import Environment
from relight.shading.lighting import Lighting
from relight.viewer.display import MODES
from relight.viewer.web import export_web

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of two stages, a folder of lights beside it."""
    folder = tmp_path_factory.mktemp("run")
    views = load(write_capture(folder / "capture", size=64, views=8)).views
    light = Environment(torch.rand(8, 16, 3, generator=torch.Generator().manual_seed(1)) + 0.5)
    scene = Scene(
        Frame((0.0, 0.0, 0.0), 2.0, (0.0, 0.0, 1.0)),
        views=views,
        gaussians=balls(3000),
        light=Lighting.everywhere(light),
    )
    plain = replace(scene, light=None, gaussians=replace(balls(3000), channels={}))
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
    viewed.choose("Right of the divider", "normal")
    viewed.page.wait_for_timeout(1500)
    viewed.shot(tmp_path, "split")


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
    box = viewed.page.locator("canvas").first.bounding_box()
    viewed.page.mouse.move(box["x"] + 5, box["y"] + 0.4 * box["height"])
    viewed.page.mouse.down()
    viewed.page.mouse.move(box["x"] + 0.98 * box["width"], box["y"] + 0.98 * box["height"], steps=5)
    viewed.page.mouse.up()
    viewed.says(r"[\d,]+ Gaussians selected")
    before = viewed.settled()
    viewed.page.get_by_role("button", name="Delete", exact=True).click()
    gone = viewed.changes(before, 0.003)
    viewed.says("Nothing selected")
    viewed.page.get_by_role("button", name="Undo").click()
    viewed.changes(gone, 0.003)


def test_turning_the_camera_and_screenshots(viewed, tmp_path):
    before = viewed.settled()
    box = viewed.page.locator("canvas").first.bounding_box()
    viewed.page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    viewed.page.mouse.down()
    viewed.page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.55 * box["height"], steps=5)
    viewed.page.mouse.up()
    viewed.changes(before, 0.003)
    with viewed.page.expect_download() as download:
        viewed.page.get_by_role("button", name="Screenshot").click()
    download.value.save_as(tmp_path / "shot.png")
    assert (tmp_path / "shot.png").stat().st_size > 2000


def test_two_clients_have_views_of_their_own(viewed, chromium):
    other = Page(chromium, viewed.page.url)
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
