"""The BSDF obeys the laws of reflection: energy, reciprocity, sampling, derivatives."""

from __future__ import annotations

import math

import pytest
import torch
from shading_cases import DOUBLE, surface

from relight.shading import microfacet
from relight.shading.bsdf import Bsdf
from relight.shading.surface import Surface, frame, to_local, to_world
from relight.testing.statistics import sphere_chi_square, sphere_integral

ANGLES = [0.0, 0.5, 1.2, 1.5]
ROUGHNESS = [0.05, 0.2, 0.5, 1.0]


def directions(n: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(n, 3, generator=g, dtype=DOUBLE), dim=-1)


def evaluated(s: Surface, light: torch.Tensor) -> torch.Tensor:
    """(M, 3) f cos of one point for M directions."""
    return Bsdf(s).eval(light[None])[0]


@pytest.mark.parametrize("roughness", [0.5, 0.7, 1.0])
@pytest.mark.parametrize("angle", [0.0, 0.7, 1.3])
def test_ggx_projected_area_is_one(angle, roughness):
    """Integral of D cos over normals is 1; of D G1 (v.h) is n.v (Heitz 2014, eq. 6 and 14)."""
    alpha = torch.tensor(roughness**2, dtype=DOUBLE)
    area = sphere_integral(
        lambda h: torch.where(h[:, 2] > 0, microfacet.ggx_d(h[:, 2].clamp_min(0), alpha) * h[:, 2], 0)
    )
    assert float(area) == pytest.approx(1, abs=2e-3)
    v = torch.tensor([math.sin(angle), 0, math.cos(angle)], dtype=DOUBLE)
    g1 = microfacet.smith_g1(v[2], alpha)
    seen = sphere_integral(
        lambda h: torch.where(h[:, 2] > 0, microfacet.ggx_d(h[:, 2].clamp_min(0), alpha) * g1 * (h @ v).clamp_min(0), 0)
    )
    assert float(seen) == pytest.approx(math.cos(angle), abs=3e-3)


@pytest.mark.parametrize("metallic", [0.0, 1.0])
@pytest.mark.parametrize("roughness", [0.35, 0.6, 1.0])
@pytest.mark.parametrize("angle", ANGLES)
def test_white_reflects_all_light(angle, roughness, metallic):
    """The white furnace, by quadrature: what a white surface reflects under uniform light is that light.

    Narrower lobes than quadrature can follow are in `test_albedo_is_the_integral_of_the_coat`.
    """
    s = surface(angle=angle, roughness=roughness, metallic=metallic, color=(1.0, 1.0, 1.0))
    reflected = sphere_integral(lambda light: evaluated(s, light), 700)
    assert torch.allclose(reflected, torch.ones(3, dtype=DOUBLE), atol=7e-3)


def test_without_compensation_rough_metal_is_too_dark():
    s = surface(roughness=1.0, metallic=1.0, color=(1.0, 1.0, 1.0))
    reflected = sphere_integral(lambda light: Bsdf(s, compensate=False).eval(light[None])[0])
    assert 0.3 < float(reflected[0]) < 0.8


@pytest.mark.parametrize("roughness", ROUGHNESS)
def test_coat_is_reciprocal(roughness):
    """f(v, l) = f(l, v) without compensation, for a metal."""
    above = (torch.cat([d[:, :2], d[:, 2:].abs().clamp_min(0.02)], 1) for d in (directions(200, 1), directions(200, 2)))
    light, v = (torch.nn.functional.normalize(d, dim=1) for d in above)
    s = surface(200, roughness=roughness, metallic=1.0)
    there = Bsdf(Surface(**{**vars(s), "view": v}), compensate=False).eval(light) / light[:, 2:]
    back = Bsdf(Surface(**{**vars(s), "view": light}), compensate=False).eval(v) / v[:, 2:]
    assert torch.allclose(there, back, rtol=1e-9)


