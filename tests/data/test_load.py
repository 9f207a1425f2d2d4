"""`load` and what all readers share: which format, masks, splits, sizes; the scene's frame."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from capture_files import SIZE, ColmapModel, ring, write_picture, write_transforms
from PIL import Image

from relight.data import READERS, detect, load
from relight.data.frame import estimate_frame, look_at_point
from relight.errors import DataError
from relight.geometry.camera import Camera
from relight.scene import Points
from relight.views import View, Views


def views_at(poses: np.ndarray) -> Views:
    return Views(
        tuple(
            View(str(i), Path(f"{i}.png"), Camera(torch.tensor(p, dtype=torch.float32), 40.0, 40.0, 24.0, 16.0, *SIZE))
            for i, p in enumerate(poses)
        )
    )


# Which format


def test_transforms_are_preferred_to_colmap(tmp_path: Path) -> None:
    ColmapModel.ring(3).write(tmp_path, binary=True)
    write_transforms(tmp_path / "transforms.json", ring(2), {"fl_x": 40})
    assert detect(tmp_path) == "transforms"
    views = load(tmp_path, format="colmap").views
    assert views is not None and len(views) == 3


def test_no_such_folder(tmp_path: Path) -> None:
    assert detect(tmp_path / "gone") is None
    with pytest.raises(DataError, match=r"gone: no such file or folder; correct data\.path"):
        load(tmp_path / "gone")


def test_empty_folder_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=rf"{tmp_path.name}: not a capture .*COLMAP.*transforms\.json.*poses_bounds\.npy"
    ):
        load(tmp_path)


def test_file_that_is_no_capture(tmp_path: Path) -> None:
    (tmp_path / "scene.txt").write_text("hello")
    with pytest.raises(DataError, match=r"scene\.txt: not a capture that is recognised; expected one of"):
        load(tmp_path / "scene.txt")


@pytest.mark.parametrize("folder", [".", "images"])
def test_plain_photos_need_cameras(tmp_path: Path, folder: str) -> None:
    write_picture(tmp_path / folder / "a.jpg")
    with pytest.raises(DataError, match=rf"photos without cameras; `relight new --sfm {tmp_path}` solves them"):
        load(tmp_path)


def test_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.format: 'metashape' is not known; expected auto, transforms, colmap"):
        load(tmp_path, format="metashape")


@pytest.mark.parametrize("format", READERS)
def test_format_that_is_not_there(tmp_path: Path, format: str) -> None:
    with pytest.raises(DataError, match=tmp_path.name):
        load(tmp_path, format=format)


# Splits and sizes


@pytest.mark.parametrize(("every", "tests"), [(8, [0, 8]), (3, [0, 3, 6, 9]), (0, [])])
def test_split_by_name(tmp_path: Path, every: int, tests: list[int]) -> None:
    views = load(ColmapModel.ring(10).write(tmp_path, binary=True), test_every=every).views
    assert views is not None
    assert [i for i, v in enumerate(views) if v.split == "test"] == tests
    assert [v.name for v in views] == sorted(v.name for v in views)
    assert len(views.train) == 10 - len(tests) and len(views.test) == len(tests)


def test_max_size(tmp_path: Path) -> None:
    views = load(ColmapModel.ring(3).write(tmp_path, binary=True), max_size=24).views
    assert views is not None
    assert views.photo(0).rgb.shape == (16, 24, 3)
    assert (views.camera(0).width, views.camera(0).height, views.camera(0).fx) == (24, 16, 20)


# Masks


def halves(path: Path, left: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((SIZE[1], SIZE[0]), 255 - left, np.uint8)
    pixels[:, : SIZE[0] // 2] = left
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("name", ["{stem}.png", "{name}.png", "{name}", "{stem}_mask.png"])
def test_masks_by_their_common_names(tmp_path: Path, name: str) -> None:
    model = ColmapModel.ring(3)
    model.names = [f"{i}.webp" for i in range(3)]
    model.write(tmp_path, binary=True)
    for picture in model.names:
        halves(tmp_path / "masks" / name.format(stem=picture[0], name=picture), left=255)
    views = load(tmp_path, masks="masks").views
    assert views is not None
    photo = views.photo(1)
    assert photo.alpha is not None and photo.mask is None
    assert photo.alpha[3].tolist() == [1.0] * 24 + [0.0] * 24


def test_masks_in_subfolders_are_not_mixed_up(tmp_path: Path) -> None:
    model = ColmapModel.ring(2)
    model.names = ["left/0.png", "right/0.png"]
    model.write(tmp_path, binary=True)
    halves(tmp_path / "masks/left/0.png.png", left=255)
    halves(tmp_path / "masks/right/0.png.png", left=0)
    views = load(tmp_path, masks="masks", masks_are_alpha=False, test_every=0).views
    assert views is not None
    left, right = views.photo(0).mask, views.photo(1).mask
    assert left is not None and right is not None
    assert bool(left[0, 0]) and not bool(left[0, -1]) and not bool(right[0, 0]) and bool(right[0, -1])


def test_a_picture_is_never_its_own_mask(tmp_path: Path) -> None:
    frames = [{"file_path": f"../{tmp_path.name}/images/{i}.png"} for i in range(2)]
    write_transforms(tmp_path / "transforms.json", ring(2), {"fl_x": 40}, frames)
    for i in range(2):
        halves(tmp_path / f"masks/{i}.png", left=0)
    views = load(tmp_path, masks="masks", test_every=0).views
    assert views is not None
    assert [v.mask_path for v in views] == [tmp_path / f"masks/{i}.png" for i in range(2)]


def test_no_folder_of_masks(tmp_path: Path) -> None:
    ColmapModel.ring(2).write(tmp_path, binary=True)
    with pytest.raises(DataError, match=r"cutouts: no such folder of masks; correct data\.masks"):
        load(tmp_path, masks="cutouts")


def test_a_mask_is_missing(tmp_path: Path) -> None:
    ColmapModel.ring(2).write(tmp_path, binary=True)
    halves(tmp_path / "masks/000.png", left=0)
    with pytest.raises(DataError, match=r"masks: no mask for 001\.png; expected 001\.png or 001\.png\.png"):
        load(tmp_path, masks="masks")


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    ColmapModel.ring(2).write(tmp_path, binary=True)
    for i in range(2):
        write_picture(tmp_path / f"masks/00{i}.png", (10, 10))
    views = load(tmp_path, masks="masks").views
    assert views is not None
    with pytest.raises(DataError, match=r"masks/000\.png: is 10x10, but its camera says 48x32"):
        views.photo(0)


# Frame


@pytest.mark.parametrize("target", [(0.0, 0.0, 0.0), (5.0, -3.0, 20.0)])
@pytest.mark.parametrize("distance", [0.01, 3.0, 500.0])
def test_ring_looks_at_its_target(target: tuple[float, float, float], distance: float) -> None:
    frame = estimate_frame(views_at(ring(12, distance, target)))
    assert frame.center == pytest.approx(target, abs=1e-3 * distance + 1e-5)
    # Horizontal distance of the ring, and a little from its uneven heights.
    assert 1.1 * distance <= frame.radius <= 1.12 * distance
    assert frame.up is not None and frame.up[2] > 0.9
    assert math.hypot(*frame.up) == pytest.approx(1)


def test_frame_follows_the_world(tmp_path: Path) -> None:
    """Rigid motion of all cameras moves centre and up with it and keeps the radius."""
    poses = ring(7)
    motion = np.eye(4)
    motion[:3, :3] = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    motion[:3, :3] *= np.linalg.det(motion[:3, :3])
    motion[:3, 3] = 1, 2, 3
    before, after = estimate_frame(views_at(poses)), estimate_frame(views_at(motion @ poses))
    assert after.radius == pytest.approx(before.radius, rel=1e-5)
    assert after.center == pytest.approx(motion[:3, :3] @ before.center + motion[:3, 3], abs=1e-4)
    assert before.up is not None and after.up is not None
    assert after.up == pytest.approx(motion[:3, :3] @ before.up, abs=1e-5)


def parallel(count: int = 3) -> np.ndarray:
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = np.arange(count) - (count - 1) / 2
    return poses


def test_parallel_cameras_have_no_common_point() -> None:
    poses = torch.tensor(parallel(), dtype=torch.float32)
    assert look_at_point(poses[:, :3, 3], poses[:, :3, 2]) is None
    assert estimate_frame(views_at(parallel())).center == (0, 0, 0)
    points = Points(torch.tensor([[0.0, 0, 5], [0, 1, 6], [0, -1, 7]]), torch.zeros(3, 3))
    assert estimate_frame(views_at(parallel()), points).center == (0, 0, 6)


def test_cameras_that_look_outwards_are_centred_among_themselves() -> None:
    poses = ring(8)
    poses[:, :3, [0, 2]] *= -1
    frame = estimate_frame(views_at(poses))
    assert frame.center[0] == pytest.approx(0, abs=1e-4) and frame.center[1] == pytest.approx(0, abs=1e-4)
    assert frame.center[2] == pytest.approx(float(poses[:, 2, 3].mean()), abs=1e-4)


def test_cameras_in_one_place() -> None:
    poses = ring(6)
    poses[:, :3, 3] = 1.0
    frame = estimate_frame(views_at(poses))
    assert frame.radius > 0 and all(math.isfinite(v) for v in frame.center)


def test_cameras_rolled_every_way_have_no_up() -> None:
    poses = ring(6)
    poses[::2, :3, :2] *= -1
    assert estimate_frame(views_at(poses)).up is None


def test_a_bare_model_is_a_scene_without_views(tmp_path):
    model = tmp_path / "box.obj"
    model.write_text("v 0 0 0\nv 2 0 0\nv 0 2 0\nv 0 0 2\nf 1 2 3\nf 1 3 4\nf 1 4 2\nf 2 4 3\n")
    assert detect(model) == "model"
    scene = load(model)
    assert scene.views is None and scene.asset is not None and len(scene.asset.faces) == 4
    assert scene.frame.center == (1.0, 1.0, 1.0) and scene.frame.radius == pytest.approx(3**0.5)
