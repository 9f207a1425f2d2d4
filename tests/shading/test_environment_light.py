"""Environment maps: lookup, sampling, prefiltering, harmonics."""

from __future__ import annotations

import math

import pytest
import torch
from shading_cases import DOUBLE, sky

from relight.shading.environment import Z_UP, Environment, bilinear
from relight.testing.statistics import sphere_chi_square, sphere_integral


def directions(n: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(n, 3, generator=g, dtype=DOUBLE), dim=-1)


def test_lookup_follows_the_documented_formulas():
    env, d = sky(), directions(200)
    u = torch.atan2(d[:, 2], d[:, 0]) / (2 * math.pi) + 0.5
    assert torch.allclose(env.uv(d), torch.stack([u, d[:, 1].acos() / math.pi], -1))
    upright = Environment.z_up(env.radiance)
    found = upright.uv(d)
    assert torch.allclose(found[:, 0] % 1, torch.atan2(d[:, 0], d[:, 1]) / (2 * math.pi) % 1, atol=1e-6)
    assert torch.allclose(found[:, 1], d[:, 2].acos() / math.pi, atol=1e-6)
    assert torch.linalg.det(torch.tensor(Z_UP)) == 1


def test_uv_and_directions_are_inverse():
    env, d = Environment.z_up(sky().radiance).turned(0.7), directions(300)
    assert torch.allclose(env.directions(env.uv(d)), d, atol=1e-6)


def test_turning_moves_the_light_around():
    env, d = sky(), directions(100)
    shifted = env.turned(0.9).uv(d)
    assert torch.allclose(
        (shifted[:, 0] - env.uv(d)[:, 0]) % 1, torch.tensor(1 - 0.9 / (2 * math.pi), dtype=DOUBLE) % 1, atol=1e-9
    )


def test_bilinear_hits_texel_centres_and_wraps():
    image = torch.arange(12, dtype=DOUBLE).reshape(2, 6, 1)
    assert bilinear(image, torch.tensor([0.5 / 6, 0.25], dtype=DOUBLE)) == 0
    assert bilinear(image, torch.tensor([0.0, 0.25], dtype=DOUBLE)) == 2.5  # between columns 5 and 0
    assert bilinear(image, torch.tensor([1.0, 0.0], dtype=DOUBLE)) == 2.5


@pytest.mark.parametrize("height", [4, 16])
def test_samples_follow_their_density(height):
    env = sky(height)
    u = torch.rand(200_000, 2, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    drawn, radiance, pdf = env.sample(u)
    assert torch.allclose(pdf, env.pdf(drawn)) or float((pdf != env.pdf(drawn)).double().mean()) < 1e-3
    assert torch.allclose(radiance, env.eval(drawn), rtol=1e-4, atol=1e-6)
    # About +y, the map's axis, so that cells of the test and of the map line up.
    turned = drawn[:, [0, 2, 1]]
    assert sphere_chi_square(turned, lambda d: env.pdf(d[:, [0, 2, 1]]), rows=16, columns=32) > 1e-4
    assert sphere_chi_square(turned, lambda d: torch.full_like(d[:, 0], 1 / (4 * math.pi))) < 1e-4


def test_density_integrates_to_one_and_estimates_the_integral():
    env = sky()
    assert float(sphere_integral(env.pdf, 600)) == pytest.approx(1, abs=5e-3)
    exact = sphere_integral(env.eval, 600)
    u = torch.rand(100_000, 2, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    _, radiance, pdf = env.sample(u)
    assert torch.allclose((radiance / pdf[:, None]).mean(0), exact, rtol=1e-2)


def test_irradiance_is_near_the_integral():
    """Band 2 holds 99 % of irradiance (Ramamoorthi and Hanrahan 2001); the sky here is smooth but for a spot."""
    env = sky()
    for n in directions(5):
        exact = sphere_integral(lambda d, n=n: env.eval(d) * (d @ n).clamp_min(0)[:, None] / math.pi)
        assert torch.allclose(env.irradiance(n), exact, rtol=0.08)


def test_prefiltered_light_of_a_uniform_sky_is_uniform_and_narrow_lobes_keep_detail():
    flat = Environment(torch.full((16, 32, 3), 2.0))
    for level in flat.prefiltered:
        assert torch.allclose(level, torch.full_like(level, 2.0), atol=1e-5)
    env = sky(32)
    d = directions(50)
    sharp = env.reflection(d, torch.zeros(50, dtype=DOUBLE))
    assert torch.allclose(sharp, env.eval(d))
    blurred = env.reflection(d, torch.ones(50, dtype=DOUBLE))
    assert float(blurred.std(0).mean()) < 0.5 * float(sharp.std(0).mean())


def test_gradients_reach_the_radiance():
    env = sky(8)
    leaf = env.radiance.clone().requires_grad_()
    light = Environment(leaf, env.rotation)
    d = directions(20)
    (
        light.eval(d).sum()
        + light.reflection(d, torch.full((20,), 0.4, dtype=DOUBLE)).sum()
        + light.irradiance(d).sum()
    ).backward()
    assert leaf.grad is not None and bool((leaf.grad != 0).all())
