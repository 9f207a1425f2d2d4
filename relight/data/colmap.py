"""COLMAP's sparse models, text and binary.  World to camera, OpenCV axes, principal point from the image corner."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from relight.data.common import Options, checked_pose, cloud, finish, pinhole, radial_tangential
from relight.errors import DataError
from relight.geometry.camera import Distortion
from relight.geometry.transforms import rotation_from_quaternion
from relight.scene import Points, Scene
from relight.views import View

# COLMAP's model id and number of parameters, in its order (src/colmap/sensor/models.h).
MODELS = {
    "SIMPLE_PINHOLE": (0, 3), "PINHOLE": (1, 4), "SIMPLE_RADIAL": (2, 4), "RADIAL": (3, 5), "OPENCV": (4, 8),
    "OPENCV_FISHEYE": (5, 8), "FULL_OPENCV": (6, 12), "FOV": (7, 5), "SIMPLE_RADIAL_FISHEYE": (8, 4),
    "RADIAL_FISHEYE": (9, 5), "THIN_PRISM_FISHEYE": (10, 12),
}  # fmt: skip
_NAMES = {number: name for name, (number, _) in MODELS.items()}
_UNDISTORT = "make a pinhole model with `colmap image_undistorter`"


@dataclass(frozen=True)
class _Camera:
    model: str
    width: int
    height: int
    params: tuple[float, ...]


@dataclass(frozen=True)
class _Image:
    name: str
    camera_id: int
    quat_wxyz: tuple[float, ...]
    translation: tuple[float, ...]


def _model_folder(path: Path) -> Path | None:
    for folder in (path, path / "sparse" / "0", path / "sparse", path / "colmap" / "sparse" / "0", path / "0"):
        if any((folder / f"cameras{s}").is_file() and (folder / f"images{s}").is_file() for s in (".bin", ".txt")):
            return folder
    return None


def sniff(path: Path) -> bool:
    """A folder with a sparse model in the usual places."""
    return path.is_dir() and _model_folder(path) is not None


def load(path: Path, options: Options) -> Scene:
    """Binary if present, else text."""
    model = _model_folder(path)
    if model is None:
        raise DataError(f"{path}: no cameras.bin and images.bin (or .txt) here or in sparse/0; name another folder")
    binary = all((model / f"{part}.bin").is_file() for part in ("cameras", "images"))
    cameras = _cameras_binary(model / "cameras.bin") if binary else _cameras_text(model / "cameras.txt")
    images = _images_binary(model / "images.bin") if binary else _images_text(model / "images.txt")
    if not images:
        raise DataError(
            f"{model}: the model has no images; COLMAP could not register any photo; take more, overlapping"
        )
    points_file = model / ("points3D.bin" if binary else "points3D.txt")
    points = None
    if points_file.is_file():
        points = _points_binary(points_file) if binary else _points_text(points_file)
    folder = _picture_folder(path, images)
    return finish([_view(model, folder, image, cameras) for image in images], options, path, points=points)


def _picture_folder(path: Path, images: list[_Image]) -> Path:
    """Of the usual places, also seen from inside sparse/0, the one that holds most of the model's pictures."""
    path = path.resolve()
    roots = [path, *path.parents[:2]]
    folders = [f for root in roots for f in (root / "images", root, *sorted(root.glob("images_*")))]
    held = [sum(os.path.isfile(folder / image.name) for image in images) for folder in folders]
    return folders[held.index(max(held))]


def _view(model: Path, folder: Path, image: _Image, cameras: dict[int, _Camera]) -> View:
    where = f"{model}: image {image.name}"
    if image.camera_id not in cameras:
        raise DataError(f"{where}: uses camera {image.camera_id}, which is not in the model; export it again")
    camera = cameras[image.camera_id]
    numbers = [*image.quat_wxyz, *image.translation]
    if not np.isfinite(numbers).all() or not any(image.quat_wxyz):
        raise DataError(f"{where}: the pose contains NaN, infinity or a zero quaternion; solve the cameras again")
    rotation = rotation_from_quaternion(torch.tensor(image.quat_wxyz, dtype=torch.float64))
    translation = torch.tensor(image.translation, dtype=torch.float64)
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = rotation.mT
    pose[:3, 3] = -rotation.mT @ translation
    (fx, fy, cx, cy), distortion = _lens(camera, where)
    return View(
        name=image.name,
        image_path=folder / image.name,
        camera=pinhole(checked_pose(pose.tolist(), where), fx, fy, cx, cy, camera.width, camera.height, where),
        distortion=distortion,
        upright=False,  # COLMAP ignores EXIF orientation on purpose, so that turned photos share a camera
    )


def _lens(camera: _Camera, where: str) -> tuple[tuple[float, float, float, float], Distortion | None]:
    p = camera.params
    if not np.isfinite(p).all():
        raise DataError(f"{where}: camera parameters contain NaN or infinity; solve the cameras again")
    if camera.model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE"):
        pinhole_part, k = (p[0], p[0], p[1], p[2]), p[3:]
    else:
        pinhole_part, k = (p[0], p[1], p[2], p[3]), p[4:]
    if camera.model.endswith("RADIAL_FISHEYE") or camera.model == "OPENCV_FISHEYE":
        return pinhole_part, Distortion("fisheye", (*k, *(0.0,) * (4 - len(k))))
    if camera.model in ("FOV", "THIN_PRISM_FISHEYE"):
        raise DataError(f"{where}: camera model {camera.model} is not read; {_UNDISTORT}")
    return pinhole_part, radial_tangential(*k)


