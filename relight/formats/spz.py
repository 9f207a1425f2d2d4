"""Niantic's .spz, versions 1 to 4: quantised attributes one after another, gzipped (to 3) or one zstd stream each (4).

Position: 24-bit fixed point (float16 in version 1).  Opacity, colour, ln scale: a byte each.  Rotation: largest
component of xyzw and the others in 10 bits (xyz in bytes before version 3).  SH: a byte for -1 to 1,
coefficient-major, rounded to 5 bits in degree 1 and 4 beyond.  Source: nianticlabs/spz (MIT), src/cc/load-spz.cc and
extensions/README.md, 2026.

Materials are in an extension record of version 4, which other readers skip: see `MATERIALS`.
"""

from __future__ import annotations

import gzip
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from relight.atomic import replacing
from relight.errors import DataError, RelightError
from relight.formats.common import (
    PART,
    check_count,
    check_finite,
    checked,
    half_turn,
    known_channels,
    logit,
    option_error,
    parts,
    to_numpy,
)
from relight.formats.quantize import (
    CODED,
    from_smallest_three,
    pack_materials,
    smallest_three,
    to_byte,
    unpack_materials,
)
from relight.geometry.gaussians import CHANNELS, Gaussians

MAGIC = b"NGSP"
HEADER = struct.Struct("<4sIIBBBB")
HEADER_4 = struct.Struct("<4sIIBBBBI12x")
ANTIALIASED, EXTENDED = 1, 2
"""Bits of the header's flags."""
MATERIALS = 0x524C0001
"""Type of our record: vendor 0x524C ("RL"), number 1.  Payload: version (1), a bit for each of `CHANNELS` in that
order, two zero bytes, then `pack_materials` column by column as one zstd frame."""
AXES = 0xADBE0003
"""Type of Adobe's record of a uint32 that says which axes the numbers have."""
RUB, RDF = 4, 6
"""Its values for right-up-back, the format's own axes, which files without the record are taken to have; and for
right-down-forward, those of a capture."""
TURNS = {RUB: "x", RDF: None, 7: "z", 1: "y"}
"""Its values that are a half turn, or none, from a capture's axes; 7 is left-up-forward, 1 left-down-back."""
COLOR_SCALE = 0.15
LEVEL = 12
"""Of zstd, as in the reference writer."""
BITS = 12
"""Of the fraction of a position, unless the splat needs others."""


def sniff(path: Path, head: bytes) -> bool:
    """By the magic number, inside gzip if need be."""
    if head[:2] == b"\x1f\x8b":
        try:
            return zlib.decompressobj(31).decompress(head, 4) == MAGIC
        except zlib.error:
            return False
    return head[:4] == MAGIC


def read(path: str | Path, *, drop_invalid: bool = False) -> Gaussians:
    """Raises `DataError` for a damaged or hostile file and for versions after 4.

    Axes become those of a capture: the format's are right-up-back, unless the file says others.  PlayCanvas' tools
    write a capture's axes and don't say so; turn what they wrote by `half_turn` about x.  SH of degree 4 is cut to 3.
    """
    path = Path(path)
    header, streams, records = _unpacked(path, path.read_bytes())
    version, n, degree, fraction = header["version"], header["count"], header["degree"], header["fraction"]

    def table(name: str, width: int, kind: type = np.uint8) -> np.ndarray:
        return np.frombuffer(streams.pop(name), kind).reshape(n, width)

    if version == 1:
        means = table("position", 3, np.float16).astype(np.float32)
    else:
        fixed = np.zeros((n, 3, 4), np.uint8)
        fixed[..., 1:] = table("position", 9).reshape(n, 3, 3)
        means = np.ldexp((fixed.view("<i4")[..., 0] >> 8).astype(np.float32), -fraction)
    opacity = table("opacity", 1)[:, 0].astype(np.float32) / 255
    color = (table("color", 3).astype(np.float32) / 255 - 0.5) / COLOR_SCALE
    log_scales = table("scale", 3).astype(np.float32) / 16 - 10
    quats = _rotations(table("rotation", 4 if version >= 3 else 3))
    rest = (degree + 1) ** 2 - 1
    sh = table("sh", 3 * rest) if rest else np.zeros((n, 0), np.uint8)
    if degree == 4:
        warnings.warn(f"{path}: SH of degree 4; degree 3 is kept", stacklevel=2)
        sh = sh[:, :45]
    sh = ((sh.astype(np.float32) - 128) / 128).reshape(n, -1, 3)
    gaussians = Gaussians(
        means=torch.from_numpy(means),
        quats_wxyz=torch.from_numpy(quats),
        log_scales=torch.from_numpy(log_scales),
        logit_opacity=logit(torch.from_numpy(opacity)),
        sh=torch.from_numpy(np.concatenate([color[:, None], sh], 1)),
        channels=_materials(path, records.get(MATERIALS), n),
        antialiased=bool(header["flags"] & ANTIALIASED),
    )
    axes = struct.unpack("<I", records[AXES])[0] if len(records.get(AXES, b"")) == 4 else RUB
    if axes not in TURNS:
        warnings.warn(f"{path}: has axes of kind {axes}, which are not converted", stacklevel=2)
    turn = TURNS.get(axes)
    return checked(path, half_turn(gaussians, turn) if turn else gaussians, drop_invalid)


