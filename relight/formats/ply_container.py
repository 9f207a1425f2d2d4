"""The PLY container: header and columns of one element, whatever they mean.

Source: Greg Turk, "The PLY Polygon File Format" (1994).  Binary of both byte orders and ASCII are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from relight.errors import DataError

# Both spellings are in use: Turk's names and the sized names of later writers.
TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip
FORMATS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": None}
MAX_HEADER = 1 << 20
"""Bytes.  A real header is some kilobytes; a file without `end_header` must not be read whole to find that out."""


@dataclass(frozen=True)
class Element:
    """name, number of rows, and (property, numpy type code) in file order; the type is None for a list."""

    name: str
    count: int
    properties: tuple[tuple[str, str | None], ...]

    @property
    def has_list(self) -> bool:
        return any(code is None for _, code in self.properties)


@dataclass(frozen=True)
class Header:
    """byte_order: "<", ">" or None for ASCII.  size: bytes of the header, after which data begins."""

    byte_order: str | None
    elements: tuple[Element, ...]
    comments: tuple[str, ...]
    size: int

    def element(self, name: str) -> Element | None:
        return next((e for e in self.elements if e.name == name), None)


def read_header(path: Path) -> Header:
    """Parse and check the header.  Raises `DataError` naming the line."""
    with path.open("rb") as file:
        return _parse_header(path, file)


def _parse_header(path: Path, file: BinaryIO) -> Header:
    if file.readline(16).strip() != b"ply":
        raise DataError(f"{path}: not a PLY file (expected the first line `ply`)")
    byte_order: str | None = None
    has_format = False
    elements: list[Element] = []
    comments: list[str] = []
    number = 1
    while file.tell() < MAX_HEADER:
        raw = file.readline(MAX_HEADER)
        number += 1
        if not raw:
            break
        where = f"{path}: header line {number}"
        try:
            words = raw.decode("utf-8").split()
        except UnicodeDecodeError:
            raise DataError(f"{where}: not text; the header is damaged") from None
        match words:
            case ["end_header"]:
                if not has_format:
                    raise DataError(f"{path}: the header has no `format` line")
                return Header(byte_order, tuple(elements), tuple(comments), file.tell())
            case ["comment" | "obj_info", *_]:
                comments.append(raw.decode("utf-8").strip().partition(" ")[2])
            case []:
                pass
            case ["format", kind, _]:
                if kind not in FORMATS:
                    raise DataError(f"{where}: unknown format {kind!r}; expected one of {', '.join(FORMATS)}")
                byte_order, has_format = FORMATS[kind], True
            case ["element", name, count]:
                if not (count.isascii() and count.isdigit()) or len(count) > 18:
                    raise DataError(f"{where}: element {name!r} has an impossible number of rows, {count[:40]!r}")
                if any(e.name == name for e in elements):
                    raise DataError(f"{where}: element {name!r} appears twice")
                elements.append(Element(name, int(count), ()))
            case ["property", "list", _, _, name] if elements:
                elements[-1] = _with_property(where, elements[-1], name, None)
            case ["property", kind, name] if elements:
                if kind not in TYPES:
                    raise DataError(f"{where}: property {name!r} has unknown type {kind!r}")
                elements[-1] = _with_property(where, elements[-1], name, TYPES[kind])
            case _:
                raise DataError(f"{where}: cannot be understood: {' '.join(words)[:80]!r}")
    raise DataError(f"{path}: the header has no `end_header`; the file is truncated or not a PLY")


def _with_property(where: str, element: Element, name: str, code: str | None) -> Element:
    if any(name == other for other, _ in element.properties):
        raise DataError(f"{where}: property {name!r} appears twice in element {element.name!r}")
    return Element(element.name, element.count, (*element.properties, (name, code)))


def read_element(path: Path, header: Header, name: str) -> dict[str, np.ndarray]:
    """Columns of the element `name`, each (count,) in its stored type.

    The size of the file is checked before anything is allocated, so a header that lies costs nothing.
    """
    element = header.element(name)
    if element is None:
        found = ", ".join(e.name for e in header.elements) or "none"
        raise DataError(f"{path}: expected an element {name!r}, found: {found}")
    before = header.elements[: header.elements.index(element)]
    for other in (*before, element):
        if other.has_list:
            raise DataError(f"{path}: element {other.name!r} has list properties, as meshes do; expected plain columns")
    if not element.properties:
        raise DataError(f"{path}: element {name!r} has no properties")
    if header.byte_order is None:
        return _read_ascii(path, header, before, element)
    dtypes = [np.dtype([(p, header.byte_order + str(c)) for p, c in e.properties]) for e in (*before, element)]
    start = header.size + sum(e.count * d.itemsize for e, d in zip(before, dtypes, strict=False))
    available = path.stat().st_size - start
    if element.count * dtypes[-1].itemsize > available:
        raise DataError(
            f"{path}: truncated: the header promises {element.count} rows of {dtypes[-1].itemsize} bytes, "
            f"{max(available, 0) // dtypes[-1].itemsize} are there; copy or download the file again"
        )
    with path.open("rb") as file:
        rows = np.fromfile(file, dtypes[-1], element.count, offset=start)
    return {p: rows[p] for p, _ in element.properties}


def element_bytes(path: Path, header: Header, name: str) -> dict[str, int]:
    """Bytes of the file that each property of an element takes; of ASCII files, an even share."""
    element = header.element(name)
    if element is None or not element.properties:
        return {}
    if header.byte_order is None:
        share = (path.stat().st_size - header.size) // len(element.properties)
        return {p: share for p, _ in element.properties}
    return {p: element.count * np.dtype(code or "u1").itemsize for p, code in element.properties}


def _read_ascii(path: Path, header: Header, before: tuple[Element, ...], element: Element) -> dict[str, np.ndarray]:
    skipped = sum(e.count * len(e.properties) for e in before)
    wanted = element.count * len(element.properties)
    # Every number takes at least one digit and one separator.
    if skipped + wanted > (path.stat().st_size - header.size + 1) // 2:
        raise DataError(f"{path}: truncated: the header promises {element.count} rows, the file is too short for them")
    with path.open("rb") as file:
        file.seek(header.size)
        words = file.read().split(maxsplit=skipped + wanted)[skipped : skipped + wanted]
    if len(words) < wanted:
        raise DataError(
            f"{path}: truncated: the header promises {element.count} rows, "
            f"{len(words) // len(element.properties)} are there; copy or download the file again"
        )
    try:
        # Not np.array(words): its rows are as wide as the longest word, which a hostile file chooses.
        values = np.fromiter(map(float, words), np.float64, wanted)
    except ValueError as error:
        raise DataError(f"{path}: a value of element {element.name!r} is not a number ({error})") from None
    return {p: values[i :: len(element.properties)] for i, (p, _) in enumerate(element.properties)}