@pytest.mark.parametrize("metallic", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("roughness", [0.4, 0.6, 1.0])
@pytest.mark.parametrize("angle", [0.0, 0.9, 1.4])
def test_samples_follow_their_density(angle, roughness, metallic):
    s = surface(angle=angle, roughness=roughness, metallic=metallic)
    count = 60_000
    u = torch.rand(1, count, 3, generator=torch.Generator().manual_seed(5), dtype=DOUBLE)
    drawn = Bsdf(s).sample(u)[0]
    above = drawn[drawn[:, 2] > 0]
    p = sphere_chi_square(above, lambda d: Bsdf(s).pdf(d[None])[0], total=count)
    assert p > 1e-4
    wrong = sphere_chi_square(
        above, lambda d: Bsdf(surface(angle=angle, roughness=0.6 * roughness)).pdf(d[None])[0], total=count
    )
    assert wrong < 1e-4, "the test would not notice a wrong density"


@pytest.mark.parametrize("angle", [0.0, 0.9, 1.4])
def test_density_integrates_to_at_most_one(angle):
    """Exactly one without the directions below the horizon that visible normals reflect to."""
    s = surface(angle=angle, roughness=0.3)
    total = float(sphere_integral(lambda d: Bsdf(s).pdf(d[None])[0], 800))
    u = torch.rand(1, 50_000, 3, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    kept = float((Bsdf(s).sample(u)[0, :, 2] > 0).double().mean())
    assert total == pytest.approx(kept, abs=8e-3) and total <= 1.001


@pytest.mark.parametrize("roughness", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("angle", ANGLES)
def test_albedo_is_the_integral_of_the_coat(angle, roughness):
    s = surface(angle=angle, roughness=roughness, metallic=1.0)
    u = torch.rand(1, 200_000, 3, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
    bsdf = Bsdf(s)
    d = bsdf.sample(u)
    pdf = bsdf.pdf(d)
    estimate = torch.where((pdf > 0)[..., None], bsdf.eval(d) / pdf.clamp_min(1e-12)[..., None], 0.0).mean(1)[0]
    assert torch.allclose(estimate, bsdf.specular_albedo()[0], atol=6e-3)


def test_every_parameter_is_differentiated():
    s = surface(4, roughness=0.3, metallic=0.4)
    light = directions(4, 3)
    light = torch.cat([light[:, :2], light[:, 2:].abs() + 0.2], 1)

    def f(normal, view, color, roughness, metallic, light):
        unit = torch.nn.functional.normalize
        return Bsdf(Surface(s.position, unit(normal, dim=-1), unit(view, dim=-1), color, roughness, metallic)).eval(
            unit(light, dim=-1)
        )

    inputs = [s.normal, s.view, s.base_color, s.roughness, s.metallic, light]
    g = torch.Generator().manual_seed(0)
    inputs = [(t + 0.01 * torch.rand(t.shape, generator=g, dtype=DOUBLE)).clone().requires_grad_() for t in inputs]
    assert torch.autograd.gradcheck(f, inputs, eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("roughness", [0.0, 1.0])
@pytest.mark.parametrize("metallic", [0.0, 1.0])
@pytest.mark.parametrize("angle", [0.0, math.pi / 2, 1.7])
def test_extremes_are_finite_with_finite_gradients(angle, metallic, roughness):
    s = surface(3, angle=angle, roughness=roughness, metallic=metallic, color=(0.0, 1.0, 0.5), dtype=torch.float32)
    leaves = {k: v.clone().requires_grad_() for k, v in vars(s).items() if v is not None}
    light = torch.tensor([[0.0, 0, 1], [1, 0, 0], [-math.sin(angle), 0, math.cos(angle)]])
    value = Bsdf(Surface(**leaves)).eval(light)
    value.sum().backward()
    assert bool(value.isfinite().all()) and bool((value >= 0).all())
    assert all(t.grad is None or bool(t.grad.isfinite().all()) for t in leaves.values())


def test_frames_are_right_handed_everywhere():
    n = torch.cat([directions(500), torch.tensor([[0.0, 0, 1], [0, 0, -1], [1, 0, 0]], dtype=DOUBLE)])
    t, b = frame(n)
    matrix = torch.stack([t, b, n], -1)
    assert torch.allclose(matrix.mT @ matrix, torch.eye(3, dtype=DOUBLE).expand(503, 3, 3), atol=1e-12)
    assert torch.allclose(torch.linalg.det(matrix), torch.ones(503, dtype=DOUBLE))
    w = directions(503, 4)
    assert torch.allclose(to_world(to_local(w, n), n), w)
