"""Spherical Gaussians: closed forms against quadrature, sampling, fitting."""

from __future__ import annotations

import math

import pytest
import torch
from shading_cases import DOUBLE, surface

from relight.errors import ShapeError
from relight.shading.bsdf import Bsdf
from relight.shading.environment import Environment
from relight.shading.lights import Light, Surroundings
from relight.shading.microfacet import alpha_of, ggx_d
from relight.shading.shade import MonteCarlo, SplitSum, shade
from relight.shading.spherical_gaussians import SphericalGaussians
from relight.testing.statistics import sphere_chi_square, sphere_integral

SHARPNESS = [0.01, 0.5, 3.0, 12.0, 60.0]


def directions(n: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(n, 3, generator=g, dtype=DOUBLE), dim=-1)


def lobe(sharpness: float) -> SphericalGaussians:
    """About +x: quadrature is coarsest about z."""
    return SphericalGaussians(
        torch.tensor([[1.0, 0.0, 0.0]], dtype=DOUBLE),
        torch.tensor([sharpness], dtype=DOUBLE),
        torch.tensor([[3.0, 2.0, 1.0]], dtype=DOUBLE),
    )


def several() -> SphericalGaussians:
    g = torch.Generator().manual_seed(4)
    return SphericalGaussians(
        directions(5, 3), torch.tensor([0.4, 2.0, 9.0, 30.0, 5.0], dtype=DOUBLE), torch.rand(5, 3, generator=g).double()
    )


def fan(n: int = 13) -> torch.Tensor:
    """(n, 3) from +x through +y to -x."""
    angle = torch.linspace(0, math.pi, n, dtype=DOUBLE)
    return torch.stack([angle.cos(), angle.sin(), 0 * angle], -1)


def test_is_a_light_that_split_sum_knows():
    assert isinstance(several(), Light) and isinstance(several(), Surroundings)


@pytest.mark.parametrize("sharpness", SHARPNESS)
def test_power_is_the_integral(sharpness):
    assert torch.allclose(sphere_integral(lobe(sharpness).eval), lobe(sharpness).power[0], rtol=1e-4)


@pytest.mark.parametrize("sharpness", SHARPNESS)
def test_irradiance_is_near_the_integral_and_exact_along_and_across(sharpness):
    light = lobe(sharpness)
    normals = fan()

    def received(d: torch.Tensor) -> torch.Tensor:
        return (d @ normals.mT).clamp_min(0)[..., None] * light.eval(d)[:, None] / math.pi

    error = (light.irradiance(normals) - sphere_integral(received)) * math.pi / light.power
    assert float(error.abs().max()) < 0.016
    assert float(error[[0, 6, 12]].abs().max()) < 3e-4


