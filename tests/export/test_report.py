"""The report: one page that needs nothing else, with the evaluation's numbers."""

from __future__ import annotations

import base64
import io
import json
import re
import xml.etree.ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from relight.data import load
from relight.errors import DataError, MissingPartError
from relight.export.report import PICTURES, export_report, write_report
from relight.export.runs import last_stage, read_metrics
from relight.fit.evaluate import evaluate, means
from relight.geometry.gaussians import Gaussians
from relight.render.splats import create_rasterizer
from relight.scene import Scene, StageRecord
from relight.scene_io import load_scene, save_scene
from relight.testing.capture import write_capture

HOSTILE = "<script>alert(1)</script> & 'x' \"y\" </title>"


class Page(HTMLParser):
    """Text, pictures and everything that a browser would fetch."""

    def __init__(self, text: str):
        super().__init__()
        self.pictures: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.titles: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action", "poster"):
                (self.pictures if (value or "").startswith("data:image/") else self.fetched).append(value or "")
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data):
        if self.tags[-1] == "title":
            self.titles.append(data)
        if self.tags[-1] in ("td", "th") and self.cells:
            self.cells[-1] += data
        self.text += data


def ball(n: int = 60) -> Gaussians:
    """Something to be drawn in front of every camera of the tiny capture."""
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(n, 3, generator=generator) * 0.5
    quats = torch.tensor([1.0, 0, 0, 0]).repeat(n, 1)
    return Gaussians(means, quats, torch.full((n, 3), -1.5), torch.ones(n), torch.rand(n, 1, 3, generator=generator))


@pytest.fixture
def make(tmp_path):
    """Writes a run of one finished stage."""

    def make(scene: Scene | None = None, *, name: str = "run", metrics: str | None = None, **options) -> Path:
        if scene is None:
            scene = load(write_capture(tmp_path / "photos", views=11, size=16), **options)
            record = StageRecord("radiance", {"iterations": 9, "note": HOSTILE}, "key", 12.3, {}, 5, ended_early=True)
            scene = Scene(scene.frame, scene.views, None, ball(), (record,))
        folder = tmp_path / name / "01-radiance"
        folder.mkdir(parents=True)
        save_scene(scene, folder, key="key")
        if metrics is not None:
            (folder / "metrics.jsonl").write_text(metrics)
        return folder.parent

    return make


def page_of(path: Path) -> Page:
    return Page(path.read_text("utf-8"))


def decoded(source: str) -> bytes:
    kind, _, data = source.partition(";base64,")
    assert kind in ("data:image/jpeg", "data:image/svg+xml")
    return base64.b64decode(data, validate=True)


LINES = "".join(
    json.dumps({"step": i, "total": 5, "seconds": i / 2, "loss": 1 / i, "train_psnr": 10.0 + i, "gaussians": 60}) + "\n"
    for i in range(1, 6)
)


def test_it_needs_nothing_else(make):
    run = make(metrics=LINES)
    path = write_report(run, run / "report.html")
    assert path == run / "report.html"
    page = page_of(path)
    assert page.fetched == []
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    text = path.read_text("utf-8")
    written = re.sub(r"data:image/[^'\"]*", "", text)
    assert not re.search(r"https?:|//|url\(|@import", written), "something is fetched"
    assert text.startswith("<!doctype html>") and 'charset="utf-8"' in text.replace("charset=utf-8", 'charset="utf-8"')
    assert {p.name for p in run.iterdir()} == {"01-radiance", "report.html", "report.png"}


def test_the_numbers_are_the_evaluations(make):
    run = make(test_every=2)
    scores = evaluate(load_scene(run / "01-radiance"), create_rasterizer())
    page = page_of(write_report(run, run / "report.html"))
    rows = list(zip(*[map(str.strip, page.cells)] * 3, strict=True))
    assert rows[0] == ("view", "PSNR, dB", "SSIM")
    assert rows[1:] == [(s.name, f"{s.psnr:.2f}", f"{s.ssim:.4f}") for s in scores] and len(scores) == 6
    mean = means(scores)
    for expected in (f"{mean['psnr']:.2f} dB", f"{mean['ssim']:.3f}", "60", "12 s"):
        assert expected in page.text
    assert "(test views)" in page.text
    assert "radiance, ended early after 5 steps" in page.text


