"""Learnable lights: they begin where told, stay positive, and find the light that pictures were made with."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from relight.errors import RelightError
from relight.shading.environment import Z_UP, Environment
from relight.shading.learnable import (
    LearnableEnvironment,
    LearnableGaussians,
    LearnableHarmonics,
    LearnableStrength,
)
from relight.shading.lights import Point, Rectangle, Sun
from relight.shading.shade import SplitSum, shade
from relight.shading.spherical_gaussians import SphericalGaussians
from relight.shading.spherical_harmonics import SphericalHarmonics
from relight.shading.surface import Surface


def balls(count: int = 400) -> Surface:
    """Points of a sphere, seen from all sides, smooth metal to rough plastic."""
    g = torch.Generator().manual_seed(3)
    normal = nn.functional.normalize(torch.randn(count, 3, generator=g), dim=-1)
    view = nn.functional.normalize(normal + 0.7 * torch.rand(count, 3, generator=g), dim=-1)
    rough, metal = 0.1 + 0.9 * torch.rand(count, generator=g), (torch.rand(count, generator=g) > 0.5).float()
    return Surface(normal, normal, view, torch.full((count, 3), 0.8), rough, metal)


def sunset() -> Environment:
    v, u = torch.meshgrid(torch.linspace(0, 1, 16), torch.linspace(0, 1, 32), indexing="ij")
    light = 0.2 + 3 * torch.exp(-((u - 0.4) ** 2 + (v - 0.3) ** 2) * 40)
    return Environment(light[..., None] * torch.tensor([1.0, 0.8, 0.6]), torch.tensor(Z_UP))


def fit(learnable, target: Tensor, steps: int = 150, rate: float = 0.1) -> tuple[float, float]:
    """First and last mean squared error of logarithms."""
    optimiser = torch.optim.Adam(learnable.parameters(), lr=rate)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        seen = shade(balls(), learnable.light(), SplitSum())
        loss = (torch.log(seen + 1e-3) - torch.log(target + 1e-3)).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses[0], losses[-1]


def test_environment_begins_where_told_and_keeps_its_rotation():
    start = sunset()
    light = LearnableEnvironment(start).light()
    assert torch.allclose(light.radiance, start.radiance, rtol=1e-5)
    assert torch.equal(light.rotation, start.rotation)
    grey = LearnableEnvironment.constant(8, 0.25, torch.tensor(Z_UP)).light()
    assert grey.radiance.shape == (8, 16, 3) and torch.allclose(grey.radiance, torch.tensor(0.25))


def test_environment_is_found_from_what_surfaces_show():
    truth = sunset()
    target = shade(balls(), truth, SplitSum()).detach()
    learnable = LearnableEnvironment.constant(16, 1.0, truth.rotation)
    first, last = fit(learnable, target)
    assert first > 0.1 and last < 1e-3 * first
    found = learnable.light()
    assert float(found.radiance.detach().min()) > 0
    # Coarse direction and colour of the light, which is all that these points tell.
    error = found.irradiance(balls().normal) / truth.irradiance(balls().normal) - 1
    assert float(error.detach().abs().max()) < 0.1


def test_black_texels_can_become_bright_again():
    start = torch.ones(4, 8, 3)
    start[0] = 0
    learnable = LearnableEnvironment(Environment(start))
    learnable.light().radiance.sum().backward()
    assert learnable.log_radiance.grad is not None and bool((learnable.log_radiance.grad > 0).all())


@pytest.mark.parametrize("bad", [torch.zeros(2, 4, 3), torch.full((2, 4, 3), -1.0), torch.full((2, 4, 3), torch.inf)])
def test_no_light_negative_and_infinite_light_are_refused(bad):
    with pytest.raises(RelightError, match="expected finite light"):
        LearnableEnvironment(Environment(bad))


def test_whiteness_penalty_is_zero_for_white_light_and_pulls_colours_together():
    assert float(LearnableEnvironment.constant(8).whiteness_penalty().detach()) < 1e-6
    learnable = LearnableEnvironment(Environment(torch.tensor([0.6, 0.3, 0.3]).expand(8, 16, 3)))
    penalty = learnable.whiteness_penalty()
    assert float(penalty.detach()) == pytest.approx(0.2 + 0.1 + 0.1, abs=1e-6)  # |0.6 - 0.4| + 2 |0.3 - 0.4|
    penalty.backward()
    slope = learnable.log_radiance.grad
    assert slope is not None and bool((slope[..., 0] > 0).all()) and bool((slope[..., 1:] < 0).all())


def test_state_dict_brings_an_environment_back():
    before, after = LearnableEnvironment(sunset()), LearnableEnvironment.constant(16)
    after.load_state_dict(before.state_dict())
    assert torch.equal(after.light().radiance, before.light().radiance)
    assert torch.equal(after.light().rotation, before.rotation)


def test_gaussians_stay_lobes_while_they_are_fitted():
    truth = SphericalGaussians(
        nn.functional.normalize(torch.tensor([[1.0, 1, 0], [0, -1, 1]]), dim=-1),
        torch.tensor([8.0, 2.0]), torch.tensor([[4.0, 3, 2], [0.5, 0.6, 0.7]]),
    )  # fmt: skip
    target = shade(balls(), truth, SplitSum()).detach()
    learnable = LearnableGaussians(SphericalGaussians.spread(12))
    first, last = fit(learnable, target)
    assert first > 0.1 and last < 0.01 * first
    light = learnable.light()
    assert torch.allclose(light.axis.norm(dim=-1), torch.ones(12), atol=1e-5)
    assert float(light.amplitude.detach().min()) > 0 and float(light.sharpness.detach().min()) > 0


def test_harmonics_are_squares_and_so_never_negative():
    g = torch.Generator().manual_seed(0)
    learnable = LearnableHarmonics(SphericalHarmonics(torch.randn(25, 3, generator=g, dtype=torch.float64)))
    learnable.root.data = torch.randn(9, 3, generator=g, dtype=torch.float64)
    directions = nn.functional.normalize(torch.randn(500, 3, generator=g, dtype=torch.float64), dim=-1)
    light = learnable.light()
    assert light.degree == 4
    root = SphericalHarmonics(learnable.root).eval(directions)
    assert torch.allclose(light.eval(directions), root**2, atol=1e-9)  # the square is exact


def test_harmonics_begin_near_their_start_and_are_fitted():
    truth = SphericalHarmonics.project(sunset(), 4)
    learnable = LearnableHarmonics(truth)
    d = balls().normal
    apart = learnable.light().irradiance(d) / truth.irradiance(d) - 1
    assert float(apart.detach().abs().max()) < 0.2
    first, last = fit(LearnableHarmonics(SphericalHarmonics(torch.eye(25)[:, :1].expand(25, 3))),
                      shade(balls(), learnable.light(), SplitSum()).detach(), rate=0.03)  # fmt: skip
    assert first > 0.05 and last < 0.01 * first


@pytest.mark.parametrize(
    "light",
    [
        Sun(torch.tensor([0.0, 0, 1]), torch.tensor([3.0, 2, 1])),
        Point(torch.tensor([0.0, 0, 4]), torch.tensor([30.0, 20, 10])),
        Rectangle(torch.tensor([-1.0, -1, 3]), torch.tensor([0.0, 2, 0]), torch.tensor([2.0, 0, 0]), torch.ones(3)),
    ],
)
def test_strengths_of_lights_with_a_place(light):
    target = shade(balls(), light, SplitSum()).detach()
    learnable = LearnableStrength(light)
    assert torch.allclose(shade(balls(), learnable.light(), SplitSum()), target, rtol=1e-4)
    learnable.log_strength.data += torch.tensor([2.0, -1.0, 0.5])
    first, last = fit(learnable, target)
    assert first > 0.01 and last < 1e-4 * first
