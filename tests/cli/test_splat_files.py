"""`relight convert`, `info`, `render` and `export` with splat files."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from relight import export
from relight.cli import main
from relight.errors import MissingPartError, RelightError
from relight.formats import read_splat, write_splat
from relight.formats.common import half_turn
from relight.geometry.gaussians import Gaussians
from relight.geometry.sh import from_constant
from relight.scene import Frame, Scene
from relight.scene_io import save_scene


def three_balls(n: int = 600) -> Gaussians:
    """Red at the centre, green to the right, blue above (-y), on a capture's axes; with materials."""
    generator = torch.Generator().manual_seed(0)
    which = torch.arange(n) % 3
    centers = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [0, -1.0, 0]])
    colors = torch.eye(3) * 0.9
    g = Gaussians(
        means=centers[which] + 0.08 * torch.randn(n, 3, generator=generator),
        quats_wxyz=torch.tensor([1.0, 0, 0, 0]).repeat(n, 1),
        log_scales=torch.full((n, 3), -3.0),
        logit_opacity=torch.full((n,), 3.0),
        sh=from_constant(colors[which])[:, None],
    )
    materials = {"base_color": colors[which], "roughness": torch.full((n,), 0.6), "metallic": torch.zeros(n)}
    normal = torch.nn.functional.normalize(g.means - centers[which], dim=1)
    return replace(g, channels={**materials, "normal": normal, "progress": torch.ones(n)})


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The working folder, with balls.ply."""
    monkeypatch.chdir(tmp_path)
    write_splat(three_balls(), tmp_path / "balls.ply")
    return tmp_path


@pytest.mark.filterwarnings("always:.*has no place for")
def test_convert(here, capsys, fails):
    assert main(["convert", "balls.ply", "balls.sog"]) == 0
    assert capsys.readouterr().out == "wrote balls.sog (600 Gaussians)\n"
    assert main(["convert", "balls.sog", "balls.spz", "sh_bits=6", "version=3"]) == 0
    assert "version 3 has no place for base_color" in capsys.readouterr().err
    assert len(read_splat(here / "balls.spz")) == 600
    content = (here / "balls.spz").read_bytes()
    assert "balls.spz: exists; --force replaces it" in fails("convert", "balls.ply", "balls.spz")
    assert (here / "balls.spz").read_bytes() == content
    assert main(["convert", "balls.ply", "--force", "balls.spz"]) == 0
    assert (here / "balls.spz").read_bytes() != content
    assert "unknown option 'versoin', did you mean 'version'" in fails("convert", "balls.ply", "b.spz", "versoin=3")
    assert "version=three: expected 2, 3 or 4" in fails("convert", "balls.ply", "b.spz", "version=three")
    assert "not a splat format that is written" in fails("convert", "balls.ply", "b.ksplat")
    assert "no such file" in fails("convert", "none.ply", "b.ply")
    (here / "mesh.ply").write_text("ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n0\n")
    assert "not a Gaussian splat" in fails("convert", "mesh.ply", "b.spz")
    assert not (here / "b.spz").exists()
    assert main(["convert", "balls.ply", "turned.ply", "--turn", "x"]) == 0
    assert torch.equal(read_splat("turned.ply").means, half_turn(three_balls(), "x").means)
    assert main(["convert", "balls.ply", "folder/meta.json"]) == 0
    assert main(["convert", "folder", "again.bin", "--format", "splat", "sort=true"]) == 0
    assert (here / "again.bin").stat().st_size == 32 * 600


def test_info(here, capsys):
    write_splat(three_balls(), "balls.glb")
    assert main(["info", "balls.glb", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["gaussians"] == 600 and found["sh_degree"] == 0 and found["format"].startswith("glTF")
    assert found["channels"] == ["base_color", "roughness", "metallic", "normal", "progress"]
    assert found["bytes"] == (here / "balls.glb").stat().st_size
    assert found["bytes_by_attribute"] == {
        "position": 7200, "rotation": 9600, "scale": 7200, "opacity": 2400, "color": 7200, "point color": 2400,
        "materials": 21600,
    }  # fmt: skip
    assert main(["info", "balls.ply"]) == 0
    text = capsys.readouterr().out
    assert "gaussians        600" in text and "lossy            nothing" in text and "channels" in text


@pytest.mark.parametrize("file", ["balls.ply", "balls.compressed.ply", "balls.spz", "balls.sog", "balls.glb"])
@pytest.mark.filterwarnings("ignore:.*has no place for")
def test_render_stands_upright_in_every_format(here, file, fails):
    if file != "balls.ply":
        write_splat(three_balls(), file)
    words = ["render", file, "--size", "64x48", "--azimuth", "0", "--elevation", "0", "-o", f"{file}.png"]
    assert main([*words, "--background", "white"]) == 0
    picture = np.asarray(Image.open(here / f"{file}.png")).astype(int)
    assert picture.shape == (48, 64, 3) and (picture[0, 0] > 250).all()

    def middle(channel: int) -> np.ndarray:
        """(x, y) of where one colour is."""
        others = [c for c in range(3) if c != channel]
        rows, columns = np.nonzero((picture[..., channel] > 150) & (picture[..., others] < 100).all(-1))
        assert len(rows) > 4
        return np.array([columns.mean(), rows.mean()])

    red, green, blue = map(middle, range(3))
    assert green[0] > red[0] + 5 and abs(green[1] - red[1]) < 2
    assert blue[1] < red[1] - 5 and abs(blue[0] - red[0]) < 2
    assert "exists; --force" in fails(*words)


def test_render_films_and_other_lights(here, fails):
    words = ["render", "balls.ply", "--size", "32x32"]
    assert main([*words, "--orbit", "0.3", "--fps", "10"]) == 0
    assert (here / "balls.mp4").read_bytes()[4:8] == b"ftyp"
    assert main([*words, "--show", "base_color", "-o", "albedo.png"]) == 0
    assert main([*words, "--background", "transparent", "--show", "normal", "-o", "normal.png"]) == 0
    assert np.asarray(Image.open("normal.png")).shape == (32, 32, 4)
    assert "which has no photographs" in fails(*words, "--views", "test", "-o", "v.png")
    write_splat(replace(three_balls(), channels={}), "plain.ply")
    assert "has no materials" in fails("render", "plain.ply", "--show", "normal")


def run_folder(path: Path) -> Path:
    folder = path / "run" / "01-radiance"
    folder.mkdir(parents=True)
    save_scene(Scene(Frame(), gaussians=three_balls()), folder, key="k")
    return path / "run"


@pytest.mark.parametrize("file", ["a.ply", "a.spz", "a.sog", "a.glb", "a.splat", "a.compressed.ply"])
@pytest.mark.filterwarnings("ignore:.*has no place for")
def test_export_of_a_run_in_every_format(here, file):
    assert main(["export", str(run_folder(here)), "-o", file]) == 0
    found = read_splat(here / file)
    assert len(found) == 600
    if file in ("a.ply", "a.spz", "a.sog", "a.glb"):
        assert set(found.channels) == {"base_color", "roughness", "metallic", "normal", "progress"}


def test_export_options_and_suffixes_of_meshes(here, monkeypatch, fails):
    run = run_folder(here)
    assert main(["export", str(run), "-o", "a.spz", "fractional_bits=10"]) == 0
    assert (here / "a.spz").read_bytes()[13] == 10
    assert "html has no options" in fails("export", run, "-o", "a.html", "size=3")

    def mesh(run: Path, output: Path) -> None:
        raise MissingPartError("no mesh")

    monkeypatch.setitem(export.OWN, "glb", ("tests_mesh_writer:mesh", "the mesh"))
    monkeypatch.setitem(sys.modules, "tests_mesh_writer", type(sys)("tests_mesh_writer"))
    sys.modules["tests_mesh_writer"].mesh = mesh  # type: ignore[attr-defined]
    export.export(run, here / "b.glb")
    assert len(read_splat(here / "b.glb")) == 600, "a run without a mesh means its splat"
    with pytest.raises(RelightError, match="not a format that can be exported"):
        export.export(run, here / "b.ksplat")