def test_each_row_is_photograph_render_and_four_times_their_difference(make):
    run = make(test_every=3)
    page = page_of(write_report(run, run / "report.html"))
    *rows, curves = page.pictures
    assert curves.startswith("data:image/svg+xml")
    scene = load_scene(run / "01-radiance")
    assert scene.views is not None and len(rows) == 3 * len(scene.views.test) == 12
    with Image.open(run / "report.png") as image:
        sheet = np.asarray(image).astype(float)
    assert sheet.shape == (4 * 16, 3 * 16, 3)
    for i in range(4):
        photo = scene.views.test.photo(i)
        assert photo.alpha is not None
        white = photo.rgb * photo.alpha[..., None] + 1 - photo.alpha[..., None]
        shown, drawn, error = np.split(sheet[16 * i : 16 * i + 16], 3, axis=1)
        assert np.abs(shown - 255 * white.numpy()).max() <= 1
        assert np.abs(shown - drawn).mean() > 10
        assert np.abs(error - np.clip(4 * np.abs(shown - drawn), 0, 255)).max() <= 6, "rounding, four times"
        for picture, expected in zip(rows[3 * i : 3 * i + 3], (shown, drawn, error), strict=True):
            found = np.asarray(Image.open(io.BytesIO(decoded(picture)))).astype(float)
            assert np.abs(found - expected).mean() < 20, "JPEG"


def test_training_views_stand_in_where_none_are_held_out(make):
    run = make(test_every=0)
    page = page_of(write_report(run, run / "report.html"))
    assert "(train views)" in page.text
    assert len(page.pictures) == 3 * PICTURES + 1, "at most so many"
    assert len(page.cells) == 3 * (11 + 1), "but all numbers"


@pytest.mark.parametrize(
    "metrics",
    [None, "", LINES, LINES + '{"step": 6, "sec', "[]\n7\nnull\n" + LINES,
     '{"step": 1, "total": 2, "seconds": 1, "loss": null}\n' + LINES, '{"step": 1, "seconds": 0, "other": 2}\n'],
)  # fmt: skip
def test_curves_of_any_metrics(make, metrics):
    run = make(metrics=metrics)
    page = page_of(write_report(run, run / "report.html"))
    root = xml.etree.ElementTree.fromstring(decoded(page.pictures[-1]))
    assert root.tag.endswith("svg")
    lines = [e for e in root.iter() if e.get("style", "").startswith("fill: none; stroke: #3b6ea5")]
    assert len(lines) == (3 if metrics and "train_psnr" in metrics else 0)


def test_hostile_names_are_shown_not_run(make, tmp_path):
    scene = load(write_capture(tmp_path / "photos", views=3))
    assert scene.views is not None
    views = replace(scene.views, views=tuple(replace(v, name=f"{HOSTILE}{i}") for i, v in enumerate(scene.views)))
    record = StageRecord(HOSTILE, {HOSTILE: HOSTILE}, "key", 1.0)
    run = make(Scene(scene.frame, views, None, ball(), (record,)), name="a<b> & '\"")
    page = page_of(write_report(run, run / "report.html"))
    assert "script" not in page.tags and page.fetched == []
    assert "".join(page.titles) == run.name
    assert HOSTILE + "0" in page.text
    assert page.tags.count("h3") == 1 and page.tags.count("title") == 1
    assert json.loads(page.text.split("Options")[1].split(HOSTILE, 1)[1]) == {HOSTILE: HOSTILE}


def test_a_name_that_is_no_text(make, tmp_path):
    scene = load(write_capture(tmp_path / "photos", views=2, size=16), test_every=0)
    assert scene.views is not None
    odd = b"\xff.png".decode("utf-8", "surrogateescape")  # what Python makes of such a file's name
    views = replace(scene.views, views=(scene.views[0], replace(scene.views[1], name=odd)))
    run = make(Scene(scene.frame, views, None, ball(), (StageRecord("radiance", {}, "key", 1.0),)))
    assert ".png" in page_of(write_report(run, run / "report.html")).cells[-3]


def test_as_an_export_it_is_the_page_alone(make, tmp_path):
    run = make()
    (tmp_path / "page.png").write_text("mine")
    export_report(run, tmp_path / "page.html")
    assert (tmp_path / "page.png").read_text() == "mine"
    assert page_of(tmp_path / "page.html").pictures


def test_what_has_nothing_to_show(make, tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        write_report(tmp_path / "none", tmp_path / "r.html")
    run = make(Scene(load(write_capture(tmp_path / "photos", views=3)).frame, gaussians=ball()))
    with pytest.raises(MissingPartError):
        write_report(run, tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_the_last_stage_of_a_run(make, tmp_path):
    run = make()
    assert last_stage(run) == last_stage(run / "01-radiance") == run / "01-radiance"
    (run / "02-later").mkdir()
    assert last_stage(str(run)).name == "01-radiance", "unfinished"
    (run / "02-later" / "scene.json").write_text("{}")
    assert last_stage(run).name == "02-later"
    with pytest.raises(DataError, match="expected a run or stage folder, no finished stage there; run `relight fit`"):
        last_stage(tmp_path)


def test_metrics_that_can_be_drawn(make):
    run = make(metrics=LINES + '{"step": 6, "seconds": 3, "loss": NaN, "word": "x", "flag": null, "deep": [1]}\n{"st')
    curves = read_metrics(run / "01-radiance")
    assert set(curves) == {"loss", "train_psnr", "gaussians"}
    assert curves["loss"] == [(i, i / 2, 1 / i) for i in range(1, 6)]
    assert read_metrics(run) == {}
