"""Blurred environments against the sum over texels, and what split-sum makes of them."""

from __future__ import annotations

import math

import pytest
import torch
from shading_cases import DOUBLE, sky

from relight.shading.environment import Environment, bilinear
from relight.shading.microfacet import alpha_of, ggx_d
from relight.shading.prefilter import blurred
from relight.shading.shade import MonteCarlo, SplitSum, shade
from relight.shading.surface import Surface


def directions(n: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    d = torch.nn.functional.normalize(torch.randn(n, 3, generator=g, dtype=DOUBLE), dim=-1)
    return torch.cat([d, torch.tensor([[0.0, 1, 0], [0, -1, 0]], dtype=DOUBLE)])  # and the poles


def summed(env: Environment, mirrors: torch.Tensor, roughness: float | None) -> torch.Tensor:
    """Kernel times radiance over all texels by solid angle, over kernel alone."""
    height, width = env.radiance.shape[:2]
    v, u = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    d = env.directions(torch.stack([u, v], -1).double()).reshape(-1, 3)
    cosine = d @ mirrors.mT
    kernel = cosine.clamp_min(0) * (v.double() * math.pi).sin().reshape(-1, 1)
    if roughness is not None:
        alpha = alpha_of(torch.tensor(roughness, dtype=DOUBLE))
        kernel = kernel * ggx_d(((1 + cosine) / 2).clamp(0, 1).sqrt(), alpha)
    return kernel.mT @ env.radiance.reshape(-1, 3) / kernel.sum(0)[:, None]


@pytest.mark.parametrize("roughness", [0.2, 0.35, 0.5, 0.7, 1.0, None])
@pytest.mark.parametrize("height", [128, 200])
def test_a_sun_is_counted_once(height, roughness):
    """A map with one texel a thousand times as bright as the rest, wherever it is."""
    for row in (3, height // 2, height - 20):
        radiance = torch.ones(height, 2 * height, 3, dtype=DOUBLE)
        radiance[row, height // 3] = 1000.0
        env = Environment(radiance, torch.eye(3, dtype=DOUBLE))
        d = directions(20)
        expected, found = summed(env, d, roughness), bilinear(blurred(radiance, roughness), env.uv(d))
        error = (found - expected).norm() / expected.norm()
        # The sharpest lobe is only a texel wide.
        assert float(error) < (0.08 if roughness == 0.2 else 0.03)


def test_small_maps_are_interpolated_before_they_are_blurred():
    env, d = sky(8), directions(20)
    fine = Environment(
        env.eval(
            env.directions(
                torch.stack(
                    torch.meshgrid((torch.arange(256) + 0.5) / 256, (torch.arange(128) + 0.5) / 128, indexing="xy"), -1
                ).double()
            )
        ),
        env.rotation,
    )
    found = bilinear(blurred(env.radiance, 0.7), env.uv(d))
    assert torch.allclose(found, summed(fine, d, 0.7), rtol=0.02)


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (16, 32), (90, 300)])
@pytest.mark.parametrize("roughness", [0.1, 0.5, None])
def test_uniform_light_stays_uniform_at_any_size(shape, roughness):
    found = blurred(torch.full((*shape, 3), 2.0), roughness)
    assert torch.allclose(found, torch.full_like(found, 2.0), atol=2e-5)


def test_blurring_is_linear_and_turns_with_the_map():
    a, b = (torch.rand(64, 128, 3, generator=torch.Generator().manual_seed(s), dtype=DOUBLE) for s in (0, 1))
    assert torch.allclose(blurred(a + 2 * b, 0.4), blurred(a, 0.4) + 2 * blurred(b, 0.4), atol=1e-9)
    assert torch.allclose(blurred(a.roll(10, 1), 0.4), blurred(a, 0.4).roll(10, 1), atol=1e-9)
    leaf = a.clone().requires_grad_()
    (blurred(leaf, 0.4) * b).sum().backward()
    assert leaf.grad is not None
    # The derivative of a linear map along a direction is its value there.
    assert float((leaf.grad * a).sum()) == pytest.approx(float((blurred(a, 0.4) * b).sum()), rel=1e-9)


@pytest.mark.parametrize(
    ("metallic", "roughness", "bound"),
    [(1.0, 0.1, 0.13), (1.0, 0.35, 0.07), (1.0, 0.7, 0.02), (1.0, 1.0, 0.02), (0.0, 0.35, 0.025), (0.0, 1.0, 0.015)],
)
def test_split_sum_on_a_whole_sphere(metallic, roughness, bound):
    """Root mean square over the visible half of a sphere, grazing angles included, against Monte Carlo.

    Under light from everywhere.  Single lamps near the horizon, which stretch and cut off lobes, cost rough metals up
    to a third; benchmarks/shading_splitsum.py has real maps.
    """
    grid = (torch.arange(12) + 0.5) / 6 - 1
    x, y = (t.reshape(-1) for t in torch.meshgrid(grid, grid, indexing="xy"))
    inside = x * x + y * y < 0.98
    normal = torch.stack([x, y, (1 - x * x - y * y).clamp_min(0).sqrt()], -1)[inside]
    one = torch.ones(len(normal))
    view = torch.tensor([0.0, 0.0, 1.0]).expand_as(normal)
    points = Surface(normal, normal, view, torch.full_like(normal, 0.8), roughness * one, metallic * one)
    env = sky(64, dtype=torch.float32)
    exact = shade(points, env, MonteCarlo(512))
    error = (shade(points, env, SplitSum()) - exact).norm() / exact.norm()
    assert float(error) < bound