@pytest.mark.parametrize("roughness", [0.35, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("sharpness", [0.5, 3.0, 12.0, 60.0])
def test_reflection_is_near_what_a_ggx_lobe_sees(sharpness, roughness):
    """Of the largest value, over all mirror directions: GGX has longer tails than any Gaussian."""
    light, mirrors = lobe(sharpness), fan()
    alpha = alpha_of(torch.tensor(roughness, dtype=DOUBLE))

    def seen(d: torch.Tensor) -> torch.Tensor:
        cosine = d @ mirrors.mT
        half = ((1 + cosine) / 2).clamp_min(0).sqrt()
        kernel = ggx_d(half, alpha) * cosine.clamp_min(0)
        return torch.cat([kernel[..., None] * light.eval(d)[:, None], kernel[..., None]], -1)

    integral = sphere_integral(seen, 300)
    expected = integral[:, :3] / integral[:, 3:]
    found = light.reflection(mirrors, torch.full((13,), roughness, dtype=DOUBLE))
    assert float((found - expected).abs().max() / expected.max()) < 0.08


def test_a_mirror_shows_the_light_itself():
    light, d = several(), directions(40)
    assert torch.allclose(light.reflection(d, torch.zeros(40, dtype=DOUBLE)), light.eval(d), rtol=1e-3, atol=1e-5)


def test_sharp_lobes_and_mirrors_keep_their_digits_in_float32():
    light = lobe(5000.0)
    d = torch.tensor([[math.cos(t), math.sin(t), 0.0] for t in (0.0, 0.01, 0.03)], dtype=DOUBLE)
    single = SphericalGaussians(light.axis.float(), light.sharpness.float(), light.amplitude.float())
    for roughness in (0.0, 0.1, 0.3):
        r = torch.full((3,), roughness, dtype=DOUBLE)
        exact = light.reflection(d, r)
        assert float((single.reflection(d.float(), r.float()) - exact).abs().max() / exact.max()) < 2e-3


def test_samples_follow_their_density():
    light = several()
    u = torch.rand(100_000, 2, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    sample = light.sample_light(torch.zeros(100_000, 3, dtype=DOUBLE), u)
    assert torch.allclose(sample.pdf, light.pdf(sample.direction))
    assert torch.allclose(sample.radiance, light.eval(sample.direction))
    assert float(sphere_integral(light.pdf)) == pytest.approx(1, abs=1e-3)
    assert sphere_chi_square(sample.direction, light.pdf) > 1e-4
    wrong = SphericalGaussians(light.axis, 1.2 * light.sharpness, light.amplitude)
    assert sphere_chi_square(sample.direction, wrong.pdf) < 1e-4


@pytest.mark.parametrize("metallic", [0.0, 1.0])
def test_monte_carlo_agrees_with_quadrature(metallic):
    light = several()
    s = surface(64, roughness=0.4, metallic=metallic)
    exact = sphere_integral(lambda d: Bsdf(s[:1]).eval(d[None])[0] * light.eval(d), 700)
    assert torch.allclose(shade(s, light, MonteCarlo(256)).mean(0), exact, rtol=1e-2)


@pytest.mark.parametrize("roughness", [0.3, 0.7])
@pytest.mark.parametrize("metallic", [0.0, 1.0])
def test_split_sum_is_near_monte_carlo(metallic, roughness):
    light = several()
    s = surface(64, angle=0.3, roughness=roughness, metallic=metallic)
    exact = shade(s, light, MonteCarlo(256)).mean(0)
    assert torch.allclose(shade(s, light, SplitSum())[0], exact, rtol=0.1)


def test_rotation_turns_the_light():
    c, s = math.cos(0.7), math.sin(0.7)
    turn = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=DOUBLE)
    d = directions(20)
    assert torch.allclose(several().rotated(turn).eval(d @ turn.mT), several().eval(d))


def test_spread_lobes_are_nearly_uniform():
    light = SphericalGaussians.spread(64, brightness=2.0)
    seen = light.eval(directions(500).float())
    assert float(seen.mean()) == pytest.approx(2.0, rel=0.02) and float(seen.std()) < 0.3


def test_gradients():
    light = several()

    def f(axis, sharpness, amplitude, normals, roughness):
        x = SphericalGaussians(torch.nn.functional.normalize(axis, dim=-1), sharpness, amplitude)
        return x.eval(normals), x.irradiance(normals), x.reflection(normals, roughness)

    roughness = torch.tensor([0.1, 0.4, 0.9], dtype=DOUBLE)
    inputs = [light.axis, light.sharpness, light.amplitude, directions(3, 9), roughness]
    assert torch.autograd.gradcheck(f, [t.clone().requires_grad_() for t in inputs])


def test_gradients_are_finite_at_the_axis_and_for_flat_and_sharp_lobes():
    for sharpness in (0.0, 1e-3, 1e4):
        leaves = [
            torch.tensor([[0.0, 0.0, 1.0]]).requires_grad_(),
            torch.tensor([sharpness]).requires_grad_(),
            torch.ones(1, 3).requires_grad_(),
        ]
        light = SphericalGaussians(*leaves)
        d = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
        total = light.eval(d).sum() + light.irradiance(d).sum()
        for roughness in (0.0, 1.0):
            total = total + light.reflection(d, torch.full((3,), roughness)).sum()
        total.backward()
        assert all(t.grad is not None and bool(t.grad.isfinite().all()) for t in leaves)


def test_an_environment_is_fitted():
    """Nearly all of what five other lobes drew into a map is explained, from a uniform start."""
    target = several()
    env = Environment(torch.zeros(16, 32, 3, dtype=DOUBLE), torch.eye(3, dtype=DOUBLE))
    v, u = torch.meshgrid((torch.arange(16) + 0.5) / 16, (torch.arange(32) + 0.5) / 32, indexing="ij")
    d = env.directions(torch.stack([u, v], -1).double())
    picture = target.eval(d)
    start = SphericalGaussians.spread(32)
    leaves = [start.axis.double(), start.sharpness.double().log(), start.amplitude.double().log()]
    leaves = [t.clone().requires_grad_() for t in leaves]
    adam = torch.optim.Adam(leaves, lr=0.05)
    loss = torch.tensor(torch.inf)
    for _ in range(200):
        adam.zero_grad()
        axis = torch.nn.functional.normalize(leaves[0], dim=-1)
        loss = (SphericalGaussians(axis, leaves[1].exp(), leaves[2].exp()).eval(d) - picture).square().mean()
        loss.backward()
        adam.step()
    assert float(loss.detach()) < 0.05 * float(picture.var())


def test_wrong_shapes_are_named():
    light = several()
    with pytest.raises(ShapeError, match="amplitude"):
        SphericalGaussians(light.axis, light.sharpness, light.amplitude[:2])
    with pytest.raises(ShapeError, match="sharpness"):
        SphericalGaussians(light.axis, light.sharpness[:, None], light.amplitude)
