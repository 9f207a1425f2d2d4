"""`relight render` with model files."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from relight.cli import main
from relight.export.images import write_exr
from relight.images import read_image

CUBE = """mtllib cube.mtl
v -1 -1 -1\nv 1 -1 -1\nv 1 1 -1\nv -1 1 -1\nv -1 -1 1\nv 1 -1 1\nv 1 1 1\nv -1 1 1
usemtl red
f 5 6 7 8\nf 2 1 4 3\nf 6 2 3 7\nf 1 5 8 4\nf 8 7 3 4\nf 1 2 6 5
"""
FAST = ["--size", "40x32", "--supersample", "1"]


@pytest.fixture
def cube(tmp_path, monkeypatch) -> str:
    """A red cube; its folder is the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cube.mtl").write_text("newmtl red\nKd 0.8 0.05 0.05\nNs 50\n")
    (tmp_path / "cube.obj").write_text(CUBE)
    return "cube.obj"


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def test_a_still_with_every_default(cube, tmp_path, capsys):
    assert main(["render", cube, *FAST]) == 0
    assert capsys.readouterr().out == "wrote cube.png\n"
    picture = pixels(tmp_path / "cube.png")
    assert picture.shape == (32, 40, 3) and (picture[0, 0] == 255).all()
    red, green, _ = picture[16, 20]
    assert red > 2 * green > 0
    # The whole model is in the picture, and fills most of its height.
    drawn = (picture != 255).any(-1)
    assert not drawn[0].any() and not drawn[:, 0].any() and drawn.any(1).sum() > 16


def test_estimators_agree(cube, tmp_path):
    for name in ("split-sum", "monte-carlo", "harmonics"):
        assert main(["render", cube, *FAST, "--estimator", name, "-o", f"{name}.exr"]) == 0
    split, monte, smooth = (read_image(tmp_path / f"{n}.exr").values for n in ("split-sum", "monte-carlo", "harmonics"))
    inside = split[..., 3] == 1
    assert torch.equal(split[..., 3], monte[..., 3])
    for other in (monte, smooth):
        assert float((split - other)[inside].norm() / split[inside].norm()) < 0.2


def test_light_exposure_and_background(cube, tmp_path):
    # Light from +x only, so that a turn of the light moves it to another face.
    radiance = torch.zeros(16, 32, 3)
    radiance[:, 12:20] = torch.tensor([0.2, 0.4, 0.8])
    write_exr(tmp_path / "side.exr", {"RGB": radiance})

    def draw(*words: str) -> np.ndarray:
        base = ["render", cube, *FAST, "--env", "side.exr", "--curve", "clip", "--azimuth", "0", "--force"]
        assert main([*base, "--elevation", "0", "-o", "x.png", *words]) == 0
        return pixels(tmp_path / "x.png")

    away, facing = draw("--rotate", "-90"), draw("--rotate", "90")
    assert abs(int(away[16, 20].sum()) - int(facing[16, 20].sum())) > 20
    brighter = draw("--rotate", "90", "--exposure", "1")
    assert (brighter[16, 20] >= facing[16, 20]).all() and brighter[16, 20].sum() > facing[16, 20].sum()
    clear = draw("--background", "transparent")
    assert clear.shape[-1] == 4 and clear[0, 0, 3] == 0 and clear[16, 20, 3] == 255
    behind = draw("--background", "surroundings", "--azimuth", "-90")
    # The camera on -x looks at the light.
    encoded = 255 * (1.055 * np.array([0.2, 0.4, 0.8]) ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(behind[2, 20], encoded, atol=1)
    assert (draw("--background", "black")[0, 0] == 0).all()


def test_a_film(cube, tmp_path, capsys):
    assert main(["render", cube, *FAST, "--orbit", "0.5", "--fps", "8"]) == 0
    assert capsys.readouterr().out == "wrote cube.mp4 (4 frames)\n"
    assert (tmp_path / "cube.mp4").stat().st_size > 500


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--views", "test"], "is a model"),
        (["--env", "none.hdr"], "none.hdr"),
        (["--env", "square.png"], "twice as wide as high; found 8x8"),
        (["--orbit", "1", "--background", "transparent"], "films have no alpha"),
        (["-o", "taken.png"], "taken.png: exists; --force"),
        (["-o", "x.gif"], "expected .png"),
    ],
)
def test_mistakes(cube, tmp_path, capsys, words, message):
    Image.new("RGB", (8, 8)).save(tmp_path / "square.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "taken.png")
    before = sorted(p.name for p in tmp_path.iterdir())
    assert main(["render", cube, *FAST, *words]) == 2
    assert message in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize("words", [["--samples", "0"], ["--bounces", "-1"], ["--fov", "180"], ["--exposure", "inf"]])
def test_numbers_out_of_range(cube, words):
    with pytest.raises(SystemExit) as stopped:
        main(["render", cube, *words])
    assert stopped.value.code == 2


def test_the_studio_lights_white_to_about_one():
    from relight.shading.studio import studio

    light = studio(64)
    front = light.irradiance(torch.tensor([[0.0, 0.0, 1.0]]))
    assert 0.7 < float(front.mean()) < 1.4
    # Key light from the right, nothing coloured.
    right, left = light.irradiance(torch.tensor([[1.0, 0.3, 1.0], [-1.0, 0.3, 1.0]]) / math.sqrt(2.09)).mean(-1)
    assert float(right) > 1.2 * float(left)
    assert torch.equal(light.radiance[..., 0], light.radiance[..., 2])


def test_an_environment_with_holes_is_refused(tmp_path, capsys, cube):
    broken = torch.ones(8, 16, 3)
    broken[3, 3, 1] = float("nan")
    write_exr(tmp_path / "broken.exr", {"RGB": broken})
    assert main(["render", cube, *FAST, "--env", "broken.exr"]) == 2
    assert "NaN" in capsys.readouterr().err
