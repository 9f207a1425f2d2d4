"""The narrow waist between everything that wants pictures of meshes and everything that draws triangles.

A backend finds the nearest face at every pixel centre, with barycentrics, depth and derivatives.  It knows nothing
of attributes, materials or light: `relight.render.fragments` interpolates, `relight.render.meshes` looks materials up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from relight.errors import ShapeError
from relight.geometry.camera import Camera

DEFAULT_NEAR = 1e-3
"""World units: nothing nearer along +z is drawn, unless the caller says otherwise."""


@dataclass(frozen=True)
class Fragments:
    """What is seen through each pixel centre.

    face: (H, W) int32, index of the nearest face, -1 where there is none.  Of faces at exactly the same depth the
        lowest index wins.
    barycentrics: (H, W, 3) perspective-correct weights of the face's corners, sum 1; 0 where there is no face.
    depth: (H, W) world units along +z; 0 where there is no face.
    barycentrics_dx, barycentrics_dy: (H, W, 3) their derivatives to the right and downwards, per pixel, within the
        plane of the face; not differentiated.

    barycentrics and depth are differentiable in the vertices and in the camera's pose; which face is seen is not:
    that is what `MeshRasterizer.antialias` is for.
    """

    face: Tensor
    barycentrics: Tensor
    depth: Tensor
    barycentrics_dx: Tensor
    barycentrics_dy: Tensor

    @property
    def mask(self) -> Tensor:
        """(H, W) bool: True where there is a face."""
        return self.face >= 0


@dataclass(frozen=True)
class MeshCapabilities:
    """device: "cpu" or "cuda": where its tensors live.
    camera_gradient: differentiates in `camera.world_from_camera`.
    peeling: takes `behind`.
    exact_coverage: every pixel centre on an edge that two faces share belongs to exactly one of them.
    """

    device: str
    camera_gradient: bool = True
    peeling: bool = True
    exact_coverage: bool = True


@runtime_checkable
class MeshRasterizer(Protocol):
    """Two methods.  Both differentiate in vertices and, if `capabilities` says so, in the camera's pose."""

    name: str
    capabilities: MeshCapabilities

    def rasterize(
        self,
        vertices: Tensor,
        faces: Tensor,
        camera: Camera,
        *,
        near: float = DEFAULT_NEAR,
        behind: Tensor | None = None,
    ) -> Fragments:
        """vertices: (V, 3) float32 or float64, world units.  faces: (F, 3) integer, all in range, both sides drawn.

        near: world units; faces are cut off there, exactly.
        behind: (H, W) world units; only what is farther is drawn, for peeling off one layer after another.
        Faces without area on the screen, or with vertices that are not finite, are not drawn.
        """
        ...

    def antialias(
        self,
        color: Tensor,
        fragments: Fragments,
        vertices: Tensor,
        faces: Tensor,
        camera: Camera,
        *,
        opposite: Tensor | None = None,
    ) -> Tensor:
        """Blend neighbouring pixels where a silhouette passes between their centres, by the share of pixel it covers.

        The blend weights are differentiable in the vertices of the silhouette edge, which gives silhouettes gradients
        (Laine et al. 2020, section 3.6).  color: (H, W, C), anything that was computed from `fragments`.
        opposite: `Mesh.opposite_corners`, worked out here if None.  Returns (H, W, C).
        """
        ...


def check_triangles(vertices: Tensor, faces: Tensor, device: str) -> None:
    """Raises ShapeError for what no backend can draw: shapes, types and devices.  Indices are trusted."""
    if vertices.ndim != 2 or vertices.shape[1] != 3 or not vertices.is_floating_point():
        raise ShapeError.expected("vertices", "(V, 3) float", f"{tuple(vertices.shape)} {vertices.dtype}")
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.is_floating_point():
        raise ShapeError.expected("faces", "(F, 3) int", f"{tuple(faces.shape)} {faces.dtype}")
    if vertices.device.type != device or faces.device.type != device:
        raise ShapeError(f"mesh: expected tensors on {device}, found {vertices.device} and {faces.device}; move them")
