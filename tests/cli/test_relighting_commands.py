"""`relight render` and `relight eval` with runs that have materials."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from relight.cli import main
from relight.export.hdr import write_hdr
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.geometry.mesh import Mesh
from relight.images import read_image
from relight.render.tracing import unavailable
from relight.scene import Frame, Scene
from relight.scene_io import save_scene
from relight.shading.environment import Environment
from relight.shading.lighting import Lighting
from relight.views import View, Views

SIZE = 32
MATERIALS = ("albedo", "roughness", "metallic", "normal")


def wall() -> tuple[Gaussians, Mesh]:
    """A level square of discs that faces up (+z), and the same square as a mesh just below."""
    axis = torch.linspace(-1, 1, 25)
    x, y = torch.meshgrid(axis, axis, indexing="ij")
    n = x.numel()
    gaussians = Gaussians(
        means=torch.stack([x.flatten(), y.flatten(), torch.zeros(n)], 1),
        quats_wxyz=torch.tensor([1.0, 0, 0, 0]).expand(n, 4).contiguous(),
        log_scales=torch.full((n, 3), math.log(0.06)),
        logit_opacity=torch.full((n,), 6.0),
        sh=torch.zeros(n, 1, 3),
        channels={
            "base_color": torch.tensor([0.5, 0.25, 0.1]).expand(n, 3).contiguous(),
            "roughness": torch.full((n,), 0.6),
            "metallic": torch.zeros(n),
            "normal": torch.tensor([0.0, 0, 1]).expand(n, 3).contiguous(),
            "progress": torch.ones(n),
        },
        surfels=True,
    )
    corners = torch.tensor([[-1.0, -1, -0.01], [1, -1, -0.01], [1, 1, -0.01], [-1, 1, -0.01]])
    mesh = Mesh(
        corners, torch.tensor([[0, 1, 2], [0, 2, 3]]), normals=torch.tensor([[0.0, 0, 1]]).expand(4, 3).contiguous(),
        colors=torch.ones(4, 4),
    )  # fmt: skip
    return gaussians, mesh


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A stage folder whose two test views look down on the wall; the working folder has a light from above."""
    monkeypatch.chdir(tmp_path)
    pictures = tmp_path / "capture" / "test"
    pictures.mkdir(parents=True)
    views = []
    for i in range(2):
        pose = torch.eye(4)
        pose[:3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
        pose[:3, 3] = torch.tensor([0.1 * i, 0.0, 4.0])
        camera = Camera.from_fov(pose, 0.8, SIZE, SIZE)
        rgba = np.zeros((SIZE, SIZE, 4), np.uint8)
        rgba[10:22, 10:22] = (120, 90, 60, 255)
        Image.fromarray(rgba).save(pictures / f"{i:03d}.png")
        views.append(View(f"test/{i:03d}", pictures / f"{i:03d}.png", camera, "test"))
    gaussians, mesh = wall()
    light = Lighting.everywhere(Environment.z_up(torch.full((8, 16, 3), 0.8)))
    has_rays = unavailable() is None
    frame = Frame(radius=4.0, up=(0.02, -0.03, 0.999))
    scene = Scene(frame, Views(tuple(views)), gaussians=gaussians, light=light, mesh=mesh if has_rays else None)
    folder = tmp_path / "01-distill"
    folder.mkdir()
    save_scene(scene, folder, key="k")
    above = torch.full((8, 16, 3), 0.01)
    above[:3] = 1.5
    write_hdr(tmp_path / "above.hdr", above)
    return folder


def middle(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(float)[14:18, 14:18].mean((0, 1))


def test_light_from_above_falls_on_what_faces_up(run, tmp_path):
    assert main(["render", str(run), "--env", "above.hdr", "-o", "lit"]) == 0
    red, green, blue = middle(tmp_path / "lit" / "test_000.png")
    assert red > green > blue > 20
    upside_down = torch.from_numpy(np.ascontiguousarray(read_image("above.hdr").values[..., :3].flip(0).numpy()))
    write_hdr(tmp_path / "below.hdr", upside_down)
    assert main(["render", str(run), "--env", "below.hdr", "-o", "dark"]) == 0
    assert middle(tmp_path / "dark" / "test_000.png")[0] < 0.5 * red


def test_materials_are_shown_and_changed(run, tmp_path):
    assert main(["render", str(run), "--show", "roughness", "-o", "rough"]) == 0
    assert middle(tmp_path / "rough" / "test_001.png") == pytest.approx([153] * 3, abs=1)
    assert main(["render", str(run), "--env", "above.hdr", "--set", "base_color=0.1,0.25,0.5", "-o", "blue"]) == 0
    red, green, blue = middle(tmp_path / "blue" / "test_000.png")
    assert blue > green > red
    assert main(["render", str(run), "--background", "transparent", "-o", "cut"]) == 0
    assert np.asarray(Image.open(tmp_path / "cut" / "test_000.png")).shape == (SIZE, SIZE, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "roughness=2", "--env", "above.hdr"], "numbers from 0 to 1"),
        (["--set", "gloss=0.2", "--env", "above.hdr"], "expected one of base_color=X,X,X"),
        (["--set", "roughness=0.2"], "add --env"),
        (["--background", "surroundings"], "add --env"),
        (["--orbit", "1", "--background", "transparent"], "films have no alpha"),
    ],
)
def test_mistakes_are_explained_and_nothing_is_written(run, tmp_path, capsys, arguments, message):
    before = sorted(tmp_path.rglob("*"))
    assert main(["render", str(run), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_scores_of_the_truth_itself_are_perfect(run, tmp_path, capsys):
    capture = tmp_path / "capture"
    for name, shown in zip(MATERIALS, ("base_color", "roughness", "metallic", "normal"), strict=True):
        assert main(["render", str(run), "--show", shown, "-o", f"{name}"]) == 0
        (capture / f"test_{name}").mkdir()
        for i in range(2):
            Image.open(tmp_path / name / f"test_{i:03d}.png").save(capture / f"test_{name}" / f"{i:03d}.png")
    assert main(["render", str(run), "--env", "above.hdr", "--samples", "64", "-o", "lit"]) == 0
    (capture / "relight_above").mkdir()
    for i in range(2):
        Image.open(tmp_path / "lit" / f"test_{i:03d}.png").save(capture / "relight_above" / f"{i:03d}.png")
    capsys.readouterr()
    assert main(["eval", str(run), "--materials", "--lights", ".", "--samples", "64", "--json", "scores.json"]) == 0
    assert "relit, mean" in capsys.readouterr().out
    scores = json.loads((tmp_path / "scores.json").read_text())["materials"]
    assert scores["roughness MAE"] < 0.003 and scores["metallic MAE"] < 0.003
    assert scores["normal MAE, degrees"]["foreground"] < 0.6
    for alignment in ("unscaled", "global", "per channel"):
        assert scores["albedo"][alignment]["sRGB, foreground"] > 45
        assert scores["relit"]["above"][alignment]["PSNR"] > 34
    assert scores["albedo scale"]["per channel"] == pytest.approx([1, 1, 1], abs=0.03)


def test_missing_truth_is_explained(run, tmp_path, capsys):
    assert main(["eval", str(run), "--materials"]) == 2
    assert "name their folder" in capsys.readouterr().err
    (tmp_path / "capture" / "relight_above").mkdir()
    assert main(["eval", str(run), "--materials"]) == 2
    assert "name its folder with --lights" in capsys.readouterr().err
    assert main(["eval", str(run), "--materials", "--lights", "."]) == 2
    assert "no picture named 000" in capsys.readouterr().err


@pytest.mark.parametrize("up", [(0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (0.0, -1.0, 0.0), (0.1, 0.0, 0.99), (0.6, 0.6, 0.53)])
def test_lights_stand_upright(up):
    direction = torch.nn.functional.normalize(torch.tensor(up), dim=0)
    light = Environment(torch.ones(4, 8, 3)).upright(up)
    assert torch.allclose(light.rotation @ light.rotation.mT, torch.eye(3), atol=1e-6)
    assert torch.linalg.det(light.rotation) == pytest.approx(1)
    height = float(light.rotation[1] @ direction)
    assert height > 0.99
    if max(abs(x) for x in up) > 0.95:
        assert light.rotation[1].abs().max() == pytest.approx(1), "near an axis it is the axis"
