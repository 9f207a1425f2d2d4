"""`relight portrait` as a user runs it."""

from __future__ import annotations

import warnings

import pytest
import torch
from head_picture import SIZE, pictured

from relight.cli import main
from relight.export.images import write_exr, write_image
from relight.images import read_image


@pytest.fixture
def photo(tmp_path, monkeypatch) -> str:
    """A head that nobody has; its folder is the working folder."""
    monkeypatch.chdir(tmp_path)
    write_image("photo.png", pictured())
    return "photo.png"


def test_light_of_a_map_and_transparency(photo, capsys):
    light = torch.full((8, 16, 3), 0.05)
    light[2:5, 11:13] = torch.tensor([30.0, 25.0, 20.0])  # right of the middle, which is straight ahead
    write_exr("right.exr", {"RGB": light})
    assert main(["portrait", photo, "--env", "right.exr", "--cut-out", "-o", "right.png"]) == 0
    assert capsys.readouterr().out == "wrote right.png\n"
    made = read_image("right.png")
    assert made.alpha is not None and float(made.alpha[:3, :3].max()) == 0 and float(made.alpha[80, 80]) == 1
    face = made.rgb[45:100, 50:110].mean(-1)
    assert float(face[:, 30:].mean()) > 1.2 * float(face[:, :30].mean())


def test_a_matte_wins_and_no_face_is_said(photo, capsys, monkeypatch):
    # Estimating panoramas has tests of its own.
    monkeypatch.setattr("relight.cli.picture_light._panorama", lambda background, fov: torch.full((8, 16, 3), 0.4))
    wall = torch.full((64, 64, 3), 0.6)
    wall[16:48, 20:44] = torch.tensor([0.5, 0.3, 0.2])
    matte = torch.zeros(64, 64)
    matte[16:48, 20:44] = 1
    write_image("block.png", wall)
    write_image("matte.png", matte)
    write_image("behind.png", torch.tensor([0.1, 0.6, 0.1]).expand(30, 50, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        command = ["portrait", "block.png", "--matte", "matte.png", "--background", "behind.png", "-o", "out.png"]
        assert main(command) == 0
    assert "no face found; the shape is guessed from the outline alone" in capsys.readouterr().err
    made = read_image("out.png").rgb
    assert torch.allclose(made[3, 3], torch.tensor([0.1, 0.6, 0.1]), atol=0.02) and float(made[30, 30, 1]) < 0.5


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["-o", "photo.png", "--direction", "left"], "exists; --force replaces it"),
        (["-o", "a.mp4", "--direction", "left"], "expected .png"),
        (["-o", "a.jpg", "--direction", "left", "--cut-out"], "JPEG has no transparency"),
        (["-o", "a.png", "--background", "photo.png", "--cut-out"], "leave one out"),
        (["-o", "a.png", "--direction", "left", "--weights", "x"], "of which model?"),
        (["-o", "a.png", "--direction", "left", "--model", "priro"], "did you mean 'prior'"),
        (["-o", "a.png", "--direction", "left", "--matte", "small.png"], f"is 8x8, the picture {SIZE}x{SIZE}"),
        (["-o", "a.png", "--direction", "left", "--matte", "black.png"], "the matte is empty"),
        (["-o", "a.png", "--matte", "white.png"], "expected one light"),
    ],
)
def test_mistakes(photo, options, complaint, capsys, tmp_path):
    write_image("small.png", torch.ones(8, 8))
    write_image("black.png", torch.zeros(SIZE, SIZE))
    write_image("white.png", torch.ones(SIZE, SIZE))
    before = {p.name for p in tmp_path.iterdir()}
    assert main(["portrait", photo, *options]) == 2
    assert complaint in capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} == before


def test_nobody(photo, capsys):
    write_image("wall.png", torch.full((48, 48, 3), 0.6))
    assert main(["portrait", "wall.png", "--direction", "left", "-o", "a.png"]) == 2
    assert "no person found" in capsys.readouterr().err
