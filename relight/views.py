"""Posed photographs, decoded when they are needed."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from relight.errors import DataError
from relight.geometry.camera import Camera, Distortion
from relight.images import read_image
from relight.shading.color import linear_to_srgb, srgb_to_linear


@dataclass(frozen=True)
class Photo:
    """One decoded photograph, without lens distortion.

    rgb: (H, W, 3) float32, straight (not premultiplied), sRGB-encoded, 0 to 1; EXR and HDR sources, encoded with the
        same curve, may exceed 1.
    alpha: (H, W), 0 to 1: how much of the pixel the object covers; None if the capture has no cut-outs.
    mask: (H, W) bool, True where the pixel may be used; None for everywhere.
    """

    rgb: Tensor
    alpha: Tensor | None = None
    mask: Tensor | None = None

    def linear(self) -> Tensor:
        """(H, W, 3) linear Rec.709."""
        return srgb_to_linear(self.rgb)

    @property
    def nbytes(self) -> int:
        return sum(t.nbytes for t in (self.rgb, self.alpha, self.mask) if t is not None)


@dataclass(frozen=True)
class View:
    """A photograph on disk and the camera that took it.

    camera: pinhole, at the stored file's size; with a `distortion`, what the lens would be without it.
    distortion: of the stored file; None for a pinhole.  `photo` undoes it.
    mask_path: a picture, white where the pixel belongs to the object.
    mask_is_alpha: the mask is the object's coverage (the background is removed) instead of a "do not use" stencil.
    light: name of the file that lit this photograph, if known; relative to the capture.
    """

    name: str
    image_path: Path
    camera: Camera
    split: str = "train"
    distortion: Distortion | None = None
    mask_path: Path | None = None
    mask_is_alpha: bool = True
    light: str | None = None

    def camera_at(self, max_size: int | None) -> Camera:
        """The camera of `photo(max_size)`."""
        return self.camera.resized(*_reduced_size(self.camera.width, self.camera.height, max_size))

    def photo(self, max_size: int | None = None) -> Photo:
        """Decode, undistort, reduce the longer side to `max_size` pixels by area averaging of encoded values.

        Raises DataError if the file cannot be read or is not of the camera's size.
        """
        picture = read_image(self.image_path)
        rgb = linear_to_srgb(picture.rgb) if picture.linear else picture.rgb
        planes = [rgb.numpy()]
        alpha, mask = picture.alpha, None
        self._check_size(self.image_path, rgb)
        if self.mask_path is not None:
            coverage = read_image(self.mask_path).rgb[..., 0]
            self._check_size(self.mask_path, coverage)
            if self.mask_is_alpha:
                alpha = coverage if alpha is None else alpha * coverage
            else:
                mask = coverage
        height, width = rgb.shape[:2]
        inside = np.ones((height, width, 1), np.float32)
        planes += [_plane(alpha, inside), _plane(mask, inside), inside]
        stacked = np.concatenate(planes, 2)
        if self.distortion is not None and not self.distortion.is_identity:
            stacked = _undistort(stacked, self.camera, self.distortion)
        size = _reduced_size(width, height, max_size)
        if size != (width, height):
            import cv2

            # Colour under zero alpha means nothing and must not leak into the average.
            stacked[..., :3] *= stacked[..., 3:4]
            parts = [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (stacked[..., :4], stacked[..., 4:])]
            stacked = np.concatenate(parts, 2)
            stacked[..., :3] /= np.maximum(stacked[..., 3:4], 1e-6)
        result = torch.from_numpy(stacked)
        usable = result[..., 4] * result[..., 5] > 0.999
        return Photo(
            rgb=result[..., :3].clamp_min(0).contiguous(),
            alpha=None if alpha is None else result[..., 3].clamp(0, 1).contiguous(),
            mask=None if bool(usable.all()) else usable,
        )

    def _check_size(self, path: Path, picture: Tensor) -> None:
        height, width = picture.shape[:2]
        if (width, height) != (self.camera.width, self.camera.height):
            raise DataError(
                f"{path}: is {width}x{height}, but its camera says {self.camera.width}x{self.camera.height}; "
                "the file changed after the capture was read, or belongs to another one"
            )


def _plane(value: Tensor | None, ones: np.ndarray) -> np.ndarray:
    return ones if value is None else value.numpy()[..., None]


def _reduced_size(width: int, height: int, max_size: int | None) -> tuple[int, int]:
    longest = max(width, height)
    if max_size is None or longest <= max_size:
        return width, height
    return max(1, round(width * max_size / longest)), max(1, round(height * max_size / longest))


def _undistort(planes: np.ndarray, camera: Camera, distortion: Distortion) -> np.ndarray:
    """Sample the stored picture where each pixel of the pinhole camera was; the last plane becomes 0 outside it."""
    import cv2

    ideal = camera.local_rays(camera.pixel_grid())[..., :2]
    distorted = distortion.apply(ideal).numpy()
    x = (distorted[..., 0] * camera.fx + camera.cx - 0.5).astype(np.float32)
    y = (distorted[..., 1] * camera.fy + camera.cy - 0.5).astype(np.float32)
    parts = [planes[..., :4], planes[..., 4:]]
    warped = [cv2.remap(np.ascontiguousarray(p), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT) for p in parts]
    return np.concatenate(warped, 2)


class _Cache:
    """Least recently used photos, up to a number of bytes."""

    def __init__(self, limit: int = 2 << 30):
        self.limit = limit
        self.size = 0
        self.photos: OrderedDict[tuple[Path, int | None], Photo] = OrderedDict()

    def get(self, view: View, max_size: int | None) -> Photo:
        key = (view.image_path, max_size)
        if key in self.photos:
            self.photos.move_to_end(key)
            return self.photos[key]
        photo = view.photo(max_size)
        self.photos[key] = photo
        self.size += photo.nbytes
        while self.size > self.limit and len(self.photos) > 1:
            self.size -= self.photos.popitem(last=False)[1].nbytes
        return photo


@dataclass(frozen=True)
class Views:
    """An ordered set of views with unique names.

    max_size: longest side in pixels that photos are reduced to; None keeps them.
    """

    views: tuple[View, ...]
    max_size: int | None = None
    _cache: _Cache = field(default_factory=_Cache, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = [v.name for v in self.views]
        twice = {n for n in names if names.count(n) > 1}
        if twice:
            raise DataError(f"views have the same name: {', '.join(sorted(twice)[:5])}; names must be unique")

    def __len__(self) -> int:
        return len(self.views)

    def __iter__(self) -> Iterator[View]:
        return iter(self.views)

    def __getitem__(self, index: int) -> View:
        return self.views[index]

    def photo(self, index: int, scale: float = 1.0) -> Photo:
        """Decoded and cached.  `scale` <= 1 reduces the picture further, for progressive resolution."""
        return self._cache.get(self.views[index], self._size(index, scale))

    def camera(self, index: int, scale: float = 1.0) -> Camera:
        """The camera of `photo(index, scale)`: same height and width."""
        return self.views[index].camera_at(self._size(index, scale))

    def _size(self, index: int, scale: float) -> int | None:
        camera = self.views[index].camera
        if scale >= 1:
            return self.max_size
        longest = max(camera.width, camera.height)
        return max(8, round(scale * min(longest, self.max_size or longest)))

    def split(self, name: str) -> Views:
        return replace(self, views=tuple(v for v in self.views if v.split == name))

    @property
    def train(self) -> Views:
        return self.split("train")

    @property
    def test(self) -> Views:
        return self.split("test")

    def to_json(self) -> dict[str, object]:
        """Readable, OpenCV convention.  Picture paths are relative to `folder`, which is absolute: who moves the
        pictures has one line to edit.
        """
        paths = [path.resolve() for v in self.views for path in (v.image_path, v.mask_path) if path is not None]
        folder = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path.cwd()

        def relative(path: Path) -> str:
            return path.resolve().relative_to(folder).as_posix()

        frames = []
        for view in self.views:
            c = view.camera
            frame: dict[str, object] = {
                "name": view.name,
                "split": view.split,
                "image": relative(view.image_path),
                "width": c.width,
                "height": c.height,
                "fx": c.fx,
                "fy": c.fy,
                "cx": c.cx,
                "cy": c.cy,
                "world_from_camera": c.world_from_camera.tolist(),
            }
            if view.distortion is not None:
                frame["distortion"] = {"model": view.distortion.model, "params": list(view.distortion.params)}
            if view.mask_path is not None:
                frame["mask"] = relative(view.mask_path)
                frame["mask_is_alpha"] = view.mask_is_alpha
            if view.light is not None:
                frame["light"] = view.light
            frames.append(frame)
        return {"convention": "opencv", "folder": str(folder), "max_size": self.max_size, "frames": frames}

    @staticmethod
    def from_json(data: Mapping) -> Views:
        """Inverse of `to_json`."""
        views, base = [], Path(data["folder"])
        for f in data["frames"]:
            pose = torch.tensor(f["world_from_camera"], dtype=torch.float32)
            camera = Camera(pose, f["fx"], f["fy"], f["cx"], f["cy"], f["width"], f["height"])
            lens = f.get("distortion")
            views.append(
                View(
                    name=f["name"],
                    image_path=base / f["image"],
                    camera=camera,
                    split=f["split"],
                    distortion=Distortion(lens["model"], tuple(lens["params"])) if lens else None,
                    mask_path=base / f["mask"] if "mask" in f else None,
                    mask_is_alpha=f.get("mask_is_alpha", True),
                    light=f.get("light"),
                )
            )
        return Views(tuple(views), data.get("max_size"))
