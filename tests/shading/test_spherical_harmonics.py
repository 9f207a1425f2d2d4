"""Spherical harmonics of light, to any degree, against quadrature and the splats' own basis."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from shading_cases import DOUBLE, sky, surface

from relight.errors import ShapeError
from relight.geometry import sh as splat_sh
from relight.shading.environment import Environment
from relight.shading.lights import Light, Surroundings
from relight.shading.microfacet import alpha_of, ggx_d
from relight.shading.shade import Harmonics, MonteCarlo, SplitSum, shade
from relight.shading.spherical_harmonics import SphericalHarmonics, basis
from relight.testing.statistics import sphere_integral


def directions(n: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(n, 3, generator=g, dtype=DOUBLE), dim=-1)


def light(degree: int = 4) -> SphericalHarmonics:
    g = torch.Generator().manual_seed(1)
    coefficients = 0.2 * torch.randn((degree + 1) ** 2, 3, generator=g, dtype=DOUBLE)
    coefficients[0] = 6.0
    return SphericalHarmonics(coefficients)


def test_the_basis_is_that_of_the_splats():
    d = directions(50)
    for degree in range(4):
        assert torch.allclose(basis(d, degree), splat_sh.basis(d, degree))


def test_the_basis_is_orthonormal():
    """By a quadrature that is exact for products of band 9: Gauss-Legendre in z, regular around."""
    nodes, weights = (torch.as_tensor(x) for x in np.polynomial.legendre.leggauss(12))
    z, phi = torch.meshgrid(nodes, torch.arange(24, dtype=DOUBLE) * (math.pi / 12), indexing="ij")
    r = (1 - z * z).sqrt()
    values = basis(torch.stack([r * phi.cos(), r * phi.sin(), z], -1), 9)
    products = torch.einsum("zpi,zpj,z->ij", values, values, weights * (math.pi / 12))
    assert torch.allclose(products, torch.eye(100, dtype=DOUBLE), atol=1e-12)


def test_poles_have_values_and_gradients():
    d = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]], requires_grad=True)
    values = basis(d, 5)
    values.sum().backward()
    assert bool(values.isfinite().all()) and d.grad is not None and bool(d.grad.isfinite().all())


def test_projection_returns_what_was_drawn():
    truth, env = light(), Environment(torch.zeros(64, 128, 3, dtype=DOUBLE), torch.eye(3, dtype=DOUBLE)).turned(0.8)
    v, u = torch.meshgrid((torch.arange(64) + 0.5) / 64, (torch.arange(128) + 0.5) / 128, indexing="ij")
    drawn = Environment(truth.eval(env.directions(torch.stack([u, v], -1).double())), env.rotation)
    assert torch.allclose(SphericalHarmonics.project(drawn, 4).coefficients, truth.coefficients, atol=5e-3)
    assert isinstance(truth, Light) and isinstance(truth, Surroundings)


def test_irradiance_is_the_integral():
    for n in directions(3):
        exact = sphere_integral(lambda d, n=n: light().eval(d) * (d @ n).clamp_min(0)[:, None] / math.pi, 256)
        assert torch.allclose(light().irradiance(n), exact, rtol=3e-4)


@pytest.mark.parametrize("roughness", [0.3, 0.6, 1.0])
def test_reflection_is_what_a_ggx_lobe_sees(roughness):
    mirrors, alpha = directions(6), alpha_of(torch.tensor(roughness, dtype=DOUBLE))

    def seen(d: torch.Tensor) -> torch.Tensor:
        cosine = d @ mirrors.mT
        kernel = ggx_d(((1 + cosine) / 2).clamp_min(0).sqrt(), alpha) * cosine.clamp_min(0)
        return torch.cat([kernel[..., None] * light().eval(d)[:, None], kernel[..., None]], -1)

    integral = sphere_integral(seen, 256)
    found = light().reflection(mirrors, torch.full((6,), roughness, dtype=DOUBLE))
    assert torch.allclose(found, integral[:, :3] / integral[:, 3:], rtol=2e-3)


def test_estimators_agree_on_rough_surfaces_under_smooth_light():
    s = surface(64, angle=0.2, roughness=0.9)
    exact = shade(s, light(), MonteCarlo(256)).mean(0)
    assert torch.allclose(shade(s, light(), SplitSum())[0], exact, rtol=0.03)


def test_the_estimator_projects_environments():
    env, s = sky(), surface(4, roughness=0.8)
    projected = shade(s, SphericalHarmonics.project(env, 5), SplitSum())
    assert torch.allclose(shade(s, env, Harmonics(5)), projected)
    assert torch.allclose(projected, shade(s, env, SplitSum()), rtol=0.15)
    assert not torch.allclose(shade(s, env, Harmonics(1)), projected, rtol=1e-3)


def test_gradients():
    d, roughness = directions(3), torch.tensor([0.2, 0.5, 0.9], dtype=DOUBLE)

    def f(coefficients, d, roughness):
        x = SphericalHarmonics(coefficients)
        return x.eval(d), x.irradiance(d), x.reflection(d, roughness)

    assert torch.autograd.gradcheck(f, [t.clone().requires_grad_() for t in (light(3).coefficients, d, roughness)])
    leaf = sky(8).radiance.clone().requires_grad_()
    projected = SphericalHarmonics.project(Environment(leaf, torch.eye(3, dtype=DOUBLE)), 2)
    projected.irradiance(d).sum().backward()
    assert leaf.grad is not None and bool((leaf.grad != 0).all())


@pytest.mark.parametrize("shape", [(0, 3), (3, 3), (4, 1), (4,)])
def test_wrong_shapes_are_named(shape):
    with pytest.raises(ShapeError, match="coefficients"):
        SphericalHarmonics(torch.zeros(shape))
