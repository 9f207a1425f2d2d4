"""Splats in glTF: `KHR_gaussian_splatting`, and materials in an extension of ours within it.

A mesh primitive of points with attributes POSITION, and prefixed with the extension's name ROTATION (xyzw), SCALE
(linear), OPACITY (0 to 1) and SH_DEGREE_l_COEF_n, all float32 here; COLOR_0 is for viewers that only know points.
Axes are glTF's, y up: splats are turned by 180 degrees about z when written, and back when read.  Source: the ratified
text of KHR_gaussian_splatting (Khronos, 2026).  Drafts before it stored logarithms of scales; such files cannot be
told apart.

`RELIGHT_gaussian_splatting_pbr` = {version: 1, model: "metallicRoughness", attributes: {BASE_COLOR, ROUGHNESS,
METALLIC, NORMAL, PROGRESS: accessors}, surfels?, antialiased?}: the channels of `relight.geometry.gaussians.CHANNELS`
in their units, directions in the primitive's axes.  Accessors are there and not among the attributes, where other
viewers would trip over them.  A viewer that does not know it shows the captured look.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relight.atomic import replacing
from relight.errors import DataError
from relight.formats import gltf_container
from relight.formats.common import check_finite, checked, half_turn, known_channels, logit, parts
from relight.formats.gltf_container import GltfFile
from relight.geometry.gaussians import CHANNELS, Gaussians
from relight.geometry.sh import from_constant, to_constant
from relight.shading.color import linear_to_srgb, srgb_to_linear

BASE = "KHR_gaussian_splatting"
PBR = "RELIGHT_gaussian_splatting_pbr"
LOG_SCALES = (-87.0, 88.0)
"""What the exponential of is a normal float32."""
_KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
_FLOAT, _BYTE = 5126, 5121


def sniff(path: Path, head: bytes) -> bool:
    """A .glb or .gltf whose JSON mentions the extension."""
    if head.startswith(b"glTF") and len(head) >= 20:
        size = min(struct.unpack_from("<I", head, 12)[0], 1 << 24)
    elif head.lstrip()[:1] == b"{":
        size = 1 << 24
    else:
        return False
    with path.open("rb") as file:
        return BASE.encode() in file.read(20 + size)


def read(path: str | Path, *, drop_invalid: bool = False) -> Gaussians:
    """All splats of the file's scene as one, in the axes of a capture.  Raises `DataError`."""
    path = Path(path)
    file = gltf_container.read(path)
    found = [splat for mesh, matrix in _placed(file) for splat in _splats(file, mesh, matrix)]
    if not found:
        raise DataError(f"{path}: has no primitive with {BASE} in its scene")
    gaussians = half_turn(_joined(found), "z")
    return checked(path, gaussians, drop_invalid)


def write(gaussians: Gaussians, path: str | Path) -> None:
    """A .glb, atomically, in the order of the splat.

    Raises `DataError` if a value is not finite or the file would be larger than the 4 GiB of the container.
    """
    check_finite(path, gaussians)
    n, names = len(gaussians), known_channels(gaussians)
    if n == 0:
        raise DataError(f"{path}: not written: glTF has no empty accessors")
    start = {name: value[:0] for name, value in _attributes(gaussians[:1], names).items()}
    document, size = _document(gaussians, start, names)
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    total = 28 + len(text) + size
    if total >= 1 << 32:
        raise DataError(f"{path}: not written: {total} bytes, and a .glb holds 4 GiB; split the splat or use .ply")
    with replacing(path) as temporary, temporary.open("wb") as out:
        out.write(struct.pack("<4sIIII", b"glTF", 2, total, len(text), 0x4E4F534A) + text)
        out.write(struct.pack("<II", size, 0x004E4942))
        begin, done = out.tell(), 0
        for part in parts(gaussians):
            offset = begin
            for value in _attributes(half_turn(part, "z"), names).values():
                row = value.itemsize * (value.shape[1] if value.ndim > 1 else 1)
                out.seek(offset + row * done)
                np.ascontiguousarray(value).tofile(out)
                offset += row * n
            done += len(part)


