"""What every reader needs: checked poses, picture sizes, masks, splits."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from relight.errors import MALFORMED, DataError
from relight.geometry.camera import Camera, Distortion
from relight.images import SUFFIXES, image_size
from relight.scene import Points, Scene
from relight.views import View, Views


@dataclass(frozen=True)
class Options:
    """What a reader is told.  test_every: every n-th view by name is a test view where the data has no split of its
    own; 0 for none.  max_size: see `Views`.  masks: a folder of masks, or None.
    """

    test_every: int = 8
    max_size: int | None = None
    masks: Path | None = None
    masks_are_alpha: bool = True


def checked_pose(rows: object, where: str) -> Tensor:
    """(4, 4) float32 from nested numbers; raises DataError unless it is rigid and finite."""
    try:
        pose = torch.tensor(rows, dtype=torch.float64)
    except MALFORMED as error:
        raise DataError(f"{where}: the pose is not a matrix of numbers ({error}); expected 4x4 or 3x4") from error
    if pose.shape == (3, 4):
        pose = torch.cat([pose, torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)])
    if pose.shape != (4, 4):
        raise DataError(f"{where}: the pose has shape {tuple(pose.shape)}; expected 4x4 or 3x4")
    if not torch.isfinite(pose.float()).all():
        raise DataError(f"{where}: the pose contains NaN or infinity; remove this view or solve the cameras again")
    rotation = pose[:3, :3]
    scale = rotation.norm(dim=0).mean()
    off = (rotation.mT @ rotation / scale**2 - torch.eye(3, dtype=torch.float64)).abs().max() if scale > 0 else math.inf
    if not (off < 1e-2 and torch.linalg.det(rotation) > 0):
        raise DataError(
            f"{where}: the pose is not a rotation and a translation (deviation {float(off):.3g}); "
            "remove this view or solve the cameras again"
        )
    # Files carry six digits; the nearest rotation keeps kernels and inverses exact.
    u, _, v = torch.linalg.svd(rotation)
    pose[:3, :3] = u @ v
    pose[3] = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    return pose.float()


OPENCV_FROM_OPENGL = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
"""Right-multiplies a camera-to-world matrix: OpenGL's camera has +y up and looks along -z."""


