"""transforms.json: nerfstudio, instant-ngp and Blender's synthetic sets.  OpenGL cameras, camera-to-world."""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from relight.data.common import (
    OPENCV_FROM_OPENGL,
    Options,
    checked_pose,
    cloud,
    finish,
    number,
    pinhole,
    radial_tangential,
    read_json,
)
from relight.errors import DataError
from relight.geometry.camera import Distortion
from relight.images import SUFFIXES, image_size
from relight.scene import Points, Scene
from relight.views import View

SPLITS = {"train": "transforms_train.json", "test": "transforms_test.json"}


def sniff(path: Path) -> bool:
    """A transforms file, or a folder with one."""
    if path.is_file():
        return path.suffix == ".json" and path.name.startswith("transforms")
    return (path / "transforms.json").is_file() or (path / SPLITS["train"]).is_file()


def load(path: Path, options: Options) -> Scene:
    """One transforms.json, split by name or by its own `train_filenames`; or transforms_train and transforms_test."""
    if path.is_file() or (path / "transforms.json").is_file():
        file = path if path.is_file() else path / "transforms.json"
        data = read_json(file)
        views, has_split = _own_split(file, data, _views(file, data, None))
        return finish(views, options, file, points=_points(file, data), has_split=has_split)
    if not (path / SPLITS["train"]).is_file():
        raise DataError(f"{path}: no transforms.json or {SPLITS['train']}; name another folder or data.format")
    views = []
    for split, name in SPLITS.items():
        if (path / name).is_file():
            views += _views(path / name, read_json(path / name), split)
    return finish(views, options, path, has_split=(path / SPLITS["test"]).is_file())


def _own_split(file: Path, data: dict, views: list[View]) -> tuple[list[View], bool]:
    """nerfstudio's `train_filenames` and its like.  Views in no list are dropped, or train if there is no such list."""
    lists = {
        s: data[f"{s}_filenames"] for s in ("train", "val", "test") if isinstance(data.get(f"{s}_filenames"), list)
    }
    if not lists:
        return views, False
    split_of = {file.parent / str(name): split for split, names in lists.items() for name in names}
    rest = "unused" if "train" in lists else "train"
    views = [replace(v, split=split_of.get(v.image_path, rest)) for v in views]
    return [v for v in views if v.split != "unused"], True


def _views(file: Path, data: dict, split: str | None) -> list[View]:
    frames = data.get("frames")
    if not isinstance(frames, list) or not frames:
        raise DataError(f"{file}: 'frames' should be a list of at least one view; export the capture again")
    shared = {k: v for k, v in data.items() if k != "frames"}
    return [_view(file, i, shared, f, split) for i, f in enumerate(frames)]


def _view(file: Path, index: int, shared: dict, frame: object, split: str | None) -> View:
    where = f"{file}: frame {index}"
    if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str):
        raise DataError(f"{where}: 'file_path' is missing; name the picture there")
    f = {**shared, **frame}
    image = _picture(file.parent / f["file_path"])
    if "transform_matrix" not in f:
        raise DataError(f"{where}: 'transform_matrix' is missing; solve the cameras, or leave the frame out")
    pose = checked_pose(f["transform_matrix"], where) @ OPENCV_FROM_OPENGL
    if "w" in f and "h" in f:
        width, height = number(f, "w", where), number(f, "h", where)
    elif os.path.isfile(image):
        width, height = image_size(image)
    else:
        width = height = 2.0  # dropped later with the missing picture
    if "fl_x" in f:
        fx = number(f, "fl_x", where)
        fy = number(f, "fl_y", where, fx)
    elif "camera_angle_x" in f:
        fx = 0.5 * width / _half_tangent(f, "camera_angle_x", where)
        fy = 0.5 * height / _half_tangent(f, "camera_angle_y", where) if "camera_angle_y" in f else fx
    else:
        raise DataError(f"{where}: no focal length; add 'fl_x' in pixels or 'camera_angle_x' in radians")
    cx, cy = number(f, "cx", where, width / 2), number(f, "cy", where, height / 2)
    name = Path(f["file_path"]).as_posix().removeprefix("./")
    return View(
        name=name,
        image_path=image,
        camera=pinhole(pose, fx, fy, cx, cy, width, height, where),
        split=split or "train",
        distortion=_distortion(f, where),
        mask_path=_mask(file, f, image),
        light=f["environment"] if isinstance(f.get("environment"), str) else None,
    )


