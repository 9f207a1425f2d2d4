"""Monte Carlo by kernels against its twin: the same numbers, so the same radiance and gradients but for rounding."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from relight.render.monte_carlo import FastMonteCarlo
from relight.shading.bsdf import Bsdf
from relight.shading.environment import Environment
from relight.shading.lights import Point, Rectangle, Sun
from relight.shading.shade import MonteCarlo, shade
from relight.shading.surface import Surface, dot
from relight.testing.gradients import assert_gradients_close

LEAVES = ("normal", "view", "base_color", "roughness", "metallic")


def points(n: int = 60, *, low: float = 0.05, seed: int = 0, **further) -> Surface:
    """Of all materials, seen from all angles."""
    g = torch.Generator().manual_seed(seed)
    normal = normalize(torch.randn(n, 3, generator=g), dim=1)
    view = normalize(torch.randn(n, 3, generator=g), dim=1)
    view = view * torch.where(dot(view, normal) > 0, 1.0, -1.0)[:, None]
    return Surface(
        position=0.5 * torch.randn(n, 3, generator=g), normal=normal, view=view,
        base_color=torch.rand(n, 3, generator=g), roughness=low + (1 - low) * torch.rand(n, generator=g),
        metallic=torch.rand(n, generator=g), **further,
    )  # fmt: skip


def sky(height: int = 8, seed: int = 1) -> Environment:
    """With a bright spot, black below, and turned."""
    g = torch.Generator().manual_seed(seed)
    radiance = 0.2 + torch.rand(height, 2 * height, 3, generator=g)
    radiance[height // 4, height // 2] = 40.0
    radiance[-2:] = 0
    return Environment(radiance, torch.linalg.qr(torch.randn(3, 3, generator=g))[0])


def others() -> list:
    t = torch.tensor
    return [
        Sun(normalize(t([0.3, 0.2, 1.0]), dim=0), t([1.0, 0.9, 0.8])),
        Rectangle(t([-1.0, -1.0, 3.0]), t([0.0, 2.0, 0.0]), t([2.0, 0.0, 0.0]), t([3.0, 2.0, 1.0])),
        Sun(normalize(t([-0.3, 0.5, 0.2]), dim=0), t([1.0, 1.0, 2.0]), 0.2),
        Point(t([0.0, 3.0, 1.0]), t([9.0, 8.0, 7.0])),
    ]


class Wall:
    """A tracer: an endless white wall at x = 1."""

    def occluded(self, origins: Tensor, directions: Tensor, far: Tensor) -> Tensor:
        return (directions[:, 0] > 0) & (origins[:, 0] < 1) & (1 - origins[:, 0] < far * directions[:, 0])

    def trace(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Surface]:
        hits = self.occluded(origins, directions, torch.full_like(origins[:, 0], math.inf))
        reach = (1 - origins[:, :1]) / directions[:, :1].clamp_min(1e-6)
        normal = torch.tensor([-1.0, 0.0, 0.0]).to(origins).expand_as(origins)
        one = torch.ones_like(origins[:, 0])
        return hits, Surface(origins + reach * directions, normal, -directions, normal.abs(), one, 0 * one)


class Painted(Wall):
    """The wall shines, not equally everywhere."""

    def incoming(self, origins: Tensor, directions: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
        blocked = self.occluded(origins, directions, far)
        place = origins + (1 - origins[:, :1]) / directions[:, :1].clamp_min(1e-6) * directions
        return blocked, blocked[:, None] * (1.5 + place / (1 + place.abs()))


def double(value):
    """A surface, light or list of lights in float64."""
    if isinstance(value, Tensor):
        return value.double()
    if isinstance(value, Surface):
        return value.map(lambda t: t.double())
    if isinstance(value, list):
        return [double(v) for v in value]
    return replace(value, **{k: double(v) for k, v in vars(value).items() if isinstance(v, Tensor)})


def assert_same(found: Tensor, expected: Tensor, *, rare: float = 0.0) -> None:
    """But for rounding.  rare: share of points where a sample may fall to the other side of a boundary."""
    error = (found.double() - expected).abs().amax(-1) / (expected.abs().amax(-1) + 1e-2)
    assert float((error > 2e-4).double().mean()) <= rare, error.sort().values[-5:]


@pytest.mark.parametrize("tracer", [None, Wall(), Painted()], ids=["open", "wall", "painted wall"])
def test_radiance_is_the_twins(tracer):
    s, light = points(200), sky()
    s = replace(s, geometric_normal=normalize(s.normal + 0.3 * s.normal.roll(1, 0), dim=1))
    found = shade(s, light, FastMonteCarlo(16), tracer=tracer, seed=5)
    expected = shade(double(s), double(light), MonteCarlo(16), tracer=tracer, seed=5)
    assert_same(found, expected, rare=0.01)
    assert not torch.allclose(found, shade(s, light, FastMonteCarlo(16), tracer=tracer, seed=6), rtol=1e-2)


@pytest.mark.parametrize("tracer", [None, Wall(), Painted()], ids=["open", "wall", "painted wall"])
def test_other_lights_and_bounces_come_with_it(tracer):
    s, lights = points(60, low=0.2), [others()[0], sky(), *others()[1:], sky(4, 7)]
    for bounces in (0, 1):
        found = shade(s, lights, FastMonteCarlo(8, bounces), tracer=tracer)
        assert_same(found, shade(double(s), double(lights), MonteCarlo(8, bounces), tracer=tracer), rare=0.04)


def test_what_surfaces_send_is_seen_without_an_environment_too():
    s, lights = points(60, low=0.2), others()
    found = shade(s, lights, FastMonteCarlo(8), tracer=Painted())
    assert_same(found, shade(double(s), double(lights), MonteCarlo(8), tracer=Painted()), rare=0.04)
    assert bool((found >= shade(s, lights, FastMonteCarlo(8), tracer=Wall()) - 1e-5).all())


def test_light_from_a_painted_wall_is_that_of_the_same_light_further_away():
    """A wall that shines like the sky hides nothing, whichever estimator looks."""

    class Mirror(Wall):
        def incoming(self, origins, directions, far):
            blocked = self.occluded(origins, directions, far)
            return blocked, blocked[:, None] * light.eval(directions)

    s, light = points(60), sky()
    for estimator in (FastMonteCarlo(8), MonteCarlo(8)):
        torch.testing.assert_close(shade(s, light, estimator, tracer=Mirror()), shade(s, light, estimator))


@pytest.mark.parametrize("tracer", [None, Wall(), Painted()], ids=["open", "wall", "painted wall"])
def test_gradients_are_the_twins(tracer):
    """Of every input, with a different weight at every point and channel."""
    s, light = points(100, low=0.15, specular=torch.full((100,), 0.8), ior=torch.full((100,), 1.4)), sky()
    weight = torch.rand(100, 3, generator=torch.Generator().manual_seed(3))

    def gradients(s: Surface, light: Environment, estimator: MonteCarlo) -> list[Tensor]:
        names = (*LEAVES, "specular", "ior")
        leaves = {name: getattr(s, name).clone().requires_grad_() for name in names}
        radiance = light.radiance.clone().requires_grad_()
        out = shade(replace(s, **leaves), replace(light, radiance=radiance), estimator, tracer=tracer)
        return list(torch.autograd.grad((out * weight.to(out)).sum(), [*leaves.values(), radiance]))

    found, expected = gradients(s, light, FastMonteCarlo(16)), gradients(double(s), double(light), MonteCarlo(16))
    for name, a, b in zip((*LEAVES, "specular", "ior", "radiance"), found, expected, strict=True):
        assert_gradients_close(a, b, name=name, cosine=0.99999, relative_l2=2e-3, bias=1e-3, element_bound=1e-3)


def test_threads_and_chunks_change_no_bit():
    """Neither of radiance nor of gradients."""
    s = points(50)

    def run(estimator: MonteCarlo) -> list[Tensor]:
        color, radiance = s.base_color.clone().requires_grad_(), sky().radiance.requires_grad_()
        normal = s.normal.clone().requires_grad_()
        out = shade(replace(s, base_color=color, normal=normal), Environment(radiance), estimator, tracer=Wall())
        return [out, *torch.autograd.grad(out.square().sum(), [color, normal, radiance])]

    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(run(FastMonteCarlo(16)))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))
    for a, b in zip(run(FastMonteCarlo(16, chunk=100))[:3], results[0][:3], strict=True):
        assert torch.equal(a, b)


def test_white_furnace():
    """Under uniform light, what comes back is the albedo."""
    s = points(40, low=0.2)
    uniform = Environment(torch.full((16, 32, 3), 2.0))
    bsdf = Bsdf(s)
    found = shade(s, uniform, FastMonteCarlo(2048))
    torch.testing.assert_close(found, 2 * (bsdf.under + bsdf.specular_albedo()), rtol=1e-2, atol=3e-3)


@pytest.mark.parametrize("roughness", [0.0, 0.02, 1.0])
def test_mirrors_and_grazing_eyes(roughness):
    """float32 leaves a mirror's peak few digits; the kernel keeps them, as float64 does."""
    s = points(40)
    tangent = normalize(torch.linalg.cross(s.normal, s.view), dim=1)
    s = replace(s, view=normalize(tangent + 1e-3 * s.normal, dim=1), roughness=torch.full((40,), roughness))
    for some in (s, replace(s, view=s.normal)):
        found = shade(some, sky(), FastMonteCarlo(32))
        assert_same(found, shade(double(some), double(sky()), MonteCarlo(32)), rare=0.1)


