"""The transforms.json reader: instant-ngp, nerfstudio and Blender variants, and files with mistakes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from capture_files import SIZE, opengl, ring, write_picture, write_transforms
from PIL import Image

from relight.data import detect, load
from relight.errors import DataError
from relight.views import Views

NGP = {
    "camera_angle_x": 1.0, "fl_x": 40.0, "fl_y": 42.0, "k1": 0.05, "k2": -0.08, "p1": -0.001, "p2": 0.002, "cx": 24.5,
    "cy": 15.5, "w": 48.0, "h": 32.0, "aabb_scale": 4,
}  # fmt: skip


def read(path: Path, **options) -> Views:
    views = load(path, **options).views
    assert views is not None
    return views


def assert_poses(views: Views, poses: np.ndarray) -> None:
    for view, pose in zip(views, poses, strict=True):
        np.testing.assert_allclose(view.camera.world_from_camera.numpy(), pose, atol=2e-6)


def test_instant_ngp(tmp_path: Path) -> None:
    poses = ring(9)
    file = write_transforms(tmp_path / "transforms.json", poses, NGP)
    views = read(tmp_path)
    assert detect(tmp_path) == detect(file) == "transforms"
    assert_poses(views, poses)
    assert [v.name for v in views][:2] == ["images/000.png", "images/001.png"]
    assert [i for i, v in enumerate(views) if v.split == "test"] == [0, 8]
    camera = views[0].camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (40.0, 42.0, 24.5, 15.5)
    assert (camera.width, camera.height) == SIZE
    lens = views[0].distortion
    assert lens is not None and lens.model == "radial-tangential"
    assert lens.params == (0.05, -0.08, -0.001, 0.002, 0, 0, 0, 0)
    assert [v.name for v in read(file)] == [v.name for v in views]


def test_opengl_axes_by_a_point_and_its_pixel(tmp_path: Path) -> None:
    """A camera at the origin with an identity OpenGL matrix looks along -z, with +y up."""
    poses = np.stack([np.diag([1.0, -1, -1, 1]), np.diag([1.0, -1, -1, 1])])
    poses[1, 0, 3] = 1.0
    write_transforms(tmp_path / "transforms.json", poses, {"fl_x": 10, "w": 48, "h": 32})
    assert json.loads((tmp_path / "transforms.json").read_text())["frames"][0]["transform_matrix"] == np.eye(4).tolist()
    camera = read(tmp_path).camera(0)
    pixel, depth = camera.project(torch.tensor([2.0, 1.0, -4.0]))
    # 2 to the right of the axis and 1 above it, 4 ahead.
    assert float(depth) == 4 and pixel.tolist() == [24 + 10 * 2 / 4, 16 - 10 * 1 / 4]


def test_nerfstudio(tmp_path: Path) -> None:
    """Intrinsics, lens and size of each frame; `applied_transform` is already in poses and points."""
    poses = ring(4)
    frames = [
        {"w": 48, "h": 32, "fl_x": 40.0 + i, "fl_y": 41.0 + i, "cx": 23.0, "cy": 17.0, "k1": 0.01 * i} for i in range(4)
    ]
    head = {
        "camera_model": "OPENCV", "applied_transform": [[0, 1, 0, 5], [1, 0, 0, 5], [0, 0, -1, 5]],
        "ply_file_path": "sparse_pc.ply",
    }  # fmt: skip
    write_transforms(tmp_path / "transforms.json", poses, head, frames)
    (tmp_path / "sparse_pc.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
        "property uint8 red\nproperty uint8 green\nproperty uint8 blue\nend_header\n"
        "1 2 3 255 0 51\nnan 0 0 1 2 3\n4 5 6 0 102 255\n"
    )
    scene = load(tmp_path)
    assert scene.views is not None and scene.points is not None
    assert_poses(scene.views, poses)
    assert [v.camera.fx for v in scene.views] == [40, 41, 42, 43]
    assert [v.camera.fy for v in scene.views] == [41, 42, 43, 44]
    assert scene.views[0].distortion is None
    assert scene.views[3].distortion is not None and scene.views[3].distortion.params[0] == 0.03
    assert scene.points.positions.tolist() == [[1, 2, 3], [4, 5, 6]]
    torch.testing.assert_close(scene.points.colors, torch.tensor([[1, 0, 0.2], [0, 0.4, 1]]))


def test_points_without_colours_and_with_float_colours(tmp_path: Path) -> None:
    write_transforms(tmp_path / "transforms.json", ring(2), NGP | {"ply_file_path": "p.ply"})
    head = "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\n"
    for more, row, expected in [
        ("", "", [0.5, 0.5, 0.5]),
        ("property float red\nproperty float green\nproperty float blue\n", " 1.0 0.25 0", [1.0, 0.25, 0.0]),
    ]:
        (tmp_path / "p.ply").write_text(head + more + "end_header\n0 0 1" + row + "\n")
        points = load(tmp_path).points
        assert points is not None
        assert points.colors[0].tolist() == pytest.approx(expected)


def test_points_file_that_is_missing(tmp_path: Path) -> None:
    write_transforms(tmp_path / "transforms.json", ring(2), NGP | {"ply_file_path": "gone.ply"})
    with pytest.warns(UserWarning, match=r"transforms\.json: 'ply_file_path' names gone\.ply, which is missing"):
        assert load(tmp_path).points is None


def test_points_without_positions(tmp_path: Path) -> None:
    write_transforms(tmp_path / "transforms.json", ring(2), NGP | {"ply_file_path": "p.ply"})
    (tmp_path / "p.ply").write_text("ply\nformat ascii 1.0\nelement vertex 1\nproperty float a\nend_header\n1\n")
    with pytest.raises(DataError, match=r"p\.ply: its vertices have no x, y, z; remove 'ply_file_path' from"):
        load(tmp_path)


@pytest.mark.parametrize("how", [{"camera_model": "OPENCV_FISHEYE"}, {"is_fisheye": True}])
def test_fisheye(tmp_path: Path, how: dict) -> None:
    write_transforms(tmp_path / "transforms.json", ring(2), {"fl_x": 20, "k1": 0.1, "k4": 0.2} | how)
    lens = read(tmp_path)[0].distortion
    assert lens is not None and (lens.model, lens.params) == ("fisheye", (0.1, 0, 0, 0.2))


def test_pinhole_ignores_coefficients(tmp_path: Path) -> None:
    write_transforms(tmp_path / "transforms.json", ring(2), NGP | {"camera_model": "PINHOLE"})
    assert read(tmp_path)[0].distortion is None


def test_blender(tmp_path: Path) -> None:
    """Names without suffix, field of view for all, sizes from the pictures, alpha, own split."""
    for split, count in (("train", 3), ("test", 2), ("val", 2)):
        frames = [{"file_path": f"./{split}/r_{i}.5", "rotation": 0.1} for i in range(count)]
        head = {"camera_angle_x": 0.8, "environment": f"{split}.hdr"}
        write_transforms(tmp_path / f"transforms_{split}.json", ring(count), head, frames, size=(20, 10), alpha=0)
    views = read(tmp_path)
    assert [(v.name, v.split) for v in views] == [
        ("test/r_0.5", "test"), ("test/r_1.5", "test"), ("train/r_0.5", "train"), ("train/r_1.5", "train"),
        ("train/r_2.5", "train"),
    ]  # fmt: skip
    camera = views[0].camera
    assert (camera.width, camera.height, camera.cx, camera.cy) == (20, 10, 10, 5)
    assert camera.fx == camera.fy == pytest.approx(10 / math.tan(0.4))
    assert views[0].light == "test.hdr" and views[4].light == "train.hdr"
    alpha = views.photo(0).alpha
    assert alpha is not None and float(alpha.max()) == 0
    assert_poses(views.test, ring(2))


def test_blender_without_a_test_file_is_split_by_name(tmp_path: Path) -> None:
    write_transforms(tmp_path / "transforms_train.json", ring(4), {"camera_angle_x": 0.8})
    assert [v.split for v in read(tmp_path, test_every=3)] == ["test", "train", "train", "test"]


def test_camera_angle_y(tmp_path: Path) -> None:
    write_transforms(tmp_path / "transforms.json", ring(2), {"camera_angle_x": 0.8, "camera_angle_y": 0.5})
    camera = read(tmp_path)[0].camera
    assert camera.fx == pytest.approx(24 / math.tan(0.4)) and camera.fy == pytest.approx(16 / math.tan(0.25))


def test_own_file_lists(tmp_path: Path) -> None:
    names = [f"images/{i:03d}.png" for i in range(5)]
    head = NGP | {"train_filenames": names[:2], "test_filenames": ["./" + names[2]], "val_filenames": names[3:4]}
    write_transforms(tmp_path / "transforms.json", ring(5), head)
    assert [(v.name, v.split) for v in read(tmp_path)] == [
        (names[0], "train"), (names[1], "train"), (names[2], "test"), (names[3], "val"),
    ]  # fmt: skip
    write_transforms(tmp_path / "transforms.json", ring(5), NGP | {"test_filenames": names[3:]})
    assert [v.split for v in read(tmp_path)] == ["train", "train", "train", "test", "test"]


def test_masks_of_the_file(tmp_path: Path) -> None:
    frames = [{"mask_path": f"masks/{i}.png"} for i in range(3)]
    write_transforms(tmp_path / "transforms.json", ring(3), NGP, frames)
    half = np.zeros((32, 48), np.uint8)
    half[:, 24:] = 255
    for i in range(3):
        write_picture(tmp_path / "masks" / f"{i}.png")
        Image.fromarray(half).save(tmp_path / "masks" / f"{i}.png")
    as_alpha, as_stencil = read(tmp_path).photo(0), read(tmp_path, masks_are_alpha=False).photo(0)
    assert as_alpha.alpha is not None and as_stencil.alpha is None and as_stencil.mask is not None
    assert float(as_alpha.alpha[5, 2]) == 0 and float(as_alpha.alpha[5, 40]) == 1
    assert not bool(as_stencil.mask[5, 2]) and bool(as_stencil.mask[5, 40])


def test_picture_of_half_the_size(tmp_path: Path) -> None:
    write_transforms(tmp_path / "transforms.json", ring(2), NGP, size=(24, 16))
    camera = read(tmp_path)[0].camera
    assert (camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy) == (24, 16, 20, 21, 12.25, 7.75)


def test_one_file_of_a_pair_can_be_named(tmp_path: Path) -> None:
    for split in ("train", "test"):
        frames = [{"file_path": f"{split}/{i}"} for i in range(3)]
        write_transforms(tmp_path / f"transforms_{split}.json", ring(3), {"camera_angle_x": 0.8}, frames)
    assert {v.name for v in read(tmp_path / "transforms_test.json")} == {"test/0", "test/1", "test/2"}


def test_poses_of_a_scaled_world_are_made_rigid(tmp_path: Path) -> None:
    poses = ring(2)
    poses[:, :3, :3] *= 2.5
    write_transforms(tmp_path / "transforms.json", poses, NGP)
    poses[:, :3, :3] /= 2.5
    assert_poses(read(tmp_path), poses)


# Mistakes


def edited(folder: Path, head: dict | None = None, frame: dict | None = None, without: str = "") -> Path:
    """A capture of three views with a mistake in its head or its second frame."""
    file = write_transforms(folder / "transforms.json", ring(3), NGP)
    data = json.loads(file.read_text())
    data |= head or {}
    if data["frames"] is not (head or {}).get("frames"):
        data["frames"][1] |= frame or {}
        data["frames"][1].pop(without, None)
    data.pop(without, None)
    file.write_text(json.dumps(data))
    return folder


@pytest.mark.parametrize("content", ["", "{", "\x00\x01", '{"frames": [' * 3, "[" * 100_000])
def test_not_json(tmp_path: Path, content: str) -> None:
    (tmp_path / "transforms.json").write_text(content)
    with pytest.raises(DataError, match=r"transforms\.json: not readable as JSON .*correct it or export it again"):
        load(tmp_path)


def test_not_an_object(tmp_path: Path) -> None:
    (tmp_path / "transforms.json").write_text("[1, 2]")
    with pytest.raises(DataError, match=r"transforms\.json: expected a JSON object, found list; export it again"):
        load(tmp_path)


NAN_POSE = [[float("nan"), 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
MIRRORED = [[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
SHEARED = [[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head": {"frames": []}}, "'frames' should be a list of at least one view; export"),
        ({"head": {"frames": {"a": 1}}}, "'frames' should be a list of at least one view; export"),
        ({"without": "frames"}, "'frames' should be a list of at least one view; export"),
        ({"head": {"frames": ["a", "b"]}}, "frame 0: 'file_path' is missing; name the picture there"),
        ({"without": "file_path"}, "frame 1: 'file_path' is missing; name the picture there"),
        ({"frame": {"file_path": 7}}, "frame 1: 'file_path' is missing; name the picture there"),
        ({"without": "transform_matrix"}, "frame 1: 'transform_matrix' is missing; solve the cameras"),
        ({"frame": {"transform_matrix": None}}, "frame 1: the pose is not a matrix of numbers .*expected 4x4"),
        ({"frame": {"transform_matrix": "abc"}}, "frame 1: the pose is not a matrix of numbers .*expected 4x4"),
        ({"frame": {"transform_matrix": [[1, 2], [3]]}}, "frame 1: the pose is not a matrix of numbers .*expected 4x4"),
        ({"frame": {"transform_matrix": [[1, "a"]]}}, "frame 1: the pose is not a matrix of numbers .*expected 4x4"),
        ({"frame": {"transform_matrix": [[10**400] * 4] * 4}}, "frame 1: the pose .*expected 4x4"),
        ({"frame": {"transform_matrix": []}}, r"frame 1: the pose has shape \(0,\); expected 4x4 or 3x4"),
        ({"frame": {"transform_matrix": [[1, 2, 3]] * 3}}, r"frame 1: the pose has shape \(3, 3\); expected 4x4"),
        ({"frame": {"transform_matrix": NAN_POSE}}, "frame 1: the pose contains NaN or infinity; remove this view"),
        ({"frame": {"transform_matrix": MIRRORED}}, "frame 1: the pose is not a rotation .*remove this view"),
        ({"frame": {"transform_matrix": SHEARED}}, "frame 1: the pose is not a rotation .*remove this view"),
        ({"frame": {"transform_matrix": [[0.0] * 4] * 4}}, "frame 1: the pose is not a rotation .*remove this view"),
        ({"head": {"fl_x": "40"}}, "frame 0: 'fl_x' should be a finite number, found 40; correct it"),
        ({"head": {"fl_x": True}}, "frame 0: 'fl_x' should be a finite number, found True; correct it"),
        ({"head": {"fl_x": float("nan")}}, "frame 0: 'fl_x' should be a finite number, found nan; correct it"),
        ({"head": {"fl_x": 10**400}}, "frame 0: 'fl_x' should be a finite number, found 1000.*; correct it"),
        ({"head": {"fl_x": 0}}, "frame 0: focal length 0 x 42 .*make no sense; correct them"),
        ({"head": {"w": -48}}, "frame 0: .*for a picture of -48 x 32 make no sense; correct them"),
        ({"head": {"k1": None}}, "frame 0: 'k1' should be a finite number, found None; correct it"),
        (
            {"head": {"camera_model": "EQUIRECTANGULAR"}},
            "frame 0: camera_model 'EQUIRECTANGULAR' is not read; expected PINHOLE",
        ),
    ],
)
def test_mistakes(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(DataError, match=rf"transforms\.json: {message}"):
        load(edited(tmp_path, **change))


@pytest.mark.parametrize("angle", [0, -0.5, 4, math.inf])
def test_impossible_field_of_view(tmp_path: Path, angle: float) -> None:
    write_transforms(tmp_path / "transforms.json", ring(2), {"camera_angle_x": angle})
    with pytest.raises(DataError, match=r"transforms\.json: frame 0: 'camera_angle_x' .*correct it in the file"):
        load(tmp_path)


def test_no_focal_length(tmp_path: Path) -> None:
    write_transforms(tmp_path / "transforms.json", ring(2), {"w": 48, "h": 32})
    with pytest.raises(DataError, match=r"transforms\.json: frame 0: no focal length; add 'fl_x'"):
        load(tmp_path)


def test_missing_pictures(tmp_path: Path) -> None:
    for i in (0, 2):
        edited(tmp_path)
        (tmp_path / f"images/{i:03d}.png").unlink()
        with pytest.warns(UserWarning, match=rf"transforms\.json: 1 of 3 pictures are missing: {i:03d}\.png"):
            assert len(read(tmp_path)) == 2


def test_missing_pictures_whose_size_would_be_needed(tmp_path: Path) -> None:
    write_transforms(tmp_path / "transforms.json", ring(4), {"camera_angle_x": 0.8})
    (tmp_path / "images/001.png").unlink()
    with pytest.warns(UserWarning, match=r"1 of 4 pictures are missing: 001\.png"):
        views = read(tmp_path)
    assert {v.camera.width for v in views} == {48}


def test_missing_mask(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"masks/gone\.png: no such mask, though images/001\.png names it; add it"):
        load(edited(tmp_path, frame={"mask_path": "masks/gone.png"}))


def test_name_that_no_file_can_have(tmp_path: Path) -> None:
    for name in ("images/" + "x" * 300 + ".png", "images/\0.png"):
        with pytest.warns(UserWarning, match="1 of 3 pictures are missing"):
            assert len(read(edited(tmp_path, frame={"file_path": name}))) == 2


def test_two_frames_of_one_picture(tmp_path: Path) -> None:
    edited(tmp_path, frame={"file_path": "images/000.png"})
    with pytest.raises(DataError, match=r"transforms\.json: views have the same name: images/000\.png"):
        load(tmp_path)


def test_every_view_is_a_test_view(tmp_path: Path) -> None:
    edited(tmp_path)
    with pytest.raises(DataError, match=r"transforms\.json: no training views are left; raise data\.test_every"):
        load(tmp_path, test_every=1)
    names = [f"images/{i:03d}.png" for i in range(3)]
    edited(tmp_path, head={"test_filenames": names})
    with pytest.raises(
        DataError, match=r"transforms\.json: no training views are left; correct the capture's own split"
    ):
        load(tmp_path)


def test_3x4_poses(tmp_path: Path) -> None:
    poses = ring(3)
    edited(tmp_path, frame={"transform_matrix": opengl(poses[1])[:3]})
    assert_poses(read(tmp_path), poses)