def _half_tangent(f: dict, key: str, where: str) -> float:
    angle = number(f, key, where)
    if not 0 < angle < math.pi:
        raise DataError(f"{where}: '{key}' is {angle:g}; expected radians between 0 and pi; correct it in the file")
    return math.tan(angle / 2)


def _distortion(f: dict, where: str) -> Distortion | None:
    def k(name: str) -> float:
        return number(f, name, where, 0.0)

    model = str(f.get("camera_model", "OPENCV")).upper()
    if "FISHEYE" in model or f.get("is_fisheye") is True:
        return Distortion("fisheye", (k("k1"), k("k2"), k("k3"), k("k4")))
    if model == "PINHOLE" or model == "SIMPLE_PINHOLE":
        return None
    if model not in ("OPENCV", "SIMPLE_RADIAL", "RADIAL", "FULL_OPENCV", "PERSPECTIVE"):
        raise DataError(f"{where}: camera_model {model!r} is not read; expected PINHOLE, OPENCV or OPENCV_FISHEYE")
    return radial_tangential(k("k1"), k("k2"), k("p1"), k("p2"), k("k3"), k("k4"), k("k5"), k("k6"))


def _picture(path: Path) -> Path:
    """Blender's sets leave the suffix out, and Synthetic4Relight more than that."""
    if path.suffix.lower() in SUFFIXES:
        return path
    named = [path.with_name(path.name + suffix) for suffix in (".png", ".jpg", ".exr", "_rgba.png", "_rgb.exr")]
    return next((p for p in named if os.path.isfile(p)), named[0])


def _mask(file: Path, frame: dict, image: Path) -> Path | None:
    """As the frame says; else train_mask/0000.png (Stanford-ORB) or 000_mask.png of 000_rgb.exr (Synthetic4Relight)."""
    if isinstance(frame.get("mask_path"), str):
        return file.parent / frame["mask_path"]
    beside = [Path(f"{image.parent}_mask") / f"{image.stem}.png"]
    if image.stem.endswith("_rgb"):
        beside.append(image.with_name(f"{image.stem.removesuffix('_rgb')}_mask.png"))
    return next((path for path in beside if os.path.isfile(path)), None)


def _points(file: Path, data: dict) -> Points | None:
    name = data.get("ply_file_path")
    if not isinstance(name, str):
        return None
    if not os.path.isfile(file.parent / name):
        warnings.warn(f"{file}: 'ply_file_path' names {name}, which is missing; points come from photos", stacklevel=2)
        return None
    from relight.formats.ply_container import read_element, read_header

    ply = file.parent / name
    header = read_header(ply)
    columns = read_element(ply, header, "vertex")
    types = dict(next(e.properties for e in header.elements if e.name == "vertex"))
    if not {"x", "y", "z"} <= set(columns):
        raise DataError(f"{ply}: its vertices have no x, y, z; remove 'ply_file_path' from {file} or export it again")
    xyz = np.stack([columns[k] for k in "xyz"], -1)
    rgb = np.full(xyz.shape, 127.5)
    if {"red", "green", "blue"} <= set(columns):
        rgb = np.stack([columns[k] for k in ("red", "green", "blue")], -1)
        # The declared type decides: columns of an ASCII file are all read as floats.
        rgb = rgb * 255 if str(types["red"]).startswith("f") else rgb
    return cloud(xyz, rgb)