def test_nothing_comes_of_nothing():
    s = points(10)
    black = Environment(torch.zeros(4, 8, 3))
    assert not shade(s, black, FastMonteCarlo(8), tracer=Wall()).any()
    assert shade(s[:0], sky(), FastMonteCarlo(8), tracer=Wall()).shape == (0, 3)
    assert shade(s[:0], [], FastMonteCarlo(8)).shape == (0, 3)
    assert not shade(s, [], FastMonteCarlo(8)).any()
    inwards = replace(s, normal=-s.normal)
    expected = shade(double(inwards), double(sky()), MonteCarlo(8))
    assert_same(shade(inwards, sky(), FastMonteCarlo(8)), expected, rare=0.1)
    buried = replace(s, geometric_normal=-s.normal)
    assert_same(shade(buried, sky(), FastMonteCarlo(8)), shade(double(buried), double(sky()), MonteCarlo(8)), rare=0.1)


@pytest.mark.parametrize("name", ["normal", "view", "position", "base_color", "roughness"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_a_number_stays_where_it_is(name, value):
    s = points(10)
    bad = getattr(s, name).clone()
    bad[4] = value
    kept = torch.arange(10) != 4
    found, clean = (shade(some, sky(), FastMonteCarlo(8), tracer=Wall()) for some in (replace(s, **{name: bad}), s))
    assert torch.equal(found[kept], clean[kept])


def test_what_the_kernels_cannot_do_the_twin_does():
    s, light = double(points(10)), double(sky())
    assert torch.equal(shade(s, light, FastMonteCarlo(4)), shade(s, light, MonteCarlo(4)))
    turn = sky().rotation.clone().requires_grad_()
    shade(points(10), replace(sky(), rotation=turn), FastMonteCarlo(4)).sum().backward()
    assert turn.grad is not None and bool(turn.grad.any())
