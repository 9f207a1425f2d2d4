"""The upscaler: tiles, files, what it is shown, that training teaches, and that what is bundled beats bicubic."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from relight.diffusion.own import training
from relight.diffusion.own.imdn import Imdn, Shape
from relight.diffusion.own.network import PriorError
from relight.diffusion.own.pairs import PAIRS, Pairs, halved, jpeg_like, smoothed
from relight.diffusion.own.prior import Prior
from relight.diffusion.own.procedural.environments import environment
from relight.diffusion.own.procedural.frames import pool
from relight.diffusion.own.procedural.leaves import leaves
from relight.diffusion.own.procedural.views import draw
from relight.diffusion.own.training import Plan, train
from relight.diffusion.pictures.upscale import Upscaler, Upscaling, bundled
from relight.resize import bicubic
from relight.shading.environment import Environment

TINY = Shape(3, 0, 8, 2)


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def random(shape: Shape) -> Imdn:
    torch.manual_seed(0)
    network = Imdn(shape)
    torch.nn.init.normal_(network.last.weight, std=0.1)
    return network


def psnr(found: Tensor, expected: Tensor) -> float:
    return -10 * math.log10(float((found - expected).square().mean()))


def test_untrained_it_is_bicubic():
    picture = torch.rand(2, 3, 9, 13, generator=generator()) * 0.5 + 0.25
    expected = torch.nn.functional.interpolate(picture, scale_factor=2.0, mode="bicubic", align_corners=False)
    torch.testing.assert_close(Upscaler(Imdn(TINY))(picture), expected)


@pytest.mark.parametrize("guide", [0, 3])
def test_tiles_leave_no_trace(guide):
    network = random(Shape(2, guide, 8, 2))
    picture = torch.rand(1, 2, 70, 53, generator=generator())
    told = torch.rand(1, 3, 140, 106, generator=generator(1)) if guide else None
    whole = Upscaler(network, tile=1000)(picture, told)
    tiled = Upscaler(network, tile=17)(picture, told)
    assert (whole - bicubic(picture, (140, 106)).clamp(0, 1)).abs().mean() > 0.01, (
        "a network that does nothing proves nothing"
    )
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=0)


def test_a_network_sees_as_far_as_it_says():
    network, shape = random(TINY).double(), TINY  # far away it sees less than float32 holds
    picture = torch.rand(1, 3, 64, 64, generator=generator(), dtype=torch.float64)
    gates = network.gates(picture, None)
    other = picture.clone()
    other[..., 32, 32] += 0.5
    changed = (network(picture, None, gates) != network(other, None, gates)).any(1)[0].nonzero()
    away = (changed.float() / 2 - 32).abs().max()
    assert shape.reach - 2 <= away <= shape.reach + 1


def test_any_size_is_reached():
    upscaler = Upscaler(Imdn(Shape(1, 3, 8, 2)))
    line = torch.linspace(0.2, 0.8, 21)
    picture = line.expand(1, 1, 16, 21)
    found = upscaler.to_size(picture, (45, 60), torch.rand(1, 3, 45, 60, generator=generator()))
    assert found.shape == (1, 1, 45, 60)
    torch.testing.assert_close(found, bicubic(picture, (45, 60)).clamp(0, 1), atol=0.02, rtol=0)
    assert upscaler.to_size(picture, (16, 21), torch.rand(1, 3, 16, 21)) is picture


def test_it_survives_its_file_and_is_no_prior(tmp_path: Path):
    upscaler = Upscaler(random(Shape(2, 3, 8, 2)), {"minutes": "1"})
    upscaler.save(tmp_path / "u.safetensors")
    back = Upscaler.load(tmp_path / "u.safetensors")
    assert back.shape == upscaler.shape and back.info == {"minutes": "1"}
    picture, guide = torch.rand(1, 2, 8, 8), torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(back(picture, guide), upscaler(picture, guide), atol=5e-3, rtol=0)
    with pytest.raises(PriorError, match="not the weights of a prior"):
        Prior.load(tmp_path / "u.safetensors")
    with pytest.raises(PriorError, match=r"upscaler 'upscal': neither a file.*did you mean"):
        Upscaler.load("upscal")


def test_wrong_shapes_are_refused():
    told = Upscaler(Imdn(Shape(5, 3, 8, 1)))
    with pytest.raises(PriorError, match=r"expected pictures \(B, 5, H, W\)"):
        told(torch.rand(1, 3, 8, 8))
    with pytest.raises(PriorError, match="needs picture of the size to come"):
        told(torch.rand(1, 5, 8, 8))
    with pytest.raises(PriorError, match=r"expected a guide \(1, 3, 16, 16\)"):
        told(torch.rand(1, 5, 8, 8), torch.rand(1, 3, 8, 8))
    with pytest.raises(PriorError, match="takes no picture"):
        Upscaler(Imdn(TINY))(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 16, 16))


def test_what_spoils_pictures():
    picture = leaves(2, 32, generator())
    torch.testing.assert_close(jpeg_like(picture, 1e-6), picture, atol=1e-4, rtol=0)
    flat = torch.full((1, 3, 16, 16), 0.3)
    torch.testing.assert_close(jpeg_like(flat, 1e-3), flat, atol=1e-3, rtol=0)
    assert 22 < psnr(jpeg_like(picture, 0.02), picture) < 45
    assert psnr(smoothed(picture, 0.5), picture) > psnr(smoothed(picture, 1.5), picture)
    assert smoothed(picture, 0) is picture
    torch.testing.assert_close(smoothed(flat, 2.0), flat)


def test_leaves_have_edges_at_every_scale_and_the_same_ones_for_the_same_seed():
    one = leaves(3, 48, generator(5))
    assert one.shape == (3, 3, 48, 48) and one.min() >= 0 and one.max() <= 1
    torch.testing.assert_close(one, leaves(3, 48, generator(5)), atol=0, rtol=0)
    assert psnr(bicubic(halved(one), (48, 48)).clamp(0, 1), one) < 35


@pytest.fixture(scope="module")
def shown():
    return draw(2, 64, 77), pool([Environment(environment(generator(), 16))])


@pytest.mark.parametrize("task", sorted(PAIRS))
def test_pairs_fit_together(shown, task):
    pairs = PAIRS[task](*shown)(6, generator(3))
    again = PAIRS[task](*shown)(6, generator(3))
    torch.testing.assert_close(pairs.coarse, again.coarse, atol=0, rtol=0)
    count, channels, height, width = pairs.sharp.shape
    assert (count, channels) == (6, training.UPSCALERS[task].shape.channels)
    assert pairs.coarse.shape == (count, channels, height // 2, width // 2)
    assert (pairs.guide is not None) == (training.UPSCALERS[task].shape.guide == 3)
    assert psnr(bicubic(pairs.coarse, (height, width)).clamp(0, 1), pairs.sharp) > 12


def test_training_teaches_more_than_bicubic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(training.UPSCALERS, "upscale", Upscaling(Shape(1, 0, 8, 1), "tiny"))

    def edges(count: int, generator: Generator) -> Pairs:
        slope = torch.randn(count, 2, 1, 1, generator=generator)
        line = torch.arange(24) - 11.5
        signed = slope[:, 0] * line[:, None] + slope[:, 1] * line
        sharp = (0.5 + signed / slope.norm(dim=1)).clamp(0, 1)[:, None]
        return Pairs(sharp, halved(sharp))

    made = train("upscale", edges, Plan(pictures=8 * 150, batch=8, rate=8e-3), tmp_path, torch.device("cpu"))
    pairs = edges(16, generator(9))
    assert psnr(made(pairs.coarse), pairs.sharp) > psnr(bicubic(pairs.coarse, (24, 24)).clamp(0, 1), pairs.sharp) + 0.5
    assert Upscaler.load(tmp_path / "upscaler.safetensors").info["pictures"] == "1200"


def test_the_bundled_one_beats_bicubic():
    assert "upscale" in bundled()
    upscaler = Upscaler.load("upscale")
    assert sum(p.numel() for p in upscaler.network.parameters()) < 1_000_000
    sharp = leaves(4, 64, generator(12345))
    assert psnr(upscaler(halved(sharp)), sharp) > psnr(bicubic(halved(sharp), (64, 64)).clamp(0, 1), sharp) + 0.3
