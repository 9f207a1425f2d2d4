"""First points: from structure from motion when there are enough, else swept from photos alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from capture_files import SIZE, ring, write_picture, write_transforms
from PIL import Image

from relight.data import load
from relight.data.initialise import initial_points
from relight.errors import DataError
from relight.scene import Points, Scene
from relight.views import Views


def views_of(scene: Scene) -> Views:
    assert scene.views is not None
    return scene.views


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def flat(tmp_path: Path) -> Scene:
    write_transforms(tmp_path / "transforms.json", ring(5), {"fl_x": 40}, value=90)
    return load(tmp_path)


def ball_capture(folder: Path, count: int = 8, radius: float = 0.6) -> Scene:
    """A ball whose colour is its normal, on transparency: ray traced here."""
    poses = ring(count)
    file = write_transforms(folder / "transforms.json", poses, {"fl_x": 40, "cx": 24, "cy": 16})
    x, y = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    local = np.stack([(x - 24) / 40, (y - 16) / 40, np.ones_like(x)], -1)
    for i, pose in enumerate(poses):
        rays = local @ pose[:3, :3].T
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        origin = pose[:3, 3]
        along = rays @ origin
        inside = along**2 - (origin @ origin - radius**2)
        distance = -along - np.sqrt(np.maximum(inside, 0))
        normal = (origin + rays * distance[..., None]) / radius
        pixels = np.concatenate([0.5 + 0.5 * normal, (inside > 0)[..., None]], -1).clip(0, 1)
        Image.fromarray((pixels * 255 + 0.5).astype(np.uint8)).save(file.parent / f"images/{i:03d}.png")
    return load(folder, test_every=0)


def test_swept_points_are_as_many_as_asked_and_repeat_with_the_seed(flat: Scene) -> None:
    for count in (1, 3, 50):
        points = initial_points(flat, count, seeded())
        assert points.positions.shape == points.colors.shape == (count, 3)
    again = initial_points(flat, 50, seeded())
    assert torch.equal(points.positions, again.positions) and torch.equal(points.colors, again.colors)
    assert not torch.equal(points.positions, initial_points(flat, 50, seeded(1)).positions)


def test_swept_points_lie_in_the_frustum_of_a_training_camera(flat: Scene) -> None:
    points = initial_points(flat, 400, seeded())
    assert bool(torch.isfinite(points.positions).all())
    seen = torch.zeros(400, dtype=torch.bool)
    for view in views_of(flat).train:
        pixels, depth = view.camera.project(points.positions)
        limit = torch.tensor([view.camera.width, view.camera.height])
        seen |= (depth > 0) & ((pixels > -1e-2) & (pixels < limit + 1e-2)).all(-1)
    assert bool(seen.all())


def test_colours_are_those_of_the_photos(flat: Scene) -> None:
    colors = initial_points(flat, 100, seeded()).colors
    torch.testing.assert_close(colors, torch.full_like(colors, 90 / 255))


def test_a_ball_is_found(tmp_path: Path) -> None:
    points = initial_points(ball_capture(tmp_path), 300, seeded())
    radius = points.positions.norm(dim=1)
    # Depths at random would miss by about 0.5, the ball's centre by 0.6.
    assert float((radius - 0.6).abs().median()) < 0.12
    assert float((radius < 0.8).float().mean()) > 0.95
    surface = radius.sub(0.6).abs() < 0.06
    normal = points.positions[surface] / radius[surface, None]
    # The mean over views, some of which see the other side: not exact, but grey would miss by 0.25.
    assert float((points.colors[surface] - (0.5 + 0.5 * normal)).abs().median()) < 0.12


def test_no_ray_starts_where_the_mask_forbids(tmp_path: Path) -> None:
    write_transforms(tmp_path / "transforms.json", ring(4), {"fl_x": 40})
    for i in range(4):
        pixels = np.zeros((SIZE[1], SIZE[0]), np.uint8)
        pixels[:, :12] = 255
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"masks/{i:03d}.png")
    scene = load(tmp_path, masks="masks", masks_are_alpha=False, test_every=0)
    points = initial_points(scene, 200, seeded())
    started = torch.zeros(200, dtype=torch.bool)
    for view in views_of(scene):
        pixels, depth = view.camera.project(points.positions)
        started |= (depth > 0) & (pixels[:, 0] > -0.1) & (pixels[:, 0] < 12.1)
    assert bool(started.all())


def test_everything_masked(tmp_path: Path) -> None:
    write_transforms(tmp_path / "transforms.json", ring(3), {"fl_x": 40}, alpha=0)
    with pytest.raises(DataError, match=r"all training photos are transparent or masked out everywhere; correct data"):
        initial_points(load(tmp_path), 10, seeded())


def test_a_transparent_view_casts_no_rays_but_the_number_holds(tmp_path: Path) -> None:
    write_transforms(tmp_path / "transforms.json", ring(4), {"fl_x": 40}, alpha=255)
    write_picture(tmp_path / "images/001.png", alpha=0)
    assert len(initial_points(load(tmp_path), 31, seeded()).positions) == 31


def test_parallel_cameras_get_points_ahead(tmp_path: Path) -> None:
    """The middle camera stands on the frame's centre: no distance to measure depth by."""
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = -1, 0, 1
    write_transforms(tmp_path / "transforms.json", poses, {"fl_x": 40})
    points = initial_points(load(tmp_path, test_every=0), 90, seeded()).positions
    assert bool(torch.isfinite(points).all()) and float(points[:, 2].min()) > 0


# From structure from motion


def cloud(count: int) -> Points:
    positions = torch.randn(count, 3, generator=seeded(3))
    return Points(positions, (positions.abs() / 8).clamp(0, 1))


def test_sfm_points_are_used_and_thinned(flat: Scene) -> None:
    scene = replace(flat, points=cloud(500))
    assert scene.points is not None
    every = initial_points(scene, 1000, seeded())
    assert torch.equal(every.positions, scene.points.positions)
    some = initial_points(scene, 120, seeded())
    assert len(some.positions) == 120 == len(some.positions.unique(dim=0))
    index = (some.positions[:, None] == scene.points.positions).all(-1).float().argmax(1)
    assert torch.equal(some.positions, scene.points.positions[index])
    assert torch.equal(some.colors, scene.points.colors[index])


def test_sfm_outliers_are_dropped(flat: Scene) -> None:
    points = cloud(300)
    points.positions[7] = torch.tensor([1e4, 0, 0])
    kept = initial_points(replace(flat, points=points), 1000, seeded())
    assert len(kept.positions) == 299 and float(kept.positions.norm(dim=1).max()) < 100


def test_a_handful_of_sfm_points_is_not_enough(flat: Scene) -> None:
    assert len(initial_points(replace(flat, points=cloud(20)), 150, seeded()).positions) == 150