def sizes(path: Path) -> dict[str, int]:
    """Bytes by attribute."""
    file, out = gltf_container.read(path), {}
    for mesh in file.items("meshes"):
        for primitive in mesh.get("primitives", []):
            extension = primitive.get("extensions", {}).get(BASE)
            if extension is None:
                continue
            for name, index in primitive["attributes"].items():
                title = re.sub(r"_DEGREE.*", "", name.rpartition(":")[2]).lower()
                title = {"sh": "color" if "DEGREE_0" in name else "sh", "color_0": "point color"}.get(title, title)
                out[title] = out.get(title, 0) + file.stored_bytes(index)
            for index in extension.get("extensions", {}).get(PBR, {}).get("attributes", {}).values():
                out["materials"] = out.get("materials", 0) + file.stored_bytes(index)
    return out


# Writing


def _attributes(g: Gaussians, names: list[str]) -> dict[str, np.ndarray]:
    """What the file holds for some Gaussians, in its order: attributes, the colours of points, then materials."""
    opacity = g.opacities
    sh = {
        f"{BASE}:SH_DEGREE_{degree}_COEF_{i}": g.sh[:, degree * degree + i]
        for degree in range(g.sh_degree + 1)
        for i in range(2 * degree + 1)
    }
    point = torch.cat([srgb_to_linear(to_constant(g.sh[:, 0]).clamp(0, 1)), opacity[:, None]], 1)
    tensors = {
        "POSITION": g.means,
        f"{BASE}:ROTATION": g.quats_wxyz[:, [1, 2, 3, 0]],
        f"{BASE}:SCALE": g.log_scales.clamp(*LOG_SCALES).exp(),
        f"{BASE}:OPACITY": opacity,
        **sh,
        "COLOR_0": (point * 255).round().to(torch.uint8),
        **{name.upper(): g.channels[name] for name in names},
    }
    return {
        name: value.detach().cpu().numpy().astype("u1" if name == "COLOR_0" else "<f4")
        for name, value in tensors.items()
    }


