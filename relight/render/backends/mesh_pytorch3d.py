"""PyTorch3D behind the mesh protocol.

Conformance was proven with PyTorch3D 0.7.9, built from source for the CPU; its CUDA build has not been tried.  Not on
PyPI; see https://github.com/facebookresearch/pytorch3d.
"""

from __future__ import annotations

import torch
from torch import Tensor

from relight.geometry.camera import Camera
from relight.render.fragments import fragments_of_faces, homogeneous_pixels
from relight.render.mesh_protocol import DEFAULT_NEAR, Fragments, MeshCapabilities, check_triangles
from relight.render.reference_mesh import antialias

_SHIFT = (2.0**-10, 2.0**-13)
"""Pixels.  PyTorch3D gives a pixel centre on an edge to neither face.  Centres a little to the right, and less below,
belong to the face that the top-left rule gives them to."""


class MeshPytorch3d:
    """Finds the visible faces with PyTorch3D's rasteriser; barycentrics, silhouettes and gradients are our own.

    A centre within a thousandth of a pixel of an edge may be given to the face on the other side.
    """

    name = "mesh_pytorch3d"

    def __init__(self, device: str = "cuda") -> None:
        self.capabilities = MeshCapabilities(device=device, peeling=False, exact_coverage=False)

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
        from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes  # type: ignore[import-not-found]
        from pytorch3d.structures import Meshes  # type: ignore[import-not-found]

        check_triangles(vertices, faces, self.capabilities.device)
        if behind is not None:
            raise NotImplementedError("mesh_pytorch3d: cannot peel; use mesh_cpu for masked or blended alpha")
        face = torch.full((camera.height, camera.width), -1, dtype=torch.int32, device=vertices.device)
        with torch.no_grad():
            screen = _screen_positions(vertices, camera)
            # One that is not finite would spoil the others.
            drawn = screen[faces.long()].isfinite().flatten(1).all(1).nonzero()[:, 0]
            if len(drawn):
                meshes = Meshes([screen], [faces[drawn].long()])
                found, *_ = rasterize_meshes(
                    meshes, (camera.height, camera.width), blur_radius=0.0, faces_per_pixel=1,
                    perspective_correct=True, clip_barycentric_coords=False, cull_backfaces=False, z_clip_value=near,
                )  # fmt: skip
                found = found[0, ..., 0]
                face = torch.where(found >= 0, drawn[found.clamp_min(0)], -1).to(torch.int32)
        return fragments_of_faces(face, vertices, faces, camera)

    antialias = staticmethod(antialias)


def _screen_positions(vertices: Tensor, camera: Camera) -> Tensor:
    """(V, 3) PyTorch3D's screen: +x left, +y up, the shorter side of the picture from -1 to 1; z is depth."""
    x, y, depth = homogeneous_pixels(vertices, camera).unbind(-1)
    # At depth 0 there is no place on the screen, but a face may reach from there into view.
    depth = torch.where(depth == 0, 1e-12, depth)
    x, y = x - _SHIFT[0] * depth, y - _SHIFT[1] * depth
    short = min(camera.width, camera.height)
    return torch.stack(
        [(camera.width - 2 * x / depth) / short, (camera.height - 2 * y / depth) / short, depth], -1
    ).float()


def unavailable() -> str | None:
    """Why it can't run here, or None if it can."""
    if not torch.cuda.is_available():
        return "needs a CUDA device, or use mesh_cpu"
    try:
        import pytorch3d.renderer  # type: ignore[import-not-found]  # noqa: F401
    except Exception as error:  # its extension may fail to build or to load in many ways
        return f"pytorch3d cannot be imported ({error}); see https://github.com/facebookresearch/pytorch3d"
    return None
