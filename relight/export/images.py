"""Stills and films: 8-bit PNG and JPEG, float EXR, H.264 mp4.  Every file is complete or absent."""

from __future__ import annotations

import io
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from relight.atomic import replacing
from relight.errors import RelightError
from relight.shading.color import srgb_to_linear

if TYPE_CHECKING:
    from PIL.Image import Image


def to_bytes(image: Tensor) -> np.ndarray:
    """(..., C) encoded values, 0 to 1, to uint8, rounded; clamped outside, NaN becomes 0."""
    return (image.detach().nan_to_num(0.0).clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()


def straight(premultiplied: Tensor, alpha: Tensor) -> Tensor:
    """(H, W, 4) straight-alpha RGBA of (H, W, 3) premultiplied colour and (H, W) coverage; colour 0 where alpha is."""
    color = torch.where(alpha[..., None] > 0, premultiplied / alpha[..., None].clamp_min(1e-6), 0.0)
    return torch.cat([color, alpha[..., None]], -1)


def pillow(image: Tensor) -> Image:
    """(H, W), (H, W, 3) or (H, W, 4) encoded values, 0 to 1, as an 8-bit Pillow picture."""
    from PIL import Image as PillowImage

    return PillowImage.fromarray(to_bytes(image))


def encoded_bytes(image: Tensor, kind: str = "png") -> bytes:
    """A picture file in memory.  kind: "png" (lossless) or "jpeg" (quality 90, without alpha)."""
    buffer = io.BytesIO()
    pillow(image).save(buffer, format=kind, quality=90, optimize=True)
    return buffer.getvalue()


def write_image(path: str | Path, image: Tensor) -> None:
    """Write (H, W), (H, W, 3) or (H, W, 4) sRGB-encoded values by suffix.

    .png: 8 bits.  .jpg, .jpeg: 8 bits, no alpha.  .exr: float32, decoded to linear light and alpha premultiplied,
    as the format demands; alpha itself is not decoded.  Raises `RelightError` for another suffix.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".exr":
        color = srgb_to_linear(image[..., :3] if image.ndim == 3 else image[..., None].expand(-1, -1, 3))
        channels = {"RGB": color}
        if image.ndim == 3 and image.shape[-1] == 4:
            channels = {"RGBA": torch.cat([color * image[..., 3:], image[..., 3:]], -1)}
        write_exr(path, channels)
    elif suffix in (".png", ".jpg", ".jpeg"):
        image = image[..., :3] if suffix != ".png" and image.ndim == 3 else image
        with replacing(path) as temporary:
            temporary.write_bytes(encoded_bytes(image, "png" if suffix == ".png" else "jpeg"))
    else:
        raise RelightError(f"{path}: cannot write a picture as {suffix!r}; expected .png, .jpg or .exr")


def write_exr(path: str | Path, channels: Mapping[str, Tensor]) -> None:
    """Write named float32 channels, ZIP-compressed: (H, W) under its name ("Z"), (H, W, 3 or 4) under "RGB", "RGBA"
    or under NAME.X, NAME.Y, NAME.Z for any other name ("N")."""
    import OpenEXR

    planes: dict[str, np.ndarray] = {}
    for name, value in channels.items():
        array = np.ascontiguousarray(value.detach().cpu().to(torch.float32).numpy())
        if array.ndim == 3 and name not in ("RGB", "RGBA"):
            planes |= {f"{name}.{axis}": np.ascontiguousarray(array[..., i]) for i, axis in enumerate("XYZ")}
        else:
            planes[name] = array
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with replacing(path) as temporary, OpenEXR.File(header, planes) as file:
        file.write(str(temporary))


def write_film(
    path: str | Path,
    frames: Iterable[Tensor],
    fps: float | Fraction = 30.0,
    *,
    quality: int = 18,
    aspect: str | None = None,
    part: bool = False,
) -> int:
    """Write (H, W, 3) encoded frames, all of one size, as H.264 mp4 (yuv420p, Rec.709) that browsers and phones play.

    Odd sizes lose their last row or column, because 4:2:0 needs even ones.  quality: x264's constant rate factor,
    0 (lossless) to 51.  aspect: of a pixel, "128:117", if not square.  part: of a film that is put together later, so
    every frame is shown when it is decoded.  Frames are consumed one at a time.  Returns their number.
    Raises `RelightError` for no frames, pictures under 2x2, frames of several sizes, or a failing encoder.
    """
    path, count, encoder, size = Path(path), 0, None, (0, 0)
    with replacing(path) as temporary:
        try:
            for frame in frames:
                height, width = frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2
                if encoder is None:
                    if min(height, width) < 2:
                        raise RelightError(f"{path}: frames of {frame.shape[1]}x{frame.shape[0]} px; films need 2x2")
                    size = (width, height)
                    encoder = _Encoder(path, temporary, size, fps, quality, aspect, part)
                if (width, height) != size:
                    raise RelightError(f"{path}: frame {count} is {width}x{height} px, the first {size[0]}x{size[1]}")
                encoder.write(to_bytes(frame[:height, :width]))
                count += 1
            if encoder is None:
                raise RelightError(f"{path}: no frames, so no film")
            encoder.finish()
        finally:
            if encoder is not None:
                encoder.close()
    return count


class _Encoder:
    """The ffmpeg program at the end of a pipe."""

    def __init__(
        self, path: Path, temporary: Path, size: tuple[int, int], fps: float | Fraction, quality: int,
        aspect: str | None, part: bool,
    ):  # fmt: skip
        import imageio_ffmpeg

        # Both halves of the filter are needed: ffmpeg converts with Rec.601's matrix unless told, and players guess
        # the matrix from the size unless the stream names it.
        filters = (
            "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,"
            "setparams=colorspace=bt709:color_primaries=bt709:color_trc=iec61966-2-1:range=tv"
        ) + ("" if aspect is None else f",setsar={aspect.replace(':', '/')}:max=65535")
        rate = str(fps) if isinstance(fps, Fraction) else f"{fps:g}"
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24",
            "-s", f"{size[0]}x{size[1]}", "-r", rate, "-i", "-", "-vf", filters, "-c:v", "libx264",
            "-crf", str(quality), *(["-bf", "0"] if part else []), "-movflags", "+faststart", str(temporary),
        ]  # fmt: skip
        self._path = path
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=self._log, stderr=self._log)

    def write(self, frame: np.ndarray) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(frame).data)
        except BrokenPipeError:
            self._process.wait()
            raise RelightError(f"{self._path}: the film encoder stopped: {self._messages()}") from None

    def finish(self) -> None:
        self._close_pipe()
        if self._process.wait() != 0:
            raise RelightError(f"{self._path}: the film encoder failed: {self._messages()}")

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._close_pipe()
        self._process.wait()
        self._log.close()

    def _close_pipe(self) -> None:
        with suppress(BrokenPipeError):
            if self._process.stdin is not None:
                self._process.stdin.close()

    def _messages(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace").strip()[-500:] or "no message"
