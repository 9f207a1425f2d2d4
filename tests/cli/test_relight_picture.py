"""`relight relight` and `relight bench relighting`."""

from __future__ import annotations

import json

import pytest
import torch

from relight.cli import main
from relight.export.images import write_exr, write_image
from relight.images import read_image

SHADING = ["--model", "shading"]


@pytest.fixture
def photo(tmp_path, monkeypatch) -> str:
    """A grey ball, cut out, lit from the front; its folder is the working folder."""
    monkeypatch.chdir(tmp_path)
    line = (torch.arange(40) + 0.5) / 20 - 1
    y, x = torch.meshgrid(line / 0.8, line / 0.8, indexing="ij")
    z = (1 - x * x - y * y).clamp_min(0).sqrt()
    write_image("ball.png", torch.cat([(0.2 + 0.6 * z)[..., None].expand(-1, -1, 3), (z > 0).float()[..., None]], -1))
    normal = torch.stack([x, -y, z], -1) * 0.5 + 0.5
    write_image("normals.png", normal)
    write_image("mask.png", (z > 0).float())
    return "ball.png"


def halves(path: str) -> tuple[float, float]:
    """Mean brightness, left and right, of the ball."""
    picture = read_image(path)
    assert picture.alpha is not None
    values = picture.rgb.mean(-1) * picture.alpha
    return float(values[:, :20].sum()), float(values[:, 20:].sum())


def test_sides(photo, capsys):
    assert main(["relight", photo, *SHADING, "--direction", "left", "-o", "left.png"]) == 0
    assert capsys.readouterr().out == "wrote left.png\n"
    assert main(["relight", photo, *SHADING, "--text", "soft light from the right", "--normals", "normals.png",
                 "-o", "right.png"]) == 0  # fmt: skip
    left, right = halves("left.png"), halves("right.png")
    assert left[0] > 1.3 * left[1] and right[1] > 1.3 * right[0]


def test_a_map_a_lamp_and_colours(photo):
    light = torch.full((8, 16, 3), 0.05)  # its middle is behind the ball
    light[2:4, :2] = torch.tensor([40.0, 10.0, 5.0])
    write_exr("red.exr", {"RGB": light})
    assert main(["relight", photo, *SHADING, "--env", "red.exr", "--keep-colours", "-o", "red.png"]) == 0
    color = read_image("red.png").rgb[15, 12]
    assert float(color[0]) > 1.2 * float(color[2])
    assert main(["relight", photo, *SHADING, "--point", "0.1,0.5,0.6", "--depth", "mask.png", "-o", "lamp.png"]) == 0
    assert main(["relight", photo, *SHADING, "--direction", "left", "--exposure", "-2", "-o", "dark.png"]) == 0
    assert sum(halves("dark.png")) < 0.8 * sum(halves("lamp.png"))


def test_a_film_begins_in_the_old_light(photo, monkeypatch):
    frames = []

    def kept(path, film, fps):
        frames.extend(film)

    monkeypatch.setattr("relight.export.images.write_film", kept)
    assert main(["relight", photo, *SHADING, "--point", "0,0.5,0.5", "--point", "1,0.5,0.5", "--sweep", "lamp.mp4",
                 "--seconds", "1", "--fps", "6"]) == 0  # fmt: skip
    source = read_image(photo)
    assert source.alpha is not None
    assert torch.allclose(frames[0], source.rgb * source.alpha[..., None], atol=0.01)
    assert len(frames) == 6 and not torch.allclose(frames[0], frames[-1], atol=0.05)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "no output"),
        (["-o", "a.mp4", "--direction", "left"], "films are asked for by --sweep"),
        (["-o", "a.png"], "found none"),
        (["-o", "a.png", "--direction", "left", "--text", "warm"], "found --direction and --text"),
        (["-o", "a.png", "--direction", "lefft"], "did you mean 'left'"),
        (["-o", "a.png", "--text", "purplish"], "unknown word 'purplish'"),
        (["-o", "a.png", "--point", "1,2"], r"expected X,Y,Z"),
        (["-o", "a.png", "--point", "0,0,1", "--point", "1,0,1"], "way of a lamp"),
        (["-o", "a.png", "--env", "missing.hdr"], "missing.hdr"),
        (["-o", "a.png", "--direction", "left", "--mask", "small.png"], "is 8x8, the picture 40x40"),
        (["-o", "a.png", "--direction", "left", "--normals", "grey.png"], "not a normal map"),
        (["-o", "a.png", "--direction", "left", "--model", "shadng"], "did you mean 'shading'"),
        (["-o", "a.png", "--direction", "left", "--model", "prior", "--weights", "none.safetensors"], "neither a file"),
        (["-o", "ball.png", "--direction", "left"], "exists; --force replaces it"),
    ],
)
def test_mistakes(photo, options, complaint, capsys, tmp_path):
    write_image("small.png", torch.ones(8, 8, 3))
    write_image("grey.png", torch.full((40, 40, 3), 0.5))
    before = {p.name for p in tmp_path.iterdir()}
    model = [] if "--model" in options else SHADING
    assert main(["relight", photo, *model, *options]) == 2
    assert complaint in capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} == before


@pytest.mark.slow
def test_bench_of_the_truth(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["bench", "relighting", "--model", "unchanged", "--scenes", "1", "--frames", "3", "--size", "40",
               "--samples", "0", "--seed", "2", "--json", "scores.json"]  # fmt: skip
    assert main(command) == 0
    assert "direction" in capsys.readouterr().out
    found = json.loads((tmp_path / "scores.json").read_text())
    assert set(found["attributes"]) == {"direction", "intensity", "hardness", "temperature", "variation", "source"}
    assert main(command) == 2
    assert "exists" in capsys.readouterr().err
