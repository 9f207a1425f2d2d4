"""A mesh that stands for a splat wherever rays are needed: shadows, light by way of other surfaces, smooth normals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from relight.errors import RelightError
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.geometry.mesh import TINY, Mesh
from relight.render.protocol import RasterOptions, SplatRasterizer
from relight.render.splats import render
from relight.render.tracing import EmbreeTracer, Glowing, load_open3d
from relight.shading.color import srgb_to_linear
from relight.shading.surface import Surface
from relight.vectors import unit

PIXELS = 2.0
"""Side of a voxel in pixels of a typical photograph: finer ones follow the noise of the depth, not the surface."""
TRUNCATION = 4.0
"""Voxels before and behind a surface that hold distances."""
SMOOTHING = 5
"""Rounds of Taubin's filter, which does not shrink (Taubin, A Signal Processing Approach to Fair Surface Design, 1995).
"""
NORMAL_ROUNDS = 2
"""How often normals are averaged with their neighbours': takes a fifth off their error on path-traced captures."""
FAR = 3.0
"""Times the typical depth: what lies beyond casts no shadow on the subject, but would fill memory."""
LIFT = 1.5
"""Edges of the mesh that rays start above it, clear of its facets."""
SPECK = 0.002
"""Connected parts of a smaller share of all triangles are dropped."""


class NoSurfaceError(RelightError):
    """The splat's depth makes no surface."""


@dataclass(frozen=True)
class DepthPictures:
    """(H, W) median depth, 0 where it is not a surface; (H, W, 3) captured look, sRGB; (H, W, 3) normals; camera: each.

    footprint: world units, side of a typical pixel on the surface.  far: world units, see `FAR`.
    """

    pictures: list[tuple[Tensor, Tensor, Tensor, Camera]]
    footprint: float
    far: float

    def __iter__(self):
        return iter(self.pictures)


def depth_pictures(
    rasterizer: SplatRasterizer,
    gaussians: Gaussians,
    cameras: Sequence[Camera],
    *,
    options: RasterOptions = RasterOptions(),
) -> DepthPictures:
    """What the cameras see of a splat's surface, on the CPU.  Not differentiated.  Raises NoSurfaceError."""
    pictures, footprints, depths = [], [], []
    for camera in cameras:
        with torch.no_grad():
            image = render(rasterizer, gaussians, camera, options=options, normals=True)
        assert image.normals is not None
        depth = torch.where(image.alpha > 0.5, image.median_depth, 0.0).cpu()
        seen = depth[depth > 0]
        pictures.append((depth, image.color.clamp(0, 1).cpu(), image.normals.cpu(), camera.to("cpu")))
        if len(seen):
            depths.append(float(seen.median()))
            footprints.append(depths[-1] / camera.fx)
    if not depths:
        raise NoSurfaceError("proxy: no view shows a surface; the splat is empty or transparent")
    return DepthPictures(pictures, float(np.median(footprints)), FAR * float(np.median(depths)))


def fuse(
    rasterizer: SplatRasterizer,
    gaussians: Gaussians,
    cameras: Sequence[Camera],
    *,
    options: RasterOptions = RasterOptions(),
    pixels: float = PIXELS,
) -> Mesh:
    """The surface in the splat's median depth, seen by `cameras`; with smooth normals, and the captured look, averaged
    over the directions it was seen from and decoded to linear light, as colours.

    Truncated signed distances in sparse voxels (Curless and Levoy, A Volumetric Method for Building Complex Models from
    Range Images, SIGGRAPH 1996), by Open3D.  pixels: side of a voxel.
    Not differentiated; on the CPU.  Raises NoSurfaceError; BackendUnavailableError without Open3D.
    """
    o3d = load_open3d()
    array = o3d.core.Tensor
    pictures = depth_pictures(rasterizer, gaussians, cameras, options=options)
    voxel, far = pixels * pictures.footprint, pictures.far
    grid = o3d.t.geometry.VoxelBlockGrid(
        ("tsdf", "weight", "color"), (o3d.core.float32,) * 3, ((1,), (1,), (3,)), voxel, 16, 4096
    )
    for depth, color, _, camera in pictures:
        if not bool(((depth > 0) & (depth < far)).any()):
            continue
        # Open3D's pixel centres lie at whole numbers.
        intrinsic = array(
            np.array([[camera.fx, 0, camera.cx - 0.5], [0, camera.fy, camera.cy - 0.5], [0, 0, 1]], np.float64)
        )
        extrinsic = array(camera.camera_from_world.double().cpu().numpy())
        deep = o3d.t.geometry.Image(array(np.ascontiguousarray(depth.numpy())))
        look = o3d.t.geometry.Image(array(np.ascontiguousarray(color.numpy())))
        blocks = grid.compute_unique_block_coordinates(deep, intrinsic, extrinsic, 1.0, far, TRUNCATION)
        grid.integrate(blocks, deep, look, intrinsic, intrinsic, extrinsic, 1.0, far, TRUNCATION)
    return without_specks(grid.extract_triangle_mesh(min(3.0, 0.5 * len(cameras))).to_legacy())


