"""Pictures on disk to tensors.  Colour stays as stored; `Picture.linear` says which kind it is."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from relight.errors import DataError
from relight.shading.color import linear_to_srgb

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 178_000_000
"""Larger pictures are refused before decoding: a few kilobytes can claim to be terabytes.  Pillow's own limit."""
DEFLATE = 1032
"""Bytes of pixels that a byte of PNG can hold, at most."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".exr", ".hdr")
ORIENTATION = 0x0112
"""EXIF tag; 1 is upright."""
EXIF, EXPOSURE_TIME, F_NUMBER, SENSITIVITY = 0x8769, 0x829A, 0x829D, 0x8827
"""EXIF: the block of a photograph's settings, and seconds, f-number and ISO speed in it."""


@dataclass(frozen=True)
class Picture:
    """values: (H, W, 1 to 4) float32; integers are scaled to 0 to 1, alpha is straight.
    linear: True for EXR, HDR and float TIFF (scene-referred), False for sRGB-encoded files.
    """

    values: Tensor
    linear: bool

    @property
    def rgb(self) -> Tensor:
        """(H, W, 3); grey is repeated."""
        color = self.values[..., : 3 if self.values.shape[-1] >= 3 else 1]
        return color.expand(*color.shape[:2], 3)

    @property
    def srgb(self) -> Tensor:
        """(H, W, 3) sRGB-encoded; scene-referred values beyond 0 to 1 are clipped."""
        return linear_to_srgb(self.rgb.clamp(0, 1)) if self.linear else self.rgb

    @property
    def alpha(self) -> Tensor | None:
        """(H, W), or None if the file has no alpha."""
        return self.values[..., -1] if self.values.shape[-1] in (2, 4) else None


def read_image(path: str | Path, *, upright: bool = True) -> Picture:
    """Decode a file.  Raises DataError for anything unreadable.

    upright: turn it as its EXIF orientation says; False keeps the stored rows and columns.
    """
    path = _existing(path)
    with _explained(path):
        if path.suffix.lower() == ".exr":
            values, linear = _read_exr(path), True
        elif path.suffix.lower() == ".hdr":
            values, linear = _read_hdr(path), True
        else:
            values, linear = _read_pillow(path, upright)
    return Picture(torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)), linear)


def image_size(path: str | Path, *, upright: bool = True) -> tuple[int, int]:
    """(width, height) as `read_image` would give it, from the file's header alone."""
    path = _existing(path)
    with _explained(path):
        if path.suffix.lower() == ".exr":
            _, (left, top, right, bottom) = _exr_windows(path)
            return right - left, bottom - top
        if path.suffix.lower() == ".hdr":
            return _hdr_size(path)
        with _opened(path) as image:
            width, height = image.size
            return (height, width) if upright and _orientation(image) >= 5 else (width, height)


def exposure(path: str | Path) -> float | None:
    """Of a photograph, from its EXIF block: seconds times ISO / 100 over the f-number's square, the last two only if
    given; None if it says no time.  Raises DataError for a file that isn't there.
    """
    path = _existing(path)
    try:
        with _opened(path) as image:
            said = image.getexif().get_ifd(EXIF)
        time, stop, speed = (float(said.get(tag) or other) for tag, other in
                             ((EXPOSURE_TIME, 0), (F_NUMBER, 1), (SENSITIVITY, 100)))  # fmt: skip
        found = time * speed / 100 / (stop * stop)
    except Exception:  # decoders and EXIF blocks raise whatever they like
        return None
    return found if 0 < found < float("inf") else None


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not os.path.isfile(path):  # unlike Path.is_file, false for names no file can have
        raise DataError(f"{path}: no such picture; check the path, or leave the view out")
    return path


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Decoders raise whatever they like on broken files."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path}: cannot be decoded ({error}); re-export it or leave it out") from error


def _check_pixels(path: Path, width: int, height: int) -> None:
    if not 0 < width * height <= MAX_PIXELS or width < 0:
        raise DataError(
            f"{path}: claims {width}x{height} pixels; 1 to {MAX_PIXELS} are read; re-export it smaller or leave it out"
        )


# PNG, JPEG, WebP, BMP, TIFF


