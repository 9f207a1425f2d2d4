"""The poses_bounds.npy reader, by where points project and by what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from capture_files import SIZE, ring, write_picture

from relight.data import detect, load
from relight.errors import DataError


def rows_of(poses: np.ndarray, size: tuple[int, int] = SIZE, focal: float = 40.0) -> np.ndarray:
    """(N, 17): the axes down, right, backward and the centre; height, width, focal; two depths."""
    rows = []
    for pose in poses:
        right, down, forward, center = pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3]
        matrix = np.stack([down, right, -forward, center, [size[1], size[0], focal]], 1)
        rows.append([*matrix.flatten(), 1.0, 5.0])
    return np.array(rows)


def capture(folder: Path, rows: np.ndarray, pictures: int, size: tuple[int, int] = SIZE, name: str = "images") -> Path:
    for i in range(pictures):
        write_picture(folder / name / f"IMG_{i}.png", size)
    np.save(folder / "poses_bounds.npy", rows)
    return folder


def test_poses_and_intrinsics(tmp_path: Path) -> None:
    poses = ring(4)
    views = load(capture(tmp_path, rows_of(poses), 4)).views
    assert views is not None and detect(tmp_path) == "llff"
    for view, pose in zip(views, poses, strict=True):
        np.testing.assert_allclose(view.camera.world_from_camera.numpy(), pose, atol=2e-6)
        c = view.camera
        assert (c.width, c.height, c.fx, c.fy, c.cx, c.cy) == (48, 32, 40, 40, 24, 16)
    assert [v.split for v in views] == ["test", "train", "train", "train"]


def test_a_point_projects_where_it_should(tmp_path: Path) -> None:
    """The file's axes spelt out: x is down, y is right, z is towards the viewer."""
    matrix = np.array([[0, 1, 0, 0, 32], [-1, 0, 0, 0, 48], [0, 0, 1, 0, 40.0]])
    row = np.array([*matrix.flatten(), 1.0, 5.0])
    other = row.copy()
    other[3] = 1.0
    views = load(capture(tmp_path, np.stack([row, other]), 2)).views
    assert views is not None
    # The camera's right is world +x, its down is world -y, and it looks along world -z.
    pixel, depth = views.camera(0).project(torch.tensor([0.5, 0.25, -2.0]))
    assert float(depth) == 2 and pixel.tolist() == [24 + 40 * 0.25, 16 - 40 * 0.125]


def test_reduced_pictures(tmp_path: Path) -> None:
    rows = rows_of(ring(3), (192, 128), 160.0)
    views = load(capture(tmp_path, rows, 3, name="images_4")).views
    assert views is not None
    c = views[0].camera
    assert (c.width, c.height, c.fx, c.cx) == (48, 32, 40, 24)


@pytest.mark.parametrize(
    "rows", [np.zeros((3, 15)), np.zeros((3, 5, 3)), np.zeros(17), np.zeros((3, 17), np.int64), np.zeros((3, 17), "U3")]
)
def test_wrong_shape(tmp_path: Path, rows: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"poses_bounds\.npy: expected an array of N x 17 numbers.*export it again"):
        load(capture(tmp_path, rows, 3))


def test_counts_that_differ(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"poses_bounds\.npy: 4 poses, but 3 pictures in .*images; .*add or remove"):
        load(capture(tmp_path, rows_of(ring(4)), 3))


@pytest.mark.parametrize(("column", "message"), [(0, "the pose contains NaN"), (14, "focal length is not finite")])
def test_not_finite(tmp_path: Path, column: int, message: str) -> None:
    rows = rows_of(ring(3))
    rows[1, column] = np.nan
    with pytest.raises(DataError, match=rf"poses_bounds\.npy: IMG_1\.png: .*{message}"):
        load(capture(tmp_path, rows, 3))


def test_mirrored_axes(tmp_path: Path) -> None:
    """Files that store right, up, backward instead are not this format."""
    rows = rows_of(ring(3)).reshape(3, 17)
    rows[:, [0, 5, 10]] *= -1
    with pytest.raises(DataError, match=r"poses_bounds\.npy: IMG_0\.png: the pose is not a rotation"):
        load(capture(tmp_path, rows, 3))


def test_truncated_and_garbage(tmp_path: Path) -> None:
    capture(tmp_path, rows_of(ring(3)), 3)
    file = tmp_path / "poses_bounds.npy"
    data = file.read_bytes()
    for size in (0, 1, 5, 6, 8, 20, 60, 127, 128, 200, len(data) - 1):
        file.write_bytes(data[:size])
        with pytest.raises(DataError, match=r"poses_bounds\.npy: not a NumPy array .*export it again"):
            load(tmp_path)
    file.write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(DataError, match=r"poses_bounds\.npy: "):
        load(tmp_path)


def test_header_that_claims_terabytes(tmp_path: Path) -> None:
    capture(tmp_path, rows_of(ring(3)), 3)
    file = tmp_path / "poses_bounds.npy"
    data = file.read_bytes()
    assert data.count(b"(3, 17), }             ") == 1
    file.write_bytes(data.replace(b"(3, 17), }             ", b"(30000000000000, 17), }"[:23].ljust(23)))
    with pytest.raises(DataError, match=r"poses_bounds\.npy: not a NumPy array"):
        load(tmp_path)


def test_archives_and_pickles_are_refused(tmp_path: Path) -> None:
    capture(tmp_path, rows_of(ring(3)), 3)
    file = tmp_path / "poses_bounds.npy"
    with file.open("wb") as stream:
        np.savez(stream, a=np.zeros(3))
    with pytest.raises(DataError, match=r"poses_bounds\.npy: not a NumPy array"):
        load(tmp_path)
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"poses_bounds\.npy: not a NumPy array"):
        load(tmp_path)
