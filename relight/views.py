"""Posed photographs, decoded when they are needed."""

from __future__ import annotations

import math
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from relight.errors import DataError, RelightError
from relight.geometry.camera import Camera, Distortion
from relight.images import read_image
from relight.shading.color import linear_to_srgb, srgb_to_linear

CACHE_VARIABLE = "RELIGHT_PHOTO_CACHE"
"""Environment: GiB of decoded photographs that a capture keeps; 2 if it is not set."""
STRIP = 256
"""Rows that are undistorted at a time."""


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

    def to(self, device: torch.device) -> Photo:
        """On another device; itself if it is there."""
        if self.rgb.device == device:
            return self
        return Photo(*(None if t is None else t.to(device) for t in (self.rgb, self.alpha, self.mask)))  # type: ignore[arg-type]

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
    upright: the camera is that of the picture turned as its EXIF orientation says, not of the stored rows and columns.
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
    upright: bool = True

    def camera_at(self, max_size: int | None) -> Camera:
        """The camera of `photo(max_size)`."""
        return self.camera.resized(*_reduced_size(self.camera.width, self.camera.height, max_size))

    def photo(self, max_size: int | None = None) -> Photo:
        """Decode, undistort, reduce the longer side to `max_size` pixels by area averaging of encoded values.

        Raises DataError if the file cannot be read or is not of the camera's size.
        """
        picture = read_image(self.image_path, upright=self.upright)
        rgb = linear_to_srgb(picture.rgb) if picture.linear else picture.rgb
        self._check_size(self.image_path, rgb)
        size = _reduced_size(self.camera.width, self.camera.height, max_size)
        lens = None if self.distortion is None or self.distortion.is_identity else self.distortion
        if picture.alpha is None and self.mask_path is None and lens is None:
            # The planes below would be ones; of 24 megapixels they take 600 MB.
            return Photo(_reduced(rgb, size).clamp_min(0))
        weight, usable = torch.ones(2, *rgb.shape[:2])
        has_alpha = picture.alpha is not None or (self.mask_path is not None and self.mask_is_alpha)
        if picture.alpha is not None:
            weight = picture.alpha
        if self.mask_path is not None:
            mask = read_image(self.mask_path, upright=self.upright).rgb[..., 0]
            self._check_size(self.mask_path, mask)
            if self.mask_is_alpha:
                weight = weight * mask
            else:
                usable = (mask > 0.5).float()  # JPEG's white is not quite 1
        # Colour under zero alpha means nothing and must not leak into averages: premultiplied until the end.
        planes = torch.cat([rgb * weight[..., None], weight[..., None], usable[..., None]], -1).numpy()
        del rgb, picture
        if lens is not None:
            planes = _undistort(planes, self.camera, lens)
        if size != (self.camera.width, self.camera.height):
            import cv2

            planes = np.dstack(
                [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (planes[..., :4], planes[..., 4])]
            )
        result = torch.from_numpy(planes)
        weight, usable = result[..., 3], result[..., 4] > 0.999
        return Photo(
            rgb=(result[..., :3] / weight[..., None].clamp_min(1e-6)).clamp_min(0),
            alpha=weight.clamp(0, 1) if has_alpha else None,
            mask=None if bool(usable.all()) else usable,
        )

    def _check_size(self, path: Path, picture: Tensor) -> None:
        height, width = picture.shape[:2]
        if (width, height) != (self.camera.width, self.camera.height):
            raise DataError(
                f"{path}: is {width}x{height}, but its camera says {self.camera.width}x{self.camera.height}; "
                "the file changed after the capture was read, or belongs to another one"
            )


def _reduced_size(width: int, height: int, max_size: int | None) -> tuple[int, int]:
    longest = max(width, height)
    if max_size is None or longest <= max_size:
        return width, height
    return max(1, round(width * max_size / longest)), max(1, round(height * max_size / longest))


def _reduced(rgb: Tensor, size: tuple[int, int]) -> Tensor:
    """(H, W, 3) by area averaging; a copy of a smaller file's worth, or `rgb` itself."""
    import cv2

    if (rgb.shape[1], rgb.shape[0]) == size:
        return rgb.contiguous()
    return torch.from_numpy(cv2.resize(np.ascontiguousarray(rgb), size, interpolation=cv2.INTER_AREA))


