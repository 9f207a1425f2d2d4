"""What every reader needs: checked poses, picture sizes, masks, splits."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from relight.errors import DataError
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
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: the pose is not a matrix of numbers ({error})") from error
    if pose.shape == (3, 4):
        pose = torch.cat([pose, torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)])
    if pose.shape != (4, 4):
        raise DataError(f"{where}: the pose has shape {tuple(pose.shape)}; expected 4x4 or 3x4")
    if not torch.isfinite(pose).all():
        raise DataError(f"{where}: the pose contains NaN or infinity; remove this view or solve the cameras again")
    rotation = pose[:3, :3]
    scale = rotation.norm(dim=0).mean()
    off = (rotation.mT @ rotation / scale**2 - torch.eye(3, dtype=torch.float64)).abs().max() if scale > 0 else math.inf
    if not (off < 1e-2 and torch.linalg.det(rotation) > 0):
        raise DataError(f"{where}: the pose is not a rotation and a translation (deviation {float(off):.3g})")
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
        raise DataError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(data, dict):
        raise DataError(f"{path}: expected a JSON object, found {type(data).__name__}")
    return data


def number(data: dict, key: str, where: str, default: float | None = None) -> float:
    """A finite number at `key`, or DataError naming file and key."""
    value = data.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{where}: '{key}' should be a finite number, found {value!r}")
    return float(value)


def fitted_view(view: View) -> View | None:
    """The view with its camera at the picture's true size, or None if the picture is missing.

    A picture of the same shape but another size (reduced after the cameras were solved) rescales the camera.
    """
    if not view.image_path.is_file():
        return None
    width, height = image_size(view.image_path)
    camera = view.camera
    if (width, height) != (camera.width, camera.height):
        # Rounding of the smaller side may change the shape by a pixel.
        if abs(width * camera.height - height * camera.width) > 1.01 * max(camera.width, camera.height, width, height):
            raise DataError(
                f"{view.image_path}: is {width}x{height}, but its camera was solved for {camera.width}x{camera.height}; "
                "the shapes differ, so this is another picture, or one that was cropped or turned"
            )
        camera = camera.resized(width, height)
    return replace(view, camera=camera)


def finish(
    views: Sequence[View], options: Options, where: Path, *, points: Points | None = None, has_split: bool = False
) -> Scene:
    """Drop missing pictures, attach masks, split, and put the scene together."""
    from relight.data.frame import estimate_frame

    present = [v for v in map(fitted_view, views) if v is not None]
    missing = [
        v.image_path.name for v, p in zip(views, map(lambda v: v.image_path.is_file(), views), strict=True) if not p
    ]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        warnings.warn(f"{where}: {len(missing)} of {len(views)} pictures are missing: {shown}", stacklevel=2)
    if len(present) < 2:
        raise DataError(f"{where}: {len(present)} picture(s) with a camera; at least 2 are needed")
    present.sort(key=lambda v: v.name)
    if options.masks is not None:
        present = [
            replace(v, mask_path=_mask(options.masks, v), mask_is_alpha=options.masks_are_alpha) for v in present
        ]
    if not has_split and options.test_every > 0:
        present = [replace(v, split="test" if i % options.test_every == 0 else "train") for i, v in enumerate(present)]
    if not any(v.split == "train" for v in present):
        raise DataError(f"{where}: no training views are left; raise data.test_every")
    collection = Views(tuple(present), options.max_size)
    if points is not None and len(points.positions) == 0:
        points = None
    return Scene(frame=estimate_frame(collection.train, points), views=collection, points=points)


def _mask(folder: Path, view: View) -> Path:
    stem = view.image_path.stem
    for name in (f"{stem}.png", f"{view.image_path.name}.png", view.image_path.name, f"{stem}_mask.png"):
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder}: no mask for {view.image_path.name}; expected {stem}.png or {view.image_path.name}.png")


def pictures_in(folder: Path) -> list[Path]:
    """All picture files of a folder, by name."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []


def pinhole(
    pose: Tensor, fx: float, fy: float, cx: float, cy: float, width: float, height: float, where: str
) -> Camera:
    """A camera with checked intrinsics."""
    if not (fx > 0 and fy > 0 and width >= 1 and height >= 1 and width < 1e6 and height < 1e6):
        raise DataError(f"{where}: focal length {fx} x {fy} for a picture of {width} x {height} makes no sense")
    return Camera(pose, fx, fy, cx, cy, int(width), int(height))


def radial_tangential(*params: float) -> Distortion | None:
    """k1, k2, p1, p2, k3 .. k6; missing ones are zero.  None if all are."""
    padded = tuple(params) + (0.0,) * (8 - len(params))
    return Distortion("radial-tangential", padded) if any(padded) else None