# Text


def _lines(path: Path) -> list[tuple[int, str]]:
    """Lines that are not comments, with their numbers; empty ones are kept, because images.txt needs them."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as text ({error}); export the model again") from error
    return [(i, line) for i, line in enumerate(text.splitlines(), 1) if not line.startswith("#")]


def _cameras_text(path: Path) -> dict[int, _Camera]:
    cameras = {}
    for number, line in _lines(path):
        words = line.split()
        if not words:
            continue
        try:
            model, params = words[1], tuple(float(w) for w in words[4:])
            cameras[int(words[0])] = _Camera(model, int(words[2]), int(words[3]), params)
        except (IndexError, ValueError) as error:
            raise DataError(f"{path}:{number}: expected ID MODEL WIDTH HEIGHT PARAMS ({error})") from error
        if model not in MODELS:
            raise DataError(f"{path}:{number}: camera model {model} is not known; {_UNDISTORT}")
        if len(params) != MODELS[model][1]:
            raise DataError(f"{path}:{number}: expected {MODELS[model][1]} parameters of {model}, found {len(params)}")
    return cameras


def _images_text(path: Path) -> list[_Image]:
    """Two lines an image; the second, its 2D points, may be empty but not absent."""
    images = []
    lines = _lines(path)
    while lines and not lines[0][1].strip():
        del lines[0]
    while lines and not lines[-1][1].strip():
        del lines[-1]
    for number, line in lines[::2]:
        words = line.split(None, 9)
        try:
            values = tuple(float(w) for w in words[1:8])
            images.append(_Image(words[9].strip(), int(words[8]), values[:4], values[4:]))
        except (IndexError, ValueError) as error:
            raise DataError(f"{path}:{number}: expected ID QW QX QY QZ TX TY TZ CAMERA NAME ({error})") from error
    for number, line in lines[1::2]:
        if len(line.split()) % 3:
            raise DataError(
                f"{path}:{number}: expected the image's 2D points, X Y ID each; leave an empty line if there are none"
            )
    return images


def _points_text(path: Path) -> Points:
    rows = []
    for number, line in _lines(path):
        words = line.split(None, 7)
        if not words:
            continue
        try:
            rows.append([float(w) for w in words[1:7]])
            if len(rows[-1]) != 6:
                raise ValueError(f"{len(words)} values")
        except ValueError as error:
            raise DataError(f"{path}:{number}: expected ID X Y Z R G B ERROR TRACK ({error})") from error
    return _points(rows)


def _points(rows: list) -> Points:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return cloud(table[:, :3], table[:, 3:])


# Binary


class _Reader:
    """Little-endian values from a file's bytes; running past the end is a DataError, and counts are checked first."""

    def __init__(self, path: Path):
        self.path, self.at = path, 0
        try:
            self.data = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: {error}") from error

    def take(self, layout: str) -> tuple:
        size = struct.calcsize("<" + layout)
        self._need(size)
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += size
        return values

    def count(self, at_least: int) -> int:
        """A 64-bit count of records of at least so many bytes each."""
        (n,) = self.take("Q")
        self._need(n * at_least)
        return n

    def skip(self, size: int) -> None:
        self._need(size)
        self.at += size

    def text(self) -> str:
        end = self.data.find(b"\0", self.at, self.at + 4096)
        if end < 0:
            raise DataError(f"{self.path}: truncated: a name at byte {self.at} does not end; export the model again")
        text = self.data[self.at : end].decode("utf-8", "replace")
        self.at = end + 1
        return text

    def _need(self, size: int) -> None:
        if self.at + size > len(self.data):
            raise DataError(
                f"{self.path}: truncated: {size} bytes expected at byte {self.at}, the file has {len(self.data)}; "
                "copy it again or export the model again"
            )


def _cameras_binary(path: Path) -> dict[int, _Camera]:
    reader = _Reader(path)
    cameras = {}
    for _ in range(reader.count(24)):
        camera_id, model, width, height = reader.take("IiQQ")
        if model not in _NAMES:
            raise DataError(f"{path}: camera {camera_id} has model number {model}, which is not known; {_UNDISTORT}")
        name = _NAMES[model]
        cameras[camera_id] = _Camera(name, width, height, reader.take(f"{MODELS[name][1]}d"))
    return cameras


def _images_binary(path: Path) -> list[_Image]:
    reader = _Reader(path)
    images = []
    for _ in range(reader.count(73)):
        values = reader.take("I7dI")
        name = reader.text()
        reader.skip(24 * reader.count(24))
        images.append(_Image(name, values[8], values[1:5], values[5:8]))
    return images


def _points_binary(path: Path) -> Points:
    reader = _Reader(path)
    rows = []
    for _ in range(reader.count(51)):
        values = reader.take("Q3d3Bd")
        rows.append(values[1:7])
        reader.skip(8 * reader.count(8))
    return _points(rows)
