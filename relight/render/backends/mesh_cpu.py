"""The CPU mesh rasteriser: Numba kernels behind the mesh protocol."""

from __future__ import annotations

# pyright: reportCallIssue=false
# Kernels take unpacked lists of arrays, whose length it can't know.
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from relight.errors import ShapeError
from relight.geometry.camera import Camera
from relight.geometry.mesh import opposite_corners
from relight.render.fragments import blend_crossings
from relight.render.kernels import interpolate, silhouette, triangles
from relight.render.mesh_protocol import DEFAULT_NEAR, Fragments, MeshCapabilities, check_triangles


@dataclass(frozen=True)
class _Lens:
    """The camera as the kernels take it."""

    pose: np.ndarray
    lens: np.ndarray
    width: int
    height: int
    workers: int

    @staticmethod
    def of(camera: Camera) -> _Lens:
        return _Lens(
            pose=np.ascontiguousarray(camera.camera_from_world.detach().double().numpy()[:3]),
            lens=np.array([camera.fx, camera.fy, camera.cx, camera.cy], np.float64),
            width=camera.width,
            height=camera.height,
            workers=torch.get_num_threads(),
        )

    def project(self, vertices: Tensor) -> np.ndarray:
        """(V, 3) float64 homogeneous pixel coordinates."""
        points = np.empty((len(vertices), 3), np.float64)
        triangles.project(vertices.detach().contiguous().numpy(), self.pose, self.lens, self.workers, points)
        return points


def _indices(faces: Tensor) -> np.ndarray:
    return faces.to(torch.int32).contiguous().numpy()


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, vertices, pose, faces, lens: _Lens, near: float, behind: np.ndarray):
        points, corners = lens.project(vertices), _indices(faces)
        coefficients = np.empty((len(corners), triangles.COEFFICIENTS), np.float64)
        boxes = np.empty((len(corners), 4), np.int32)
        triangles.setup(points, corners, lens.width, lens.height, near, lens.workers, coefficients, boxes)
        tiles_x, tiles_y = -(-lens.width // triangles.TILE), -(-lens.height // triangles.TILE)
        hits, tile_start = triangles.bin_tiles(coefficients, boxes, tiles_x, tiles_y, lens.workers)
        shape = (lens.height, lens.width)
        face = torch.empty(shape, dtype=torch.int32)
        depth = torch.empty(shape, dtype=vertices.dtype)
        barycentrics, dx, dy = (torch.empty((*shape, 3), dtype=vertices.dtype) for _ in range(3))
        triangles.forward(
            coefficients, boxes, hits, tile_start, tiles_x, lens.width, lens.height, near, behind, lens.workers,
            *(t.numpy() for t in (face, barycentrics, depth, dx, dy)),
        )  # fmt: skip
        ctx.mark_non_differentiable(face, dx, dy)
        ctx.save_for_backward(vertices, faces, face, barycentrics, depth)
        ctx.points, ctx.lens, ctx.pose_type = points, lens, pose.dtype
        return face, barycentrics, depth, dx, dy

    @staticmethod
    def backward(ctx, *gradients):
        vertices, faces, face, barycentrics, depth = (t.detach() for t in ctx.saved_tensors)
        lens: _Lens = ctx.lens
        corners = _indices(faces)
        order, start = triangles.pixels_by_face(face.view(-1).numpy(), len(corners))
        rows = np.empty((len(corners), 3, 3), np.float64)
        triangles.backward(
            ctx.points, corners, order, start, barycentrics.view(-1, 3).numpy(), depth.view(-1).numpy(),
            gradients[1].reshape(-1, 3).contiguous().numpy(), gradients[2].reshape(-1).contiguous().numpy(),
            lens.workers, rows,
        )  # fmt: skip
        to_points = np.zeros((len(vertices), 3), np.float64)
        interpolate.sum_corners(corners, start, rows, lens.workers, to_points)
        to_vertices = torch.empty_like(vertices, memory_format=torch.contiguous_format)
        to_pose = np.zeros((4, 4), np.float64)
        triangles.unproject_gradient(
            to_points, vertices.contiguous().numpy(), lens.pose, lens.lens, to_vertices.numpy(), to_pose
        )
        return to_vertices, torch.from_numpy(to_pose).to(ctx.pose_type), None, None, None, None


class MeshCpu:
    """`MeshRasterizer` on the CPU.  Computes in float64, returns the vertices' dtype (float32 or float64).

    Deterministic: the same input gives the same bits for any number of threads.
    """

    name = "mesh_cpu"
    capabilities = MeshCapabilities(device="cpu")

    def rasterize(
        self,
        vertices: Tensor,
        faces: Tensor,
        camera: Camera,
        *,
        near: float = DEFAULT_NEAR,
        behind: Tensor | None = None,
    ) -> Fragments:
        """See `MeshRasterizer.rasterize`.  Also raises ShapeError for indices out of range."""
        check_triangles(vertices, faces, "cpu")
        _check_range(vertices, faces)
        peeled = np.empty((0, 0)) if behind is None else behind.detach().double().contiguous().numpy()
        return Fragments(
            *_Rasterize.apply(vertices, camera.camera_from_world, faces, _Lens.of(camera), float(near), peeled)
        )

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
        """See `MeshRasterizer.antialias`."""
        check_triangles(vertices, faces, "cpu")
        _check_range(vertices, faces)
        lens = _Lens.of(camera)
        opposite = opposite_corners(vertices, faces) if opposite is None else opposite
        crossings = silhouette.find_crossings(
            lens.project(vertices), _indices(faces), opposite.numpy(), fragments.face.numpy(),
            fragments.depth.detach().contiguous().numpy(), lens.workers,
        )  # fmt: skip
        return blend_crossings(color, *(torch.from_numpy(c) for c in crossings), vertices, camera)


def _check_range(vertices: Tensor, faces: Tensor) -> None:
    if faces.numel() and not (faces.min() >= 0 and faces.max() < len(vertices)):
        found = f"{int(faces.min())} to {int(faces.max())}"
        raise ShapeError(f"faces: expected indices from 0 to {len(vertices) - 1}, found {found}")


def unavailable() -> str | None:
    """None: needs nothing but Numba, which is a dependency."""
    return None
