"""A model of one's own from scene file to film: `relight fit`, `render` and `export` of runs with a mesh."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from meshed_ball import ball_mesh, photographed_ball, with_splat
from PIL import Image

from relight.cli import main
from relight.data.models import load_model
from relight.export.gltf import write_glb
from relight.export.hdr import write_hdr
from relight.render.tracing import unavailable
from relight.scene_io import load_scene, save_scene

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=f"no rays: {unavailable()}")


@pytest.fixture(scope="module")
def capture(tmp_path_factory) -> Path:
    """Photographs with transforms.json, a model beside them, and a light."""
    folder = tmp_path_factory.mktemp("capture")
    scene = photographed_ball(folder / "images", count=8, size=32)
    assert scene.views is not None
    frames = []
    for view in scene.views:
        pose = view.camera.world_from_camera @ torch.diag(torch.tensor([1.0, -1, -1, 1]))
        frames.append({"file_path": f"images/{view.image_path.name}", "transform_matrix": pose.tolist()})
    camera = scene.views[0].camera
    document = {"fl_x": camera.fx, "fl_y": camera.fy, "cx": 16, "cy": 16, "w": 32, "h": 32, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(document))
    write_glb(folder / "ball.glb", replace(ball_mesh(8), materials=()))
    light = torch.full((8, 16, 3), 0.05)
    light[:3] = 2.0
    write_hdr(folder / "above.hdr", light)
    return folder


FIT = (
    "{iterations: 6, sampled_iterations: 2, pixels: 256, sampled_pixels: 64, samples: 2, light_size: 8, "
    "max_texture: 16, occlusion_rays: 2, start: textures}"
)


def test_a_model_of_ones_own(capture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("scene.yaml").write_text(
        f"data: {{path: {capture}, mesh: ball.glb, test_every: 4}}\noutput: run\nstages:\n  - materials: {FIT}\n"
    )
    assert main(["fit", "scene.yaml"]) == 0
    scene = load_scene(tmp_path / "run" / "01-materials")
    assert scene.asset is not None and scene.light is not None and scene.gaussians is None
    assert len(scene.asset.faces) == len(ball_mesh(8).faces)
    assert main(["export", "run", "-o", "ball.glb"]) == 0
    assert load_model("ball.glb").materials[0].base_color_texture is not None
    # Another model is another capture: the stage runs again.
    before = json.loads((tmp_path / "run" / "01-materials" / "scene.json").read_text())["key"]
    bigger = replace(ball_mesh(8), materials=(), vertices=1.01 * ball_mesh(8).vertices)
    write_glb(capture / "other.glb", bigger)
    assert main(["fit", "scene.yaml", "data.mesh=other.glb"]) == 0
    assert json.loads((tmp_path / "run" / "01-materials" / "scene.json").read_text())["key"] != before


@pytest.mark.parametrize(
    ("mesh", "message"), [("none.glb", "no such model"), ("transforms.json", "not a model format")]
)
def test_bad_models_are_explained(capture, tmp_path, monkeypatch, capsys, mesh, message):
    monkeypatch.chdir(tmp_path)
    Path("scene.yaml").write_text(f"data: {{path: {capture}, mesh: {mesh}}}\nstages:\n  - materials: {FIT}\n")
    assert main(["fit", "scene.yaml"]) == 2
    assert message in capsys.readouterr().err and not Path("runs").exists()


@pytest.fixture(scope="module")
def run(capture, tmp_path_factory) -> Path:
    """Splat and mesh of the ball, two test views, light."""
    scene = with_splat(photographed_ball(tmp_path_factory.mktemp("photos"), count=3, size=32))
    assert scene.views is not None
    views = replace(scene.views, views=tuple(replace(v, split="test") for v in scene.views.views[1:2]))
    folder = tmp_path_factory.mktemp("run") / "01-mesh"
    folder.mkdir()
    save_scene(replace(scene, views=views, asset=ball_mesh()), folder, key="k")
    return folder


def drawn(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(float)


def test_runs_with_a_mesh_are_drawn_by_the_mesh_renderer(run, capture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    light = ["--env", str(capture / "above.hdr"), "--samples", "16"]
    assert main(["render", str(run), *light, "-o", "lit"]) == 0
    assert main(["render", str(run), *light, "--renderer", "splat", "-o", "splat"]) == 0
    mesh, splat = (drawn(tmp_path / name / "01.png") for name in ("lit", "splat"))
    # One asset, one light, one shading: the ball is the same but for noise and its rim.
    middle = np.s_[11:21, 11:21]
    assert mesh[middle].mean() > 20 and np.abs(mesh[middle] - splat[middle]).mean() < 0.15 * mesh[middle].mean()
    assert main(["render", str(run), "-o", "plain"]) == 0
    assert drawn(tmp_path / "plain" / "01.png")[middle].mean() > 20
    for name in ("roughness", "base_color", "normal"):
        assert main(["render", str(run), "--show", name, "-o", name]) == 0
    assert drawn(tmp_path / "roughness" / "01.png")[middle].mean() == pytest.approx(127.5, abs=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "roughness=0.2"], "add --renderer splat"),
        (["--show", "progress"], "add --renderer splat"),
        (["--background", "surroundings"], "add --env"),
    ],
)
def test_what_only_splats_have_is_explained(run, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["render", str(run), *arguments]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_missing_mesh_and_a_missing_light_are_explained(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    scene = load_scene(run)
    for name, changed, options, message in (
        ("a", replace(scene, asset=None), ["--renderer", "mesh"], "run the stage mesh first"),
        ("b", replace(scene, light=None), [], "its light is not known"),
        ("c", replace(scene, asset=None, gaussians=None), [], "holds no splat"),
    ):
        folder = tmp_path / name / "01-x"
        folder.mkdir(parents=True)
        save_scene(changed, folder, key="k")
        assert main(["render", str(folder), *options, "-o", "out"]) == 2
        assert message in capsys.readouterr().err and not Path("out").exists()
