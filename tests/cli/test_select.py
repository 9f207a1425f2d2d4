"""`relight select` on a run of known things."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from table_scene import CENTERS, RED, camera, table_scene
from torch.nn.functional import one_hot

from relight.cli import main
from relight.config.tree import read_text
from relight.formats import read_splat
from relight.images import read_image
from relight.scene_io import read_tensors, save_scene


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "01-radiance").mkdir()
    save_scene(table_scene()[0], folder / "01-radiance", key="k")
    return folder


def test_a_click_is_drawn_kept_and_written(run_folder, tmp_path, capsys):
    like = int((table_scene()[1] == RED).nonzero()[50])
    words = ["select", str(run_folder), "--like", str(like), "--view", "v0"]
    picture, part = tmp_path / "ball.png", tmp_path / "ball.ply"
    assert main([*words, "-o", str(picture), "--save", "ball", "--splat", str(part)]) == 0
    out = capsys.readouterr().out
    assert f"- select:\n      like: {like}" in out
    kept, about = read_tensors(run_folder / "selections" / "ball.safetensors")
    share = kept["selection"]
    assert about["stage"] == "01-radiance" and about["key"] == "k" and f'"like": {like}' in about["options"]
    truth = table_scene()[1] == RED
    assert ((share > 0.5) == truth).float().mean() > 0.97
    assert len(read_splat(part)) == int((share > 0.5).sum())
    drawn = read_image(picture).rgb
    assert drawn.shape == (64, 64, 3) and float(drawn[..., 0].max()) > 0.7
    # Nothing is replaced unasked.
    assert main([*words, "-o", str(picture)]) == 2 and "--force" in capsys.readouterr().err
    assert main([*words, "--save", "ball"]) == 2
    assert main([*words, "--save", "ball", "--force"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--point", "v9.png,1"], "expected view,x,y"),
        (["--like", "3", "--save", "../x"], "not a path"),
        (["--like", "3", "-o", "x.jpg"], "expected a .png"),
        (["--like", "3", "--step", "30"], "--step 30: expected"),
        (["--text", "ball"], "teacher that knows text"),
    ],
)
def test_mistakes_are_explained(run_folder, words, message, capsys):
    assert main(["select", str(run_folder), *words]) == 2
    assert message in capsys.readouterr().err


def test_novel_views_show_features_and_what_is_selected(tmp_path, capsys):
    scene, of = table_scene()
    assert scene.gaussians is not None and scene.views is not None
    words = ["render", str(tmp_path / "run"), "--views", "train"]
    (tmp_path / "run" / "01-select").mkdir(parents=True)
    channels = {"selection": (of == RED).float(), "feature": one_hot(of, 3).half()}
    marked = replace(scene, gaussians=replace(scene.gaussians, channels=channels))
    save_scene(marked, tmp_path / "run" / "01-select", key="k")
    for what in ("selection", "features"):
        assert main([*words, "--show", what, "-o", str(tmp_path / what)]) == 0
    x, y = camera(-math.pi / 2).project(CENTERS)[0].long().T
    drawn = read_image(tmp_path / "selection" / "v0.png").rgb
    saturation = (drawn.amax(-1) - drawn.amin(-1))[y, x]
    assert saturation[0] > 0.4 and saturation[1] < 0.05
    drawn = read_image(tmp_path / "features" / "v0.png").rgb[y, x]
    assert (drawn[0] - drawn[1]).abs().max() > 0.3
    assert main([*words, "--show", "selection", "--set", "roughness=1", "-o", str(tmp_path / "x")]) == 2
    plain = replace(scene.gaussians, channels={})
    (tmp_path / "plain" / "01-radiance").mkdir(parents=True)
    save_scene(replace(scene, gaussians=plain), tmp_path / "plain" / "01-radiance", key="k")
    capsys.readouterr()
    assert main(["render", str(tmp_path / "plain"), "--show", "features", "-o", str(tmp_path / "y")]) == 2
    assert "run the stage features" in capsys.readouterr().err


def test_what_is_printed_is_a_stage(run_folder, capsys):
    x, y = camera(-math.pi / 2).project(CENTERS[0])[0].round().int().tolist()
    assert main(["select", str(run_folder), "--point", f"v0.png,{x},{y}", "--step", "1"]) == 0
    text = capsys.readouterr().out.split("as a stage:\n")[1]
    assert read_text(f"stages:\n{text}", "", Path(), word="test").plain() == {
        "stages": [{"select": {"point": f"v0.png,{x},{y}", "step": 1}}]
    }
