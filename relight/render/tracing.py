"""Rays against a mesh: visibility and surfaces for `shade`.  Embree, through Open3D, on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from relight.errors import BackendUnavailableError, ShapeError
from relight.geometry.mesh import Mesh
from relight.render.meshes import surface_at
from relight.shading.surface import Surface

OFFSET = 1e-4
"""Of the mesh's radius: how far along a ray its first hit may lie.  Well above float32's rounding, below detail."""


class EmbreeTracer:
    """`relight.shading.Tracer` over a mesh as it is now; make another after the mesh has moved.

    Rays are watertight at edges.  The hit surface's material is looked up at full texture resolution, both sides of
    faces are hit, and masked or blending alpha blocks like the rest.  Not differentiated in positions; the surface that
    `trace` returns is, in material values.

    Raises BackendUnavailableError without Open3D, ShapeError for an empty mesh or one that is not on the CPU.
    """

    def __init__(self, mesh: Mesh):
        reason = unavailable()
        if reason is not None:
            raise BackendUnavailableError(f"rays: {reason}")
        open3d = _open3d()
        # Its stubs know no arrays.
        self._tensor: Any = open3d.core.Tensor
        if mesh.vertices.device.type != "cpu" or not len(mesh.faces):
            raise ShapeError("EmbreeTracer: expected a mesh with faces on the CPU; pass mesh.to('cpu')")
        self.mesh = mesh
        vertices = mesh.vertices.detach().float()
        used = vertices[mesh.faces.long().flatten()]
        low, high = used.min(0).values, used.max(0).values
        self._center, self._radius = (low + high) / 2, float((high - low).norm()) / 2
        self._offset = OFFSET * self._radius
        self._scene: Any = open3d.t.geometry.RaycastingScene(nthreads=torch.get_num_threads())
        self._scene.add_triangles(
            self._tensor(vertices.contiguous().numpy()),
            self._tensor(mesh.faces.to(torch.int32).contiguous().numpy().astype(np.uint32)),
        )

    def occluded(self, origins: Tensor, directions: Tensor, far: Tensor) -> Tensor:
        """See `Tracer.occluded`.  What is closer to an end than the offset doesn't count: both may lie on surfaces."""
        with torch.no_grad():
            start = origins.float() + self._offset * directions.float()
            # Beyond the mesh there is nothing to hit; a finite length lets each ray be as long as its direction.
            whole = (start - self._center).norm(dim=-1) + 2 * self._radius
            length = torch.minimum(far.float() - 2 * self._offset, whole)
            rays = torch.cat([start, directions.float() * length[:, None]], 1)
            hit = self._scene.test_occlusions(self._tensor(rays.contiguous().numpy()), tnear=0.0, tfar=1.0)
            return torch.from_numpy(hit.numpy()) & (length > 0)

    def trace(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Surface]:
        """See `Tracer.trace`.  Where nothing is hit the surface is 0."""
        with torch.no_grad():
            rays = torch.cat([origins.float() + self._offset * directions.float(), directions.float()], 1)
            found = self._scene.cast_rays(self._tensor(rays.contiguous().numpy()))
            hits = torch.from_numpy(np.isfinite(found["t_hit"].numpy()))
            index = hits.nonzero()[:, 0]
            face = torch.from_numpy(found["primitive_ids"].numpy().astype(np.int64))[index]
            uv = torch.from_numpy(found["primitive_uvs"].numpy())[index].to(self.mesh.vertices.dtype)
            barycentrics = torch.cat([1 - uv.sum(1, keepdim=True), uv], 1)
        surface, _ = surface_at(self.mesh, face, barycentrics, origins[index].to(barycentrics))
        count = len(origins)
        return hits, surface.map(lambda t: t.new_zeros(count, *t.shape[1:]).index_copy(0, index, t))


def unavailable() -> str | None:
    """Why rays can't be traced here, or None if they can."""
    try:
        _open3d()
    except Exception as error:  # its shared libraries may be missing
        return f'open3d cannot be imported ({error}); pip install "relight[mesh]", on Linux also libusb-1.0 and libGL'
    return None


def _open3d() -> Any:
    from relight.render import kernels

    kernels.start_threads()
    import open3d

    return open3d
