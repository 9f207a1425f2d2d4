"""PlayCanvas' compressed .ply: 16 bytes a Gaussian and 1 a coefficient, in chunks of 256 neighbours.

Elements: `chunk`, ranges of position, ln scale and colour (18 float32; 12 in older files, without colour); `vertex`,
four uint32: position 11-10-11 bits, rotation 2-10-10-10 (which component is largest, then the others in wxyz order),
scale 11-10-11, colour and opacity 8-8-8-8; `sh`, a byte a coefficient, channel-major, which covers -4 to 4.  Sorted
along a Morton curve.  Source: the compressed PLY page of the PlayCanvas manual and playcanvas/splat-transform (MIT).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from relight.atomic import replacing
from relight.errors import DataError
from relight.formats import morton
from relight.formats.common import check_finite, checked, logit, parts, sh_degree, to_numpy
from relight.formats.ply import mode_comments, modes
from relight.formats.ply_container import Header, element_bytes, read_element, read_header
from relight.formats.quantize import from_smallest_three, smallest_three, unorm
from relight.geometry.gaussians import Gaussians
from relight.geometry.sh import from_constant, to_constant

CHUNK = 256
RANGES = [
    f"{end}_{name}"
    for names in (("x", "y", "z"), ("scale_x", "scale_y", "scale_z"), ("r", "g", "b"))
    for end in ("min", "max")
    for name in names
]
PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
LOG_SCALES = (-20.0, 20.0)
"""Readers clamp ranges to this."""


def sniff(path: Path, head: bytes) -> bool:
    """A .ply with chunks."""
    return head.startswith(b"ply") and b"element chunk " in head


def read(path: str | Path, *, drop_invalid: bool = False) -> Gaussians:
    """Raises `DataError` for a damaged file and for invalid values."""
    path = Path(path)
    header = read_header(path)
    chunk, vertex = read_element(path, header, "chunk"), read_element(path, header, "vertex")
    missing = [n for n in RANGES[:12] if n not in chunk] + [n for n in PACKED if n not in vertex]
    if missing:
        raise DataError(f"{path}: expected a PlayCanvas compressed .ply; missing: {', '.join(missing)}")
    if any(vertex[name].dtype.kind not in "ui" for name in PACKED):
        raise DataError(f"{path}: expected integers in {', '.join(PACKED)}")
    position, rotation, scale, color = (np.asarray(vertex[name]).astype(np.uint32) for name in PACKED)
    of = np.arange(len(position)) // CHUNK
    if len(position) and of[-1] >= len(chunk["min_x"]):
        raise DataError(f"{path}: {len(position)} splats need {of[-1] + 1} chunks, found {len(chunk['min_x'])}")
    colored = RANGES[-1] in chunk

    def placed(values: np.ndarray, names: list[str]) -> torch.Tensor:
        low, high = (np.stack([chunk[f"{end}_{n}"].astype(np.float32) for n in names], 1)[of] for end in ("min", "max"))
        return torch.from_numpy((low + values * (high - low)).astype(np.float32))

    bytes_ = np.stack([color >> 24, color >> 16 & 255, color >> 8 & 255, color & 255], 1).astype(np.float32) / 255
    rgb = placed(bytes_[:, :3], ["r", "g", "b"]) if colored else torch.from_numpy(bytes_[:, :3].copy())
    three = np.stack([rotation >> 20 & 1023, rotation >> 10 & 1023, rotation & 1023], 1).astype(np.float32)
    mode = modes(header.comments)
    return checked(
        path,
        Gaussians(
            means=placed(_unpacked(position), ["x", "y", "z"]),
            quats_wxyz=torch.from_numpy(from_smallest_three(rotation >> 30, (three / 1023 - 0.5) * np.sqrt(2))),
            log_scales=placed(_unpacked(scale), ["scale_x", "scale_y", "scale_z"]),
            logit_opacity=logit(torch.from_numpy(bytes_[:, 3].copy())),
            sh=torch.cat([from_constant(rgb)[:, None], _read_sh(path, header, len(position))], 1),
            surfels="2dgs" in mode,
            antialiased="mip" in mode,
        ),
        drop_invalid,
    )


def write(gaussians: Gaussians, path: str | Path) -> None:
    """Atomically, in Morton order.  Raises `DataError` if a value is not finite."""
    check_finite(path, gaussians)
    order, n = morton.order(gaussians.means), len(gaussians)
    rest = 3 * (gaussians.sh.shape[1] - 1)
    lines = ["ply", "format binary_little_endian 1.0", *(f"comment {c}" for c in mode_comments(gaussians))]
    lines += [f"element chunk {-(-n // CHUNK)}", *(f"property float {name}" for name in RANGES)]
    lines += [f"element vertex {n}", *(f"property uint {name}" for name in PACKED)]
    lines += [f"element sh {n}", *(f"property uchar f_rest_{i}" for i in range(rest))] if rest else []
    head = "\n".join([*lines, "end_header\n"]).encode("ascii")
    vertices = len(head) + 4 * len(RANGES) * -(-n // CHUNK)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(head)
        done = 0
        for part in parts(gaussians, order):  # three elements grow at once, each at its own place
            ranges, packed = _packed(part)
            file.seek(len(head) + done // CHUNK * 4 * len(RANGES))
            ranges.astype("<f4").tofile(file)
            file.seek(vertices + 16 * done)
            packed.astype("<u4").tofile(file)
            if rest:
                file.seek(vertices + 16 * n + rest * done)
                # Truncated, as other writers do: the reader adds half a step.
                sh = to_numpy(part.sh[:, 1:].mT.flatten(1))
                np.clip(np.floor((sh / 8 + 0.5) * 256), 0, 255).astype(np.uint8).tofile(file)
            done += len(part)


def sizes(path: Path) -> dict[str, int]:
    """Bytes by attribute."""
    header = read_header(path)
    names = dict(zip(PACKED, ("position", "rotation", "scale", "color, opacity"), strict=True))
    out = {names[k]: v for k, v in element_bytes(path, header, "vertex").items() if k in names}
    out |= {"sh": sum(element_bytes(path, header, "sh").values())}
    return {k: v for k, v in out.items() if v} | {"ranges": sum(element_bytes(path, header, "chunk").values())}


def _packed(g: Gaussians) -> tuple[np.ndarray, np.ndarray]:
    """(chunks, 18) ranges and (N, 4) words of Gaussians that begin at a chunk's first."""
    values = [g.means, g.log_scales.clamp(*LOG_SCALES), to_constant(g.sh[:, 0])]
    ranges, units = [], []
    starts = np.arange(0, len(g), CHUNK)
    of = np.arange(len(g)) // CHUNK
    for value in map(to_numpy, values):
        low, high = np.minimum.reduceat(value, starts), np.maximum.reduceat(value, starts)
        ranges += [low, high]
        extent = (high - low).astype(np.float64)
        units.append((value - low[of]) / np.where(extent > 0, extent, 1)[of])
    position, scale = _words(units[0]), _words(units[1])
    rgb, alpha = unorm(units[2], 8), unorm(to_numpy(g.opacities), 8)
    largest, three = smallest_three(to_numpy(g.quats_wxyz))
    bits = unorm(three / np.sqrt(2) + 0.5, 10)
    rotation = largest.astype(np.uint32) << 30 | bits[:, 0] << 20 | bits[:, 1] << 10 | bits[:, 2]
    color = rgb[:, 0] << 24 | rgb[:, 1] << 16 | rgb[:, 2] << 8 | alpha
    return np.concatenate(ranges, 1), np.stack([position, rotation, scale, color], 1)


