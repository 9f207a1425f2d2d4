"""Photographs on panoramas: exact geometry, there and back, and pairs for training that agree with real photographs."""

from __future__ import annotations

import math

import pytest
import torch

from relight.diffusion.own.procedural.draw import Draw
from relight.diffusion.own.procedural.environments import environment
from relight.diffusion.own.procedural.pano_views import FOV, PITCH, drawn_frames, pairs, panoramas
from relight.diffusion.surroundings.framing import CONDITION, Frame, condition, map_directions, photographed, warped
from relight.errors import RelightError, ShapeError
from relight.shading.color import linear_to_srgb, luminance
from relight.shading.encoding import decode


def test_axes_are_where_they_are_said_to_be():
    """A photograph's middle is the map's; its right is the map's right; up is up; rolled clockwise, up moves right."""
    ahead, right, up = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.9, 0.0, 0.3]]), torch.tensor([[0.9, 0.3, 0.0]])
    level = Frame.of(90)
    assert torch.allclose(level.place(ahead[None])[0][0, 0, 0], torch.zeros(2), atol=1e-6)
    assert torch.allclose(level.place(right[None])[0][0, 0, 0], torch.tensor([1 / 3, 0.0]), atol=1e-5)
    assert torch.allclose(level.place(up[None])[0][0, 0, 0], torch.tensor([0.0, -1 / 3]), atol=1e-5)
    assert not bool(level.place(-ahead[None])[1].any())
    # Pitched up, what is ahead sinks; rolled clockwise, what is above goes to the left in the picture.
    assert float(Frame.of(90, pitch=10).place(ahead[None])[0][0, 0, 0, 1]) == pytest.approx(math.tan(math.radians(10)))
    assert float(Frame.of(90, roll=20).place(up[None])[0][0, 0, 0, 0]) < -0.05
    # Twice as wide as high: the same place is twice as far up.
    assert float(Frame.of(90, aspect=2.0).place(up[None])[0][0, 0, 0, 1]) == pytest.approx(-2 / 3, rel=1e-5)


def test_rays_and_places_are_inverse():
    frame = drawn_frames(Draw(torch.Generator().manual_seed(0)), 6)
    rays = frame.rays(5, 7)
    y, x = torch.meshgrid((torch.arange(5) + 0.5) * 0.4 - 1, (torch.arange(7) + 0.5) * 2 / 7 - 1, indexing="ij")
    for k in range(6):
        where, inside = frame.place(rays[k])
        assert torch.allclose(where[k], torch.stack([x, y], -1), atol=1e-5) and bool(inside[k].all())
    assert torch.allclose(frame.env_from_camera @ frame.env_from_camera.mT, torch.eye(3).expand(6, 3, 3), atol=1e-6)
    assert torch.allclose(torch.linalg.det(frame.env_from_camera), torch.ones(6), atol=1e-6)


def smooth(rows: int) -> torch.Tensor:
    d = map_directions(rows)
    return torch.stack([1 + d[..., 0], 1.5 + d[..., 1] * d[..., 2], 1 + d[..., 2] ** 2], -1)


@pytest.mark.parametrize(("fov", "aspect", "pitch", "roll"), [(60, 1.5, 0, 0), (95, 0.7, 25, -4), (40, 1.0, -30, 3)])
def test_a_photograph_laid_back_gives_the_map(fov, aspect, pitch, roll):
    frame = Frame.of(fov, aspect, pitch, roll)
    picture = photographed(smooth(128), frame, round(160 / aspect), 160)
    found, seen = warped(picture, frame, 32)
    whole = seen[0] > 0.99
    assert torch.allclose(found[0][whole], smooth(32)[whole], atol=0.01)
    assert float(found[0][seen[0] == 0].abs().max()) == 0
    # The share that is seen covers the photograph's solid angle.
    theta = torch.linspace(0, math.pi, 33)
    solid = (theta[:-1].cos() - theta[1:].cos())[:, None] * math.pi / 32
    x, y = math.tan(math.radians(fov) / 2), math.tan(math.radians(fov) / 2) / aspect
    expected = 4 * math.atan(x * y / math.sqrt(1 + x * x + y * y))
    assert float((seen[0] * solid).sum()) == pytest.approx(expected, rel=0.02)


