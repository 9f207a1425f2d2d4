"""One photograph to materials: how zooms are merged, joint upsampling, and the command."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Generator, Tensor

from relight.cli import main
from relight.diffusion.own.imdn import Imdn, Shape
from relight.diffusion.own.network import Config, Network, PriorError
from relight.diffusion.own.prior import Prior
from relight.diffusion.own.procedural.leaves import leaves
from relight.diffusion.own.tasks import MAPS
from relight.diffusion.pictures.decompose import Options, Photograph, decompose, estimated, guided_upsampling
from relight.diffusion.pictures.upscale import Upscaler
from relight.export.images import write_image
from relight.images import read_image
from relight.resize import bicubic
from relight.shading.color import linear_to_srgb, srgb_to_linear

TINY = Config("material", 5, MAPS, (), (16, 16), 2, (16, 32), 8, 16)


def psnr(found: Tensor, expected: Tensor) -> float:
    return -10 * math.log10(float((found - expected).square().mean()))


class Sees:
    """A prior that takes the photograph for the base colour, its red for roughness, and is wrong by noise, and by how
    bright a crop is in all: what a crop alone can't know."""

    config = SimpleNamespace(task="material", size=(16, 16))
    device = torch.device("cpu")

    def __init__(self, noise: float, wrong: float):
        self.noise, self.wrong = noise, wrong

    def sample(self, condition: Any, shape: tuple[int, int, int], *, steps: int, generator: Generator) -> Tensor:
        count, height, width = shape
        picture = condition.maps[:, :3]
        offset = self.wrong * torch.randn(count, 1, 1, 1, generator=generator)
        noise = self.noise * torch.randn(count, 5, height, width, generator=generator)
        return torch.cat([picture, picture[:, :2]], 1) + offset + noise

    def expected(self, condition: Any, shape: tuple[int, int, int]) -> Tensor:
        """Neither wrong nor noisy."""
        picture = condition.maps[:, :3]
        return torch.cat([picture, picture[:, :2]], 1)


def made(noise: float = 0.0, wrong: float = 0.0) -> Prior:
    return cast(Prior, Sees(noise, wrong))


def whole(picture: Tensor) -> Photograph:
    return Photograph(picture, torch.ones_like(picture[:, :1]))


def test_zooms_add_what_the_whole_picture_could_not_hold():
    picture = leaves(1, 64, Generator().manual_seed(1))
    errors = []
    for zooms in (0, 1, 2):
        found, spread = estimated(whole(picture), made(), Options(samples=1, steps=1, zooms=zooms))
        assert found.shape == (1, 5, 16 * 2**zooms, 16 * 2**zooms) and not spread.any()
        errors.append(psnr(bicubic(found, (64, 64))[:, :3].clamp(0, 1), picture))
    assert errors[0] + 1 < errors[1] < errors[2] - 1
    assert errors[2] > 34, "at the picture's own size nothing is lost"


def test_low_frequencies_are_those_of_the_whole_picture():
    """Crops are each too bright or too dark by a random amount, which the merged picture doesn't show."""
    picture = leaves(1, 64, Generator().manual_seed(2))
    found, _ = estimated(whole(picture), made(), Options(samples=1, steps=1, zooms=0))

    class CropsAreWrong(Sees):
        def sample(self, condition, shape, *, steps, generator):
            self.wrong = 0.0 if shape[0] == 1 else 0.3
            return super().sample(condition, shape, steps=steps, generator=generator)

    merged, _ = estimated(
        whole(picture),
        cast(Prior, CropsAreWrong(0, 0)),
        Options(samples=1, steps=1, zooms=1),
        Generator().manual_seed(0),
    )
    assert psnr(bicubic(merged, (16, 16)).clamp(0, 1), found) > 30


def test_what_is_expected_is_taken_and_samples_tell_how_sure_it_is():
    picture = leaves(1, 16, Generator().manual_seed(1))
    found, spread = estimated(whole(picture), made(0.2), Options(samples=16, zooms=0), Generator().manual_seed(0))
    torch.testing.assert_close(found[:, :3], picture, atol=1e-5, rtol=0)
    assert float(spread.mean()) == pytest.approx(0.1, abs=0.02)


def test_samples_are_averaged_and_their_spread_is_known():
    picture = torch.full((1, 3, 16, 16), 0.5)
    generator = Generator().manual_seed(0)
    _, spread = estimated(whole(picture), made(0.2), Options(samples=64, steps=1, zooms=0), generator)
    assert abs(float(spread.mean()) - 0.1) < 0.01  # the prior's range is twice as wide
    one, _ = estimated(whole(picture), made(0.2), Options(samples=1, steps=1, zooms=0), generator)
    many, _ = estimated(whole(picture), made(0.2), Options(samples=64, steps=1, zooms=0), generator)
    assert psnr(many, torch.full_like(many, 0.5)) > psnr(one, torch.full_like(one, 0.5)) + 12


def test_a_guide_that_explains_a_picture_makes_it_sharp():
    guide = leaves(1, 64, Generator().manual_seed(3))
    mixture = torch.rand(2, 3, generator=Generator().manual_seed(4))
    truth = torch.einsum("kc,bchw->bkhw", mixture / mixture.sum(1, keepdim=True), guide)
    coarse = bicubic(truth, (16, 16)).clamp(0, 1)
    assert psnr(guided_upsampling(coarse, guide), truth) > psnr(bicubic(coarse, (64, 64)).clamp(0, 1), truth) + 6
    flat = torch.full_like(coarse, 0.4)
    torch.testing.assert_close(guided_upsampling(flat, guide), torch.full_like(truth, 0.4), atol=1e-4, rtol=0)