def read_json(path: Path) -> dict:
    """A JSON object, or DataError."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable as JSON ({error}); correct it or export it again") from error
    if not isinstance(data, dict):
        raise DataError(f"{path}: expected a JSON object, found {type(data).__name__}; export it again")
    return data


def number(data: dict, key: str, where: str, default: float | None = None) -> float:
    """A finite number at `key`, or DataError naming file and key."""
    value = data.get(key, default)
    try:
        result = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise DataError(f"{where}: '{key}' should be a finite number, found {str(value)[:40]}; correct it in the file")
    return result


def fitted_view(view: View) -> View:
    """The view with its camera at the picture's true size.

    A picture of the same shape but another size (reduced after the cameras were solved) rescales the camera.  Whether
    cameras were solved for the stored picture or for the one turned upright (EXIF) differs between tools; if the
    view's own guess contradicts the shape, the other one is taken.  Raises DataError if the shapes differ.
    """
    camera = view.camera
    for upright in (view.upright, not view.upright):
        width, height = image_size(view.image_path, upright=upright)
        # Rounding of the smaller side may change the shape by a pixel.
        tolerance = 1.01 * max(camera.width, camera.height, width, height)
        if abs(width * camera.height - height * camera.width) <= tolerance:
            return replace(view, camera=camera.resized(width, height), upright=upright)
    width, height = image_size(view.image_path)
    raise DataError(
        f"{view.image_path}: is {width}x{height}, but its camera was solved for {camera.width}x{camera.height}; the "
        "shapes differ, so it was cropped or is another picture; use those the cameras were solved for"
    )


def finish(
    views: Sequence[View], options: Options, where: Path, *, points: Points | None = None, has_split: bool = False
) -> Scene:
    """Drop missing pictures, attach masks, split, and put the scene together."""
    from relight.data.frame import estimate_frame

    present = [v for v in views if os.path.isfile(v.image_path)]
    missing = [v.image_path for v in views if not os.path.isfile(v.image_path)]
    if len(present) < 2:
        gone = f"; {len(missing)} are missing, such as {missing[0]}" if missing else ""
        raise DataError(
            f"{where}: {len(present)} picture(s) with a camera; at least 2 are needed{gone}; "
            "add photos, or put them where the cameras' file says"
        )
    if missing:
        shown = ", ".join(p.name for p in missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        warnings.warn(f"{where}: {len(missing)} of {len(views)} pictures are missing: {shown}", stacklevel=2)
    present = sorted((_masked(fitted_view(v), options) for v in present), key=lambda v: v.name)
    if not has_split and options.test_every > 0:
        present = [replace(v, split="test" if i % options.test_every == 0 else "train") for i, v in enumerate(present)]
    if not any(v.split == "train" for v in present):
        remedy = "correct the capture's own split" if has_split else "raise data.test_every, or set it to 0"
        raise DataError(f"{where}: no training views are left; {remedy}")
    try:
        collection = Views(tuple(present), options.max_size)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    if points is not None and len(points.positions) == 0:
        points = None
    return Scene(frame=estimate_frame(collection.train, points), views=collection, points=points)


def _masked(view: View, options: Options) -> View:
    """With the mask of the options' folder, else the capture's own."""
    path = view.mask_path if options.masks is None else _mask(options.masks, view)
    if path is not None and not os.path.isfile(path):
        raise DataError(f"{path}: no such mask, though {view.name} names it; add it, or give a folder as data.masks")
    return replace(view, mask_path=path, mask_is_alpha=options.masks_are_alpha)


def _mask(folder: Path, view: View) -> Path:
    """COLMAP's `folder/cam1/0001.jpg.png` and its common variants; then the same without the subfolder."""
    picture = Path(view.name)
    parent = Path() if picture.is_absolute() or ".." in picture.parts else picture.parent
    names = (f"{picture.stem}.png", f"{picture.name}.png", view.image_path.name, f"{picture.stem}_mask.png")
    for name in [*(parent / n for n in names), *names]:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder}: no mask for {view.name}; expected {names[0]} or {names[1]}")


def pictures_in(folder: Path) -> list[Path]:
    """All picture files of a folder, by name."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []


def pinhole(
    pose: Tensor, fx: float, fy: float, cx: float, cy: float, width: float, height: float, where: str
) -> Camera:
    """A camera with checked intrinsics."""
    if not (0 < fx < 1e7 and 0 < fy < 1e7 and 1 <= width < 1e6 and 1 <= height < 1e6 and max(abs(cx), abs(cy)) < 1e7):
        raise DataError(
            f"{where}: focal length {fx:g} x {fy:g} and principal point {cx:g}, {cy:g} for a picture of "
            f"{width:g} x {height:g} make no sense; correct them or solve the cameras again"
        )
    return Camera(pose, fx, fy, cx, cy, round(width), round(height))


def cloud(xyz: np.ndarray, rgb: np.ndarray) -> Points:
    """Points of (M, 3) positions and (M, 3) colours, 0 to 255; those that are not finite are left out."""
    with np.errstate(over="ignore"):
        rows = np.concatenate([xyz, rgb], 1).astype(np.float32)
    rows = torch.from_numpy(rows[np.isfinite(rows).all(1)])
    return Points(rows[:, :3].contiguous(), (rows[:, 3:] / 255).clamp(0, 1))


def radial_tangential(*params: float) -> Distortion | None:
    """k1, k2, p1, p2, k3 .. k6; missing ones are zero.  None if all are."""
    padded = tuple(params) + (0.0,) * (8 - len(params))
    return Distortion("radial-tangential", padded) if any(padded) else None
