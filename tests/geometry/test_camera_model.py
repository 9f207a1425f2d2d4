"""Cameras: conventions, resizing, lens distortion."""

import itertools
import math

import cv2
import numpy as np
import pytest
import torch

from relight.geometry.camera import Camera, Distortion, evenly
from relight.geometry.transforms import rigid_from_twist


def camera() -> Camera:
    pose = rigid_from_twist(torch.tensor([0.3, -0.2, 0.5, 0.4, 0.1, -0.2], dtype=torch.float64))
    return Camera(pose, 50.0, 48.0, 20.5, 14.0, 40, 30)


def test_axes_are_opencv_and_pixel_centres_are_halves():
    straight = Camera(torch.eye(4), 10.0, 10.0, 4.0, 3.0, 8, 6)
    pixel, depth = straight.project(torch.tensor([0.1, 0.2, 2.0]))
    assert depth == 2 and torch.allclose(pixel, torch.tensor([4.5, 4.0]))  # right of and below the centre
    assert straight.pixel_grid()[0, 0].tolist() == [0.5, 0.5]


def test_unproject_is_the_inverse_of_project():
    depth = torch.rand(30, 40, dtype=torch.float64) + 1
    pixels, z = camera().project(camera().unproject(depth))
    assert torch.allclose(z, depth) and torch.allclose(pixels, camera().pixel_grid().double())


def test_normals_of_a_plane_and_of_a_sphere():
    c = camera()
    rays = c.ray_directions()
    forward = c.world_from_camera[:3, 2]
    facing = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.2], dtype=torch.float64) - forward, dim=0)
    distance = ((c.position + 4 * forward) - c.position) @ facing / (rays @ facing)
    found = c.normals(distance * (rays @ forward))
    inner = (slice(1, -1), slice(1, -1))
    assert torch.allclose(found[inner], facing.expand_as(found)[inner], atol=1e-6)  # towards the camera
    assert (found[0] == 0).all() and (found[:, -1] == 0).all()
    # |o + t r - m| = 1 about a point ahead.
    b = 4 * (rays @ forward)
    t = b - (b * b - 15).clamp_min(0).sqrt()
    hit = b * b > 15.2
    found = c.normals(t * (rays @ forward))
    outward = t[..., None] * rays - 4 * forward
    assert hit[inner].sum() > 100
    assert (found * outward).sum(-1)[inner][hit[inner]].min() > 0.99


def test_rays_are_unit_and_go_through_the_pixels():
    c = camera()
    rays = c.ray_directions()
    assert torch.allclose(rays.norm(dim=-1), torch.ones(30, 40).double())
    pixels, _ = c.project(c.position + 3 * rays)
    assert torch.allclose(pixels, c.pixel_grid().double(), atol=1e-5)


def test_resizing_scales_pixels():
    points = camera().unproject(torch.full((30, 40), 2.0, dtype=torch.float64))
    small = camera().resized(20, 15)
    assert (small.width, small.height) == (20, 15)
    assert torch.allclose(small.project(points)[0], camera().project(points)[0] / 2)


@pytest.mark.parametrize(
    "lens",
    [
        Distortion("radial-tangential", (0.1, -0.05, 0.01, -0.02, 0.03, 0.02, 0.01, -0.01)),
        Distortion("fisheye", (0.05, -0.02, 0.01, 0.003)),
    ],
    ids=lambda lens: lens.model,
)
def test_distortion_is_opencvs(lens):
    xy = torch.rand(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5
    points = np.concatenate([xy.numpy(), np.ones((50, 1))], 1)[None]
    zero, eye, params = np.zeros(3), np.eye(3), np.array(lens.params)
    if lens.model == "fisheye":
        expected, _ = cv2.fisheye.projectPoints(points, zero, zero, eye, params)
    else:
        expected, _ = cv2.projectPoints(points, zero, zero, eye, params)
    assert np.allclose(lens.apply(xy).numpy(), expected.reshape(-1, 2), atol=1e-9)


def test_position_is_where_the_camera_is():
    pose = camera().world_from_camera
    assert torch.equal(camera().position, pose[:3, 3])
    assert torch.allclose(camera().camera_from_world @ pose, torch.eye(4).double(), atol=1e-12)
    assert math.isclose(float(torch.linalg.det(pose[:3, :3])), 1, abs_tol=1e-9)


def test_some_of_many_cameras_are_chosen_evenly():
    assert evenly(5, 8) == [0, 1, 2, 3, 4] and evenly(0, 3) == []
    assert evenly(9, 3) == [0, 4, 8] and evenly(9, 1) == [0]
    for count, most in ((80, 32), (31, 24), (47, 24), (1000, 7)):
        chosen = evenly(count, most)
        steps = {b - a for a, b in itertools.pairwise(chosen)}
        assert len(chosen) == most and (chosen[0], chosen[-1]) == (0, count - 1)
        assert max(steps) - min(steps) <= 1 and min(steps) > 0
