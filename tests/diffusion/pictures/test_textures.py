"""Textures that tile: by patches of an example, by the prior, by the command."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from relight.cli import main
from relight.diffusion.own.network import Config, Network, PriorError
from relight.diffusion.own.prior import Prior
from relight.diffusion.own.tasks import MAPS
from relight.diffusion.pictures.patches import along, apart, like, lines
from relight.diffusion.pictures.textures import enlarged, from_words
from relight.diffusion.pictures.upscale import Upscaler
from relight.diffusion.tileable import seam
from relight.export.images import write_image
from relight.images import read_image


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def stripes(size: int = 48, period: int = 12) -> Tensor:
    """(1, 1, size, size): upright bars, as wide as the gaps."""
    return ((torch.arange(size) % period) < period // 2).float().expand(1, 1, size, size).contiguous()


def tiny(words: tuple[str, ...] = ("red", "gold"), task: str = "material") -> Prior:
    torch.manual_seed(3)
    return Prior(Network(Config(task, 5, MAPS, words, (32, 32), 4, (16, 32), 8, 16)))


def test_the_distance_of_patches_is_nothing_for_the_same_patches_elsewhere():
    picture = torch.rand(1, 2, 20, 24, generator=seeded())
    drawn = lines(2, 16, seeded(1))
    there = along(picture, drawn, around=True)
    assert apart(along(picture.roll((5, 9), (2, 3)), drawn, around=True), there) == pytest.approx(0.0, abs=1e-6)
    assert apart(along(picture.flip(3) * 0.5, drawn, around=True), there) > 0.05


def test_the_distance_of_patches_is_the_transport_distance_on_a_line():
    found, expected = torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[2.0, 3.0, 5.0]])
    assert apart(found, expected) == pytest.approx((1 + 1 + 2) / 3)


def test_patches_outside_a_mask_do_not_count():
    picture = torch.rand(1, 1, 24, 24, generator=seeded())
    mask = torch.zeros(24, 24, dtype=torch.bool)
    mask[:, :12] = True
    drawn = lines(1, 4, seeded(1))
    other = picture.clone()
    other[..., 12:] = 9
    torch.testing.assert_close(along(picture, drawn, mask), along(other, drawn, mask))
    assert along(picture, drawn, mask).shape == (4, 18 * 6)


def test_a_new_picture_has_an_examples_bars_and_tiles():
    example = stripes()
    made = like(example, (40, 60), seeded())
    assert made.shape == (1, 1, 40, 60)
    assert made.mean() == pytest.approx(0.5, abs=0.1)
    # Bars: hardly anything changes downwards, and a pixel is black or white.
    down, across = ((made - made.roll(1, d)).abs().mean() for d in (2, 3))
    assert down < 0.5 * across
    assert ((made < 0.2) | (made > 0.8)).float().mean() > 0.7
    assert seam(made) < 2


def test_textures_from_words_are_a_torus(monkeypatch):
    """Sampled from rolled noise, the same texture comes out rolled; and the prior is left as it was."""
    prior = tiny()
    before = [m.padding_mode for m in prior.network.modules() if isinstance(m, torch.nn.Conv2d)]
    made = from_words(prior, ["red"], seeded(), count=2)
    assert made.shape == (2, 5, 32, 32) and float(made.min()) >= 0 and float(made.max()) <= 1
    assert [m.padding_mode for m in prior.network.modules() if isinstance(m, torch.nn.Conv2d)] == before
    noise = torch.randn(2, 5, 32, 32, generator=seeded())
    monkeypatch.setattr(torch, "randn", lambda *shape, **how: noise.roll((8, 8), (2, 3)))
    rolled = from_words(prior, ["red"], seeded(), count=2)
    torch.testing.assert_close(rolled, made.roll((8, 8), (2, 3)), atol=1e-4, rtol=0)


def test_words_and_tasks_that_a_prior_does_not_know():
    with pytest.raises(PriorError, match="'velvet'; it knows red, gold"):
        from_words(tiny(), ["velvet"], seeded())
    with pytest.raises(PriorError, match="task 'material', found 'relight'"):
        from_words(tiny(task="relight"), ["red"], seeded())


def test_enlarged_textures_still_tile():
    made = torch.rand(1, 5, 16, 16, generator=seeded())
    upscaler = Upscaler.load("upscale")
    big = enlarged(made, upscaler, (64, 64))
    assert big.shape == (1, 5, 64, 64)
    torch.testing.assert_close(
        enlarged(made.roll((4, 4), (2, 3)), upscaler, (64, 64)), big.roll((16, 16), (2, 3)), atol=0.03, rtol=0
    )


def test_the_command_makes_a_texture_like_a_photograph(tmp_path: Path, capsys):
    prior = tmp_path / "tiny.safetensors"
    tiny().save(prior)
    photo = tmp_path / "wall.png"
    write_image(photo, stripes(40)[0].expand(3, -1, -1).permute(1, 2, 0) * 0.6 + 0.2)
    out = tmp_path / "wall"
    asked = ["texture", "--like", str(photo), "-o", str(out), "--size", "32", "--steps", "4", "--model", str(prior)]
    assert main(asked) == 0
    assert read_image(out / "base_color.png").rgb.shape == (32, 32, 3)
    assert {p.name for p in out.iterdir()} == {"base_color.png", "roughness.png", "metallic.png", "sheet.png"}
    assert main(asked) == 2 and "--force replaces" in capsys.readouterr().err
    assert main([*asked, "--force"]) == 0


@pytest.mark.parametrize(
    "said, error",
    [
        ([], "name words, or a photograph"),
        (["red", "--like", "x.png"], "one of the two"),
        (["red", "--size", "4"], "--size: expected 16 to"),
        (["red", "--count", "0"], "--count"),
        (["red", "--weights", "w"], "are for --model stable-materials"),
        (["--like", "missing.png"], "missing.png"),
    ],
)
def test_what_the_command_refuses_leaves_nothing(said, error, tmp_path: Path, capsys):
    out = tmp_path / "out"
    assert main(["texture", *said, "-o", str(out)]) == 2
    assert error in capsys.readouterr().err and not out.exists()
