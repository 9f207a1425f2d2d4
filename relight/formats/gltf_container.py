"""glTF 2.0 containers: the JSON, its binary buffers, accessors and placed nodes.  What is in them is others' business:
`relight.data.gltf` reads meshes, `relight.formats.gltf` splats."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import torch
from torch import Tensor

from relight.errors import DataError
from relight.geometry.transforms import rotation_from_quaternion

_TYPES = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
MOST_BYTES = 1 << 31
"""Accessors that claim more are refused: a sparse one needs no data to claim anything."""
DEEPEST, MOST_NODES = 200, 100_000
"""Of a scene: nodes may be nested and repeated, in a hostile file exponentially often."""


@dataclass(frozen=True)
class GltfFile:
    """path: for messages and for what is stored next to it.  json: the document.  binary: of a .glb, else empty."""

    path: Path
    json: dict[str, Any]
    binary: bytes

    def items(self, kind: str) -> list[dict[str, Any]]:
        """One of the document's arrays, such as "meshes"; empty if absent."""
        found = self.json.get(kind, [])
        if not isinstance(found, list) or not all(isinstance(i, dict) for i in found):
            raise self.error(f"{kind} is not a list of objects")
        return found

    def item(self, kind: str, index: object) -> dict[str, Any]:
        """Raises DataError if there is none."""
        found = self.items(kind)
        if not isinstance(index, int) or not 0 <= index < len(found):
            raise self.error(f"refers to {kind}[{index}], and has {len(found)}")
        return found[index]

    def error(self, problem: str) -> DataError:
        """What is wrong, and with which file."""
        return DataError(f"{self.path}: {problem}; re-export the model")

    def resource(self, uri: object) -> bytes:
        """The bytes of a data: URI or of a file next to the document."""
        if not isinstance(uri, str):
            raise self.error(f"expected a URI, found {uri!r}")
        if uri.startswith("data:"):
            try:
                return base64.b64decode(uri.partition(",")[2], validate=True)
            except ValueError:
                raise self.error("a data URI that is not base64") from None
        if "://" in uri:
            raise self.error(f"refers to {uri[:200]}, and nothing is fetched from the network")
        file = self.path.parent / unquote(uri)
        if not file.resolve().is_relative_to(self.path.parent.resolve()):
            raise self.error(f"refers to {uri[:200]}, which is outside its own folder and not read")
        try:
            return file.read_bytes()
        except (OSError, ValueError):
            raise DataError(f"{self.path}: refers to {uri[:200]}, which is missing; put it next to the model") from None

    def view(self, index: object) -> tuple[bytes, int]:
        """Bytes and stride (0: tightly packed) of a buffer view."""
        view = self.item("bufferViews", index)
        buffer = self.item("buffers", view.get("buffer"))
        data = self.resource(buffer["uri"]) if "uri" in buffer else self.binary
        start, length = view.get("byteOffset", 0), view.get("byteLength")
        if not isinstance(start, int) or not isinstance(length, int) or not 0 <= start <= start + length <= len(data):
            raise self.error(f"bufferViews[{index}] claims bytes {start} + {length} of {len(data)}: a truncated file")
        return data[start : start + length], view.get("byteStride", 0)

    def accessor(self, index: object) -> np.ndarray:
        """(count, width) numbers; normalised integers become float32, others keep their type."""
        accessor = self.item("accessors", index)
        kind, width = _TYPES.get(accessor.get("componentType", 0)), _WIDTHS.get(accessor.get("type", ""))
        count = accessor.get("count")
        if kind is None or width is None or not isinstance(count, int) or count < 0:
            raise self.error(f"accessors[{index}] is of an unknown type")
        if count * width * np.dtype(kind).itemsize > MOST_BYTES:
            raise self.error(f"accessors[{index}] claims {count} elements")
        if "bufferView" in accessor:
            values = self._elements(accessor, index, kind, width, count)
        else:
            values = np.zeros((count, width), kind)
        if "sparse" in accessor:
            values = values.copy()
            sparse = accessor["sparse"]
            some, indices, replaced = sparse.get("count"), sparse.get("indices"), sparse.get("values")
            if not isinstance(some, int) or not isinstance(indices, dict) or not isinstance(replaced, dict):
                raise self.error(f"accessors[{index}].sparse is incomplete")
            where = self._elements(indices, index, _TYPES.get(indices.get("componentType", 0), np.uint32), 1, some)[
                :, 0
            ]
            if len(where) and where.max() >= count:
                raise self.error(f"accessors[{index}].sparse refers to element {where.max()} of {count}")
            values[where] = self._elements(replaced, index, kind, width, some)
        if accessor.get("normalized") and not np.issubdtype(kind, np.floating):
            values = np.maximum(values / np.float32(np.iinfo(kind).max), -1).astype(np.float32)
        return values

    def stored_bytes(self, index: object) -> int:
        """Bytes that an accessor takes in the file, without padding."""
        accessor = self.item("accessors", index)
        width, kind = _WIDTHS[accessor["type"]], _TYPES[accessor["componentType"]]
        return accessor["count"] * width * np.dtype(kind).itemsize

    def _elements(self, where: dict[str, Any], index: object, kind: type, width: int, count: int) -> np.ndarray:
        data, stride = self.view(where.get("bufferView"))
        start, size = where.get("byteOffset", 0), np.dtype(kind).itemsize * width
        stride = stride or size
        if not isinstance(start, int) or not isinstance(stride, int) or start < 0 or stride < size:
            raise self.error(f"accessors[{index}] has a bad offset or stride")
        if count and start + (count - 1) * stride + size > len(data):
            raise self.error(f"accessors[{index}] claims {count} elements, and has {len(data)} bytes: a truncated file")
        little = np.dtype(kind).newbyteorder("<")
        return np.ndarray((count, width), little, data, start, (stride, np.dtype(kind).itemsize)).astype(kind)


