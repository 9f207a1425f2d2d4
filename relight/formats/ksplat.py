"""The .ksplat of mkkellogg's GaussianSplats3D, read only: its viewer is no longer developed.

A header of 4096 bytes, one of 1024 a section, then sections: sizes and centres of buckets, then Gaussians.  Level 0
stores floats; 1 and 2 store positions as 16 bits within their bucket, scales and rotations as float16; SH as float16
(1) or bytes between two bounds (2), band after band, in each red, green, blue.  Source: SplatBuffer.js of
mkkellogg/GaussianSplats3D (MIT).
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch

from relight.errors import DataError
from relight.formats.common import checked, logit
from relight.geometry.gaussians import Gaussians
from relight.geometry.sh import from_constant

HEADER, SECTION = 4096, 1024
REST = (0, 3, 8, 15)


def _row(level: int, rest: int) -> np.dtype:
    """A Gaussian with `rest` coefficients a channel."""
    real = "<f4" if level == 0 else "<f2"
    position = "<f4" if level == 0 else "<u2"
    fields = [("means", position, 3), ("scales", real, 3), ("quats", real, 4), ("rgba", "u1", 4)]
    return np.dtype([*fields, ("sh", ("<f4", "<f2", "u1")[level], (3 * rest,))])


def sniff(path: Path, head: bytes) -> bool:
    """By version and level: there is no magic number."""
    if len(head) < HEADER or head[0] != 0 or head[1] == 0:
        return False
    _, sections, _, _, count, level = _main(head)
    size = path.stat().st_size
    return level <= 2 and 0 < sections <= size // SECTION and 0 < count <= size // _row(1, 0).itemsize


def read(path: str | Path, *, drop_invalid: bool = False) -> Gaussians:
    """SH degree: the highest of its sections.  Raises `DataError` for what is damaged."""
    path = Path(path)
    data = path.read_bytes()
    if len(data) < HEADER:
        raise DataError(f"{path}: {len(data)} bytes are no .ksplat; truncated")
    version, sections, _, _, _, level = _main(data)
    if version[0] != 0 or version[1] < 1 or level > 2:
        raise DataError(
            f"{path}: .ksplat version {version[0]}.{version[1]}, level {level}; 0.1 and levels 0 to 2 are read"
        )
    low, high = struct.unpack_from("<ff", data, 36)
    bounds = (low or -1.5, high or 1.5)
    at, found = HEADER + SECTION * sections, []
    if at > len(data):
        raise DataError(f"{path}: {sections} sections in {len(data)} bytes: truncated; copy or download it again")
    for i in range(sections):
        rows, means, at = _section(path, data, HEADER + SECTION * i, at, level)
        if len(rows):
            found.append((rows, means, _sh(rows["sh"], level, bounds)))
    if not found:
        raise DataError(f"{path}: holds no Gaussians")
    rest = max(sh.shape[1] for _, _, sh in found)
    rgba = np.concatenate([rows["rgba"] for rows, _, _ in found]).astype(np.float32) / 255
    sh = np.concatenate([np.pad(sh, ((0, 0), (0, rest - sh.shape[1]), (0, 0))) for _, _, sh in found])
    with np.errstate(divide="ignore", invalid="ignore"):
        log_scales = np.log(np.concatenate([rows["scales"].astype(np.float32) for rows, _, _ in found]))
    return checked(
        path,
        Gaussians(
            means=torch.from_numpy(np.concatenate([means for _, means, _ in found])),
            quats_wxyz=torch.from_numpy(np.concatenate([rows["quats"].astype(np.float32) for rows, _, _ in found])),
            log_scales=torch.from_numpy(log_scales),
            logit_opacity=logit(torch.from_numpy(rgba[:, 3].copy())),
            sh=torch.cat([from_constant(torch.from_numpy(rgba[:, None, :3].copy())), torch.from_numpy(sh)], 1),
        ),
        drop_invalid,
    )


def sizes(path: Path) -> dict[str, int]:
    """Bytes by attribute."""
    data = path.read_bytes()
    _, sections, _, _, _, level = _main(data)
    out: dict[str, int] = dict.fromkeys(("position", "scale", "rotation", "color", "opacity", "sh"), 0)
    for i in range(sections):
        count, degree = struct.unpack_from("<I36xH", data, HEADER + SECTION * i)
        row = _row(level, REST[min(degree, 3)])
        for name, field in (("position", "means"), ("scale", "scales"), ("rotation", "quats"), ("sh", "sh")):
            out[name] += count * row[field].itemsize
        out["color"] += 3 * count
        out["opacity"] += count
    return {name: size for name, size in out.items() if size}


def _main(data: bytes) -> tuple[bytes, int, int, int, int, int]:
    """Version, sections there is place for, sections, Gaussians there is place for, Gaussians, level."""
    return struct.unpack_from("<2s2xIIIIH", data)


def _section(path: Path, data: bytes, header: int, at: int, level: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Rows and positions (N, 3) of the section whose data begins at `at`, and where the next begins."""
    count, place, capacity, buckets, block, storage = struct.unpack_from("<IIIIfH", data, header)
    span, _, full, partial, degree = struct.unpack_from("<IIIIH", data, header + 24)
    if degree > 3 or count > place or full + partial > buckets:
        raise DataError(f"{path}: a section with impossible numbers; damaged")
    row = _row(level, REST[degree])
    centers_at = at + 4 * partial
    rows_at = centers_at + storage * buckets
    end = rows_at + row.itemsize * place
    if rows_at + row.itemsize * count > len(data) or (buckets and storage not in (0, 12)):
        raise DataError(f"{path}: ends within a section: truncated or damaged; copy or download it again")
    rows = np.frombuffer(data, row, count, rows_at)
    if level == 0:
        return rows, rows["means"].astype(np.float32), end
    partials = np.frombuffer(data, "<u4", partial, at)
    lengths = np.concatenate([np.full(full, capacity, np.int64), partials.astype(np.int64)])
    if len(lengths) * 12 > storage * buckets or int(lengths.sum()) < count:
        raise DataError(f"{path}: its buckets hold {int(lengths.sum())} of {count} Gaussians; damaged")
    centers = np.frombuffer(data, "<f4", 3 * len(lengths), centers_at).reshape(-1, 3)
    bucket = np.searchsorted(np.cumsum(lengths), np.arange(count), side="right")
    span = span or 32767
    means = (rows["means"].astype(np.float32) - span) * (block / 2 / span) + centers[bucket]
    return rows, means.astype(np.float32), end


def _sh(stored: np.ndarray, level: int, bounds: tuple[float, float]) -> np.ndarray:
    """(N, K - 1, 3)."""
    values = stored.astype(np.float32)
    if level == 2:
        values = bounds[0] + values / 255 * (bounds[1] - bounds[0])
    bands, start = [], 0
    for band in range(1, REST.index(values.shape[1] // 3) + 1):
        stop = start + 3 * (2 * band + 1)
        bands.append(values[:, start:stop].reshape(len(values), 3, -1).swapaxes(1, 2))
        start = stop
    return np.concatenate(bands, 1) if bands else np.zeros((len(values), 0, 3), np.float32)