def _words(unit: np.ndarray) -> np.ndarray:
    return unorm(unit[:, 0], 11) << 21 | unorm(unit[:, 1], 10) << 11 | unorm(unit[:, 2], 11)


def _unpacked(word: np.ndarray) -> np.ndarray:
    return np.stack([(word >> 21) / 2047, (word >> 11 & 1023) / 1023, (word & 2047) / 2047], 1)


def _read_sh(path: Path, header: Header, count: int) -> torch.Tensor:
    """(N, K - 1, 3)."""
    if header.element("sh") is None:
        return torch.zeros(count, 0, 3)
    columns = read_element(path, header, "sh")
    degree = sh_degree(path, len(columns) // 3, f"{len(columns)} columns")
    rest = (degree + 1) ** 2 - 1
    names = [f"f_rest_{i}" for i in range(3 * rest)]
    if len(columns) != len(names) or any(n not in columns for n in names) or len(columns[names[0]]) != count:
        raise DataError(f"{path}: its element sh has {len(columns)} columns of other names or rows than its splats")
    stored = np.stack([columns[n] for n in names], 1).astype(np.float32)
    unit = np.where(stored == 0, 0, np.where(stored == 255, 1, (stored + 0.5) / 256)).astype(np.float32)
    return torch.from_numpy((unit - 0.5) * 8).unflatten(1, (3, rest)).mT.contiguous()