@pytest.mark.parametrize("upsampling", ["upscaler", "guided", "bicubic"])
def test_base_colour_times_shading_is_the_photograph(upsampling):
    picture = leaves(1, 40, Generator().manual_seed(5))[..., :30]
    mask = (torch.arange(40) > 5).float().view(1, 1, 40, 1).expand(1, 1, 40, 30)
    options = Options(samples=2, steps=1, zooms=1, upsampling=upsampling)
    upscaler = Upscaler(Imdn(Shape(5, 3, 8, 1)))
    found = decompose(Photograph(picture, mask), made(0.05), upscaler, options, Generator().manual_seed(0))
    assert found.base_color.shape == (3, 40, 30) and found.confidence.shape == (1, 40, 30)
    again = srgb_to_linear(found.base_color).clamp_min(0.02) * found.shading
    torch.testing.assert_close(linear_to_srgb(again), picture[0] * mask[0], atol=1e-4, rtol=0)
    assert not found.roughness[:, :5].any() and 0 < found.confidence[:, 10:].min() <= found.confidence.max() <= 1


def test_other_priors_are_refused():
    prior = made()
    with pytest.raises(PriorError, match="upsampling is upscaler, guided or bicubic"):
        decompose(whole(torch.rand(1, 3, 16, 16)), prior, options=Options(1, 1, 0, "nearest"))
    with pytest.raises(PriorError, match="needs an upscaler"):
        decompose(whole(torch.rand(1, 3, 16, 16)), prior, options=Options(1, 1, 0, "upscaler"))
    other = cast(Prior, SimpleNamespace(config=SimpleNamespace(task="relight")))
    with pytest.raises(PriorError, match="task 'material', found 'relight'"):
        decompose(whole(torch.rand(1, 3, 16, 16)), other)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a photograph, a cut-out, and the weights of a tiny random prior."""
    pytest.importorskip("diffusers", reason="networks need diffusers")
    folder = tmp_path_factory.mktemp("decompose")
    torch.manual_seed(0)
    Prior(Network(TINY)).save(folder / "tiny.safetensors")
    picture = leaves(1, 48, Generator().manual_seed(6))[0].permute(1, 2, 0)[:, :40]
    write_image(folder / "photo.png", picture)
    alpha = (torch.arange(40) > 9).float().expand(48, 40)[..., None]
    write_image(folder / "cut.png", torch.cat([picture, alpha], -1))
    write_image(folder / "normals.png", torch.tensor([0.5, 0.9, 0.8]).expand(48, 40, 3))
    write_image(folder / "wide.png", torch.rand(20, 40, 3))
    write_image(folder / "depth.png", torch.linspace(0, 1, 40).expand(48, 40))
    return folder


def command(folder: Path, photo: str, out: str, *more: str) -> int:
    words = ["decompose", str(folder / photo), "-o", str(folder / out), "--model", str(folder / "tiny.safetensors")]
    return main([*words, *more])


def test_the_command_writes_every_map(folder: Path, capsys: pytest.CaptureFixture):
    geometry = ["--normals", str(folder / "normals.png"), "--depth", str(folder / "depth.png")]
    assert command(folder, "cut.png", "out", "--samples", "2", "--layers", *geometry) == 0, capsys.readouterr().err
    names = {p.name for p in (folder / "out").iterdir()}
    maps = {"base_color", "roughness", "metallic", "confidence", "normal", "background", "light_effects"}
    assert names == {f"{m}.png" for m in maps} | {"shading.exr", "sheet.png"}
    for name in maps:
        assert read_image(folder / "out" / f"{name}.png").values.shape[:2] == (48, 40)
    shading = read_image(folder / "out" / "shading.exr")
    assert shading.linear and not shading.rgb[:, :9].any() and shading.rgb[:, 12:].mean() > 0
    # As it was named: the axes are turned and turned back.
    normal = read_image(folder / "out" / "normal.png").rgb[24, 30]
    expected = torch.nn.functional.normalize(torch.tensor([0.0, 0.8, 0.6]), dim=0) * 0.5 + 0.5
    torch.testing.assert_close(normal, expected, atol=0.01, rtol=0)

    assert command(folder, "photo.png", "out") == 2
    assert "not an empty folder; --force replaces" in capsys.readouterr().err
    before = read_image(folder / "out" / "base_color.png").values
    assert command(folder, "photo.png", "out", "--force", "--zooms", "0", "--seed", "3") == 0
    assert not torch.equal(before, read_image(folder / "out" / "base_color.png").values)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--model", "nobody"], "prior 'nobody': neither a file nor one that comes with relight"),
        (["--samples", "0"], "--samples: expected 1 or more, found 0"),
        (["--zooms", "9"], "--zooms: expected 0 to 4, found 9"),
        (["--depth", "depth.png"], "name --normals too"),
        (["--weights", "models"], "--weights and --download are for --model marigold-iid"),
        (["--model", "marigold-iid", "--zooms", "1"], "--zooms: of our own priors only"),
        (["--normals", "wide.png"], "of another shape than the photograph's 40x48"),
        (["--model", "marigold-iid", "--weights", "nowhere"], "marigold-iid"),
    ],
)
def test_mistakes_are_told(folder: Path, capsys, monkeypatch, more, message):
    monkeypatch.chdir(folder)
    assert command(folder, "photo.png", "never", *more) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "never").exists()
