"""Vertices of a mesh moved until its outlines are those of the photographs' cut-outs."""

from __future__ import annotations

import torch
from torch import Tensor

from relight.geometry.mesh import Mesh
from relight.render.mesh_protocol import MeshRasterizer
from relight.views import Views

SPREAD = 12
"""Rounds of averaging with the neighbours: an outline's vertex takes those around along."""


def fit_outlines(
    mesh: Mesh, views: Views, rasterizer: MeshRasterizer, *, steps: int, rate: float = 0.05, weight: float = 0.5,
    seed: int = 0,
) -> Mesh:  # fmt: skip
    """The same faces, moved along their vertices' normals; a photograph a step, gradients from antialiased silhouettes
    (Laine et al., Modular Primitives for High-Performance Differentiable Rendering, TOG 2020).

    rate: Adam's, in pixels' worth of a typical photograph.  weight: of the squared way in such pixels.
    Views without cut-outs are left out; without any the mesh is returned as it is.  Every vertex is one place.
    """
    usable = [i for i in range(len(views)) if views.photo(i).alpha is not None]
    if not usable or steps == 0:
        return mesh
    generator = torch.Generator().manual_seed(seed)
    normals = mesh.with_smooth_normals().normals
    assert normals is not None
    middle = mesh.vertices.mean(0)
    pixel = sum(float((views.camera(i).position - middle).norm()) / views.camera(i).fx for i in usable) / len(usable)
    faces = mesh.faces.long()
    ends = torch.cat([faces, faces.roll(1, 1)]), torch.cat([faces.roll(1, 1), faces])
    a, b = (e.flatten() for e in ends)
    degree = torch.zeros(len(mesh.vertices)).index_add_(0, a, torch.ones(len(a))).clamp_min(1)
    way = torch.zeros(len(mesh.vertices), requires_grad=True)
    adam = torch.optim.Adam([way], lr=rate)

    def moved() -> tuple[Tensor, Tensor]:
        smooth = way
        for _ in range(SPREAD):
            smooth = 0.5 * smooth + 0.5 * torch.zeros_like(smooth).index_add(0, a, smooth[b]) / degree
        return mesh.vertices + pixel * smooth[:, None] * normals, smooth

    for _ in range(steps):
        index = usable[int(torch.randint(len(usable), (1,), generator=generator))]
        camera, photo = views.camera(index), views.photo(index)
        vertices, smooth = moved()
        fragments = rasterizer.rasterize(vertices, mesh.faces, camera)
        covered = fragments.mask.to(vertices)[..., None]
        covered = rasterizer.antialias(
            covered, fragments, vertices, mesh.faces, camera, opposite=mesh.opposite_corners
        )  # fmt: skip
        assert photo.alpha is not None
        off = (covered[..., 0] - photo.alpha).square()
        if photo.mask is not None:
            off = off * photo.mask
        loss = off.sum() / 100 + weight * smooth.square().mean()
        loss.backward()
        adam.step()
        adam.zero_grad()
    with torch.no_grad():
        return mesh.with_vertices(moved()[0])