def write(
    gaussians: Gaussians,
    path: str | Path,
    *,
    version: int = 4,
    sh1_bits: int = 5,
    sh_bits: int = 4,
    fractional_bits: int | None = None,
    axes: str = "rub",
) -> None:
    """Atomically, in the order of the splat.

    version: 4, or 3 and 2 for older readers (2 has coarse rotations; neither has a place for materials).
    sh1_bits, sh_bits: 1 to 8, of coefficients of degree 1 and beyond.  fractional_bits: 0 to 23, of positions; None:
    12, more where Gaussians are finer than four steps, fewer where the extent needs it.
    axes: "rub", right-up-back, as the format has it; "capture" leaves them as they are, as PlayCanvas' tools do, and
    says so in the file (of version 4).
    Raises `RelightError` for other options, `DataError` if a value is not finite or too far out.
    """
    if version not in (2, 3, 4):
        raise option_error(path, "version", version, "2, 3 or 4")
    for name, bits in (("sh1_bits", sh1_bits), ("sh_bits", sh_bits)):
        if bits not in range(1, 9):
            raise option_error(path, name, bits, "1 to 8")
    if axes not in ("rub", "capture"):
        raise option_error(path, "axes", axes, "rub or capture")
    check_finite(path, gaussians)
    fraction = _fraction(path, gaussians, fractional_bits)
    encoders = _encoders(gaussians.sh_degree, version, fraction, sh1_bits, sh_bits)
    fields = (gaussians.sh_degree, fraction, ANTIALIASED if gaussians.antialiased else 0)
    names = known_channels(gaussians)

    def turned_parts() -> Iterator[Gaussians]:
        return parts(gaussians) if axes == "capture" else (half_turn(part, "x") for part in parts(gaussians))

    if version < 4:
        if names:
            warnings.warn(f"{path}: version {version} has no place for {', '.join(names)}: left out", stacklevel=3)
        with replacing(path) as temporary, gzip.GzipFile(temporary, "wb", 6, mtime=0) as file:
            file.write(HEADER.pack(MAGIC, version, len(gaussians), *fields, 0))
            for encode in encoders.values():
                for part in turned_parts():
                    file.write(encode(part))
        return
    raw = {name: len(gaussians) * width for name, width in _widths(version, gaussians.sh_degree).items()}
    compressors = {name: _compressor(size) for name, size in raw.items()}
    packed: dict[str, list[bytes]] = {name: [] for name in raw}
    for part in turned_parts():
        for name, encode in encoders.items():
            packed[name].append(compressors[name].compress(encode(part)))
    for name, compressor in compressors.items():
        packed[name].append(compressor.flush())
    record = struct.pack("<III", AXES, 4, RDF) if axes == "capture" else b""
    record += _material_record(turned_parts(), names) if names else b""
    degree, fraction, flags = fields
    with replacing(path) as temporary, temporary.open("wb") as file:
        flags |= EXTENDED if record else 0
        file.write(
            HEADER_4.pack(MAGIC, 4, len(gaussians), degree, fraction, flags, len(encoders), HEADER_4.size + len(record))
        )
        file.write(record)
        for name, blocks in packed.items():
            file.write(struct.pack("<QQ", sum(map(len, blocks)), raw[name]))
        for blocks in packed.values():
            file.writelines(blocks)


def sizes(path: Path) -> dict[str, int]:
    """Bytes by attribute; to version 3, where gzip takes all in one, shares in proportion to the bytes before gzip."""
    data = path.read_bytes()
    header, streams, records = _unpacked(path, data, contents=False)
    if header["version"] < 4:
        total = sum(streams.values()) or 1
        return {name: round(len(data) * size / total) for name, size in streams.items()}
    out = dict(streams)
    if MATERIALS in records:
        out["materials"] = len(records[MATERIALS])
    return out


def _widths(version: int, degree: int) -> dict[str, int]:
    """Attributes in the order of the file, and bytes a Gaussian."""
    widths = {"position": 6 if version == 1 else 9, "opacity": 1, "color": 3, "scale": 3}
    widths["rotation"] = 4 if version >= 3 else 3
    return widths | ({"sh": 3 * ((degree + 1) ** 2 - 1)} if degree else {})


