"""Shading normals that mirror the eye into the surface."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from shading_cases import DOUBLE, surface

from relight.shading.environment import Environment
from relight.shading.shade import MonteCarlo, SplitSum, shade
from relight.shading.surface import Surface, dot, leant, reflect

FACE = torch.tensor([0.0, 0.0, 1.0], dtype=DOUBLE)


def at(angle: float, turn: float = 0.0) -> torch.Tensor:
    """Unit, `angle` from the face's normal."""
    s = math.sin(angle)
    return torch.tensor([s * math.cos(turn), s * math.sin(turn), math.cos(angle)], dtype=DOUBLE)


def everywhere(n: int = 4000) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Normals and views above the face, and the face."""
    d = torch.randn(2, n, 3, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    d[..., 2] = d[..., 2].abs() + 1e-3
    normal, view = torch.nn.functional.normalize(d, dim=-1)
    return normal, FACE.expand(n, 3), view


def test_the_mirrored_eye_lies_above_the_face():
    normal, face, view = everywhere()
    before, bent = dot(reflect(view, normal), face), leant(normal, face, view)
    assert 0.2 < float((before < 0).double().mean()) < 0.8
    lowest = (dot(view, face) / 2).clamp_max(0.02)
    assert (dot(reflect(view, bent), face) > lowest - 1e-6).all()
    assert torch.allclose(bent.norm(dim=-1), torch.ones(len(bent), dtype=DOUBLE))
    same = before >= lowest
    assert torch.equal(bent[same], normal[same])
    # No farther than needed, in the plane of the two normals, and on the mapped normal's side.
    assert torch.allclose(dot(reflect(view, bent), face)[~same], lowest[~same], atol=1e-6)
    assert dot(torch.linalg.cross(bent, face), normal).abs().max() < 1e-9
    assert (torch.linalg.cross(face, bent) * torch.linalg.cross(face, normal)).sum(-1).min() > -1e-9


def test_it_begins_without_a_jump():
    view = at(0.7, 0.3)
    angles = torch.linspace(0, 1.5, 3001, dtype=DOUBLE)
    normals = torch.stack([angles.sin(), 0 * angles, angles.cos()], -1)
    bent = leant(normals, FACE.expand_as(normals), view.expand_as(normals))
    assert (bent[1:] - bent[:-1]).norm(dim=-1).max() < 1e-3
    assert not torch.allclose(bent[-1], normals[-1], atol=0.1)


def test_corner_cases_stay_finite_and_unit():
    normals = torch.stack([FACE, -FACE, at(1.57), at(0.3), at(1.2, math.pi)]).requires_grad_()
    for view in (FACE, at(1.5707), -FACE, at(2.0)):
        bent = leant(normals, FACE.expand_as(normals), view.expand_as(normals))
        assert torch.allclose(bent.norm(dim=-1), torch.ones(5, dtype=DOUBLE))
        (gradient,) = torch.autograd.grad(bent.sum(), normals)
        assert gradient.isfinite().all()
    behind = leant(normals, FACE.expand_as(normals), (-FACE).expand_as(normals))
    assert torch.equal(behind, normals)


def test_gradients():
    normal = torch.stack([at(0.2), at(0.9), at(1.1, 2.0)]).requires_grad_()
    view = torch.stack([at(0.5, 0.4), at(0.8, 1.0), at(0.9, 2.2)]).requires_grad_()
    face = FACE.expand(3, 3)

    def unit(t: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(t, dim=-1)

    assert torch.autograd.gradcheck(lambda n, v: leant(unit(n), face, unit(v)), (normal, view))


@pytest.mark.parametrize("estimator", [MonteCarlo(256), SplitSum()])
def test_a_tilted_metal_has_no_black_rim(estimator):
    """Under uniform light a smooth white metal is as bright as the light, whatever its map says."""
    light = Environment(torch.ones(8, 16, 3, dtype=DOUBLE), torch.eye(3, dtype=DOUBLE))
    points = surface(8, angle=0.9, roughness=0.05, metallic=1.0, color=(1.0, 1.0, 1.0))
    tilts = torch.linspace(-1.4, 1.4, 8, dtype=DOUBLE)
    tilted = replace(
        points, normal=torch.stack([tilts.sin(), 0 * tilts, tilts.cos()], -1), geometric_normal=points.normal
    )
    found = shade(tilted, light, estimator)
    assert torch.allclose(found, torch.ones(8, 3, dtype=DOUBLE), atol=0.03)
    direct = estimator(Surface(**vars(tilted)), [light], None, 0)
    if isinstance(estimator, MonteCarlo):
        assert float(direct.min()) < 0.1