def without_specks(found) -> Mesh:
    """Open3D's mesh with colours, smoothed; in an order of its own, as threads leave another in every run.

    Raises NoSurfaceError if little is left.
    """
    order = np.lexsort(np.asarray(found.vertices).T)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    faces = place[np.asarray(found.triangles)].reshape(-1, 3)
    faces = np.take_along_axis(faces, (faces.argmin(1)[:, None] + np.arange(3)) % 3, 1)
    utility = load_open3d().utility
    found.triangles = utility.Vector3iVector(faces[np.lexsort(faces.T)].astype(np.int32))
    for name in ("vertices", "vertex_colors"):
        setattr(found, name, utility.Vector3dVector(np.asarray(getattr(found, name))[order]))
    labels, sizes, _ = (np.asarray(x) for x in found.cluster_connected_triangles())
    if len(labels):
        found.remove_triangles_by_mask(sizes[labels] < max(8, SPECK * len(labels)))
        found.remove_unreferenced_vertices()
    if len(found.triangles) < 8:
        raise NoSurfaceError("proxy: the splat's depth makes no surface; raise the normal weight of radiance")
    smooth = found.filter_smooth_taubin(SMOOTHING)
    colors = srgb_to_linear(torch.from_numpy(np.asarray(found.vertex_colors)).float().clamp(0, 1))
    mesh = Mesh(
        vertices=torch.from_numpy(np.asarray(smooth.vertices)).float(),
        faces=torch.from_numpy(np.array(smooth.triangles, np.int32)),
        colors=torch.cat([colors, torch.ones(len(colors), 1)], 1),
    )
    return replace(mesh, normals=_normals(mesh))


def _normals(mesh: Mesh) -> Tensor:
    """(V, 3) of faces, by their areas, then averaged with the neighbours'.

    Not `Mesh.with_smooth_normals`: marching cubes leave slivers, whose normals are noise, and angles count them fully.
    """
    a, b, c = mesh.corner_positions().unbind(1)
    faces = mesh.faces.long()
    weighted = torch.linalg.cross(b - a, c - a).repeat_interleave(3, 0)
    normals = unit(torch.zeros_like(mesh.vertices).index_add(0, faces.flatten(), weighted), TINY)
    for _ in range(NORMAL_ROUNDS):
        around = normals.clone()
        for i in range(3):
            around.index_add_(0, faces[:, i], normals[faces[:, (i + 1) % 3]])
        normals = unit(around, TINY)
    return normals


class Proxy:
    """Rays against a mesh made by `fuse`, for points near it rather than on it.  On the CPU.

    tracer: for shadows under any light.  glowing: a `RadianceTracer` for the light of the photographs, in which what
    is hit sends the mesh's colours in all directions.
    lift: world units; how far above the mesh rays start.  None: clear of the mesh's facets, for points whose depth is
    known no better.
    """

    def __init__(self, mesh: Mesh, lift: float | None = None):
        assert mesh.colors is not None
        self.mesh, self.tracer = mesh, EmbreeTracer(mesh)
        self.glowing = Glowing(self.tracer, mesh.colors[:, :3])
        corners = mesh.corner_positions().detach()
        self.lift = LIFT * float((corners[:, 1] - corners[:, 0]).norm(dim=-1).median()) if lift is None else lift

    def closest(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For (N, 3) points: (N, 3) places on the mesh, lifted, and unit normals and colours there."""
        places, face, weights = self.tracer.closest(points)
        corners, weights = self.mesh.faces[face].long(), weights[..., None]
        assert self.mesh.normals is not None and self.mesh.colors is not None
        normals = unit((self.mesh.normals[corners] * weights).sum(1))
        colors = (self.mesh.colors[:, :3][corners] * weights).sum(1)
        return places + self.lift * normals, normals, colors

    def above(self, surface: Surface) -> Surface:
        """(N,) points of a splat, moved to where rays may start.  Its depth may lie behind the mesh, in the dark."""
        return replace(surface, position=self.closest(surface.position)[0].to(surface.position))