def _document(gaussians: Gaussians, start: dict[str, np.ndarray], names: list[str]) -> tuple[dict[str, Any], int]:
    """The JSON, and the bytes of the buffer that it describes.  start: `_attributes` of no Gaussians, for their
    kinds."""
    n, views, accessors, at = len(gaussians), [], [], 0
    means = gaussians.means.detach().cpu().float() * torch.tensor([-1.0, -1.0, 1.0])
    for name, value in start.items():
        width = value.shape[1] if value.ndim > 1 else 1
        size = n * width * value.itemsize
        views.append({"buffer": 0, "byteOffset": at, "byteLength": size, "target": 34962})
        accessor: dict[str, Any] = {
            "bufferView": len(accessors), "componentType": _BYTE if value.dtype == np.uint8 else _FLOAT, "count": n,
            "type": _KINDS[width],
        }  # fmt: skip
        if value.dtype == np.uint8:
            accessor["normalized"] = True
        if name == "POSITION":
            accessor |= {"min": means.amin(0).tolist(), "max": means.amax(0).tolist()}
        accessors.append(accessor)
        at += size
    index = {name: i for i, name in enumerate(start)}
    materials = {name.upper(): index[name.upper()] for name in names}
    pbr: dict[str, Any] = {"version": 1}
    pbr |= {"model": "metallicRoughness", "attributes": materials} if materials else {}
    pbr |= {name: True for name, is_set in gaussians.flags.items() if is_set}
    base: dict[str, Any] = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
    base |= {"extensions": {PBR: pbr}} if len(pbr) > 1 else {}
    attributes = {name: i for name, i in index.items() if name not in materials}
    return {
        "asset": {"version": "2.0", "generator": "relight"},
        "extensionsUsed": [BASE, *([PBR] if len(pbr) > 1 else [])],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "splat", "mesh": 0}],
        "meshes": [{"primitives": [{"mode": 0, "attributes": attributes, "extensions": {BASE: base}}]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": at}],
    }, at


# Reading


def _placed(file: GltfFile) -> Iterator[tuple[dict[str, Any], Tensor]]:
    """Meshes of the scene, with their world transforms."""
    for node, world in gltf_container.placed_nodes(file):
        if "mesh" in node:
            yield file.item("meshes", node["mesh"]), world


def _splats(file: GltfFile, mesh: dict[str, Any], world: Tensor) -> Iterator[Gaussians]:
    for primitive in mesh.get("primitives", []):
        extension = primitive.get("extensions", {}).get(BASE)
        if extension is not None:
            yield _transformed(file, _splat(file, primitive["attributes"], extension), world)


def _splat(file: GltfFile, attributes: dict[str, Any], extension: dict[str, Any]) -> Gaussians:
    inner = extension.get("extensions", {})
    if packed := sorted(name for name in inner if "compression" in name):
        raise file.error(f"its splat is compressed by {packed[0]}, which is not read")

    def values(name: str, width: int, accessors: dict[str, Any] = attributes) -> Tensor:
        if name not in accessors:
            raise file.error(f"its splat has no {name}")
        found = file.accessor(accessors[name])
        if found.shape[1] != width:
            raise file.error(f"{name} has {found.shape[1]} components, not {width}")
        return torch.from_numpy(found.astype(np.float32))

    degree = 0
    while degree < 3 and f"{BASE}:SH_DEGREE_{degree + 1}_COEF_0" in attributes:
        degree += 1
    sh = [values(f"{BASE}:SH_DEGREE_{band}_COEF_{i}", 3) for band in range(degree + 1) for i in range(2 * band + 1)]
    means, rotation = values("POSITION", 3), values(f"{BASE}:ROTATION", 4)
    rest = {"scale": values(f"{BASE}:SCALE", 3), "opacity": values(f"{BASE}:OPACITY", 1)[:, 0]}
    pbr = inner.get(PBR, {}) if isinstance(inner.get(PBR, {}), dict) else {}
    named = pbr.get("attributes", {}) if pbr.get("version") == 1 else {}
    channels = {}
    for name, (shape, _) in CHANNELS.items():
        if name.upper() in named:
            value = values(name.upper(), shape[0] if shape else 1, named)
            channels[name] = value if shape else value[:, 0]
    if len({len(t) for t in (means, rotation, *rest.values(), *sh, *channels.values())}) > 1:
        raise file.error("its splat's attributes have different lengths")
    return Gaussians(
        means=means,
        quats_wxyz=rotation[:, [3, 0, 1, 2]],
        log_scales=rest["scale"].log(),
        logit_opacity=logit(rest["opacity"]),
        sh=_encoded(torch.stack(sh, 1), extension.get("colorSpace")),
        channels=channels,
        surfels=pbr.get("surfels") is True,
        antialiased=pbr.get("antialiased") is True,
    )


def _encoded(sh: Tensor, space: object) -> Tensor:
    """Our captured look is sRGB-encoded.  The colour of all directions is converted, the others by its slope."""
    if space != "lin_rec709_display":
        return sh
    linear = to_constant(sh[:, :1]).clamp_min(0)
    slope = torch.where(linear <= 0.0031308, 12.92, 1.055 / 2.4 * linear.clamp_min(0.0031308) ** (1 / 2.4 - 1))
    return torch.cat([from_constant(linear_to_srgb(linear)), sh[:, 1:] * slope], 1)


def _transformed(file: GltfFile, g: Gaussians, world: Tensor) -> Gaussians:
    if torch.equal(world, torch.eye(4, dtype=world.dtype)):
        return g
    scale = world[:3, :3].norm(dim=0)
    rotation = world[:3, :3] / scale
    uniform = bool((scale > 0).all()) and float(scale.max() / scale.min()) < 1.001
    if not uniform or float((rotation @ rotation.T - torch.eye(3, dtype=world.dtype)).abs().max()) > 1e-3:
        raise file.error("its splat is sheared or stretched by a node; bake the node's transform first")
    if float(torch.linalg.det(rotation)) < 0:
        raise file.error("its splat is mirrored by a node, which is undefined")
    return g.transformed(rotation.float(), world[:3, 3].float(), float(scale.mean()))


def _joined(found: list[Gaussians]) -> Gaussians:
    """All in one, with the highest degree of SH and the channels that all have."""
    if len(found) == 1:
        return found[0]
    count = max(g.sh.shape[1] for g in found)
    tensors = [g.tensors() | {"sh": torch.nn.functional.pad(g.sh, (0, 0, 0, count - g.sh.shape[1]))} for g in found]
    shared = [name for name in tensors[0] if all(name in t for t in tensors)]
    flags = {name: all(g.flags[name] for g in found) for name in found[0].flags}
    return Gaussians.from_tensors({name: torch.cat([t[name] for t in tensors]) for name in shared}, **flags)