def placed_nodes(file: GltfFile) -> Iterator[tuple[dict[str, Any], Tensor]]:
    """Every node of the file's scene, parents first, with its (4, 4) float64 world transform; without scenes, of
    all."""
    nodes = file.items("nodes")
    if file.items("scenes"):
        roots = file.item("scenes", file.json.get("scene", 0)).get("nodes", [])
    else:
        children = {c for n in nodes for c in n.get("children", [])}
        roots = [i for i in range(len(nodes)) if i not in children]
    waiting = [(root, torch.eye(4, dtype=torch.float64), 0) for root in reversed(roots)]
    visited = 0
    while waiting:
        index, parent, depth = waiting.pop()
        visited += 1
        if depth > DEEPEST or visited > MOST_NODES:
            raise file.error("nodes nested too deep or repeated too often, or in a circle")
        node = file.item("nodes", index)
        world = parent @ _local(node)
        yield node, world
        waiting += [(child, world, depth + 1) for child in reversed(node.get("children", []))]


def _local(node: dict[str, Any]) -> Tensor:
    """(4, 4) float64: the node's own transform."""
    if "matrix" in node:
        return torch.tensor(node["matrix"], dtype=torch.float64).reshape(4, 4).T
    x, y, z, w = node.get("rotation", [0, 0, 0, 1])
    matrix = torch.eye(4, dtype=torch.float64)
    rotation = rotation_from_quaternion(torch.tensor([w, x, y, z], dtype=torch.float64))
    matrix[:3, :3] = rotation * torch.tensor(node.get("scale", [1, 1, 1]), dtype=torch.float64)
    matrix[:3, 3] = torch.tensor(node.get("translation", [0, 0, 0]), dtype=torch.float64)
    return matrix


def read(path: str | Path) -> GltfFile:
    """A .gltf or .glb, told apart by content.  Raises DataError for what is neither, or another version."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    binary = b""
    if data[:4] == b"glTF":
        data, binary = _chunks(path, data)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise DataError(f"{path}: not glTF: its JSON cannot be parsed; re-export the model") from None
    if not isinstance(document, dict) or not isinstance(document.get("asset"), dict):
        raise DataError(f"{path}: not glTF: no `asset`; re-export the model")
    if str(document["asset"].get("version", "")).split(".")[0] != "2":
        raise DataError(f"{path}: glTF {document['asset'].get('version')}; version 2 is read; re-export the model")
    return GltfFile(path, document, binary)


def _chunks(path: Path, data: bytes) -> tuple[bytes, bytes]:
    """JSON and binary chunk of a .glb."""
    found: dict[int, bytes] = {}
    version, at = struct.unpack_from("<I", data, 4)[0] if len(data) >= 12 else 0, 12
    if version != 2:
        raise DataError(f"{path}: a .glb of version {version}; version 2 is read; re-export the model")
    while at + 8 <= len(data):
        length, kind = struct.unpack_from("<II", data, at)
        if at + 8 + length > len(data):
            raise DataError(f"{path}: ends after {len(data)} bytes, within a chunk: truncated; copy it again")
        found.setdefault(kind, data[at + 8 : at + 8 + length])
        at += 8 + length
    if 0x4E4F534A not in found:
        raise DataError(f"{path}: a .glb without JSON; re-export the model")
    return found[0x4E4F534A], found.get(0x004E4942, b"")