def _unpacked(path: Path, data: bytes, contents: bool = True) -> tuple[dict[str, int], dict, dict[int, bytes]]:
    """Header, attributes (their bytes; without `contents`, how many) and extension records of any version."""
    try:
        return _unpacked_any(path, data, contents)
    except zlib.error as error:
        raise DataError(f"{path}: damaged ({error}); copy or download it again") from error


def _unpacked_any(path: Path, data: bytes, contents: bool) -> tuple[dict[str, int], dict, dict[int, bytes]]:
    inflate = None
    if data[:2] == b"\x1f\x8b":
        inflate = zlib.decompressobj(31)
        head = inflate.decompress(data, HEADER.size)
    else:
        head = data[: HEADER.size]
    if len(head) < HEADER.size or head[:4] != MAGIC:
        raise DataError(f"{path}: not an .spz file")
    _, version, n, degree, fraction, flags, streams = HEADER.unpack(head)
    header = {"version": version, "count": n, "degree": degree, "fraction": fraction, "flags": flags}
    if not (1 <= version <= 3 if inflate else version == 4):
        raise DataError(f"{path}: .spz version {version}; 1 to 4 are read; update relight or export an older version")
    if degree > 4 or fraction > 24:
        raise DataError(f"{path}: claims SH of degree {degree} and {fraction} fractional bits; damaged")
    check_count(path, n, len(data))
    widths = _widths(version, degree)
    if inflate is None:
        return header, *_streams(path, data, widths, n, streams, contents)
    if not contents:
        return header, {name: n * width for name, width in widths.items()}, {}
    out = {}
    for name, width in widths.items():
        block = inflate.decompress(inflate.unconsumed_tail, n * width) if n * width else b""
        if len(block) < n * width:
            raise DataError(f"{path}: ends within its {name}: truncated; copy or download it again")
        out[name] = block
    return header, out, _records(inflate.decompress(inflate.unconsumed_tail, 1 << 20)) if flags & EXTENDED else {}


def _streams(path: Path, data: bytes, widths: Mapping[str, int], n: int, count: int, contents: bool):
    """Of version 4."""
    truncated = DataError(f"{path}: ends within its streams: truncated or damaged; copy or download it again")
    if len(data) < HEADER_4.size:
        raise truncated
    table = HEADER_4.unpack_from(data)[7]
    if count != len(widths) or not HEADER_4.size <= table <= len(data) - 16 * count:
        raise DataError(f"{path}: expected {len(widths)} streams, found {count}, or their table is outside the file")
    out, at = {}, table + 16 * count
    for i, (name, width) in enumerate(widths.items()):
        size, raw = struct.unpack_from("<QQ", data, table + 16 * i)
        if at + size > len(data) or raw != n * width:
            raise truncated
        out[name] = _inflated(path, data[at : at + size], raw) if contents else size
        at += size
    return out, _records(data[HEADER_4.size : table])


def _records(data: bytes) -> dict[int, bytes]:
    """Extension records by type; what follows a damaged one is left out."""
    out, at = {}, 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<II", data, at)
        if at + 8 + size > len(data):
            break
        out[kind] = data[at + 8 : at + 8 + size]
        at += 8 + size
    return out


def _zstandard():
    try:
        import zstandard
    except ImportError:
        raise RelightError("an .spz of version 4 needs the package zstandard: pip install zstandard") from None
    return zstandard


def _compressor(size: int):
    """Of a stream of so many bytes."""
    return _zstandard().ZstdCompressor(level=LEVEL).compressobj(size=size)


def _inflated(path: Path, data: bytes, size: int) -> bytes:
    """Exactly `size` bytes of a zstd frame, never more in memory."""
    zstandard = _zstandard()
    try:
        if size == 0:
            return b""
        out = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data).read(size)
    except (zstandard.ZstdError, MemoryError) as error:
        raise DataError(f"{path}: a damaged stream ({error}); copy or download it again") from error
    if len(out) != size:
        raise DataError(f"{path}: a stream of {len(out)} bytes where {size} are promised; truncated or damaged")
    return out


def _rotations(stored: np.ndarray) -> np.ndarray:
    """(N, 4) wxyz of the four bytes of version 3 or the three before."""
    if stored.shape[1] == 3:
        xyz = (stored.astype(np.float32) - 127.5) / 127.5
        w = np.sqrt(np.clip(1 - (xyz**2).sum(1, keepdims=True), 0, None))
        return np.concatenate([w, xyz], 1)
    word = np.ascontiguousarray(stored).view("<u4")[:, 0]
    fields = np.stack([word >> 20, word >> 10, word], 1) & 1023
    three = (fields & 511).astype(np.float32) / (511 * np.sqrt(2)) * np.where(fields & 512, -1, 1)
    return from_smallest_three(word >> 30, three)[:, [3, 0, 1, 2]]


