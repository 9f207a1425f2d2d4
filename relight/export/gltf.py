"""Meshes with glTF materials as .glb, to the letter of glTF 2.0; the inverse of `relight.data.gltf`.

Written here rather than through trimesh, which drops tangents, second coordinates, occlusion and material extensions.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from relight import __version__
from relight.atomic import replacing
from relight.errors import ShapeError
from relight.export.images import encoded_bytes
from relight.export.runs import last_asset
from relight.geometry.material import Material, Texture
from relight.geometry.mesh import Mesh
from relight.geometry.transforms import quaternion_from_rotation
from relight.shading.color import linear_to_srgb
from relight.vectors import unit

_FLOAT, _UINT = 5126, 5125
_ARRAY, _ELEMENTS = 34962, 34963
_WRAPS = {"repeat": 10497, "clamp": 33071, "mirror": 33648}


def export_glb(run: Path, output: Path) -> None:
    """The run's asset.  Raises MissingPartError for a run without."""
    asset = last_asset(run)
    write_glb(output, asset.mesh, turn=asset.y_up)


def write_glb(path: str | Path, mesh: Mesh, *, turn: Tensor | None = None) -> None:
    """Geometry, textures and materials in one file; textures as PNG, colours encoded in sRGB.

    turn: (3, 3) rotation of the file's node, which leads from the mesh's world to glTF's, +Y up.
    Raises ShapeError for a mesh without faces or with positions that are not finite.
    """
    if not len(mesh.faces) or not bool(mesh.vertices.isfinite().all()):
        raise ShapeError(f"{path}: expected a mesh with faces and finite positions, found {len(mesh.faces)} faces")
    document = _Document()
    node: dict[str, Any] = {"mesh": 0, "name": "asset"}
    if turn is not None and not torch.allclose(turn.float(), torch.eye(3)):
        w, x, y, z = normalize(quaternion_from_rotation(turn.double()), dim=0).tolist()
        node["rotation"] = [x, y, z, w]
    primitives = document.primitives(mesh)
    body = {
        "asset": {"version": "2.0", "generator": f"relight {__version__}"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [node],
        "meshes": [{"primitives": primitives}],
        "buffers": [{"byteLength": len(document.binary)}],
        **{name: rows for name, rows in vars(document).items() if isinstance(rows, list) and rows},
    }
    if document.extensions:
        body["extensionsUsed"] = sorted(document.extensions)
    text = json.dumps(body, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    chunks += struct.pack("<I4s", len(document.binary), b"BIN\0") + document.binary
    with replacing(path) as temporary:
        temporary.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)


@dataclass
class _Document:
    """The arrays of the JSON, named as in the file, and the binary that they point into."""

    accessors: list[dict[str, Any]] = field(default_factory=list)
    bufferViews: list[dict[str, Any]] = field(default_factory=list)  # noqa: N815 - glTF's name
    images: list[dict[str, Any]] = field(default_factory=list)
    samplers: list[dict[str, Any]] = field(default_factory=list)
    textures: list[dict[str, Any]] = field(default_factory=list)
    materials: list[dict[str, Any]] = field(default_factory=list)
    binary: bytes = b""
    extensions: set[str] = field(default_factory=set)
    _known: dict[object, int] = field(default_factory=dict)

    def primitives(self, mesh: Mesh) -> list[dict[str, Any]]:
        """One for each material that is used."""
        attributes = {"POSITION": self._accessor(mesh.vertices, "VEC3", bounds=True)}
        if mesh.normals is not None:
            attributes["NORMAL"] = self._accessor(_unit(mesh.normals), "VEC3")
            # Tangents without normals mean nothing.
            if mesh.tangents is not None:
                signs = torch.where(mesh.tangents[:, 3:] < 0, -1.0, 1.0)
                attributes["TANGENT"] = self._accessor(torch.cat([_unit(mesh.tangents[:, :3]), signs], 1), "VEC4")
        for name, values in (("TEXCOORD_0", mesh.uv), ("TEXCOORD_1", mesh.uv1)):
            if values is not None:
                attributes[name] = self._accessor(values, "VEC2")
        if mesh.colors is not None:
            attributes["COLOR_0"] = self._accessor(mesh.colors.clamp(0, 1), "VEC4")
        ids = torch.zeros(len(mesh.faces)) if mesh.material_ids is None else mesh.material_ids
        found = []
        for index in ids.unique().long().tolist():
            primitive: dict[str, Any] = {
                "attributes": attributes,
                "indices": self._accessor(mesh.faces[ids == index].reshape(-1, 1), "SCALAR"),
            }
            if mesh.materials:
                primitive["material"] = len(self.materials)
                self.materials.append(self._material(mesh.materials[index]))
            found.append(primitive)
        return found

    def _accessor(self, values: Tensor, kind: str, *, bounds: bool = False) -> int:
        integer = not values.is_floating_point()
        array = values.detach().cpu().numpy().astype("<u4" if integer else "<f4")
        view = self._view(array.tobytes(), target=_ELEMENTS if integer else _ARRAY)
        accessor: dict[str, Any] = {
            "bufferView": view, "componentType": _UINT if integer else _FLOAT, "count": len(array), "type": kind,
        }  # fmt: skip
        if bounds:
            accessor |= {"min": array.min(0).tolist(), "max": array.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def _view(self, data: bytes, **more: Any) -> int:
        self.bufferViews.append({"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data), **more})
        self.binary += data + b"\0" * (-len(data) % 4)
        return len(self.bufferViews) - 1

    def _material(self, m: Material) -> dict[str, Any]:
        pbr = {
            "baseColorFactor": m.base_color.clamp(0, 1).tolist(),
            "metallicFactor": float(m.metallic.clamp(0, 1)),
            "roughnessFactor": float(m.roughness.clamp(0, 1)),
            **self._texture("baseColorTexture", m.base_color_texture, color=True),
            **self._texture("metallicRoughnessTexture", m.metallic_roughness_texture),
        }
        found: dict[str, Any] = {
            **({"name": m.name} if m.name else {}),
            "pbrMetallicRoughness": pbr,
            **self._texture("normalTexture", m.normal_texture, scale=m.normal_scale),
            **self._texture("occlusionTexture", m.occlusion_texture, strength=m.occlusion_strength),
            **self._texture("emissiveTexture", m.emissive_texture, color=True),
            "doubleSided": m.double_sided,
        }
        if m.alpha_mode != "opaque":
            found["alphaMode"] = m.alpha_mode.upper()
        if m.alpha_mode == "mask":
            found["alphaCutoff"] = m.alpha_cutoff
        extensions: dict[str, Any] = {}
        if bool((m.emissive > 0).any()):
            strength = max(1.0, float(m.emissive.max()))
            found["emissiveFactor"] = (m.emissive / strength).clamp(0, 1).tolist()
            if strength > 1:
                extensions["KHR_materials_emissive_strength"] = {"emissiveStrength": strength}
        if m.unlit:
            extensions["KHR_materials_unlit"] = {}
        if m.ior != 1.5:
            extensions["KHR_materials_ior"] = {"ior": m.ior}
        specular = {
            **({"specularFactor": float(m.specular)} if float(m.specular) != 1 else {}),
            **({"specularColorFactor": m.specular_color.tolist()} if bool((m.specular_color != 1).any()) else {}),
            **self._texture("specularTexture", m.specular_texture),
            **self._texture("specularColorTexture", m.specular_color_texture, color=True),
        }
        if specular:
            extensions["KHR_materials_specular"] = specular
        if extensions:
            found["extensions"] = extensions
            self.extensions |= set(extensions)
        return found

    def _texture(self, name: str, texture: Texture | None, *, color: bool = False, **more: float) -> dict[str, Any]:
        if texture is None:
            return {}
        sampler = {"wrapS": _WRAPS[texture.wrap[0]], "wrapT": _WRAPS[texture.wrap[1]]}
        sampler |= {"magFilter": 9728, "minFilter": 9728} if texture.nearest else {"magFilter": 9729, "minFilter": 9987}
        image = self._once(("image", id(texture.image), color), self.images, lambda: self._image(texture.image, color))
        row = {"sampler": self._once(tuple(sampler.items()), self.samplers, lambda: sampler), "source": image}
        info: dict[str, Any] = {"index": self._once(tuple(row.items()), self.textures, lambda: row)}
        if texture.uv_set:
            info["texCoord"] = texture.uv_set
        # Values that are the defaults are not written.
        info |= {key: value for key, value in more.items() if value != 1}
        if texture.transform is not None:
            info["extensions"] = {"KHR_texture_transform": _moved(texture.transform)}
            self.extensions.add("KHR_texture_transform")
        return {name: info}

    def _once(self, key: object, rows: list[dict[str, Any]], make) -> int:
        if key not in self._known:
            rows.append(make())
            self._known[key] = len(rows) - 1
        return self._known[key]

    def _image(self, image: Tensor, color: bool) -> dict[str, Any]:
        return {"bufferView": self._view(encoded_bytes(stored(image, color))), "mimeType": "image/png"}


def stored(image: Tensor, color: bool) -> Tensor:
    """(H, W, 3 or 4) as picture files hold it: colours encoded in sRGB, alpha and numbers as they are; one channel
    becomes three."""
    image = image.detach().cpu()
    image = image.expand(-1, -1, 3) if image.shape[2] == 1 else image
    image = torch.cat([image, torch.zeros_like(image[..., :1])], 2) if image.shape[2] == 2 else image
    return torch.cat([linear_to_srgb(image[..., :3].clamp(0, 1)), image[..., 3:]], 2) if color else image


def _unit(vectors: Tensor) -> Tensor:
    """Validators refuse vectors of another length; those of none point up."""
    out = unit(vectors.detach().double())
    return torch.where(out.norm(dim=-1, keepdim=True) > 0.5, out, out.new_tensor([0.0, 0.0, 1.0])).float()


def _moved(transform: tuple[tuple[float, float, float], tuple[float, float, float]]) -> Mapping[str, object]:
    """KHR_texture_transform of a matrix: the inverse of `relight.data.gltf`'s."""
    (a, b, x), (d, e, y) = np.asarray(transform, np.float64).tolist()
    angle, size = math.atan2(-d, a), math.hypot(a, d)
    # What is left of the second column after turning back; a shear has no place in the format.
    return {"offset": [x, y], "rotation": angle, "scale": [size, b * math.sin(angle) + e * math.cos(angle)]}
