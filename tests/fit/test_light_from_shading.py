"""Light and albedo in closed form, on points whose transfer, albedo and light are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from relight.fit.sky import BRIGHT, solve_shading
from relight.render.transfer import ROWS, Transfer
from relight.shading.environment import Environment

POINTS = 1500


def convex() -> Transfer:
    """Points of a ball, each of which sees its whole half space."""
    generator = torch.Generator().manual_seed(0)
    normals = normalize(torch.randn(POINTS, 3, generator=generator), dim=-1)
    v, u = torch.meshgrid((torch.arange(ROWS) + 0.5) / ROWS, (torch.arange(2 * ROWS) + 0.5) / ROWS / 2, indexing="ij")
    toward = Environment(torch.ones(2, 4, 3)).directions(torch.stack([u, v], -1).reshape(-1, 2))
    edges = torch.linspace(0, math.pi, ROWS + 1).cos()
    solid = ((edges[:-1] - edges[1:]) * math.pi / ROWS).repeat_interleave(2 * ROWS)
    return Transfer((normals @ toward.mT).clamp_min(0) * solid / math.pi, torch.zeros(POINTS, 3), torch.eye(3))


def white_sun() -> torch.Tensor:
    light = torch.full((ROWS, 2 * ROWS, 3), 0.3)
    light[3:5, 9:11] = 20.0
    return light


@pytest.mark.parametrize("spots", [0.0, 0.3])
def test_light_and_albedo_are_found_up_to_their_common_factor(spots: float):
    transfer, light = convex(), white_sun()
    generator = torch.Generator().manual_seed(1)
    dark = torch.rand(POINTS, 1, generator=generator) < spots
    albedo = torch.where(dark, torch.tensor([0.05, 0.06, 0.05]), torch.tensor([0.6, 0.5, 0.4]))
    irradiance = transfer.weights @ light.reshape(-1, 3)
    found = solve_shading(albedo * irradiance, transfer)
    for name, a, b in (
        ("albedo", found.albedo, albedo),
        ("irradiance", transfer.weights @ found.radiance.reshape(-1, 3), irradiance),
    ):
        factor = (a * b).sum(0) / (a * a).sum(0)
        error = (a * factor - b).square().mean().sqrt() / b.square().mean().sqrt()
        assert error < 0.06, (name, float(error))
    sun = found.radiance.mean(-1).argmax()
    assert abs(int(sun) // (2 * ROWS) - 3.5) < 2 and abs(int(sun) % (2 * ROWS) - 9.5) < 2
    assert found.albedo[~dark[:, 0]].amax(1).median() == pytest.approx(BRIGHT, rel=0.1)


def test_the_hue_of_the_surface_is_not_taken_for_the_lights():
    transfer, light = convex(), white_sun()
    yellow = torch.tensor([0.7, 0.6, 0.1])
    found = solve_shading(yellow * (transfer.weights @ light.reshape(-1, 3)), transfer)
    hue = found.albedo.median(0).values / found.albedo.median(0).values.amax()
    torch.testing.assert_close(hue, yellow / 0.7, rtol=0.05, atol=0)


def test_unlit_points_and_black_pictures_give_finite_answers():
    transfer = convex()
    transfer.weights[:100] = 0
    for look in (torch.zeros(POINTS, 3), torch.rand(POINTS, 3)):
        found = solve_shading(look, transfer)
        assert torch.isfinite(found.radiance).all() and torch.isfinite(found.albedo).all()
        assert (found.radiance >= 0).all() and found.albedo.amax() <= 1
