"""glTF 2.0 models to one mesh in world coordinates.

Read here rather than through trimesh, which drops tangents, second texture coordinates, wrap modes, texture transforms,
normal scale and material extensions, and rounds factors to 8 bits.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import torch
from torch import Tensor

from relight.errors import MALFORMED, DataError, ShapeError
from relight.formats.gltf_container import GltfFile, placed_nodes, read
from relight.geometry.material import Material, Texture, Wrap
from relight.geometry.mesh import Mesh, merge
from relight.images import Picture, read_image
from relight.shading.color import srgb_to_linear

_EXTENSIONS = {
    "KHR_texture_transform", "KHR_materials_emissive_strength", "KHR_materials_unlit", "KHR_materials_ior",
    "KHR_materials_specular", "KHR_mesh_quantization", "EXT_texture_webp",
}  # fmt: skip
"""Understood.  A file that requires another is refused; of others that it uses, a warning tells."""
_WRAPS: dict[int, Wrap] = {10497: "repeat", 33071: "clamp", 33648: "mirror"}
_MIME = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}


def load(path: str | Path) -> Mesh:
    """Every triangle of the file's scene, transforms applied, with all materials.  Raises DataError.

    Skins and morph targets are left in the pose as stored.  Points, lines, cameras and lights are left out.  Tangents
    are made where a normal map needs them.  Warns of extensions that are left out.
    """
    file = read(path)
    try:
        _check_extensions(file)
        return _Reader(file).mesh()
    except ShapeError as error:
        raise file.error(str(error)) from error
    except MALFORMED as error:
        # Nearly every property of the JSON may be of a wrong type; the checks that matter for safety come first.
        raise file.error(f"malformed ({type(error).__name__}: {error})") from error


def _check_extensions(file: GltfFile) -> None:
    required, used = (set(file.json.get(f"extensions{kind}", [])) - _EXTENSIONS for kind in ("Required", "Used"))
    if required:
        raise DataError(f"{file.path}: requires {', '.join(sorted(required))}, which is not read; export it without")
    if used:
        names = ", ".join(sorted(used))
        warnings.warn(f"{file.path}: {names} left out, so it may look different elsewhere", stacklevel=4)


class _Reader:
    def __init__(self, file: GltfFile):
        self.file = file
        self.pictures: dict[tuple[object, bool], Tensor] = {}

    def mesh(self) -> Mesh:
        parts: list[Mesh] = []
        for node, world in placed_nodes(self.file):
            if "mesh" not in node:
                continue
            # glTF: a skinned mesh is placed by its joints, not by its node.
            placed = torch.eye(4, dtype=torch.float64) if "skin" in node else world
            for primitive in self.file.item("meshes", node["mesh"]).get("primitives", []):
                part = self._primitive(primitive)
                if part is not None:
                    parts.append(part.transformed(placed.float()))
        if not parts:
            raise self.file.error("its scene has no triangles")
        return merge(parts)

    def _primitive(self, primitive: dict[str, Any]) -> Mesh | None:
        mode, attributes = primitive.get("mode", 4), primitive.get("attributes", {})
        if mode not in (4, 5, 6) or "POSITION" not in attributes:
            return None

        def values(name: str, width: int) -> Tensor | None:
            if name not in attributes:
                return None
            found = self.file.accessor(attributes[name]).astype(np.float32)
            if name == "COLOR_0" and found.shape[1] == 3:
                found = np.concatenate([found, np.ones_like(found[:, :1])], 1)
            if found.shape[1] != width:
                raise self.file.error(f"{name} has {found.shape[1]} components, not {width}")
            return torch.from_numpy(found)

        vertices = values("POSITION", 3)
        assert vertices is not None
        if "indices" in primitive:
            stored = self.file.accessor(primitive["indices"])
            if not np.issubdtype(stored.dtype, np.unsignedinteger):
                raise self.file.error("has indices that are not unsigned integers")
            indices = torch.from_numpy(stored[:, 0].astype(np.int64))
        else:
            indices = torch.arange(len(vertices))
        faces = _triangles(indices, mode)
        if not len(faces):
            return None
        material = primitive.get("material", len(self.materials) - 1)
        self.file.item("materials", material) if "material" in primitive else None
        tangents = values("TANGENT", 4)
        part = Mesh(
            vertices, faces, values("NORMAL", 3), values("TEXCOORD_0", 2), values("TEXCOORD_1", 2),
            colors=values("COLOR_0", 4), material_ids=torch.full((len(faces),), material), materials=self.materials,
        ).check_indices()  # fmt: skip
        if part.normals is None:
            part = part.with_flat_normals()
        elif tangents is not None:
            part = replace(part, tangents=tangents)
        normal_map = self.materials[material].normal_texture
        if part.tangents is not None or normal_map is None:
            return part
        coordinates = part.uv if normal_map.uv_set == 0 else part.uv1
        return part if coordinates is None else part.with_tangents(normal_map.uv_set)

    @cached_property
    def materials(self) -> tuple[Material, ...]:
        """All of the file, and glTF's default last."""
        return (*(self._material(m) for m in self.file.items("materials")), Material())

    def _material(self, m: dict[str, Any]) -> Material:
        pbr, more = m.get("pbrMetallicRoughness", {}), m.get("extensions", {})
        specular = more.get("KHR_materials_specular", {})
        strength = float(more.get("KHR_materials_emissive_strength", {}).get("emissiveStrength", 1.0))
        normal, occlusion = m.get("normalTexture", {}), m.get("occlusionTexture", {})
        alpha = str(m.get("alphaMode", "OPAQUE")).lower()
        if alpha not in ("opaque", "mask", "blend"):
            raise self.file.error(f"unknown alphaMode {m['alphaMode']!r}")
        return Material(
            name=str(m.get("name", "")),
            base_color=_vector(pbr.get("baseColorFactor"), 4, 1.0),
            base_color_texture=self._texture(pbr.get("baseColorTexture"), color=True),
            metallic=torch.tensor(float(pbr.get("metallicFactor", 1.0))),
            roughness=torch.tensor(float(pbr.get("roughnessFactor", 1.0))),
            metallic_roughness_texture=self._texture(pbr.get("metallicRoughnessTexture")),
            normal_texture=self._texture(normal or None),
            normal_scale=float(normal.get("scale", 1.0)),
            occlusion_texture=self._texture(occlusion or None),
            occlusion_strength=float(occlusion.get("strength", 1.0)),
            emissive=_vector(m.get("emissiveFactor"), 3, 0.0) * strength,
            emissive_texture=self._texture(m.get("emissiveTexture"), color=True),
            alpha_mode=alpha,  # type: ignore[arg-type]
            alpha_cutoff=float(m.get("alphaCutoff", 0.5)),
            double_sided=bool(m.get("doubleSided", False)),
            unlit="KHR_materials_unlit" in more,
            ior=float(more.get("KHR_materials_ior", {}).get("ior", 1.5)),
            specular=torch.tensor(float(specular.get("specularFactor", 1.0))),
            specular_texture=self._texture(specular.get("specularTexture")),
            specular_color=_vector(specular.get("specularColorFactor"), 3, 1.0),
            specular_color_texture=self._texture(specular.get("specularColorTexture"), color=True),
        )

    def _texture(self, info: dict[str, Any] | None, *, color: bool = False) -> Texture | None:
        """color: sRGB-encoded, decoded here."""
        if info is None:
            return None
        texture = self.file.item("textures", info.get("index"))
        sampler = self.file.item("samplers", texture["sampler"]) if "sampler" in texture else {}
        moved = info.get("extensions", {}).get("KHR_texture_transform", {})
        uv_set = moved.get("texCoord", info.get("texCoord", 0))
        if uv_set not in (0, 1):
            raise self.file.error(f"a texture uses TEXCOORD_{uv_set}; two sets are read")
        wraps: list[Wrap] = [_WRAPS.get(sampler.get(key, 10497), "repeat") for key in ("wrapS", "wrapT")]
        source = texture.get("extensions", {}).get("EXT_texture_webp", {}).get("source", texture.get("source"))
        return Texture(
            self._picture(source, color), (wraps[0], wraps[1]), sampler.get("magFilter") == 9728, uv_set,
            _transform(moved),
        )  # fmt: skip

    def _picture(self, index: object, color: bool) -> Tensor:
        """(H, W, 3 or 4) linear."""
        if (index, color) not in self.pictures:
            picture = self._decoded(self.file.item("images", index), index)
            values = picture.rgb.contiguous()
            if color and not picture.linear:
                values = srgb_to_linear(values)
            if picture.alpha is not None:
                values = torch.cat([values, picture.alpha[..., None]], -1)
            self.pictures[index, color] = values
        return self.pictures[index, color]

    def _decoded(self, image: dict[str, Any], index: object) -> Picture:
        """glTF ignores EXIF orientation."""
        uri = image.get("uri")
        if isinstance(uri, str) and not uri.startswith("data:"):
            self.file.resource(uri)
            return read_image(self.file.path.parent / unquote(uri), upright=False)
        data = self.file.resource(uri) if uri is not None else self.file.view(image.get("bufferView"))[0]
        mime = image.get("mimeType") or (uri or "").partition(":")[2].partition(";")[0]
        with tempfile.TemporaryDirectory() as folder:
            # A file, so that there is one decoder of pictures.
            copy = Path(folder) / f"image{_MIME.get(mime, '.png')}"
            copy.write_bytes(data)
            try:
                return read_image(copy, upright=False)
            except DataError as error:
                reason = str(error).replace(str(copy), f"images[{index}]")
                raise DataError(f"{self.file.path}: {reason}") from None


