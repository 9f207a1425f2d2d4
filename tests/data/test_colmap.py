"""The COLMAP reader against models written here from the format's description, and against damaged ones."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from capture_files import LENSES, SIZE, ColmapModel, project, write_picture
from PIL import Image

from relight.data import detect, load
from relight.errors import DataError
from relight.scene import Scene
from relight.views import View, Views

BOTH = pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
PARTS = ("cameras", "images", "points3D")


def views_of(scene: Scene) -> Views:
    assert scene.views is not None
    return scene.views


def assert_pose(view: View, pose: np.ndarray) -> None:
    np.testing.assert_allclose(view.camera.world_from_camera.numpy(), pose, atol=2e-6)


@BOTH
@pytest.mark.parametrize("lens", LENSES)
def test_reads_what_was_written(tmp_path: Path, lens: str, binary: bool) -> None:
    model = ColmapModel.ring(4, lens)
    scene = load(model.write(tmp_path, binary))
    views = views_of(scene)
    assert detect(tmp_path) == "colmap"
    assert [v.name for v in views] == model.names
    assert [v.split for v in views] == ["test", "train", "train", "train"]
    rng = np.random.default_rng(5)
    local = np.c_[rng.uniform(-0.6, 0.6, (20, 2)), np.ones(20)] * rng.uniform(1, 3, (20, 1))
    for view, pose in zip(views, model.poses, strict=True):
        assert_pose(view, pose)
        assert (view.camera.width, view.camera.height) == SIZE
        world = torch.tensor(local @ pose[:3, :3].T + pose[:3, 3], dtype=torch.float32)
        pixels, depth = view.camera.project(world)
        np.testing.assert_allclose(depth.numpy(), local[:, 2], atol=1e-5)
        if view.distortion is not None:
            c = view.camera
            ideal = (pixels - torch.tensor([c.cx, c.cy])) / torch.tensor([c.fx, c.fy])
            pixels = view.distortion.apply(ideal) * torch.tensor([c.fx, c.fy]) + torch.tensor([c.cx, c.cy])
        np.testing.assert_allclose(pixels.numpy(), project(lens, LENSES[lens], local), atol=2e-4)
    assert scene.points is not None
    np.testing.assert_allclose(scene.points.positions.numpy(), model.xyz, atol=1e-6)
    np.testing.assert_allclose(scene.points.colors.numpy(), model.rgb / 255, atol=1e-6)


@BOTH
def test_several_cameras_and_subfolders(tmp_path: Path, binary: bool) -> None:
    model = ColmapModel.ring(4)
    model.cameras[2] = ("SIMPLE_RADIAL", 60, 80, (70.0, 30.0, 40.0, 0.1))
    model.camera_ids = [7, 2, 7, 2]
    model.names = ["left/0.png", "right/0.png", "left/1 with spaces.png", "right/1.png"]
    views = {v.name: v for v in views_of(load(model.write(tmp_path, binary), test_every=0))}
    assert set(views) == set(model.names)
    for name, pose in zip(model.names, model.poses, strict=True):
        assert_pose(views[name], pose)
        assert views[name].image_path == tmp_path / "images" / name
    assert views["right/0.png"].camera.fx == 70 and views["left/0.png"].camera.fy == 42
    assert all(v.split == "train" for v in views.values())


@BOTH
def test_read_from_inside_the_model_folder(tmp_path: Path, binary: bool) -> None:
    ColmapModel.ring(3).write(tmp_path, binary)
    assert len(views_of(load(tmp_path / "sparse" / "0"))) == 3


def test_pictures_in_a_reduced_folder_rescale_the_camera(tmp_path: Path) -> None:
    model = ColmapModel.ring(3)
    model.write(tmp_path, binary=True, pictures=False)
    for name in model.names:
        write_picture(tmp_path / "images_2" / name, (24, 16))
    camera = views_of(load(tmp_path)).camera(0)
    assert (camera.width, camera.height, camera.fx, camera.fy) == (24, 16, 20.0, 21.0)
    assert (camera.cx, camera.cy) == (12.25, 7.75)


@BOTH
def test_zero_points(tmp_path: Path, binary: bool) -> None:
    scene = load(ColmapModel.ring(3, points=0).write(tmp_path, binary))
    assert scene.points is None and len(views_of(scene)) == 3


def test_no_points_file(tmp_path: Path) -> None:
    ColmapModel.ring(3).write(tmp_path, binary=True)
    (tmp_path / "sparse/0/points3D.bin").unlink()
    assert load(tmp_path).points is None


@BOTH
def test_points_that_are_not_finite_are_left_out(tmp_path: Path, binary: bool) -> None:
    model = ColmapModel.ring(3)
    model.xyz[1, 2], model.xyz[3, 0] = np.nan, np.inf
    model.xyz[4, 1] = 1e300  # finite in the file, not in float32
    points = load(model.write(tmp_path, binary)).points
    assert points is not None
    np.testing.assert_allclose(points.positions.numpy(), model.xyz[[0, 2]], atol=1e-6)
    np.testing.assert_allclose(points.colors.numpy(), model.rgb[[0, 2]] / 255, atol=1e-6)


@BOTH
def test_missing_pictures_are_left_out_with_a_warning(tmp_path: Path, binary: bool) -> None:
    model = ColmapModel.ring(5)
    model.write(tmp_path, binary)
    (tmp_path / "images" / "000.png").unlink()
    (tmp_path / "images" / "003.png").unlink()
    with pytest.warns(UserWarning, match=r"2 of 5 pictures are missing: 000\.png, 003\.png"):
        views = views_of(load(tmp_path))
    assert [v.name for v in views] == ["001.png", "002.png", "004.png"]
    assert_pose(views[1], model.poses[2])


@BOTH
@pytest.mark.parametrize("kept", [0, 1])
def test_too_few_pictures(tmp_path: Path, binary: bool, kept: int) -> None:
    model = ColmapModel.ring(3)
    model.write(tmp_path, binary)
    for name in model.names[kept:]:
        (tmp_path / "images" / name).unlink()
    with pytest.raises(
        DataError, match=rf"{kept} picture\(s\) with a camera.*{3 - kept} are missing, such as .*add photos"
    ):
        load(tmp_path)


@BOTH
def test_one_image(tmp_path: Path, binary: bool) -> None:
    with pytest.raises(DataError, match=rf"{tmp_path.name}: 1 picture\(s\).*at least 2 are needed; add photos"):
        load(ColmapModel.ring(1).write(tmp_path, binary))


@BOTH
def test_no_images(tmp_path: Path, binary: bool) -> None:
    with pytest.raises(DataError, match=r"0: the model has no images.*take more"):
        load(ColmapModel.ring(0).write(tmp_path, binary))


def test_picture_of_another_shape(tmp_path: Path) -> None:
    ColmapModel.ring(3).write(tmp_path, binary=True)
    write_picture(tmp_path / "images" / "001.png", (48, 40))
    with pytest.raises(DataError, match=r"001\.png: is 48x40, but .* solved for 48x32.*use those"):
        load(tmp_path)


def test_picture_that_is_none(tmp_path: Path) -> None:
    ColmapModel.ring(3).write(tmp_path, binary=True)
    (tmp_path / "images" / "001.png").write_bytes(b"garbage")
    with pytest.raises(DataError, match=r"001\.png: cannot be decoded .* leave it out"):
        load(tmp_path)


@pytest.mark.parametrize(("orientation", "stored"), [(3, True), (6, True), (8, True), (6, False), (8, False)])
def test_cameras_of_turned_photos(tmp_path: Path, orientation: int, stored: bool) -> None:
    """COLMAP ignores EXIF; that a tool turned the picture first shows in its size, except for half a turn."""
    model = ColmapModel.ring(3)
    model.write(tmp_path, binary=True)
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "images" / "001.png"
    Image.fromarray(pixels if stored else np.ascontiguousarray(pixels.swapaxes(0, 1))).save(path, exif=exif)
    views = views_of(load(tmp_path))
    rgb = views.photo(1).rgb
    camera = views.camera(1)
    assert rgb.shape == (camera.height, camera.width, 3) == (32, 48, 3)
    if stored:
        assert float(rgb[:8, :8].min()) == 1 and float(rgb[-8:, -8:].max()) == 0


@BOTH
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_pose_that_is_not_finite(tmp_path: Path, binary: bool, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ColmapModel.ring(3)
    rows = model.rows()
    rows[1] = ((value, *rows[1][0][1:]), *rows[1][1:])
    monkeypatch.setattr(model, "rows", lambda: rows)
    with pytest.raises(DataError, match=r"sparse/0: image 001\.png: the pose contains NaN.*solve the cameras again"):
        load(model.write(tmp_path, binary))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [((0, 0, 0, 0, 1, 2, 3), "zero quaternion"), ((1, 0, 0, 0, 1e300, 0, 0), "NaN or infinity")],
)
def test_poses_no_camera_can_have(
    tmp_path: Path, numbers: tuple, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ColmapModel.ring(3)
    rows = model.rows()
    rows[1] = (numbers, *rows[1][1:])
    monkeypatch.setattr(model, "rows", lambda: rows)
    with pytest.raises(DataError, match=rf"image 001\.png: .*{message}.*solve"):
        load(model.write(tmp_path, binary=True))


def test_quaternions_need_no_unit_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ColmapModel.ring(3)
    rows = [((*(3.0 * np.array(n[:4])), *n[4:]), i, name) for n, i, name in model.rows()]
    monkeypatch.setattr(model, "rows", lambda: rows)
    for view, pose in zip(views_of(load(model.write(tmp_path, binary=True))), model.poses, strict=True):
        assert_pose(view, pose)


@BOTH
@pytest.mark.parametrize("lens", ["FOV", "THIN_PRISM_FISHEYE"])
def test_lenses_we_do_not_read(tmp_path: Path, binary: bool, lens: str) -> None:
    model = ColmapModel.ring(3)
    model.cameras = {7: (lens, *SIZE, (40.0,) * {"FOV": 5, "THIN_PRISM_FISHEYE": 12}[lens])}
    with pytest.raises(DataError, match=rf"{lens} is not read; .*colmap image_undistorter"):
        load(model.write(tmp_path, binary))


def test_unknown_lens_in_text(tmp_path: Path) -> None:
    ColmapModel.ring(3).write(tmp_path, binary=False)
    (tmp_path / "sparse/0/cameras.txt").write_text("# comment\n7 MAGIC 48 32 1 2 3\n")
    with pytest.raises(DataError, match=r"cameras\.txt:2: camera model MAGIC is not known; .*image_undistorter"):
        load(tmp_path)


def test_unknown_lens_in_binary(tmp_path: Path) -> None:
    ColmapModel.ring(3).write(tmp_path, binary=True)
    file = tmp_path / "sparse/0/cameras.bin"
    data = bytearray(file.read_bytes())
    struct.pack_into("<i", data, 12, 99)
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"cameras\.bin: camera 7 has model number 99.*image_undistorter"):
        load(tmp_path)


@pytest.mark.parametrize(
    "camera",
    [
        ("PINHOLE", 48, 32, (0.0, 42.0, 24.0, 16.0)),
        ("PINHOLE", 0, 32, (40.0, 42.0, 24.0, 16.0)),
        ("PINHOLE", 48, 1 << 60, (40.0, 42.0, 24.0, 16.0)),
        ("PINHOLE", 48, 32, (40.0, 42.0, 1e300, 16.0)),
        ("PINHOLE", 48, 32, (40.0, float("nan"), 24.0, 16.0)),
        ("OPENCV", 48, 32, (40.0, 42.0, 24.0, 16.0, float("inf"), 0.0, 0.0, 0.0)),
    ],
)
def test_cameras_that_make_no_sense(tmp_path: Path, camera: tuple) -> None:
    model = ColmapModel.ring(3)
    model.write(tmp_path, binary=True)
    model.cameras = {7: camera}
    model.write(tmp_path, binary=True, pictures=False)
    with pytest.raises(DataError, match=r"sparse/0: image 000\.png: .*solve the cameras again"):
        load(tmp_path)


def test_image_of_a_camera_that_is_not_there(tmp_path: Path) -> None:
    model = ColmapModel.ring(3)
    model.write(tmp_path, binary=True)
    model.camera_ids = [7, 8, 7]
    model.write(tmp_path, binary=True, pictures=False)
    with pytest.raises(DataError, match=r"image 001\.png: uses camera 8, which is not in the model; export it again"):
        load(tmp_path)


def test_two_images_of_one_name(tmp_path: Path) -> None:
    model = ColmapModel.ring(3)
    model.names[2] = model.names[1]
    with pytest.raises(DataError, match=rf"{tmp_path.name}: views have the same name: 001\.png; names must be unique"):
        load(model.write(tmp_path, binary=True))


# Damaged text


@pytest.mark.parametrize(
    ("part", "number", "line", "expected"),
    [
        ("cameras", 2, "7 PINHOLE 48 wide 1 2 3 4", "expected ID MODEL WIDTH HEIGHT PARAMS"),
        ("cameras", 2, "7 PINHOLE", "expected ID MODEL WIDTH HEIGHT PARAMS"),
        ("cameras", 2, "7 PINHOLE 48 32 1 2 3", "expected 4 parameters of PINHOLE, found 3"),
        ("images", 3, "1 1 0 0 0 0 0 0 7", "expected ID QW QX QY QZ TX TY TZ CAMERA NAME"),
        ("images", 3, "1 1 0 zero 0 0 0 0 7 000.png", "expected ID QW QX QY QZ TX TY TZ CAMERA NAME"),
        ("images", 4, "2 1 0 0 0 0 0 0 7 001.png", "2D points.*leave an empty line"),
        ("points3D", 2, "1 0.5 0.5", "expected ID X Y Z R G B ERROR TRACK"),
        ("points3D", 2, "1 a b c 1 2 3 0.1", "expected ID X Y Z R G B ERROR TRACK"),
    ],
)
def test_broken_line(tmp_path: Path, part: str, number: int, line: str, expected: str) -> None:
    ColmapModel.ring(3).write(tmp_path, binary=False)
    file = tmp_path / f"sparse/0/{part}.txt"
    lines = file.read_text().splitlines()
    lines[number - 1] = line
    file.write_text("\n".join(lines))
    with pytest.raises(DataError, match=rf"{part}\.txt:{number}: .*{expected}"):
        load(tmp_path)


def test_text_with_windows_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    model = ColmapModel.ring(3)
    model.write(tmp_path, binary=False)
    for part in PARTS:
        file = tmp_path / f"sparse/0/{part}.txt"
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert [v.name for v in views_of(load(tmp_path))] == model.names


def test_text_that_is_none(tmp_path: Path) -> None:
    ColmapModel.ring(3).write(tmp_path, binary=False)
    (tmp_path / "sparse/0/images.txt").write_bytes(b"\xff\xfe\x00garbage")
    with pytest.raises(DataError, match=r"images\.txt: not readable as text .*export the model again"):
        load(tmp_path)


# Damaged binaries


@pytest.mark.parametrize("part", PARTS)
def test_truncated_anywhere(tmp_path: Path, part: str) -> None:
    """Every strict prefix of every file is an error that names it: 3 images, so all kinds of field are cut."""
    ColmapModel.ring(3, "OPENCV", points=2).write(tmp_path, binary=True)
    file = tmp_path / f"sparse/0/{part}.bin"
    data = file.read_bytes()
    for size in range(len(data)):
        file.write_bytes(data[:size])
        with pytest.raises(DataError, match=rf"{part}\.bin: truncated: .*export the model again"):
            load(tmp_path)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("count", [1 << 20, 1 << 40, (1 << 64) - 1])
def test_huge_count_is_refused_before_anything_is_allocated(tmp_path: Path, part: str, count: int) -> None:
    ColmapModel.ring(3).write(tmp_path, binary=True)
    file = tmp_path / f"sparse/0/{part}.bin"
    file.write_bytes(struct.pack("<Q", count) + file.read_bytes()[8:])
    with pytest.raises(DataError, match=rf"{part}\.bin: truncated: \d+ bytes expected at byte 8"):
        load(tmp_path)


def test_huge_track_is_refused(tmp_path: Path) -> None:
    ColmapModel.ring(2, points=1).write(tmp_path, binary=True)
    file = tmp_path / "sparse/0/points3D.bin"
    data = bytearray(file.read_bytes())
    struct.pack_into("<Q", data, 8 + 43, 1 << 61)
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"points3D\.bin: truncated"):
        load(tmp_path)


@pytest.mark.filterwarnings("ignore:.*pictures are missing")
@pytest.mark.parametrize("part", PARTS)
def test_flipped_bytes_are_read_or_refused(tmp_path: Path, part: str) -> None:
    """Whatever a damaged model says, the result is a scene or a DataError."""
    model = ColmapModel.ring(3, "OPENCV", points=3)
    model.write(tmp_path, binary=True)
    file = tmp_path / f"sparse/0/{part}.bin"
    data = file.read_bytes()
    chance = random.Random(part)
    refused = 0
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(chance.choice([1, 4])):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        file.write_bytes(damaged)
        try:
            scene = load(tmp_path)
        except DataError:
            refused += 1
        else:
            assert all(torch.isfinite(v.camera.world_from_camera).all() for v in views_of(scene))
            assert scene.points is None or bool(torch.isfinite(scene.points.positions).all())
    assert 0 < refused < 60
