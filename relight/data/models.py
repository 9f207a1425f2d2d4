"""Models on disk to meshes: glTF by our own reader, everything else through trimesh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relight.data import gltf
from relight.errors import DataError
from relight.geometry.material import Material, Texture
from relight.geometry.mesh import Mesh, merge
from relight.shading.color import srgb_to_linear

SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl", ".off")
"""Formats of `load_model`."""


def load_model(path: str | Path) -> Mesh:
    """A model as one mesh: world coordinates of the file, all materials and textures, colours linear.

    .glb and .gltf: see `relight.data.gltf`.  .obj: materials of its .mtl with diffuse colour and texture, Ns as GGX
    roughness; .ply, .stl and .off: geometry.  Raises DataError for a file that is missing, broken, empty, or of another
    format.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: {path.suffix or 'no suffix'} is not a model format; expected {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise DataError(f"{path}: no such model; check the path")
    return gltf.load(path) if path.suffix.lower() in (".glb", ".gltf") else _through_trimesh(path)


def _through_trimesh(path: Path) -> Mesh:
    import trimesh

    try:
        loaded: Any = trimesh.load(path, process=False)
    except Exception as error:  # parsers raise whatever they like on broken files
        raise DataError(f"{path}: cannot be read ({error}); re-export the model") from error
    geometries = loaded.dump() if isinstance(loaded, trimesh.Scene) else [loaded]
    try:
        parts = [_part(path, g) for g in geometries if isinstance(g, trimesh.Trimesh) and len(g.faces)]
    except DataError:
        raise
    except Exception as error:  # textures are decoded only now
        raise DataError(f"{path}: cannot be read ({error}); re-export the model and its textures") from error
    if not parts:
        raise DataError(f"{path}: has no triangles; re-export the model")
    return merge(parts).check_indices()


def _part(path: Path, geometry: Any) -> Mesh:
    vertices = torch.from_numpy(np.asarray(geometry.vertices, np.float32))
    if not bool(vertices.isfinite().all()):
        raise DataError(f"{path}: has vertices that are not finite; re-export the model")
    faces = torch.from_numpy(np.asarray(geometry.faces, np.int64))
    # trimesh works normals out where a file has none; only those of the file are kept.
    stored = geometry._cache.cache.get("vertex_normals")
    visual = geometry.visual
    uv = getattr(visual, "uv", None)
    if uv is not None:
        uv = torch.from_numpy(np.asarray(uv, np.float32) * [1, -1] + [0, 1]).float()
    return Mesh(
        vertices,
        faces,
        normals=None if stored is None else torch.from_numpy(np.asarray(stored, np.float32)),
        uv=uv,
        colors=_colors(visual),
        material_ids=torch.zeros(len(faces), dtype=torch.int64),
        materials=(_material(getattr(visual, "material", None)),),
    )


def _colors(visual: Any) -> Tensor | None:
    if getattr(visual, "kind", None) != "vertex":
        return None
    values = torch.from_numpy(np.asarray(visual.vertex_colors, np.float32)) / 255
    return torch.cat([srgb_to_linear(values[:, :3]), values[:, 3:]], 1)


def _material(material: Any) -> Material:
    """Of an .mtl: Kd is display-referred, as its textures are; Ns is Blinn and Phong's exponent."""
    if material is None or not hasattr(material, "diffuse"):
        return Material(metallic=torch.tensor(0.0))
    diffuse = np.asarray(material.diffuse, np.float32)[:3] / 255
    texture = None
    if material.image is not None:
        values = torch.from_numpy(np.asarray(material.image.convert("RGBA"), np.float32) / 255)
        texture = Texture(torch.cat([srgb_to_linear(values[..., :3]), values[..., 3:]], -1))
        diffuse = np.ones_like(diffuse) if not diffuse.any() else diffuse
    exponent = float(getattr(material, "glossiness", 0.0) or 0.0)
    return Material(
        name=str(getattr(material, "name", "") or ""),
        base_color=torch.cat([srgb_to_linear(torch.from_numpy(diffuse)), torch.ones(1)]),
        base_color_texture=texture,
        metallic=torch.tensor(0.0),
        # Blinn-Phong with exponent n is as wide as GGX with alpha^2 = 2 / (n + 2) (Walter et al. 2007).
        roughness=torch.tensor((2 / (exponent + 2)) ** 0.25),
        double_sided=True,
    )
