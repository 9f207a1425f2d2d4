"""`relight compress`."""

from __future__ import annotations

import json
import threading
from contextlib import nullcontext

import pytest
from small_splats import ball

from relight.cli import main
from relight.formats import read_splat, write_splat
from relight.scene import Frame, Scene
from relight.scene_io import save_scene

QUICK = ["cameras=4", "view_size=32", "views=2", "iterations=5", "polish=0", "between=0", "bits=usual"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_splat(ball(200, degree=1), tmp_path / "ball.ply")
    return tmp_path


def test_a_file_is_made_small(here, capsys):
    assert main(["compress", "ball.ply", "-o", "small.sog", "--count", "100", "--curve", "curve.svg", *QUICK]) == 0
    out = capsys.readouterr().out
    assert (
        "<- chosen" in out and "wrote small.sog (100 of 200 Gaussians" in out and "times smaller than ball.ply" in out
    )
    assert len(read_splat("small.sog")) == 100
    assert json.loads((here / "curve.json").read_text())["before"] == 200
    assert sorted(p.name for p in here.iterdir()) == ["ball.ply", "curve.json", "curve.svg", "small.sog"]


def test_what_was_begun_is_continued(here, capsys, monkeypatch):
    words = ["compress", "ball.ply", "-o", "small.sog", "--count", "100", *QUICK]
    assert main([*words, "--quiet"]) == 0
    whole = (here / "small.sog").read_bytes()
    stopped = threading.Event()
    stopped.set()
    with monkeypatch.context() as m:
        m.setattr("relight.cli.fit.asked_to_stop", lambda say: nullcontext(stopped))
        assert main([*words, "--force"]) == 130
    assert (here / ".small.sog.work").is_dir() and "the same command continues" in capsys.readouterr().err
    assert main([*words, "--force"]) == 0
    assert "continuing at step" in capsys.readouterr().err
    assert (here / "small.sog").read_bytes() == whole and not (here / ".small.sog.work").exists()


def test_mistakes_are_explained_before_anything_is_computed(here, fails):
    assert "exists; --force" in fails("compress", "ball.ply", "-o", "ball.ply")
    (here / "curve.json").write_text("mine")
    assert "curve.json: exists" in fails("compress", "ball.ply", "-o", "a.sog", "--curve", "curve.svg")
    assert "name a .sog" in fails("compress", "ball.ply", "-o", "folder/meta.json")
    assert "not a splat format that is written" in fails("compress", "ball.ply", "-o", "a.xyz")
    assert "did you mean 'iterations'" in fails("compress", "ball.ply", "-o", "a.sog", "itertions=3")
    assert "keep: expected 0.2 to 0.95" in fails("compress", "ball.ply", "-o", "a.sog", "keep=3")
    assert "expected a number such as 5MB" in fails("compress", "ball.ply", "-o", "a.sog", "--max-size", "lots")
    assert "no such file" in fails("compress", "gone.ply", "-o", "a.sog")
    (here / "run").mkdir()
    save_scene(Scene(Frame(), gaussians=ball(10)), here / "run", key="x")
    assert "add the stage compress" in fails("compress", "run", "-o", "a.sog")
    assert not list(here.glob("*.sog"))


def test_targets_exclude_each_other(here, capsys):
    with pytest.raises(SystemExit):
        main(["compress", "ball.ply", "-o", "a.sog", "--count", "9", "--max-size", "1MB"])
    assert "not allowed with" in capsys.readouterr().err
    assert [p.name for p in here.iterdir()] == ["ball.ply"]
