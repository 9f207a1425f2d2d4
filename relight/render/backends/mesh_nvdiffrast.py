"""nvdiffrast behind the mesh protocol.  Untested: written from its documentation, never run.

Its licence is non-commercial, it is not on PyPI and needs CUDA; see https://github.com/NVlabs/nvdiffrast.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from relight.geometry.camera import Camera
from relight.render.fragments import fragments_of_faces, homogeneous_pixels
from relight.render.mesh_protocol import DEFAULT_NEAR, Fragments, MeshCapabilities, check_triangles
from relight.render.reference_mesh import antialias

_FAR = 1e6
"""Times near: the clipping volume's far plane."""


class MeshNvdiffrast:
    """Finds the visible faces with nvdiffrast's rasteriser; barycentrics, silhouettes and gradients are our own.

    nvdiffrast's antialias only sees silhouettes of faces that own a pixel centre, and rounds to its own pixel grid, so
    one implementation is used for all backends that run on CUDA.
    """

    name = "mesh_nvdiffrast"
    capabilities = MeshCapabilities(device="cuda", peeling=False)

    def __init__(self) -> None:
        self._context: Any = None

    def rasterize(
        self,
        vertices: Tensor,
        faces: Tensor,
        camera: Camera,
        *,
        near: float = DEFAULT_NEAR,
        behind: Tensor | None = None,
    ) -> Fragments:
        """See `MeshRasterizer.rasterize`.  Raises NotImplementedError for `behind`."""
        import nvdiffrast.torch as nvdiffrast  # type: ignore[import-not-found]

        check_triangles(vertices, faces, "cuda")
        if behind is not None:
            raise NotImplementedError("mesh_nvdiffrast: cannot peel; use mesh_cpu for masked or blended alpha")
        if self._context is None:
            self._context = nvdiffrast.RasterizeCudaContext(device=vertices.device)
        size = (camera.height, camera.width)
        if not len(faces):
            face = torch.full(size, -1, dtype=torch.int32, device=vertices.device)
            return fragments_of_faces(face, vertices, faces, camera)
        with torch.no_grad():
            clip = _clip_positions(vertices, camera, near)
            raster, _ = nvdiffrast.rasterize(self._context, clip[None], faces.to(torch.int32), size, grad_db=False)
        # The last channel is the face index plus one; row 0 is at the bottom of clip space, and +y down there.
        return fragments_of_faces(raster[0, ..., 3].to(torch.int32) - 1, vertices, faces, camera)

    antialias = staticmethod(antialias)


def _clip_positions(vertices: Tensor, camera: Camera, near: float) -> Tensor:
    """(V, 4) float32 clip space in which -w < x, y, z < w is seen, +y is down and z = -w is at `near`."""
    x, y, depth = homogeneous_pixels(vertices, camera).unbind(-1)
    far = near * _FAR
    z = (depth * (far + near) - 2 * far * near) / (far - near)
    return torch.stack([2 * x / camera.width - depth, 2 * y / camera.height - depth, z, depth], -1).float()


def unavailable() -> str | None:
    """Why it can't run here, or None if it can."""
    if not torch.cuda.is_available():
        return "needs a CUDA device"
    try:
        import nvdiffrast.torch  # type: ignore[import-not-found]  # noqa: F401
    except Exception as error:  # its extension may fail to build or to load in many ways
        return f"nvdiffrast cannot be imported ({error}); see https://github.com/NVlabs/nvdiffrast"
    return None
