"""The models that RELIGHT_DATA/relightable was rendered from, where they stood, and distances to them."""

from __future__ import annotations

import warnings
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks import DATA
from relight.data.models import load_model
from relight.geometry.material import Material
from relight.geometry.mesh import Mesh
from relight.render.meshes import create_mesh_rasterizer
from relight.render.tracing import EmbreeTracer
from relight.views import Views

MODELS = {
    "spot": "spot/spot.obj",
    "damask_chair": "ChairDamaskPurplegold/ChairDamaskPurplegold.glb",
    "water_bottle": "WaterBottle/WaterBottle.gltf",
}


def real_mesh(name: str) -> Mesh:
    """In the capture's world, +z up, its farthest vertex at 1 from its box's middle: silhouettes agree to IoU 0.998."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sheen is left out, here as in the pictures
        mesh = load_model(DATA / "pbr" / MODELS[name])
    used = mesh.vertices[mesh.faces.long().flatten()]
    middle = (used.amin(0) + used.amax(0)) / 2
    turn = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]) / (used - middle).norm(dim=1).max()
    matrix = torch.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, -turn @ middle
    return _as_rendered(mesh.transformed(matrix))


def _as_rendered(mesh: Mesh) -> Mesh:
    """With textures as the captures show them, which is not as the files say: rows from the bottom, neither moved nor
    scaled (KHR_texture_transform)."""
    assert mesh.uv is not None

    def plain(material: Material) -> Material:
        return replace(material, **{name: replace(t, transform=None) for name, t in material.textures.items()})

    uv = torch.stack([mesh.uv[:, 0], 1 - mesh.uv[:, 1]], 1)
    return replace(mesh, uv=uv, tangents=None, materials=tuple(plain(m) for m in mesh.materials))


def points_on(mesh: Mesh, faces: Tensor, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(count, 3) places, uniform over the area of some faces (indices), and the interpolated normals there."""
    generator = torch.Generator().manual_seed(seed)
    corners = mesh.corner_positions()[faces]
    chosen = torch.multinomial(mesh.face_areas()[faces], count, replacement=True, generator=generator)
    u = torch.rand(count, 2, generator=generator)
    u = torch.where(u.sum(1, keepdim=True) > 1, 1 - u, u)
    weights = torch.cat([1 - u.sum(1, keepdim=True), u], 1)[..., None]
    assert mesh.normals is not None
    normals = (mesh.normals[mesh.faces.long()[faces[chosen]]] * weights).sum(1)
    return (corners[chosen] * weights).sum(1), normalize(normals, dim=-1)


def distances(found: Mesh, real: Mesh, views: Views, count: int = 50_000) -> dict[str, float]:
    """Chamfer distance, the mean of both ways, in shares of the radius, 1, and the angle between normals; of what the
    photographs show."""
    sides = []
    for mesh, other in ((found, real), (real, found)):
        seen = torch.zeros(len(mesh.faces), dtype=torch.bool)
        for i in range(len(views)):
            face = create_mesh_rasterizer().rasterize(mesh.vertices, mesh.faces, views.camera(i)).face
            seen[face[face >= 0].long().unique()] = True
        places, normals = points_on(mesh, seen.nonzero()[:, 0], count)
        near, face, weights = EmbreeTracer(other).closest(places)
        assert other.normals is not None
        theirs = normalize((other.normals[other.faces.long()[face]] * weights[..., None]).sum(1), dim=-1)
        angle = torch.rad2deg(torch.acos((normals * theirs).sum(1).clamp(-1, 1)))
        sides.append((float((near - places).norm(dim=1).mean()), float(angle.mean())))
    return {
        "Chamfer, of the radius": (sides[0][0] + sides[1][0]) / 2,
        "found to real": sides[0][0],
        "real to found": sides[1][0],
        "normals of the mesh, degrees": (sides[0][1] + sides[1][1]) / 2,
    }
