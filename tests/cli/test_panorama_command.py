"""`relight panorama` as a user runs it: every kind of input, edits, and mistakes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from relight.cli import main
from relight.data.environments import load_environment
from relight.diffusion.surroundings.light_edit import drawn
from relight.diffusion.surroundings.sphere_metrics import peak
from relight.export.images import write_exr, write_image
from relight.shading.color import linear_to_srgb


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A panorama with a light 40 degrees to the right, 20 up; a photograph; exposures; a prior without training."""
    from relight.diffusion.own.network import Config, Network
    from relight.diffusion.own.prior import Prior

    folder = tmp_path_factory.mktemp("panorama")
    light = torch.full((32, 64, 3), 0.2)
    light = light + drawn(_direction(40, 20), 80, torch.tensor([3.0, 3.0, 2.0]), 32)
    write_exr(folder / "env.exr", {"RGB": light})
    photo = torch.linspace(0.1, 0.6, 40)[:, None, None].expand(40, 60, 3) * torch.tensor([1.0, 0.8, 0.6])
    write_image(folder / "photo.png", linear_to_srgb(photo))
    for k, time in enumerate((1.0, 0.25, 4.0)):
        write_image(folder / f"shot{k}.png", linear_to_srgb((photo * time).clamp(0, 1)))
    write_image(folder / "mask.png", (torch.arange(64) < 24).float().expand(32, 64))
    torch.manual_seed(0)
    config = Config("panorama", 6, 5, size=(32, 64), widths=(32, 32), detail=8, token=32, around=True)
    Prior(Network(config)).save(folder / "prior.safetensors")
    return folder


def _direction(right: float, up: float) -> torch.Tensor:
    a, b = math.radians(right), math.radians(up)
    return torch.tensor([math.cos(b) * math.cos(a), math.sin(b), math.cos(b) * math.sin(a)])


def made(*words: object) -> torch.Tensor:
    words = tuple(str(w) for w in words)
    assert main(["panorama", *words]) == 0
    return load_environment(words[words.index("-o") + 1]).radiance


def test_a_photograph_becomes_light_and_is_in_its_middle(folder, tmp_path):
    prior = folder / "prior.safetensors"
    found = made(folder / "photo.png", "-o", tmp_path / "env.exr", "--prior", prior, "--rows", 64, "--fov", 80)
    assert found.shape == (64, 128, 3)
    middle = found[32, 64]
    assert torch.allclose(middle / middle[0], torch.tensor([1.0, 0.8, 0.6]), atol=0.03)
    assert float(middle[0]) == pytest.approx(0.35, abs=0.05)


def test_exposures_are_merged_first(folder, tmp_path):
    shots = [folder / f"shot{k}.png" for k in range(3)]
    prior = folder / "prior.safetensors"
    for more in ([], ["--stops", "0", "-2", "2"]):
        found = made(*shots, "-o", tmp_path / "env.exr", "--prior", prior, "--rows", 64, "--fov", 80, "--force", *more)
        assert float(found[32, 64, 0]) == pytest.approx(0.35, abs=0.05)


def test_exif_says_how_long_a_photograph_was_exposed(folder, tmp_path):
    from relight.images import exposure

    picture = Image.open(folder / "photo.png")
    said = picture.getexif()
    said.get_ifd(0x8769).update({0x829A: 0.01, 0x829D: 2.0, 0x8827: 400})
    picture.save(tmp_path / "photo.jpg", exif=said)
    assert exposure(tmp_path / "photo.jpg") == pytest.approx(0.01 * 4 / 4)
    assert exposure(folder / "photo.png") is None


def test_a_mirror_ball_shows_what_is_behind_the_camera_in_its_middle(folder, tmp_path):
    picture = torch.full((50, 80, 3), 0.5)
    picture[20:30, 35:45] = 0.9
    write_image(tmp_path / "ball.png", picture)
    found = made(tmp_path / "ball.png", "--ball", "-o", tmp_path / "env.exr")
    assert found.shape == (128, 256, 3)
    assert float(found[64, 0, 0]) > 3 * float(found[64, 64, 0])


def test_lights_are_listed_and_moved(folder, tmp_path, capsys):
    env = folder / "env.exr"
    assert main(["panorama", str(env), "--map", "--lights"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("0: +40 degrees right, +20 up") and said.count("\n") == 1
    moved = made(env, "--map", "-o", tmp_path / "a.exr", "--move", 0, -70, 10, "--scale", 0, 2)
    assert float(peak(moved) @ _direction(-30, 30)) > math.cos(math.radians(3))
    gone = made(env, "--map", "-o", tmp_path / "b.exr", "--remove", 0)
    assert float(gone.max()) < 0.4
    added = made(env, "--map", "-o", tmp_path / "c.exr", "--remove", 0, "--add", 90, 0, 2, 12)
    assert float(peak(added) @ _direction(90, 0)) > math.cos(math.radians(3))
    assert torch.equal(made(env, "--map", "-o", tmp_path / "d.exr"), load_environment(env).radiance)


def test_a_panorama_with_holes_is_completed(folder, tmp_path):
    prior = folder / "prior.safetensors"
    found = made(folder / "env.exr", "--map", "--mask", folder / "mask.png", "-o", tmp_path / "e.exr", "--prior", prior)
    assert torch.allclose(found[8:24, 4:20], torch.tensor(0.2), atol=0.01)
    assert float((found[:, 40] - 0.2).abs().max()) > 0.01


def test_light_is_written_as_its_name_says(folder: Path, tmp_path: Path):
    exr = made(folder / "env.exr", "-o", tmp_path / "a.exr", "--map", "--scale", 0, 0.5)
    hdr = made(folder / "env.exr", "-o", tmp_path / "a.hdr", "--map", "--scale", 0, 0.5)
    torch.testing.assert_close(hdr, exr, rtol=0.01, atol=0.01)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["photo.png"], "say where to write"),
        (["photo.png", "-o", "x.png"], "written as .exr or .hdr"),
        (["photo.png", "-o", "env.exr"], "exists; --force"),
        (["photo.png", "-o", "x.exr", "--fov", "190"], "--fov 190"),
        (["photo.png", "-o", "x.exr", "--mask", "mask.png"], "only with --map"),
        (["photo.png", "-o", "x.exr", "--circle", "1", "2", "3"], "only with --ball"),
        (["photo.png", "-o", "x.exr", "--map"], "twice as wide as high; this is 60x40"),
        (["none.png", "-o", "x.exr"], "no such picture"),
        (["photo.png", "-o", "x.exr", "--prior", "none"], "prior 'none'"),
        (["photo.png", "photo.png", "-o", "x.exr", "--stops", "1"], "one number for each of the 2"),
        (["env.exr", "--map", "-o", "x.exr", "--move", "3", "10", "0"], "light 3: there are 1"),
        (["env.exr", "--map", "-o", "x.exr", "--scale", "0.5", "2"], "whole numbers"),
        (["env.exr", "--map", "-o", "x.exr", "--size", "0", "0"], "size above 0"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(folder, monkeypatch, capsys, words, message):
    monkeypatch.chdir(folder)
    before = sorted(p.name for p in folder.iterdir())
    assert main(["panorama", *words]) == 2
    assert message in capsys.readouterr().err
    assert sorted(p.name for p in folder.iterdir()) == before
