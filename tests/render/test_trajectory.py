"""Camera paths: what a film of a capture must never do is show the ceiling, jump, or look away."""

import itertools
import math

import pytest
import torch

from relight.errors import RelightError
from relight.geometry.camera import Camera
from relight.geometry.transforms import look_at, rotation_from_quaternion
from relight.render import trajectory

CENTER = torch.tensor([1.0, -2.0, 0.5])


def ring(azimuths, elevation=0.4, distance=3.0, tilt=(0.0, 0.0, 1.0)) -> list[Camera]:
    """Cameras at degrees `azimuths` round CENTER, axis +z rotated onto `tilt`, with 40x30 px."""
    up = torch.nn.functional.normalize(torch.tensor(tilt), dim=0)
    lens = Camera(torch.eye(4), 35.0, 34.0, 19.0, 15.5, 40, 30)
    angles = torch.tensor([math.radians(a) for a in azimuths])
    return trajectory.turntable(CENTER, up, distance, elevation, angles, lens, torch.tensor([1.0, 0.2, 0.1]))


def eyes(cameras) -> torch.Tensor:
    return torch.stack([c.position for c in cameras])


def assert_valid(cameras, frames):
    assert len(cameras) == frames
    for c in cameras:
        r = c.world_from_camera[:3, :3]
        torch.testing.assert_close(r @ r.mT, torch.eye(3), atol=1e-5, rtol=0)
        assert float(torch.linalg.det(r)) > 0.99


