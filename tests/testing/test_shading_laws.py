"""The laws hold for what is ours, and notice planted faults."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from relight.shading.bsdf import Bsdf
from relight.shading.environment import Environment
from relight.shading.lights import Point, Rectangle, Sun
from relight.shading.spherical_gaussians import SphericalGaussians
from relight.shading.spherical_harmonics import SphericalHarmonics
from relight.shading.surface import Surface
from relight.testing import laws

DOUBLE = torch.float64


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=DOUBLE)


def environment() -> Environment:
    g = torch.Generator().manual_seed(0)
    # About z, as the cells of the chi-square test are: its cells and those of the map then line up.
    return Environment(
        torch.rand(10, 40, 3, generator=g, dtype=DOUBLE) ** 3, vector(1, 0, 0, 0, 0, 1, 0, -1, 0).view(3, 3)
    )


def lamps() -> dict:
    sun = torch.nn.functional.normalize(vector(1.0, 1.0, 0.3), dim=0)
    return {
        "environment": environment(),
        "wide sun": Sun(sun, vector(1, 1, 1), angular_radius=0.6),
        "rectangle": Rectangle(vector(-1, -1, 1.5), vector(0, 2, 0), vector(2, 0, 0), vector(1, 2, 3)),
        "Gaussians": SphericalGaussians(torch.eye(3, dtype=DOUBLE), vector(1, 8, 20), torch.eye(3, dtype=DOUBLE) + 0.1),
        "harmonics": SphericalHarmonics(vector(1, 0.1, 0.2, 0.1)[:, None].expand(4, 3)),
    }


@pytest.mark.parametrize("name", lamps())
def test_lights_obey(name):
    laws.check_light(lamps()[name], vector(0.2, 0.1, 0.0))


class Faulty:
    """A light with one thing wrong."""

    delta = False

    def __init__(self, light, fault):
        self.light, self.fault = light, fault

    def sample_light(self, position, u):
        sample = self.light.sample_light(position, u)
        if self.fault == "stretched":
            d = sample.direction * vector(1.0, 1.0, 1.15)
            again = self.light.hit(position, torch.nn.functional.normalize(d, dim=-1))
            return again
        return sample

    def hit(self, position, direction):
        found = self.light.hit(position, direction)
        if self.fault == "density":
            return replace(found, pdf=1.05 * found.pdf)
        if self.fault == "radiance":
            return replace(found, radiance=1.05 * found.radiance)
        return found


@pytest.mark.parametrize(
    ("fault", "message"),
    [("density", "disagree on pdf"), ("radiance", "disagree on radiance"), ("stretched", "follow")],
)
def test_faults_of_lights_are_noticed(fault, message):
    with pytest.raises(AssertionError, match=message):
        laws.check_light(Faulty(lamps()["Gaussians"], fault), vector(0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="without extent"):
        laws.check_light(Point(vector(0, 0, 1), vector(1, 1, 1)), vector(0, 0, 0))


@pytest.mark.parametrize("roughness", [0.06, 0.15, 0.3, 0.5, 0.7, 0.85, 1.0])
def test_white_metal_reflects_all_light(roughness):
    """The goal is half a per cent; a table with fewer entries, or with noise in them, misses this."""
    assert float(laws.furnace_error(roughness, 1.0).abs().max()) < 2e-3


@pytest.mark.parametrize("roughness", [0.15, 0.5, 1.0])
@pytest.mark.parametrize("metallic", [0.0, 0.5])
def test_white_plastic_reflects_all_light(roughness, metallic):
    assert float(laws.furnace_error(roughness, metallic).abs().max()) < 1e-2


def test_the_furnace_notices_lost_energy():
    lost = laws.furnace_error(1.0, 1.0, bsdf=lambda s: Bsdf(s, compensate=False))
    assert float(lost.max()) < -0.1


def test_reciprocity_and_its_faults():
    def metal(compensate: bool):
        def evaluate(v, light):
            one = torch.ones(len(v), dtype=DOUBLE)
            normal = vector(0, 0, 1).expand_as(v)
            s = Surface(normal, normal, v, torch.full_like(v, 0.7), 0.6 * one, one)
            return Bsdf(s, compensate=compensate).eval(light) / light[:, 2:]

        return evaluate

    laws.check_reciprocity(metal(compensate=False))
    with pytest.raises(AssertionError, match="exchanging"):
        laws.check_reciprocity(metal(compensate=True))
