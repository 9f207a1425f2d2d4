"""KHR_materials_ior and KHR_materials_specular: what they change, and that energy is still conserved."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from shading_cases import DOUBLE, surface

from relight.errors import ShapeError
from relight.shading.bsdf import Bsdf
from relight.shading.surface import Surface
from relight.testing.statistics import sphere_integral


def reflected(s: Surface) -> torch.Tensor:
    return sphere_integral(lambda light: Bsdf(s).eval(light[None])[0], 600)


def full(value: float) -> torch.Tensor:
    return torch.full((1,), value, dtype=DOUBLE)


def test_reflectance_at_normal_incidence():
    s = surface()
    assert torch.allclose(replace(s, ior=full(1.5)).f0, s.f0)  # 1.5 is what None means
    assert torch.allclose(replace(s, ior=full(2.0)).f0, torch.full((1, 3), 1 / 9, dtype=DOUBLE))
    tint = torch.tensor([[1.0, 0.5, 100.0]], dtype=DOUBLE)
    found = replace(s, specular=full(0.5), specular_color=tint)
    # The tint is cut off at total reflection before the factor is applied.
    assert torch.allclose(found.f0, 0.5 * torch.tensor([[0.04, 0.02, 1.0]], dtype=DOUBLE))
    assert torch.allclose(found.dielectric_f90, full(0.5)[:, None])
    metal = replace(surface(metallic=1.0), specular=full(0.0), ior=full(2.0), specular_color=tint)
    light = torch.nn.functional.normalize(torch.tensor([[0.9, 0.1, 0.3]], dtype=DOUBLE), dim=1)
    assert torch.allclose(metal.f0, metal.base_color)
    assert torch.allclose(Bsdf(metal).eval(light), Bsdf(surface(metallic=1.0)).eval(light))


def test_without_specular_nothing_but_lambert_is_left():
    s = replace(surface(roughness=0.2, color=(0.8, 0.5, 0.2)), specular=full(0.0))
    light = torch.nn.functional.normalize(torch.tensor([[0.3, -0.5, 0.7]], dtype=DOUBLE), dim=1)
    assert torch.allclose(Bsdf(s).eval(light), s.base_color / math.pi * light[:, 2:])


@pytest.mark.parametrize("ior", [1.0, 1.3, 2.5])
@pytest.mark.parametrize("specular", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("angle", [0.3, 1.3])
def test_white_still_reflects_all_light(angle, specular, ior):
    s = surface(angle=angle, roughness=0.5, color=(1.0, 1.0, 1.0))
    found = reflected(replace(s, specular=full(specular), ior=full(ior)))
    assert torch.allclose(found, torch.ones(3, dtype=DOUBLE), atol=7e-3)


def test_gradients_reach_the_options():
    s = surface(2, roughness=0.3, metallic=0.4)
    light = torch.nn.functional.normalize(torch.tensor([[0.3, -0.5, 0.7], [-0.6, 0.1, 0.5]], dtype=DOUBLE), dim=1)

    def f(ior, specular, color):
        return Bsdf(replace(s, ior=ior, specular=specular, specular_color=color)).eval(light)

    g = torch.Generator().manual_seed(0)
    options = [torch.rand(shape, generator=g, dtype=DOUBLE) for shape in ((2,), (2,), (2, 3))]
    options[0] += 1.2
    assert torch.autograd.gradcheck(f, [t.requires_grad_() for t in options])


def test_wrong_shapes_are_named():
    with pytest.raises(ShapeError, match=r"Surface\.ior"):
        replace(surface(3), ior=full(1.5))