@pytest.mark.parametrize("tilt", [(0.0, 0.0, 1.0), (0.3, -1.0, 0.2)])
@pytest.mark.parametrize("given_up", [True, False])
def test_orbit_repeats_the_captures_circle(tilt, given_up):
    capture = ring(range(0, 360, 20), elevation=0.5, tilt=tilt)
    up = torch.nn.functional.normalize(torch.tensor(tilt), dim=0)
    film = trajectory.orbit(capture, CENTER, 7 * up if given_up else None, frames=36)
    assert_valid(film, 36)
    offsets = eyes(film) - CENTER
    torch.testing.assert_close(offsets.norm(dim=1), torch.full((36,), 3.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(offsets @ up, torch.full((36,), 3 * math.sin(0.5)), atol=1e-3, rtol=0)
    torch.testing.assert_close(film[0].position, capture[0].position, atol=1e-3, rtol=0)
    for camera in film:  # looks at the centre, upright
        pixel, depth = camera.project(CENTER)
        torch.testing.assert_close(pixel, torch.tensor([20.0, 15.0]), atol=1e-3, rtol=0)
        assert depth > 0
        assert float(-camera.world_from_camera[:3, 1] @ up) > 0.8
    step = torch.diff(torch.cat([eyes(film), eyes(film[:1])]), dim=0).norm(dim=1)
    assert float(step.max() / step.min()) < 1.01, "constant speed, closed"


@pytest.mark.parametrize(
    "azimuths", [range(-60, 61, 10), range(150, 271, 10), [170, 180, 190, 200], range(300, 421, 20)]
)
def test_orbit_stays_where_the_photographs_are(azimuths):
    capture = ring(azimuths)
    film = trajectory.orbit(capture, CENTER, frames=60)
    nearest = torch.cdist(eyes(film), eyes(capture)).min(1).values
    spacing = torch.cdist(eyes(capture)[:1], eyes(capture)[1:2]).item()
    assert float(nearest.max()) < 0.6 * spacing + 0.05
    reach = torch.cdist(eyes(film), eyes(film)).max() / torch.cdist(eyes(capture), eyes(capture)).max()
    assert float(reach) > 0.98, "uses the whole arc"
    torch.testing.assert_close(film[0].position, capture[0].position, atol=0.1, rtol=0)
    assert float((film[-1].position - film[0].position).norm()) < 0.1 * float(reach) * 3, "loops"


def test_orbit_of_one_camera_swings_a_little():
    film = trajectory.orbit(ring([30]), CENTER, frames=20)
    assert_valid(film, 20)
    assert 0.2 < float(torch.cdist(eyes(film), eyes(film)).max()) < 1.5


def test_orbit_from_straight_above():
    up = torch.tensor([0.0, 0.0, 1.0])
    lens = ring([0])[0]
    film = trajectory.turntable(CENTER, up, 2.0, math.pi / 2, torch.arange(4.0), lens, up)
    assert_valid(film, 4)


def test_spline_passes_its_keyframes_at_constant_speed():
    capture = ring(range(0, 360, 30))
    film = trajectory.spline(capture, frames=240)
    assert_valid(film, 240)
    assert float(torch.cdist(eyes(capture), eyes(film)).min(1).values.max()) < 0.03
    steps = torch.diff(torch.cat([eyes(film), eyes(film[:1])]), dim=0).norm(dim=1)
    assert float(steps.max() / steps.min()) < 1.1
    for camera in film:
        assert float((camera.project(CENTER)[0] - torch.tensor([20.0, 15.0])).norm()) < 1.5


def test_spline_untangles_random_order_and_keeps_a_sensible_one():
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(36, generator=generator).tolist()
    ordered = ring(range(0, 360, 10))
    film = trajectory.spline([ordered[i] for i in order], frames=100, keyframes=36)
    length = torch.diff(eyes(film), dim=0).norm(dim=1).sum()
    circle = 2 * math.pi * 3.0 * math.cos(0.4)
    assert float(length) < 1.3 * circle


def test_spline_returns_along_an_open_path_without_a_jump():
    lens = ring([0])[0]
    line = [torch.tensor([0.2 * i, 0.0, 0.0]) for i in range(12)]
    ahead, up = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    capture = [Camera(look_at(p, p + ahead, up), lens.fx, lens.fy, 20, 15, 40, 30) for p in line]
    film = trajectory.spline(capture, frames=80)
    steps = torch.diff(torch.cat([eyes(film), eyes(film[:1])]), dim=0).norm(dim=1)
    assert float(steps.max()) < 0.1
    assert float(eyes(film)[:, 1:].abs().max()) < 1e-4, "never leaves the line"


def test_spline_survives_quaternion_signs():
    """Cameras rolling through a whole turn: q runs to -q, and no frame may flip."""
    eye = torch.zeros(3)
    capture = []
    for i in range(16):
        half = math.pi * i / 16
        pose = torch.eye(4)
        pose[:3, :3] = rotation_from_quaternion(torch.tensor([math.cos(half), 0.0, 0.0, math.sin(half)]))
        pose[:3, 3] = eye
        capture.append(Camera(pose, 30, 30, 20, 15, 40, 30))
    film = trajectory.spline(capture, frames=64)
    assert_valid(film, 64)
    turns = [(a.world_from_camera[:3, :3].mT @ b.world_from_camera[:3, :3]) for a, b in itertools.pairwise(film)]
    angles = [math.acos(max(-1, min(1, (float(t.trace()) - 1) / 2))) for t in turns]
    assert max(angles) < 0.15 and min(angles) > 0.05


def test_spiral_stays_in_front_and_looks_at_one_point():
    generator = torch.Generator().manual_seed(1)
    lens = ring([0])[0]
    up = torch.tensor([0.0, 0.0, 1.0])
    capture = []
    for _ in range(20):
        p = torch.tensor([1.0, 0.05, 0.4]) * (2 * torch.rand(3, generator=generator) - 1)
        capture.append(Camera(look_at(p, p + torch.tensor([0.0, 1.0, 0.0]), up), lens.fx, lens.fy, 20, 15, 40, 30))
    film = trajectory.spiral(capture, torch.tensor([0.0, 5.0, 0.0]), frames=50)
    assert_valid(film, 50)
    middle = eyes(capture).mean(0)
    reach = (eyes(capture) - middle).abs().max(0).values
    assert bool(((eyes(film) - middle).abs() <= reach + 1e-4).all()), "no further than the cameras went"
    assert bool(((eyes(film) - middle).abs().max(0).values > 0.5 * reach).all())
    target = eyes(capture).mean(0) + torch.tensor([0.0, 5.0, 0.0])
    for camera in film:
        assert float((camera.project(target)[0] - torch.tensor([20.0, 15.0])).norm()) < 1.0
    with pytest.raises(RelightError, match="orbit"):
        trajectory.spiral(ring(range(0, 360, 10), elevation=0.0), CENTER, frames=5)


def test_lens_is_the_captures_and_centred():
    lens = trajectory.mean_lens(ring([0, 10, 20]))
    assert (lens.width, lens.height, lens.cx, lens.cy) == (40, 30, 20, 15)
    assert math.isclose(lens.fx, 35, rel_tol=1e-6) and math.isclose(lens.fy, 34, rel_tol=1e-6)


@pytest.mark.parametrize(("width", "height"), [(80, 60), (100, 60), (20, 60), (7, 7)])
def test_with_size_keeps_everything_in_view_and_does_not_stretch(width, height):
    camera = ring([0])[0]
    bigger = trajectory.with_size(camera, width, height)
    assert (bigger.width, bigger.height) == (width, height)
    assert math.isclose(bigger.fx / bigger.fy, camera.fx / camera.fy, rel_tol=1e-9)
    corners = torch.tensor([[0.0, 0.0], [40.0, 30.0]])
    world = camera.local_rays(corners) @ camera.world_from_camera[:3, :3].mT + camera.position
    seen = bigger.project(world)[0]
    assert bool((seen >= -1e-3).all()) and bool((seen <= torch.tensor([width, height]) + 1e-3).all())


def test_errors():
    with pytest.raises(RelightError, match="at least one camera"):
        trajectory.orbit([], CENTER, frames=5)
    with pytest.raises(RelightError, match="at least one frame"):
        trajectory.spline(ring([0]), frames=0)
    with pytest.raises(RelightError, match="at the centre"):
        trajectory.orbit(ring([0]), eyes(ring([0]))[0], frames=1)
