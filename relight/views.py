"""Posed photographs, read when they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from relight.geometry.camera import Camera, Distortion


@dataclass(frozen=True)
class Photo:
    """One decoded photograph.

    rgb: (H, W, 3) float32, *straight* (not premultiplied), sRGB-encoded, 0 to 1 (may exceed 1 for EXR sources).
    alpha: (H, W) 0 to 1, coverage from the file's own alpha channel, or None.
    mask: (H, W) bool, True where the pixel may be used for fitting, or None for everywhere.
    """

    rgb: Tensor
    alpha: Tensor | None = None
    mask: Tensor | None = None


@dataclass(frozen=True)
class View:
    """A photograph on disk and the camera that took it.

    camera: of the *undistorted* picture at its full stored size.
    distortion: of the stored file; None for pinhole.  `photo` undoes it.
    mask_path: a picture, white where the pixel belongs to the object.
    mask_is_alpha: the mask is the object's coverage (background removed) rather than a "do not use" stencil.
    """

    name: str
    image_path: Path
    camera: Camera
    split: str = "train"
    distortion: Distortion | None = None
    mask_path: Path | None = None
    mask_is_alpha: bool = True


@dataclass(frozen=True)
class Views:
    """An ordered set of views with unique names; `train` and `test` are the two splits."""

    views: tuple[View, ...]
    max_size: int | None = None
    """Longest side in pixels that photos are reduced to (area average) when read; None keeps them."""

    def __len__(self) -> int:
        return len(self.views)

    def __iter__(self) -> Iterator[View]:
        return iter(self.views)

    def __getitem__(self, index: int) -> View:
        return self.views[index]

    def split(self, name: str) -> Views:
        return replace(self, views=tuple(v for v in self.views if v.split == name))

    @property
    def train(self) -> Views:
        return self.split("train")

    @property
    def test(self) -> Views:
        return self.split("test")