def _triangles(indices: Tensor, mode: int) -> Tensor:
    """(F, 3) from a list (4), strip (5) or fan (6)."""
    if mode == 4:
        return indices[: len(indices) // 3 * 3].view(-1, 3)
    if len(indices) < 3:
        return indices.new_empty(0, 3)
    if mode == 6:
        return torch.stack([indices[1:-1], indices[2:], indices[:1].expand(len(indices) - 2)], 1)
    i = torch.arange(len(indices) - 2)
    odd = i % 2
    return torch.stack([indices[i], indices[i + 1 + odd], indices[i + 2 - odd]], 1)


def _vector(values: list[float] | None, length: int, default: float) -> Tensor:
    found = torch.tensor([float(v) for v in values]) if values is not None else torch.full((length,), default)
    if found.shape != (length,):
        raise ValueError(f"expected {length} numbers, found {len(found)}")
    return found


def _transform(moved: dict[str, Any]):
    """KHR_texture_transform: scale, then turn counter-clockwise as seen with v downwards, then shift."""
    if not {"offset", "rotation", "scale"} & set(moved):
        return None
    (x, y), (sx, sy) = moved.get("offset", (0, 0)), moved.get("scale", (1, 1))
    c, s = math.cos(moved.get("rotation", 0)), math.sin(moved.get("rotation", 0))
    return ((c * sx, s * sy, float(x)), (-s * sx, c * sy, float(y)))
