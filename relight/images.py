"""Pictures on disk to tensors.  Colour stays as stored; `Picture.linear` says which kind it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from relight.errors import DataError

MAX_PIXELS = 300_000_000
"""Larger pictures are refused before decoding: a few kilobytes can claim to be terabytes."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".exr", ".hdr")


@dataclass(frozen=True)
class Picture:
    """values: (H, W, 1 to 4) float32; integers are scaled to 0 to 1, alpha is straight.
    linear: True for EXR and HDR (scene-referred), False for sRGB-encoded files.
    """

    values: Tensor
    linear: bool

    @property
    def rgb(self) -> Tensor:
        """(H, W, 3); grey is repeated."""
        color = self.values[..., : 3 if self.values.shape[-1] >= 3 else 1]
        return color.expand(*color.shape[:2], 3)

    @property
    def alpha(self) -> Tensor | None:
        """(H, W), or None if the file has no alpha."""
        return self.values[..., -1] if self.values.shape[-1] in (2, 4) else None


def read_image(path: str | Path) -> Picture:
    """Decode a file, turned upright as its EXIF orientation says.  Raises DataError for anything unreadable."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such picture")
    reader = {".exr": _read_exr, ".hdr": _read_hdr}.get(path.suffix.lower(), _read_integer)
    try:
        values = reader(path)
    except DataError:
        raise
    except Exception as error:  # decoders raise whatever they like on broken files
        raise DataError(f"{path}: cannot be decoded ({error}); re-export it or leave it out") from error
    if values.ndim != 3 or values.size == 0 or values.shape[2] > 4:
        raise DataError(f"{path}: a picture of shape {values.shape}; expected 1 to 4 channels and at least one pixel")
    return Picture(torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)), reader is not _read_integer)


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) as `read_image` would give it, without decoding where the format allows it."""
    from PIL import Image

    path = Path(path)
    if path.suffix.lower() in (".exr", ".hdr"):
        height, width = read_image(path).values.shape[:2]
        return width, height
    try:
        with Image.open(path) as image:
            width, height = image.size
            sideways = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except Exception as error:  # see read_image
        raise DataError(f"{path}: cannot be decoded ({error}); re-export it or leave it out") from error
    return (height, width) if sideways else (width, height)


def _read_integer(path: Path) -> np.ndarray:
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        if image.width * image.height > MAX_PIXELS:
            raise DataError(f"{path}: claims {image.width}x{image.height} pixels; at most {MAX_PIXELS} are read")
        deep = image.mode.startswith("I") or (path.suffix.lower() in (".png", ".tif", ".tiff") and image.mode in ("F",))
        if not deep and path.suffix.lower() != ".png":
            image.load()
        upright = ImageOps.exif_transpose(image)
        if not deep and not _is_deep_png(path):
            if upright.mode in ("P", "PA", "LA", "RGBA") or "transparency" in upright.info:
                return np.asarray(upright.convert("RGBA"), np.float32) / 255
            return (
                np.asarray(upright.convert("L" if upright.mode in ("1", "L") else "RGB"), np.float32).reshape(
                    upright.height, upright.width, -1
                )
                / 255
            )
    import cv2

    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise DataError(f"{path}: cannot be decoded; re-export it or leave it out")
    values = values[..., None] if values.ndim == 2 else values
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(values.shape[2], list(range(values.shape[2])))
    scale = np.iinfo(values.dtype).max if np.issubdtype(values.dtype, np.integer) else 1
    return values[..., order].astype(np.float32) / scale


def _is_deep_png(path: Path) -> bool:
    """16 bits a channel, which Pillow would cut to 8 for colour."""
    with path.open("rb") as file:
        header = file.read(26)
    return header[:8] == b"\x89PNG\r\n\x1a\n" and len(header) == 26 and header[24] == 16


def _read_exr(path: Path) -> np.ndarray:
    import OpenEXR

    with OpenEXR.File(str(path), separate_channels=True) as file:
        channels = {name: np.asarray(channel.pixels, np.float32) for name, channel in file.channels().items()}
    names = [n for n in ("R", "G", "B", "A") if n in channels] if "R" in channels else sorted(channels)[:4]
    return np.stack([channels[name] for name in names], -1)


def _read_hdr(path: Path) -> np.ndarray:
    import cv2

    values = cv2.imread(str(path), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    if values is None:
        raise DataError(f"{path}: not a Radiance HDR file that can be decoded")
    return values[..., ::-1]
