"""Random surroundings: seeds, ranges, energies, and that light falls where it comes from."""

from __future__ import annotations

import math

import pytest
import torch

from relight.diffusion.own.procedural.draw import Draw, repeated
from relight.diffusion.own.procedural.environments import KINDS, MEDIAN, STOPS, environment
from relight.diffusion.own.procedural.rooms import Panels, Seen, received
from relight.diffusion.own.procedural.sphere import sphere, towards
from relight.shading.color import blackbody, luminance
from relight.shading.encoding import MOST

CPU = torch.device("cpu")


def drawn(seed: int, **options) -> torch.Tensor:
    return environment(torch.Generator().manual_seed(seed), **options)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_what_the_docstring_promises(kind):
    for seed in range(12):
        found = drawn(seed, rows=32, kind=kind)
        assert found.shape == (32, 64, 3)
        assert bool(torch.isfinite(found).all()) and float(found.min()) >= 0 and float(found.max()) <= MOST
        assert MEDIAN / 2**STOPS * 0.99 < float(luminance(found).median()) < MEDIAN * 2**STOPS * 1.01


def test_a_seed_gives_one_map_and_another_another():
    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))
    generator = torch.Generator().manual_seed(3)
    first = environment(generator)
    assert not torch.equal(first, environment(generator))


def test_kinds_are_drawn_and_lights_are_far_above_the_median():
    ratio = []
    for seed in range(60):
        light = luminance(drawn(seed, rows=32))
        ratio.append(float((light.max() / light.median()).log10()))
    # Real panoramas of this size lie between 1.5 and 5 (ninety of a hundred).
    assert 1.3 < sorted(ratio)[30] < 3.5
    assert sorted(ratio)[54] > 2.5


def test_seams_are_no_steps():
    """The first and last columns are neighbours: they differ no more than columns elsewhere."""
    seam, inside = 0.0, 0.0
    for seed in range(24):
        log = torch.log1p(drawn(seed, rows=32))
        seam += float((log[:, 0] - log[:, -1]).abs().mean())
        inside += float((log[:, 1:] - log[:, :-1]).abs().mean())
    assert seam < 1.6 * inside


@pytest.mark.parametrize("degrees", [0.3, 2.0, 10.0])
@pytest.mark.parametrize("elevation", [5.0, 50.0, 85.0])
def test_a_disc_has_the_irradiance_asked_for(degrees, elevation):
    grid = sphere(64, CPU)
    at = towards(0.7, math.radians(elevation), CPU)
    disc = grid.disc(at, torch.tensor([3.0, 2.0, 1.0]), math.radians(degrees))
    assert torch.allclose((disc * grid.solid).sum((0, 1)), torch.tensor([3.0, 2.0, 1.0]), rtol=1e-4)
    assert float((grid.directions[disc[..., 0] > 0] @ at).min()) > math.cos(math.radians(max(degrees, 3.0) + 3))


def test_solid_angles_add_up():
    assert float(sphere(16, CPU).solid.sum() * 32) == pytest.approx(4 * math.pi, rel=1e-5)


@pytest.mark.parametrize("height", [1.0, 3.0])
def test_light_falls_off_as_physics_says(height):
    """A small panel that looks down on a floor: radiance times area times both cosines over the square."""
    x = torch.tensor([[0.0, 0.7, 2.0]])
    point = torch.stack([x, torch.zeros_like(x), torch.zeros_like(x)], -1)
    seen = Seen(x, point, torch.tensor([0.0, 1.0, 0.0]).expand_as(point), torch.ones_like(point))
    panels = Panels()
    panels.add([0.0, height, 0.0], [0.05, 0.0, 0.0], [0.0, 0.0, 0.05], torch.tensor([8.0, 4.0, 2.0]))
    expected = 8 * 0.01 * height**2 / (height**2 + x[0] ** 2) ** 2
    found = received(seen, panels.lit(torch.tensor([0.0, -1.0, 0.0])))
    assert torch.allclose(found[0, :, 0], expected, rtol=0.03)
    assert torch.allclose(found[..., 0], 4 * found[..., 2])
    behind = received(seen, panels.lit(torch.tensor([0.0, 9.0, 0.0])))
    assert float(behind.max()) == 0


@pytest.mark.parametrize(
    ("kelvin", "x", "y"), [(2856, 0.4476, 0.4074), (6500, 0.3135, 0.3237), (10000, 0.2807, 0.2884)]
)
def test_black_bodies_have_their_chromaticity(kelvin, x, y):
    to_xyz = torch.tensor(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = to_xyz @ blackbody(kelvin)
    found = xyz / xyz.sum()
    assert float(found[0]) == pytest.approx(x, abs=0.003) and float(found[1]) == pytest.approx(y, abs=0.003)
    assert float(luminance(blackbody(kelvin))) == pytest.approx(1)


def test_noise_repeats_and_is_looked_up_where_it_lies():
    draw = Draw(torch.Generator().manual_seed(0))
    noise = draw.noise(1.0, 16)
    assert float(noise.mean()) == pytest.approx(0, abs=1e-5) and float(noise.std()) == pytest.approx(1, rel=1e-4)
    i = torch.arange(16) / 16
    y, x = torch.meshgrid(i, i, indexing="ij")
    assert torch.allclose(repeated(noise, x, y), noise, atol=1e-5)
    assert torch.allclose(repeated(noise, x - 3, y + 2), noise, atol=1e-4)
