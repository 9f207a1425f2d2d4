"""PlayCanvas' SOG, version 2: lossless WebP pictures in which pixel i is Gaussian i, and meta.json.

Bundled (.sog: a zip) or as files next to a meta.json.  Position: sign(x) ln(1 + |x|) in 16 bits, low and high bytes in
two pictures.  Rotation: the smaller three of wxyz in a byte each, alpha 252 + index of the largest.  ln scale and
colour: an index into 256 numbers; alpha of the colour is opacity.  SH: a label of a palette of up to 65,536 entries,
whose numbers are again indices into 256.  Sorted along a Morton curve.  Source: the SOG page of the PlayCanvas manual
and playcanvas/splat-transform (MIT).

Materials are more such pictures, named under `relight` in meta.json; other readers pass over them.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relight.atomic import replacing
from relight.errors import DataError
from relight.formats import morton
from relight.formats.common import (
    check_count,
    check_finite,
    checked,
    known_channels,
    logit,
    option_error,
    parts,
    to_numpy,
)
from relight.formats.palette import codebook, nearest_number, palette
from relight.formats.quantize import (
    CODED,
    from_smallest_three,
    pack_materials,
    smallest_three,
    to_byte,
    unpack_materials,
)
from relight.geometry.gaussians import CHANNELS, Gaussians

META = "meta.json"
MOST_META = 1 << 20
"""Bytes; a real one is 20 kB."""
COLUMNS = 64
"""Palette entries in a row of the picture of centroids."""
MOST_SIDE = 16383
"""Pixels, of WebP."""
COEFFICIENTS = (0, 3, 8, 15)
MODELS = {"2dgs": "surfels", "antialiased": "antialiased"}


def sniff(path: Path, head: bytes) -> bool:
    """A zip with a meta.json, or one as it is."""
    if head.startswith(b"PK\x03\x04"):
        try:
            with zipfile.ZipFile(path) as file:
                return any(name.rpartition("/")[2] == META for name in file.namelist())
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
            return path.suffix.lower() == ".sog"
    return head.lstrip()[:1] == b"{" and b'"means"' in head


def read(path: str | Path, *, drop_invalid: bool = False) -> Gaussians:
    """A .sog, or a meta.json with its pictures beside it.  Raises `DataError` for what is damaged or hostile."""
    path = Path(path)
    with _opened(path) as load:
        meta = _meta(path, load)
        n, bands = meta["count"], meta["shN"]["bands"] if "shN" in meta else 0

        def pixels(part: str, number: int = 0, rows: int = n) -> np.ndarray:
            return _picture(path, meta[part]["files"][number], load, rows)

        def numbers(part: str) -> np.ndarray:
            return _numbers(path, meta[part]["codebook"], 256)

        low, high = _numbers(path, meta["means"]["mins"], 3), _numbers(path, meta["means"]["maxs"], 3)
        unit = (pixels("means", 0)[:, :3] + 256.0 * pixels("means", 1)[:, :3]) / 65535
        t = low + unit * (high - low)
        quats = pixels("quats")
        if n and not (quats[:, 3] >= 252).all():
            raise DataError(f"{path}: a picture of rotations with impossible pixels; damaged")
        three = (quats[:, :3].astype(np.float32) / 255 - 0.5) * np.sqrt(2).astype(np.float32)
        colors = pixels("sh0")
        sh = [numbers("sh0")[colors[:, :3]][:, None]]
        if bands:
            sh.append(_harmonics(path, meta["shN"], load, n))
        gaussians = Gaussians(
            means=torch.from_numpy((np.sign(t) * np.expm1(np.abs(t))).astype(np.float32)),
            quats_wxyz=torch.from_numpy(from_smallest_three(quats[:, 3].astype(np.int64) - 252, three)),
            log_scales=torch.from_numpy(numbers("scales")[pixels("scales")[:, :3]]),
            logit_opacity=logit(torch.from_numpy(colors[:, 3].astype(np.float32) / 255)),
            sh=torch.from_numpy(np.concatenate(sh, 1)),
            channels=_materials(path, meta.get("relight"), load, n),
            surfels=meta.get("model") == "2dgs",
            antialiased=meta.get("model") == "antialiased" or meta.get("antialias") is True,
        )
    return checked(path, gaussians, drop_invalid)


def write(
    gaussians: Gaussians,
    path: str | Path,
    *,
    palette_size: int | None = None,
    iterations: int = 5,
    importance: Tensor | None = None,
    effort: int = 4,
    position_bits: int = 16,
    rotation_values: int = 256,
    scale_values: int = 256,
    color_values: int = 256,
    opacity_values: int = 256,
    material_values: int = 256,
    normal_values: int = 256,
) -> None:
    """A .sog, or for a path that ends in meta.json a folder of files of which it is written last.  In Morton order.

    palette_size: of SH, 1 to 65536; None: in proportion to the splat, as PlayCanvas' converter has it.  iterations: of
    k-means.  importance: (N,), what an error in a Gaussian's SH costs.  effort: of WebP, 0 to 6; slower is smaller.
    position_bits: 8 to 16, an axis.  *_values: 2 to 256, that a number may take.  Fewer than the format has room for
    are told apart by fewer bits once they are compressed; readers see no difference.
    Raises `RelightError` for other options, `DataError` for no Gaussians, too many, or values that are not finite.
    """
    levels = Levels(
        position_bits, rotation_values, scale_values, color_values, opacity_values, material_values, normal_values
    )
    path, n = Path(path), len(gaussians)
    if n == 0:
        raise DataError(f"{path}: not written: a SOG holds at least one Gaussian")
    if palette_size is not None and not 1 <= palette_size <= 65536:
        raise option_error(path, "palette_size", palette_size, "1 to 65536")
    if effort not in range(7):
        raise option_error(path, "effort", effort, "0 to 6")
    if position_bits not in range(8, 17):
        raise option_error(path, "position_bits", position_bits, "8 to 16")
    for name, value in vars(levels).items():
        if name != "position" and value not in range(2, 257):
            raise option_error(path, f"{name}_values", value, "2 to 256")
    width = 4 * -(-int(np.ceil(np.sqrt(n))) // 4)
    if width > MOST_SIDE:
        raise DataError(
            f"{path}: not written: {n} Gaussians don't fit a picture of {MOST_SIDE} pixels a side; split them"
        )
    check_finite(path, gaussians)
    order = morton.order(gaussians.means)
    with _storing(path) as store:

        def picture(name: str, rows: np.ndarray, columns: int = width) -> str:
            store(name, _webp(rows, columns, effort))
            return name

        meta = _quantised(gaussians, order, levels, picture)
        if gaussians.sh.shape[1] > 1:
            size = palette_size or min(64, 1 << (max(n, 1024) // 1024).bit_length() - 1) * 1024
            meta["shN"] = _palette(gaussians, order, size, iterations, importance, picture)
        names = known_channels(gaussians)
        if names:
            packed = np.concatenate([pack_materials(part.channels, names) for part in parts(gaussians, order)])
            counts = [levels.normal if name == "normal" else levels.material for name in names]
            packed = _coarse(packed / 255, np.repeat(counts, [CODED[name] for name in names]))
            files = [
                picture(f"relight_{i}.webp", _rgba(packed[:, 4 * i : 4 * i + 4]))
                for i in range(-(-packed.shape[1] // 4))
            ]
            meta["relight"] = {"version": 1, "channels": names, "files": files}
        model = "2dgs" if gaussians.surfels else "antialiased" if gaussians.antialiased else None
        head = {"version": 2, "asset": {"generator": "relight"}, "count": n} | ({"model": model} if model else {})
        store(META, json.dumps(head | meta, separators=(",", ":")).encode())


def sizes(path: Path) -> dict[str, int]:
    """Bytes by attribute, compressed."""
    names = {"means": "position", "scales": "scale", "quats": "rotation", "sh0": "color, opacity", "shN": "sh"}
    names |= {"relight": "materials"}
    with _opened(path) as load:
        meta = _meta(path, load)
        return {
            title: sum(len(load(str(file), 1 << 30)) for file in meta[part]["files"])
            for part, title in names.items()
            if part in meta
        }


@dataclass(frozen=True)
class Levels:
    """position: bits.  The others: how many values there are."""

    position: int
    rotation: int
    scale: int
    color: int
    opacity: int
    material: int
    normal: int


def _coarse(values: np.ndarray, count: int | np.ndarray) -> np.ndarray:
    """Values from 0 to 1, clamped, as bytes of which only `count`, evenly spaced, are used; of each column, if (C,)."""
    return to_byte(np.rint(np.clip(values, 0, 1) * (count - 1)) * (255 / (count - 1)))


def _quantised(
    gaussians: Gaussians, order: Tensor, levels: Levels, picture: Callable[[str, np.ndarray], str]
) -> dict[str, Any]:
    """The pictures of everything but SH, and what meta.json says of them."""
    n = len(gaussians)
    t = np.empty((n, 3), np.float64)
    quats, scales, colors = np.empty((n, 4), np.uint8), np.empty((n, 3), np.float32), np.empty((n, 3), np.float32)
    opacity = np.empty(n, np.uint8)
    done = 0
    for part in parts(gaussians, order):
        rows = slice(done, done + len(part))
        done += len(part)
        means = to_numpy(part.means).astype(np.float64)
        t[rows] = np.sign(means) * np.log1p(np.abs(means))
        largest, three = smallest_three(to_numpy(part.quats_wxyz))
        quats[rows, :3], quats[rows, 3] = _coarse(three / np.sqrt(2) + 0.5, levels.rotation), 252 + largest
        scales[rows], colors[rows] = to_numpy(part.log_scales), to_numpy(part.sh[:, 0])
        opacity[rows] = _coarse(to_numpy(part.opacities), levels.opacity)
    if gaussians.surfels:  # nobody who knows that they are flat reads the third; one thickness takes no bits
        scales[:, 2] = np.median(scales[:, 2])
    low, high = t.min(0), t.max(0)
    # Of fewer bits the lowest are zero, not the nearest to an even spread: only so does the low byte take fewer values.
    step = 1 << (16 - levels.position)
    high = low + (high - low) * (65535 / (65536 - step))
    fixed = (np.rint((t - low) / np.where(high > low, high - low, 1) * (65535 / step)) * step).astype(np.uint16)
    scale_codes, color_codes = _codes(scales, levels.scale), _codes(colors, levels.color)
    colored = np.concatenate([nearest_number(color_codes, colors), opacity[:, None]], 1)
    return {
        "means": {
            "mins": low.tolist(),
            "maxs": high.tolist(),
            "files": [
                picture("means_l.webp", _rgba((fixed & 255).astype(np.uint8))),
                picture("means_u.webp", _rgba((fixed >> 8).astype(np.uint8))),
            ],
        },
        "scales": {
            "codebook": _short(scale_codes),
            "files": [picture("scales.webp", _rgba(nearest_number(scale_codes, scales)))],
        },
        "quats": {"files": [picture("quats.webp", quats)]},
        "sh0": {"codebook": _short(color_codes), "files": [picture("sh0.webp", colored)]},
    }


def _short(values: np.ndarray) -> list[float]:
    """float32 in as few digits as tell them apart."""
    return [float(str(v)) for v in values.astype(np.float32)]


def _codes(values: np.ndarray, count: int) -> np.ndarray:
    """A codebook of `count` entries, and the last again until there are 256."""
    codes = codebook(values, count)
    return np.concatenate([codes, np.full(256 - count, codes[-1], np.float32)])


def _palette(
    gaussians: Gaussians,
    order: Tensor,
    size: int,
    iterations: int,
    importance: Tensor | None,
    picture: Callable[..., str],
) -> dict[str, Any]:
    sh = gaussians.sh.detach().to("cpu", torch.float32)[order, 1:].flatten(1)
    weights = None if importance is None else importance.detach().cpu()[order]
    entries, labels = palette(sh, size, weights=weights, iterations=iterations)
    rest = sh.shape[1] // 3
    # Neighbours in the picture of centroids are alike if sorted by what varies most.
    rank = entries.abs().sum(1).argsort(stable=True)
    entries, labels = entries[rank], rank.argsort()[labels]
    values = entries.numpy()
    codes = codebook(values)
    texels = nearest_number(codes, values).reshape(-1, 3)
    two = labels.numpy().astype("<u2").view(np.uint8).reshape(-1, 2)
    return {
        "count": len(entries),
        "bands": COEFFICIENTS.index(rest),
        "codebook": _short(codes),
        "files": [
            picture("shN_centroids.webp", _rgba(texels), COLUMNS * rest),
            picture("shN_labels.webp", _rgba(np.pad(two, ((0, 0), (0, 1))))),
        ],
    }


def _harmonics(path: Path, part: dict[str, Any], load: Callable[[str, int], bytes], n: int) -> np.ndarray:
    """(N, K - 1, 3)."""
    count, rest = part["count"], COEFFICIENTS[part["bands"]]
    codes = _numbers(path, part["codebook"], 256)
    rows = -(-count // COLUMNS) * COLUMNS
    texels = _picture(path, part["files"][0], load, count * rest, width=COLUMNS * rest, most=rows * rest)
    entries = codes[texels[: count * rest, :3]].reshape(count, rest, 3)
    labels = _picture(path, part["files"][1], load, n)[:, :2].astype(np.int64) @ [1, 256]
    if n and labels.max() >= count:
        raise DataError(f"{path}: a label {labels.max()} of a palette of {count}; damaged")
    return entries[labels]


def _materials(path: Path, part: dict[str, Any] | None, load: Callable[[str, int], bytes], n: int) -> dict[str, Tensor]:
    names = part.get("channels") if part else None
    if part is None or part.get("version") != 1 or not isinstance(names, list) or not set(names) <= set(CHANNELS):
        return {}
    if not names:
        return {}
    packed = np.concatenate([_picture(path, file, load, n) for file in part["files"]], 1)
    width = sum(CODED[name] for name in names)
    # Pictures with fewer than four bytes to hold are opaque; what is in them beyond doesn't count.
    if packed.shape[1] < width:
        raise DataError(f"{path}: {packed.shape[1]} bytes of material a Gaussian, expected {width}; damaged")
    return unpack_materials(packed, names)


# Pictures


def _rgba(rows: np.ndarray) -> np.ndarray:
    """(N, 4) of up to four bytes a row; opaque where alpha holds nothing."""
    out = np.full((len(rows), 4), 255, np.uint8)
    out[:, : rows.shape[1]] = rows
    out[:, rows.shape[1] : 3] = 0
    return out


def _webp(rows: np.ndarray, width: int, effort: int) -> bytes:
    from PIL import Image

    height = -(-len(rows) // width)
    height = 4 * -(-height // 4) if width % 4 == 0 and len(rows) > width else max(height, 1)
    pixels = np.zeros((height * width, 4), np.uint8)
    pixels[:, 3] = 255
    pixels[: len(rows)] = rows
    buffer = io.BytesIO()
    # Without `exact`, colours under alpha 0 are changed.
    Image.fromarray(pixels.reshape(height, width, 4)).save(
        buffer, "WEBP", lossless=True, exact=True, quality=100 if effort > 4 else 20 * effort, method=effort
    )
    return buffer.getvalue()


def _picture(
    path: Path,
    name: object,
    load: Callable[[str, int], bytes],
    rows: int,
    *,
    width: int | None = None,
    most: int | None = None,
) -> np.ndarray:
    """(N, 4) uint8: the first `rows` pixels.  width: that is expected.  most: pixels; else what `rows` takes."""
    from PIL import Image

    if not isinstance(name, str):
        raise DataError(f"{path}: expected a file name, found {name!r}; damaged")
    # Lossless WebP is never much larger than its pixels.
    data = load(name, 8 * rows + (1 << 20))
    try:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
            pixels = image.width * image.height
            # Writers round up to blocks of four pixels.
            allowed = 4 * (most or rows) + 64 * 1024
            if (width or image.width) != image.width or not rows <= pixels <= allowed:
                raise DataError(
                    f"{path}: {name} has {image.width}x{image.height} pixels, and {rows} Gaussians or texels"
                )
            return np.asarray(image.convert("RGBA")).reshape(-1, 4)[:rows]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: {name} cannot be decoded ({error}); damaged") from error


# Files


def _meta(path: Path, load: Callable[[str, int], bytes]) -> dict[str, Any]:
    """meta.json, checked as far as that every number and name that is used is one."""
    try:
        meta = json.loads(load(META, MOST_META))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: its meta.json cannot be parsed ({error}); damaged") from None
    if not isinstance(meta, dict) or meta.get("version") != 2:
        found = meta.get("version", 1) if isinstance(meta, dict) else "none"
        raise DataError(f"{path}: SOG of version {found}; version 2 is read; convert it with splat-transform first")
    count = meta.get("count")
    if not isinstance(count, int) or count < 1:
        raise DataError(f"{path}: its meta.json claims {count!r} Gaussians; damaged")
    needed = {"means": 2, "scales": 1, "quats": 1, "sh0": 1} | ({"shN": 2} if "shN" in meta else {})
    for part, number in needed.items():
        files = meta[part].get("files") if isinstance(meta.get(part), dict) else None
        if not isinstance(files, list) or len(files) < number:
            raise DataError(f"{path}: its meta.json names no {number} files for {part}; damaged")
    if "relight" in meta and not (isinstance(meta["relight"], dict) and isinstance(meta["relight"].get("files"), list)):
        del meta["relight"]
    if "shN" in meta:
        size, bands = meta["shN"].get("count"), meta["shN"].get("bands")
        if not isinstance(size, int) or not 1 <= size <= 65536 or bands not in (1, 2, 3):
            raise DataError(f"{path}: an SH palette of {size!r} entries and {bands!r} bands; damaged")
    check_count(path, count, len(load(str(meta["means"]["files"][0]), 1 << 30)) * 4)
    return meta


def _numbers(path: Path, values: object, count: int) -> np.ndarray:
    numbers = np.asarray(values, np.float64) if isinstance(values, list) and len(values) == count else np.zeros(0)
    if numbers.shape != (count,):
        raise DataError(f"{path}: expected {count} numbers in meta.json; damaged")
    return numbers.astype(np.float32)


@contextmanager
def _opened(path: Path) -> Iterator[Callable[[str, int], bytes]]:
    """A function that gives a file's bytes, of which there may be so many."""

    def checked_name(name: str) -> str:
        if "/" in name or "\\" in name or name in ("", ".", "..") or ":" in name:
            raise DataError(f"{path}: refers to {name[:100]!r}, which is not beside its meta.json; not read")
        return name

    def too_large(name: str, size: int, most: int) -> DataError:
        return DataError(f"{path}: {name} has {size} bytes, more than the {most} that it can need; not read")

    def loose(name: str, most: int) -> bytes:
        file = path.with_name(checked_name(name))
        try:
            size = file.stat().st_size
            if size > most:
                raise too_large(name, size, most)
            return file.read_bytes()
        except OSError as error:
            raise DataError(f"{file}: cannot be read ({error.strerror or error}); it belongs to {path.name}") from None

    if path.name == META:
        yield loose
        return
    try:
        with zipfile.ZipFile(path) as bundle:
            entries = bundle.infolist()
            # Some tools put a folder around everything.
            folder = next(
                (e.filename.rpartition("/")[0] for e in entries if e.filename.rpartition("/")[2] == META), None
            )
            if folder is None:
                raise DataError(f"{path}: a zip without meta.json; expected a .sog")

            def packed(name: str, most: int) -> bytes:
                full = f"{folder}/{checked_name(name)}" if folder else checked_name(name)
                try:
                    entry = bundle.getinfo(full)
                except KeyError:
                    raise DataError(f"{path}: has no {name}, which its meta.json refers to; damaged") from None
                if entry.file_size > most:
                    raise too_large(name, entry.file_size, most)
                with bundle.open(entry) as file:
                    return file.read(most)  # zipfile believes the promised size; nothing here depends on it

            yield packed
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise DataError(f"{path}: a damaged zip ({error}); copy or download it again") from error


@contextmanager
def _storing(path: Path) -> Iterator[Callable[[str, bytes], None]]:
    """A function that keeps a file: in the zip, or beside meta.json, which comes last and makes it complete."""
    if path.name.lower() == META:

        def loose(name: str, data: bytes) -> None:
            with replacing(path if name == META else path.with_name(name)) as temporary:
                temporary.write_bytes(data)

        yield loose
        return
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as bundle:

        def packed(name: str, data: bytes) -> None:
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            # Pictures are compressed already; numbers as text are not, and a small splat has little else.
            entry.compress_type = zipfile.ZIP_DEFLATED if name == META else zipfile.ZIP_STORED
            bundle.writestr(entry, data)

        yield packed
