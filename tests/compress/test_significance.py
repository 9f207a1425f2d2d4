"""What Gaussians count for, by fast ways and slow ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_splats import ball

from relight.compress import significance as s
from relight.compress.cameras import around, surroundings
from relight.render.protocol import RasterOptions
from relight.render.splats import create_rasterizer
from relight.render.trajectory import subject

OPTIONS = RasterOptions()


@pytest.fixture(scope="module")
def scene():
    splat = ball(60)
    return create_rasterizer(), splat, around(splat, 3, size=32)


def test_weights_are_what_taking_out_one_after_the_other_finds(scene):
    rasterizer, splat, cameras = scene
    found = s.weights(rasterizer, splat, cameras, OPTIONS)
    torch.testing.assert_close(
        found, s.weights_by_taking_out(rasterizer, splat, cameras, OPTIONS), rtol=1e-3, atol=1e-4
    )
    assert float(found.max()) > 10 * float(found.min())


def test_sensitivity_estimates_what_leaving_out_changes(scene):
    rasterizer, splat, cameras = scene
    exact = s.sensitivity_by_leaving_out(rasterizer, splat, cameras, OPTIONS)
    draws = [s.sensitivity(rasterizer, splat, cameras, OPTIONS, seed=i) for i in range(48)]
    found = torch.stack([gone for gone, _ in draws]).mean(0)
    assert float(found.sum() / exact.sum()) == pytest.approx(1, abs=0.15)
    assert float(torch.corrcoef(torch.stack([found, exact]))[0, 1]) > 0.95
    # By its colour a pixel changes by the weight, whose square is smaller.
    recolored = torch.stack([color for _, color in draws]).mean(0)
    weight = s.weights(rasterizer, splat, cameras, OPTIONS)
    assert bool((recolored < 1.2 * weight + 1e-3).all())
    assert float(torch.corrcoef(torch.stack([recolored, weight]))[0, 1]) > 0.9


def test_what_nothing_sees_counts_for_nothing_and_volume_weighs_in(scene):
    rasterizer, splat, cameras = scene
    hidden = replace(splat, logit_opacity=splat.logit_opacity.clone())
    hidden.logit_opacity[7] = -20.0
    plain = s.significance(rasterizer, hidden, cameras, OPTIONS, volume_power=0)
    assert float(plain[7]) == 0 and torch.equal(plain, s.weights(rasterizer, hidden, cameras, OPTIONS))
    weighed = s.significance(rasterizer, hidden, cameras, OPTIONS, volume_power=1) / plain.clamp_min(1e-9)
    volume = hidden.scales.prod(1)
    seen = plain > 0
    torch.testing.assert_close(weighed[seen], (volume / volume.double().quantile(0.9)).clamp(0, 1)[seen].float())


def test_cameras_stand_around_an_object_and_within_a_place():
    splat = ball(400)
    center, radius = subject(splat)
    cameras = around(splat, 12, size=16)
    assert all((c.position - center).norm() > 1.4 * radius for c in cameras)
    far = ball(1200)
    far = replace(far, means=far.means * torch.where(torch.arange(1200) % 3 == 0, 1.0, 12.0)[:, None])
    place = replace(far, means=torch.cat([splat.means.repeat(3, 1)[:800], far.means[:400] * 12]))
    center, radius = subject(place)
    assert surroundings(place, center, radius) > 0.1
    assert any((c.position - center).norm() < radius for c in around(place, 24, size=16))
    again = around(place, 24, size=16)
    assert torch.equal(again[5].world_from_camera, around(place, 24, size=16)[5].world_from_camera)
    assert not torch.equal(again[5].world_from_camera, around(place, 24, size=16, seed=1)[5].world_from_camera)