def test_the_mean_of_fine_detail_is_kept():
    """Stripes finer than the map's pixels become grey, not stripes of another width."""
    picture = torch.zeros(1, 400, 400, 1)
    picture[:, :, ::2] = 1
    found, seen = warped(picture, Frame.of(60), 16)
    assert float((found[..., 0][seen > 0.99] - 0.5).abs().max()) < 0.03


def test_pairs_agree_with_photographs_that_are_taken_and_laid_back():
    radiance = environment(torch.Generator().manual_seed(5), rows=128)
    frame = Frame.of(70, 1.3, 8, 2)
    target, maps = pairs(radiance[None], torch.Generator().manual_seed(1), frames=frame)
    assert target.shape == (1, 6, 32, 64) and maps.shape == (1, len(CONDITION), 32, 64)
    light = decode(*((target[0] + 1) / 2).permute(1, 2, 0).split(3, -1))
    seen = maps[0, 3]
    # Where nothing is clipped, what the photograph says is what is there.
    unclipped = (seen == 1) & (light.amax(-1) < 0.8)
    scale = luminance(light).median()
    shown = (maps[0, :3].permute(1, 2, 0) + 1) / 2
    assert float((shown[unclipped] - linear_to_srgb(light[unclipped])).abs().mean()) < 0.02
    # The real way, from the map turned and mirrored as the pair was: the target tells how.
    light = light / luminance(light).median()
    radiance = radiance / luminance(radiance).median()
    candidates = [m.roll(k, 1) for m in (radiance, radiance.flip(1)) for k in range(256)]
    turned = min(candidates, key=lambda m: float((m[2::4, 2::4].log1p() - light.log1p()).abs().mean()))
    photo = photographed(turned * scale, frame, 96, 125).clamp(0, 1)
    real = condition(*warped(photo, frame, 32))
    both = (seen == 1) & (real[0, 3] > 0.99)
    assert float((real[0, :3] - maps[0, :3])[:, both].abs().mean()) < 0.06
    assert float((real[0, 3] - seen).abs().mean()) < 0.01
    assert torch.allclose(real[0, 4], maps[0, 4])


def test_pairs_are_seeded_in_range_and_tell_nothing_outside():
    pool = torch.stack([environment(torch.Generator().manual_seed(s), rows=64) for s in range(8)])
    one, two = (pairs(pool, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    target, maps = one
    assert float(target.min()) >= -1 and float(target.max()) <= 1 and bool(torch.isfinite(target).all())
    outside = (maps[:, 3:4] == 0).expand(-1, 3, -1, -1)
    assert float(maps[:, :3][outside].abs().max()) == 0
    assert set(maps[:, 3].unique().tolist()) <= {0.0, 0.25, 0.5, 0.75, 1.0}
    assert 0.02 < float(maps[:, 3].mean()) < 0.35


def test_batches_weigh_solid_angles_and_sometimes_tell_nothing():
    pool = torch.stack([environment(torch.Generator().manual_seed(s), rows=32) for s in range(3)])
    batch = panoramas(pool, left=0.5)(40, torch.Generator().manual_seed(0))
    assert batch.picture.shape == (40, 6, 32, 64) and batch.maps.shape == (40, 5, 32, 64)
    untold = (batch.maps == 0).flatten(1).all(1)
    assert 10 < int(untold.sum()) < 30
    theta = torch.linspace(0, math.pi, 33)
    solid = (theta[:-1].cos() - theta[1:].cos()) / (math.pi / 32)
    assert torch.allclose(batch.weight[0, 0, :, 0] * 2 / math.pi, solid, atol=0.005)
    assert batch.weight.shape == (40, 1, 32, 64) and bool((batch.words == -1).all())


def test_frames_keep_their_ranges_and_pictures_their_shapes():
    frames = drawn_frames(Draw(torch.Generator().manual_seed(0)), 500)
    degrees = torch.rad2deg(frames.fov)
    assert FOV[0] <= float(degrees.min()) < FOV[0] + 3 and FOV[1] - 3 < float(degrees.max()) <= FOV[1]
    assert float(torch.rad2deg(frames.pitch).abs().max()) <= PITCH
    with pytest.raises(RelightError, match="180 degrees, found 190"):
        Frame.of(190)
    with pytest.raises(ShapeError, match="multiple of 32"):
        pairs(torch.ones(1, 40, 80, 3), torch.Generator())