@contextmanager
def _opened(path: Path) -> Iterator[Image]:
    """A Pillow picture whose header, not its pixels, has been read."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # we have a limit of our own
        try:
            image = Image.open(path)
        except Image.DecompressionBombError:
            raise DataError(
                f"{path}: claims more than {MAX_PIXELS} pixels; re-export it smaller or leave it out"
            ) from None
    with image:
        _check_pixels(path, *image.size)
        yield image


def _orientation(image: Image) -> int:
    """1 to 8; 1 for none, and for what is no orientation."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # pixels are good even if the EXIF block is not
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """Stored rows and columns to upright ones, for an EXIF orientation of 1 to 8."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values


def _read_pillow(path: Path, upright: bool) -> tuple[np.ndarray, bool]:
    with _opened(path) as image:
        orientation = _orientation(image)
        depth = _bits(path, image)
        if image.format == "PNG":
            _check_deflated(path, image.width * image.height * len(image.getbands()) * depth // 8)
        if depth > 16 and image.mode != "F":
            raise DataError(f"{path}: integers of {depth} bits; re-export it with 8 or 16, or as float")
        if depth > 8 and image.mode in ("RGB", "RGBA", "LA", "P"):
            if image.format == "TIFF" and orientation != 1:
                # OpenCV turns TIFFs on its own, and not all of them.
                raise DataError(f"{path}: a turned TIFF of {depth} bits; re-export it upright or with 8 bits")
            if image.format == "PNG":
                _check_chunks(path)
            values = _read_deep_color(path)
        else:
            values = _decoded(image)
    linear = np.issubdtype(values.dtype, np.floating)
    if not linear:
        values = values.astype(np.float32) / np.iinfo(values.dtype).max
    values = values[..., None] if values.ndim == 2 else values
    return (_turned(values, orientation) if upright else values), linear


def _check_deflated(path: Path, size: int) -> None:
    """Decoders take the memory before they see that the data ends: a few KB could ask for gigabytes."""
    if size > DEFLATE * path.stat().st_size:
        raise DataError(f"{path}: claims {size} bytes of pixels, more than it can hold; re-export it or leave it out")


def _check_chunks(path: Path) -> None:
    """OpenCV takes the memory of a chunk of PNG before it sees that the file ends."""
    size, at = path.stat().st_size, 8
    with path.open("rb") as file:
        while at + 12 <= size:
            file.seek(at)
            at += 12 + int.from_bytes(file.read(4), "big")
    if at > size:
        raise DataError(f"{path}: claims a chunk longer than the file; re-export it or leave it out")


def _decoded(image: Image) -> np.ndarray:
    if image.mode == "F" or image.mode.startswith("I;16"):
        return np.array(image)
    if image.mode == "I":  # 16 bits, in Pillow's 32-bit integers
        return np.asarray(image).clip(0, 65535).astype(np.uint16)
    if image.mode in ("PA", "LA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        return np.asarray(image.convert("RGBA"))
    return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))


def _bits(path: Path, image: Image) -> int:
    """Bits a channel as stored; Pillow cuts colour to 8."""
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24]
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (8,)))  # type: ignore[attr-defined] - BitsPerSample
    return 8


def _read_deep_color(path: Path) -> np.ndarray:
    import cv2

    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if values is None or values.ndim != 3 or values.shape[2] not in (3, 4):
        raise DataError(f"{path}: cannot be decoded; re-export it or leave it out")
    return values[..., [2, 1, 0, 3][: values.shape[2]]]


# OpenEXR


def _exr_windows(path: Path) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    """Data window and display window: left, top, right, bottom; the last two exclusive."""
    import OpenEXR

    with OpenEXR.File(str(path), header_only=True) as file:
        corners = [[corner.tolist() for corner in file.header()[name]] for name in ("dataWindow", "displayWindow")]
    windows = []
    for (left, top), (right, bottom) in corners:
        _check_pixels(path, right + 1 - left, bottom + 1 - top)
        windows.append((left, top, right + 1, bottom + 1))
    return windows[0], windows[1]


def _read_exr(path: Path) -> np.ndarray:
    """(H, W, 1 to 4) over the display window; zero where no data is stored."""
    import OpenEXR

    data, display = _exr_windows(path)
    with OpenEXR.File(str(path), separate_channels=True) as file:
        channels = file.channels()
        names = _color_channels(path, list(channels))
        stored = np.stack([np.asarray(channels[name].pixels, np.float32) for name in names], -1)
    if stored.shape[:2] != (data[3] - data[1], data[2] - data[0]):
        raise DataError(f"{path}: has channels of reduced resolution; re-export it as plain RGB")
    values = stored
    if data != display:
        values = np.zeros((display[3] - display[1], display[2] - display[0], len(names)), np.float32)
        left, right = max(data[0], display[0]), min(data[2], display[2])
        top, bottom = max(data[1], display[1]), min(data[3], display[3])
        if left < right and top < bottom:
            values[top - display[1] : bottom - display[1], left - display[0] : right - display[0]] = stored[
                top - data[1] : bottom - data[1], left - data[0] : right - data[0]
            ]
    if len(names) in (2, 4):  # the format's colour is premultiplied
        alpha = values[..., -1:]
        values[..., :-1] = np.divide(values[..., :-1], alpha, out=values[..., :-1].copy(), where=alpha > 0)
    return values


def _color_channels(path: Path, names: list[str]) -> list[str]:
    """R, G, B (or X, Y, Z) and A of the layer with the shortest name, or the one grey channel; alpha last."""
    for name in sorted(names, key=lambda n: (len(n), n)):
        for triple in ("RGB", "XYZ"):
            layer = name[:-1]
            if name[-1] == triple[0] and all(layer + c in names for c in triple):
                return [layer + c for c in (*triple, "A") if layer + c in names]
    grey = [n for n in names if n != "A"]
    if len(grey) == 1:
        return grey + (["A"] if "A" in names else [])
    raise DataError(f"{path}: no R, G, B channels among {', '.join(sorted(names)) or 'none'}; re-export it as RGB")


# Radiance HDR


def _hdr_size(path: Path) -> tuple[int, int]:
    with path.open("rb") as file:
        head = file.read(1 << 16)
    found = re.search(rb"\n\n([-+])Y (\d{1,9}) ([-+])X (\d{1,9})\n", head)
    if not head.startswith(b"#?") or found is None:
        raise DataError(f"{path}: not a Radiance HDR file; re-export it or leave it out")
    if (found[1], found[3]) != (b"-", b"+"):
        raise DataError(f"{path}: a Radiance file stored upside down or mirrored; re-export it with -Y +X")
    width, height = int(found[4]), int(found[2])
    _check_pixels(path, width, height)
    return width, height


def _read_hdr(path: Path) -> np.ndarray:
    import cv2

    _hdr_size(path)
    values = cv2.imread(str(path), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    if values is None:
        raise DataError(f"{path}: not a Radiance HDR file that can be decoded; re-export it or leave it out")
    return values[..., ::-1]
