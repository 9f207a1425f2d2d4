"""Light through the estimators: closed forms, agreement with each other and with quadrature, shadows, bounces."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from shading_cases import DOUBLE, sky, surface

from relight.shading.bsdf import Bsdf
from relight.shading.environment import Environment
from relight.shading.lights import Point, Rectangle, Sun
from relight.shading.shade import MonteCarlo, SplitSum, shade
from relight.shading.surface import Surface, dot
from relight.testing.statistics import sphere_integral


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=DOUBLE)


class Wall:
    """A tracer: everything with x > 1 is hidden behind an infinite wall at x = 1, of the given colour."""

    def __init__(self, color: float = 0.5):
        self.color = color

    def occluded(self, origins, directions, far):
        return (directions[:, 0] > 0) & (origins[:, 0] < 1) & ((1 - origins[:, 0]) < far * directions[:, 0])

    def trace(self, origins, directions):
        hits = (directions[:, 0] > 0) & (origins[:, 0] < 1)
        reach = (1 - origins[:, :1]) / directions[:, :1].clamp_min(1e-6)
        n = len(origins)
        normal = tensor(-1.0, 0.0, 0.0).expand(n, 3)
        one = torch.ones(n, dtype=DOUBLE)
        place = origins + reach * directions - 1e-6 * tensor(1.0, 0, 0)
        return hits, Surface(place, normal, -directions, self.color * one[:, None].expand(n, 3), one, 0 * one)


@pytest.mark.parametrize("metallic", [0.0, 1.0])
@pytest.mark.parametrize("roughness", [0.15, 0.5, 1.0])
def test_monte_carlo_agrees_with_quadrature(roughness, metallic):
    env, s = sky(8), surface(roughness=roughness, metallic=metallic)
    exact = sphere_integral(lambda d: Bsdf(s).eval(d[None])[0] * env.eval(d), 900)
    found = shade(surface(64, roughness=roughness, metallic=metallic), env, MonteCarlo(256)).mean(0)
    assert torch.allclose(found, exact, rtol=1.5e-2)


def test_lambert_under_a_uniform_sky_and_under_a_sun():
    s = surface(roughness=1.0, color=(0.5, 0.5, 0.5))
    uniform = Environment(torch.full((32, 64, 3), 2.0, dtype=DOUBLE), torch.eye(3, dtype=DOUBLE))
    bsdf = Bsdf(s)
    expected = 2 * (bsdf.under + bsdf.specular_albedo())
    assert torch.allclose(shade(s, uniform, MonteCarlo(4096)), expected, rtol=5e-3)
    assert torch.allclose(shade(s, uniform, SplitSum()), expected, rtol=2e-3)
    sun = Sun(torch.nn.functional.normalize(tensor(0.3, 0.1, 1.0), dim=0), tensor(3.0, 2.0, 1.0))
    direct = bsdf.eval(sun.direction[None]) * sun.irradiance
    for estimator in (SplitSum(), MonteCarlo(1)):
        assert torch.allclose(shade(s, sun, estimator), direct)


def test_wide_sun_brings_the_irradiance_it_says():
    sun = Sun(tensor(0.0, 0.0, 1.0), tensor(1.0, 1.0, 1.0), angular_radius=0.5)
    exact = sphere_integral(lambda d: sun.hit(torch.zeros_like(d), d).radiance * d[:, 2:].clamp_min(0), 1500)
    assert torch.allclose(exact, torch.ones(3, dtype=DOUBLE), rtol=5e-3)
    s = surface(roughness=0.6)
    reference = sphere_integral(lambda d: Bsdf(s).eval(d[None])[0] * sun.hit(torch.zeros_like(d), d).radiance, 1500)
    assert torch.allclose(shade(surface(32, roughness=0.6), sun, MonteCarlo(256)).mean(0), reference[None], rtol=1e-2)


def test_point_light_falls_with_the_square_and_a_spot_ends():
    s = surface()
    near, far = (shade(s, Point(tensor(0.0, 0.0, z), tensor(1.0, 1.0, 1.0)), SplitSum()) for z in (1.0, 2.0))
    assert torch.allclose(near, 4 * far)
    down = tensor(0.0, 0.0, -1.0)
    spot = Point(tensor(0.0, 0.0, 1.0), tensor(1.0, 1.0, 1.0), down, 0.1, 0.4)
    assert torch.allclose(shade(s, spot, SplitSum()), near)
    aside = replace(s, position=tensor(0.5, 0.0, 0.0).expand(1, 3))
    assert not shade(aside, spot, SplitSum()).any()


def test_rectangle_light_against_its_area_integral():
    light = Rectangle(tensor(-1.0, -1.0, 2.0), tensor(0.0, 2.0, 0.0), tensor(2.0, 0.0, 0.0), tensor(3.0, 3.0, 3.0))
    s = surface(roughness=0.4)
    grid = (torch.arange(200, dtype=DOUBLE) + 0.5) / 100 - 1
    x, y = torch.meshgrid(grid, grid, indexing="ij")
    place = torch.stack([x, y, torch.full_like(x, 2.0)], -1).reshape(-1, 3)
    square = dot(place, place)
    d = place / square.sqrt()[:, None]
    exact = (Bsdf(s).eval(d[None])[0] * 3 * (d[:, 2] / square)[:, None]).mean(0) * 4
    assert torch.allclose(shade(surface(64, roughness=0.4), light, MonteCarlo(256)).mean(0), exact, rtol=1e-2)


@pytest.mark.parametrize(
    "light",
    [
        Sun(tensor(0.0, 0.6, 0.8), tensor(1.0, 1.0, 1.0), 0.05),
        Rectangle(tensor(-0.2, -0.2, 2.0), tensor(0.0, 0.4, 0.0), tensor(0.4, 0.0, 0.0), tensor(3.0, 3.0, 3.0)),
        Rectangle(tensor(-0.2, -0.2, 2.0), tensor(0.4, 0.0, 0.0), tensor(0.0, 0.4, 0.0), tensor(3.0, 3.0, 3.0)),
    ],
    ids=["disc", "rectangle", "rectangle, from behind"],
)
def test_split_sum_takes_a_small_light_for_its_middle(light):
    s = surface(64, roughness=0.6)
    assert torch.allclose(shade(s, light, SplitSum())[0], shade(s, light, MonteCarlo(64)).mean(0), rtol=3e-2)


@pytest.mark.parametrize("roughness", [0.1, 0.3, 0.6, 1.0])
def test_split_sum_is_near_monte_carlo(roughness):
    """Head on, where its assumption holds."""
    env = sky(16)
    s = surface(256, angle=0.05, roughness=roughness, metallic=1.0, color=(1.0, 1.0, 1.0))
    exact = shade(s, env, MonteCarlo(256)).mean(0)
    assert torch.allclose(shade(s, env, SplitSum())[0], exact, rtol=0.25)


def test_shadows_cut_off_what_is_hidden():
    env = Environment(torch.ones(16, 32, 3, dtype=DOUBLE), torch.eye(3, dtype=DOUBLE))
    s = surface(16, angle=0.0, roughness=1.0)
    lit, hidden = (shade(s, env, MonteCarlo(512), tracer=t).mean(0) for t in (None, Wall()))
    assert torch.allclose(hidden, 0.5 * lit, rtol=2e-2)
    sun = Sun(tensor(0.6, 0.0, 0.8), tensor(1.0, 1.0, 1.0))
    assert shade(s, sun, SplitSum()).all() and not shade(s, sun, SplitSum(), tracer=Wall()).any()


def test_one_bounce_brings_light_from_the_wall():
    """A white wall under uniform light, which it half hides, returns about half of what it hides."""
    env = Environment(torch.ones(16, 32, 3, dtype=DOUBLE), torch.eye(3, dtype=DOUBLE))
    s = surface(64, angle=0.0, roughness=1.0)
    lit = shade(s, env, MonteCarlo(64), tracer=None).mean(0)
    direct = shade(s, env, MonteCarlo(64), tracer=Wall(1.0)).mean(0)
    bounced = shade(s, env, MonteCarlo(64, bounces=1), tracer=Wall(1.0)).mean(0)
    # The wall sees the whole half space before it: its own radiance is that of the sky.
    assert torch.allclose(bounced, lit, rtol=3e-2) and bool((direct < 0.6 * lit).all())
    black = shade(s, env, MonteCarlo(64, bounces=1), tracer=Wall(0.0)).mean(0)
    assert bool((black < direct * 1.15).all())


def test_the_same_seed_gives_the_same_picture_and_chunks_do_not_matter():
    env, s = sky(), surface(50)
    a, b = shade(s, env, MonteCarlo(16), seed=3), shade(s, env, MonteCarlo(16), seed=3)
    assert torch.equal(a, b) and not torch.equal(a, shade(s, env, MonteCarlo(16), seed=4))
    assert torch.allclose(a, shade(s, env, MonteCarlo(16, chunk=100), seed=3), rtol=1e-12)


def test_any_leading_shape_and_none_at_all():
    env = sky(dtype=torch.float32)
    s = surface(12, dtype=torch.float32)
    flat = shade(s, env, SplitSum())
    grid = shade(s.map(lambda t: t.reshape(3, 4, *t.shape[1:])), env, SplitSum())
    assert torch.equal(grid.reshape(12, 3), flat)
    for estimator in (SplitSum(), MonteCarlo(4)):
        assert shade(s[:0], env, estimator).shape == (0, 3)


def test_emission_is_added_and_occlusion_dims_the_surroundings():
    env, s = sky(), surface(5)
    glowing = replace(s, emission=torch.full((5, 3), 0.7, dtype=DOUBLE))
    assert torch.allclose(shade(glowing, env, SplitSum()), shade(s, env, SplitSum()) + 0.7)
    half = replace(s, occlusion=torch.full((5,), 0.5, dtype=DOUBLE))
    assert torch.allclose(shade(half, env, SplitSum()), 0.5 * shade(s, env, SplitSum()))


@pytest.mark.parametrize("estimator", [SplitSum(), MonteCarlo(32)], ids=["split-sum", "Monte Carlo"])
def test_gradients_of_color_and_light_are_exact(estimator):
    """Where rays go is not differentiated; colour and radiance enter beside it."""
    env, s = sky(4), surface(3, roughness=0.5)

    def f(radiance):
        return shade(s, Environment(radiance, env.rotation), estimator)

    g = torch.Generator().manual_seed(0)
    step = 1e-5 * torch.rand(env.radiance.shape, generator=g, dtype=DOUBLE)
    leaf = env.radiance.clone().requires_grad_()
    f(leaf).sum().backward()
    assert leaf.grad is not None and bool(leaf.grad.isfinite().all())
    if isinstance(estimator, SplitSum):
        difference = (f(env.radiance + step) - f(env.radiance - step)).sum() / 2
        assert float((leaf.grad * step).sum()) == pytest.approx(float(difference), rel=1e-5)


def test_lights_and_materials_are_recovered_from_shading():
    """Roughness and colour of a sphere under a known sky, from 400 of its points."""
    g = torch.Generator().manual_seed(0)
    normal = torch.nn.functional.normalize(torch.randn(400, 3, generator=g), dim=1)
    normal[:, 2] = normal[:, 2].abs()
    env = sky(16, dtype=torch.float32)
    view = torch.tensor([0.0, 0.0, 1.0]).expand(400, 3)

    def shaded(color, roughness):
        s = Surface(normal, normal, view, color.expand(400, 3), roughness.expand(400), torch.full((400,), 0.3))
        return shade(s, env, SplitSum())

    truth = shaded(torch.tensor([0.7, 0.2, 0.4]), torch.tensor(0.35))
    raw = torch.zeros(4, requires_grad=True)
    adam = torch.optim.Adam([raw], lr=0.05)
    for _ in range(250):
        adam.zero_grad()
        values = torch.sigmoid(raw)
        (shaded(values[:3], values[3]) - truth).square().mean().backward()
        adam.step()
    found = torch.sigmoid(raw.detach())
    assert torch.allclose(found, torch.tensor([0.7, 0.2, 0.4, 0.35]), atol=0.02)
    assert math.isfinite(float(found.sum()))