def _fraction(path: str | Path, gaussians: Gaussians, wanted: int | None) -> int:
    """Bits of the fraction that hold every position."""
    most = float(gaussians.means.detach().abs().max()) if len(gaussians) else 0.0
    fits = 23
    while fits >= 0 and most * 2.0**fits > (1 << 23) - 1:
        fits -= 1
    if wanted is not None:
        if wanted not in range(24):
            raise option_error(path, "fractional_bits", wanted, "0 to 23")
        if wanted > fits:
            raise option_error(path, "fractional_bits", wanted, f"at most {fits}, for positions up to {most:g}")
        return wanted
    if fits < 0:
        raise DataError(f"{path}: a position of {most:g}; .spz holds up to 8388607: remove outliers or scale it down")
    if not len(gaussians):
        return BITS
    # Fine Gaussians, the thinnest tenth of a sample, are to be at least four steps wide.
    sample = gaussians.log_scales.detach()[:: max(1, len(gaussians) // PART)].amax(1)
    steps = np.log(4) - float(sample.kthvalue(max(1, len(sample) // 10)).values)
    return max(0, min(fits, max(BITS, int(np.ceil(steps / np.log(2))))))


def _encoders(
    degree: int, version: int, fraction: int, sh1_bits: int, sh_bits: int
) -> dict[str, Callable[[Gaussians], bytes]]:
    """Attributes in the order of the file, and the bytes of each for a part of the splat."""

    def position(g: Gaussians) -> bytes:
        fixed = np.rint(np.ldexp(to_numpy(g.means).astype(np.float64), fraction)).astype("<i4")
        return fixed.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()

    def rotation(g: Gaussians) -> bytes:
        xyzw = to_numpy(g.quats_wxyz)[:, [1, 2, 3, 0]]
        if version < 3:
            xyz = np.where(xyzw[:, 3:] < 0, -xyzw, xyzw)[:, :3]
            return to_byte(xyz * 127.5 + 127.5).tobytes()
        largest, three = smallest_three(xyzw)
        fields = np.rint(np.abs(three) * (511 * np.sqrt(2))).clip(0, 511).astype(np.uint32)
        fields |= np.where(three < 0, 512, 0).astype(np.uint32)
        word = largest.astype(np.uint32) << 30 | fields[:, 0] << 20 | fields[:, 1] << 10 | fields[:, 2]
        return word.astype("<u4").tobytes()

    def harmonics(g: Gaussians) -> bytes:
        sh = g.sh[:, 1:].clamp(-1, 1)
        step = torch.full((sh.shape[1], 1), float(1 << (8 - sh_bits)))
        step[:3] = float(1 << (8 - sh1_bits))
        # Zero is in the middle of a step, so what isn't there stays so.
        return to_byte(to_numpy((((sh * 128).round() + 128 + (step / 2).floor()) / step).floor() * step)).tobytes()

    encoders: dict[str, Callable[[Gaussians], bytes]] = {
        "position": position,
        "opacity": lambda g: to_byte(to_numpy(g.opacities) * 255).tobytes(),
        "color": lambda g: to_byte(to_numpy(g.sh[:, 0]) * (COLOR_SCALE * 255) + 127.5).tobytes(),
        "scale": lambda g: to_byte((to_numpy(g.log_scales) + 10) * 16).tobytes(),
        "rotation": rotation,
    }
    return encoders | ({"sh": harmonics} if degree else {})


def _material_record(turned_parts: Iterator[Gaussians], names: list[str]) -> bytes:
    mask = sum(1 << i for i, name in enumerate(CHANNELS) if name in names)
    columns = np.concatenate([pack_materials(part.channels, names) for part in turned_parts])
    compressor = _compressor(columns.size)
    payload = struct.pack("<BBxx", 1, mask) + compressor.compress(columns.T.tobytes()) + compressor.flush()
    return struct.pack("<II", MATERIALS, len(payload)) + payload


def _materials(path: Path, record: bytes | None, count: int) -> dict[str, torch.Tensor]:
    if record is None or len(record) < 4 or record[0] != 1:
        return {}
    names = [name for i, name in enumerate(CHANNELS) if record[1] >> i & 1]
    width = sum(CODED[name] for name in names)
    packed = np.frombuffer(_inflated(path, record[4:], count * width), np.uint8).reshape(width, count)
    return unpack_materials(packed.T, names)