def _undistort(planes: np.ndarray, camera: Camera, distortion: Distortion) -> np.ndarray:
    """Sample the stored picture where each pixel of the pinhole camera was; zero outside it."""
    import cv2

    corners = torch.tensor([(x, y) for x in (0.5, camera.width - 0.5) for y in (0.5, camera.height - 0.5)])
    fold = _fold(distortion, float(camera.local_rays(corners)[:, :2].norm(dim=-1).max()))
    parts = [np.ascontiguousarray(p) for p in (planes[..., :4], planes[..., 4])]
    found = np.empty_like(planes)
    across = torch.arange(camera.width) + 0.5
    # In strips: rays, radii and places of 24 megapixels would take a gigabyte.
    for top in range(0, camera.height, STRIP):
        down = torch.arange(top, min(top + STRIP, camera.height)) + 0.5
        y, x = torch.meshgrid(down, across, indexing="ij")
        ideal = camera.local_rays(torch.stack([x, y], -1))[..., :2]
        distorted = distortion.apply(ideal)
        x = distorted[..., 0] * camera.fx + camera.cx - 0.5
        y = distorted[..., 1] * camera.fy + camera.cy - 0.5
        x = torch.where(ideal.norm(dim=-1) < fold, x, -9.0).numpy()
        rows = [cv2.remap(p, x, y.numpy(), cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT) for p in parts]
        found[top : top + STRIP] = np.dstack(rows)
    return found


def _fold(distortion: Distortion, farthest: float) -> float:
    """Ideal radius at which the lens polynomial, fitted inside the picture only, turns back; inf if it does not.

    Beyond it the model would show the picture's inside a second time.
    """
    params = list(distortion.params)
    if distortion.model == "radial-tangential":
        params[2:4] = 0.0, 0.0
    radii = torch.linspace(0, farthest, 1025, dtype=torch.float64)
    line = torch.stack([radii, torch.zeros_like(radii)], -1)
    rising = replace(distortion, params=tuple(params)).apply(line)[:, 0].diff() > 0
    return math.inf if bool(rising.all()) else float(radii[int(rising.int().argmin())])


class _Cache:
    """Least recently used photos, up to a number of bytes; the last one, however large, is kept."""

    def __init__(self, limit: int | None = None):
        self.limit = _cache_limit() if limit is None else limit
        self.size = 0
        self.photos: OrderedDict[tuple, Photo] = OrderedDict()
        self.lock = threading.Lock()

    def get(self, view: View, max_size: int | None) -> Photo:
        c = view.camera
        key = (
            view.image_path, view.upright, view.mask_path, view.mask_is_alpha, view.distortion,
            c.fx, c.fy, c.cx, c.cy, c.width, c.height, max_size,
        )  # fmt: skip
        with self.lock:
            if key in self.photos:
                self.photos.move_to_end(key)
                return self.photos[key]
        photo = view.photo(max_size)  # without the lock: the viewer doesn't wait for what the fit decodes
        with self.lock:
            if key not in self.photos:
                self.photos[key] = photo
                self.size += photo.nbytes
            while self.size > self.limit and len(self.photos) > 1:
                self.size -= self.photos.popitem(last=False)[1].nbytes
            return self.photos.get(key, photo)


def _cache_limit() -> int:
    """Bytes.  Raises RelightError for what is no size."""
    text = os.environ.get(CACHE_VARIABLE, "2")
    try:
        size = float(text)
    except ValueError:
        size = math.nan
    if not 0 <= size < math.inf:
        raise RelightError(f"{CACHE_VARIABLE}={text}: expected GiB, such as 0.5; correct it or leave it out")
    return int(size * 2**30)


@dataclass(frozen=True)
class Views:
    """An ordered set of views with unique names.

    max_size: longest side in pixels that photos are reduced to; None keeps them.
    """

    views: tuple[View, ...]
    max_size: int | None = None
    _cache: _Cache = field(default_factory=_Cache, repr=False, compare=False)

    def __post_init__(self) -> None:
        twice = sorted(name for name, count in Counter(v.name for v in self.views).items() if count > 1)
        if twice:
            raise DataError(f"views have the same name: {', '.join(twice[:5])}; names must be unique")

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
            if not view.upright:
                frame["upright"] = False
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
                    upright=f.get("upright", True),
                )
            )
        return Views(tuple(views), data.get("max_size"))
