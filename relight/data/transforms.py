"""transforms.json: nerfstudio, instant-ngp and Blender's synthetic sets.  OpenGL cameras, camera-to-world."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from relight.data.common import (
    OPENCV_FROM_OPENGL,
    Options,
    checked_pose,
    finish,
    number,
    pinhole,
    radial_tangential,
    read_json,
)
from relight.errors import DataError
from relight.geometry.camera import Distortion
from relight.images import image_size
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
        views, has_split = _views(file, data, None), False
        for split in ("train", "test"):
            named = data.get(f"{split}_filenames")
            if isinstance(named, list):
                has_split = True
                views = [_with_split(v, split) if _listed(v, named, file.parent) else v for v in views]
        return finish(views, options, file, points=_points(file, data), has_split=has_split)
    views = []
    for split, name in SPLITS.items():
        if (path / name).is_file():
            views += _views(path / name, read_json(path / name), split)
    return finish(views, options, path, has_split=(path / SPLITS["test"]).is_file())


def _with_split(view: View, split: str) -> View:
    from dataclasses import replace

    return replace(view, split=split)


def _listed(view: View, names: list, base: Path) -> bool:
    return view.image_path in {base / str(n) for n in names}


def _views(file: Path, data: dict, split: str | None) -> list[View]:
    frames = data.get("frames")
    if not isinstance(frames, list) or not frames:
        raise DataError(f"{file}: 'frames' should be a list of at least one view")
    return [_view(file, i, {**data, **f}, split) for i, f in enumerate(frames) if isinstance(f, dict)]


def _view(file: Path, index: int, f: dict, split: str | None) -> View:
    where = f"{file}: frame {index}"
    if not isinstance(f.get("file_path"), str):
        raise DataError(f"{where}: 'file_path' is missing")
    image = _picture(file.parent / f["file_path"])
    pose = checked_pose(f.get("transform_matrix"), where) @ OPENCV_FROM_OPENGL
    if "w" in f and "h" in f:
        width, height = number(f, "w", where), number(f, "h", where)
    elif image.is_file():
        width, height = image_size(image)
    else:
        width = height = 2.0  # dropped later with the missing picture
    if "fl_x" in f:
        fx = number(f, "fl_x", where)
        fy = number(f, "fl_y", where, fx)
    elif "camera_angle_x" in f:
        fx = 0.5 * width / math.tan(0.5 * number(f, "camera_angle_x", where))
        fy = 0.5 * height / math.tan(0.5 * number(f, "camera_angle_y", where)) if "camera_angle_y" in f else fx
    else:
        raise DataError(f"{where}: no focal length; expected 'fl_x' or 'camera_angle_x'")
    cx, cy = number(f, "cx", where, width / 2), number(f, "cy", where, height / 2)
    mask = f.get("mask_path")
    name = Path(f["file_path"]).as_posix().removeprefix("./")
    return View(
        name=name,
        image_path=image,
        camera=pinhole(pose, fx, fy, cx, cy, width, height, where),
        split=split or "train",
        distortion=_distortion(f, where),
        mask_path=file.parent / mask if isinstance(mask, str) else None,
        light=f["environment"] if isinstance(f.get("environment"), str) else None,
    )


def _distortion(f: dict, where: str) -> Distortion | None:
    def k(name: str) -> float:
        return number(f, name, where, 0.0)

    model = str(f.get("camera_model", "OPENCV")).upper()
    if "FISHEYE" in model or f.get("is_fisheye") is True:
        return Distortion("fisheye", (k("k1"), k("k2"), k("k3"), k("k4")))
    if model == "PINHOLE" or model == "SIMPLE_PINHOLE":
        return None
    if model not in ("OPENCV", "SIMPLE_RADIAL", "RADIAL", "FULL_OPENCV", "PERSPECTIVE"):
        raise DataError(f"{where}: camera_model {model!r} is not known; expected PINHOLE, OPENCV or OPENCV_FISHEYE")
    return radial_tangential(k("k1"), k("k2"), k("p1"), k("p2"), k("k3"), k("k4"), k("k5"), k("k6"))


def _picture(path: Path) -> Path:
    """Blender's sets leave the suffix out."""
    if path.is_file() or path.suffix:
        return path
    for suffix in (".png", ".jpg", ".exr"):
        if path.with_suffix(suffix).is_file():
            return path.with_suffix(suffix)
    return path.with_suffix(".png")


def _points(file: Path, data: dict) -> Points | None:
    name = data.get("ply_file_path")
    if not isinstance(name, str) or not (file.parent / name).is_file():
        return None
    from relight.export.ply_container import read_element, read_header

    header = read_header(file.parent / name)
    columns = read_element(file.parent / name, header, "vertex")
    xyz = torch.from_numpy(np.stack([columns[k] for k in "xyz"], -1).astype(np.float32))
    if {"red", "green", "blue"} <= set(columns):
        rgb = torch.from_numpy(np.stack([columns[k] for k in ("red", "green", "blue")], -1).astype(np.float32)) / 255
    else:
        rgb = torch.full_like(xyz, 0.5)
    return Points(xyz, rgb)
