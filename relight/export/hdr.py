"""Radiance .hdr files: linear RGB as one byte of mantissa a channel and a shared exponent, run-length encoded.

Ward, Real Pixels, Graphics Gems II, 1991; the layout is that of Radiance's own `color.c` and file format notes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from relight.atomic import replacing
from relight.errors import RelightError, ShapeError

LARGEST = 1.7e38
"""What an exponent of one byte reaches."""
_ENCODED = range(8, 32768)
"""Widths that can be run-length encoded."""


def write_hdr(path: str | Path, radiance: Tensor) -> None:
    """Write (H, W, 3) linear Rec.709 radiance, row 0 on top.

    Each value is within 1/256 of the largest of its pixel: half a step of a mantissa of 128 to 255.  Pixels under 1e-38
    become black.  Raises ShapeError, and `RelightError` for values that are negative, NaN or above `LARGEST`: the
    format has no place for them, and to clamp them would change the light silently.
    """
    path = Path(path)
    if radiance.ndim != 3 or radiance.shape[-1] != 3 or 0 in radiance.shape:
        raise ShapeError.expected("write_hdr: radiance", "(H, W, 3)", tuple(radiance.shape))
    values = radiance.detach().cpu().double()
    if not bool(((values >= 0) & (values < LARGEST)).all()):
        low, high = float(values.min()), float(values.max())
        raise RelightError(
            f"{path}: .hdr holds values from 0 to {LARGEST:g}; found {low:g} to {high:g}; clamp them, or write .exr"
        )
    pixels = _rgbe(values.numpy())
    height, width = pixels.shape[:2]
    head = f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {height} +X {width}\n".encode()
    if width in _ENCODED:
        start = bytes([2, 2, width >> 8, width & 255])
        rows = [start + b"".join(_encoded(row[:, channel]) for channel in range(4)) for row in pixels]
    else:
        rows = [pixels.tobytes()]
    with replacing(path) as temporary:
        temporary.write_bytes(head + b"".join(rows))


def _rgbe(values: np.ndarray) -> np.ndarray:
    """(H, W, 3) float64 to (H, W, 4) uint8."""
    largest = values.max(-1)
    _, exponent = np.frexp(largest)
    # Rounding must not carry a mantissa to 256.
    exponent = exponent + (np.rint(np.ldexp(largest, 8 - exponent)) > 255)
    mantissa = np.rint(np.ldexp(values, (8 - exponent)[..., None]))
    out = np.concatenate([mantissa, (exponent + 128)[..., None]], -1)
    return np.where((largest < 1e-38)[..., None], 0, out).astype(np.uint8)


def _encoded(row: np.ndarray) -> bytes:
    """(W,) bytes as runs (128 + length, value) and literal stretches (length, values)."""
    edges = np.flatnonzero(np.diff(row)) + 1
    starts = np.concatenate([[0], edges]).tolist()
    lengths = np.diff([*starts, len(row)]).tolist()
    data, out, literal = row.tobytes(), bytearray(), 0

    def flush(end: int) -> None:
        for first in range(literal, end, 128):
            piece = data[first : min(first + 128, end)]
            out.append(len(piece))
            out.extend(piece)

    for start, length in zip(starts, lengths, strict=True):
        if length < 3:  # shorter runs cost as much as they save
            continue
        flush(start)
        for first in range(0, length, 127):
            out.extend((128 + min(127, length - first), data[start]))
        literal = start + length
    flush(len(row))
    return bytes(out)
