"""Surfaces as clean triangles: a smooth one through a splat's depth, repairs, and fewer triangles.  By Open3D."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.geometry.mesh import Mesh
from relight.render.mesh_protocol import MeshRasterizer
from relight.render.protocol import RasterOptions, SplatRasterizer
from relight.render.proxy import PIXELS, SPECK, NoSurfaceError, depth_pictures, without_specks
from relight.render.tracing import EmbreeTracer, load_open3d

POISSON_DEPTH = (5, 10)
"""Fewest and most levels of the octree."""
NEAREST = 1.2
"""Side of the octree's finest cell in voxels: of points this far apart, finer ones show the spacing."""
FEWEST = 8
"""Triangles that make a surface."""
ROUNDS, IN, OUT = 40, 0.5, -0.53
"""Of evening a boundary: shares of the way to the middle of neighbours, out again a little further than in (Taubin)."""


def poisson(
    rasterizer: SplatRasterizer,
    gaussians: Gaussians,
    cameras: Sequence[Camera],
    *,
    options: RasterOptions = RasterOptions(),
    pixels: float = PIXELS,
    holes: float = 0.1,
) -> Mesh:
    """A smoother surface than `relight.render.proxy.fuse`'s, closed where there were holes; with the same colours.

    Screened Poisson reconstruction (Kazhdan and Hoppe, TOG 2013), by Open3D, of points and normals of the splat's
    depth.  pixels: distance of the points, see `fuse`.  holes: of the subject's radius; what lies farther from any
    point is cut away.  Not differentiated; on the CPU.  Raises NoSurfaceError.
    """
    o3d = load_open3d()
    pictures = depth_pictures(rasterizer, gaussians, cameras, options=options)
    step = pixels * pictures.footprint
    cloud = o3d.geometry.PointCloud()
    for depth, color, normals, camera in pictures:
        # Rims mix depths of two surfaces; their normals lie across the view.
        facing = (normals * -camera.ray_directions()).sum(-1)
        kept = (depth > 0) & (depth < pictures.far) & (facing > 0.2)
        part = o3d.geometry.PointCloud()
        for name, values in (("points", camera.unproject(depth)), ("normals", normals), ("colors", color)):
            setattr(part, name, o3d.utility.Vector3dVector(values[kept].double().numpy()))
        # Each picture alone first, as all of them together may not fit into memory.
        cloud += part.voxel_down_sample(step / 2)
    cloud = cloud.voxel_down_sample(step)
    if len(cloud.points) < FEWEST:
        raise NoSurfaceError("mesh: the splat's depth makes no surface; raise the normal weight of radiance")
    cloud, _ = cloud.remove_statistical_outlier(16, 3.0)
    size = float(np.max(cloud.get_max_bound() - cloud.get_min_bound()))
    levels = int(np.clip(np.ceil(np.log2(1.1 * size / (NEAREST * step))), *POISSON_DEPTH))
    surface, _ = o3d.geometry.TriangleMesh.create_from_point_cloud_poisson(cloud, levels, n_threads=1)
    points = o3d.geometry.PointCloud(surface.vertices)
    apart = np.asarray(points.compute_point_cloud_distance(cloud))
    surface.remove_vertices_by_mask(apart > max(holes * size / 2, 2 * step))
    return without_specks(surface)


def repaired(
    mesh: Mesh, *, holes: float = 0.0, cameras: Sequence[Camera] = (), rasterizer: MeshRasterizer | None = None
) -> Mesh:
    """Without what trips other programs: places that are not finite, faces without area or twice there, edges of more
    than two faces, specks, and parts that no camera sees (shells within a shell); boundaries `evened`.  Positions alone
    are kept.

    holes: world units; boundaries that fit into a sphere of this radius are closed.
    cameras, rasterizer: who looks; none for keeping what is hidden.  Raises NoSurfaceError if nothing is left.
    """
    found = _legacy(mesh)
    _without_faults(found)
    if holes > 0 and len(found.triangles):
        before = _mesh(found)
        _fill(found, holes)
        _without_faults(found)
        # Patches may look either way.
        if found.orient_triangles():
            _turn_like(found, before)
    labels, sizes, _ = (np.asarray(x) for x in found.cluster_connected_triangles())
    if len(labels):
        unwanted = sizes[labels] < max(FEWEST, SPECK * len(labels))
        if rasterizer is not None and cameras:
            seen = _seen_faces(_mesh(found), cameras, rasterizer)
            unwanted |= ~np.isin(labels, np.unique(labels[seen]))
        found.remove_triangles_by_mask(unwanted)
        found.remove_unreferenced_vertices()
    if len(found.triangles) < FEWEST:
        raise NoSurfaceError("mesh: after cleaning no surface is left; a capture with more views or normals may help")
    even = _legacy(evened(_mesh(found)))
    _without_faults(even)  # teeth may have been flattened to nothing
    return _mesh(even)


def evened(mesh: Mesh) -> Mesh:
    """Boundaries without the teeth that they have where seen surface ends, at the places between them; all else stays.

    Curves keep their size: Taubin, A Signal Processing Approach to Fair Surface Design, SIGGRAPH 1995.
    """
    face, corner = (mesh.opposite_corners < 0).nonzero().unbind(1)
    ends = torch.stack([mesh.faces[face, (corner + 1) % 3], mesh.faces[face, (corner + 2) % 3]]).long()
    border, (one, other) = torch.cat([ends, ends.flip(0)], 1).unique(return_inverse=True)
    many, at = one.bincount(minlength=len(border))[:, None], mesh.vertices[border]
    for _ in range(ROUNDS):
        for share in (IN, OUT):
            middle = torch.zeros_like(at).index_add_(0, one, at[other]) / many
            at = at + share * (middle - at)
    return Mesh(mesh.vertices.index_copy(0, border, at), mesh.faces)


def decimated(mesh: Mesh, triangles: int) -> Mesh:
    """Positions of at most `triangles` faces (Garland and Heckbert, Surface Simplification Using Quadric Error Metrics,
    SIGGRAPH 1997).  A mesh of no more is returned as it is."""
    if len(mesh.faces) <= triangles:
        return mesh
    found = _legacy(mesh).simplify_quadric_decimation(triangles)
    _without_faults(found)
    return _mesh(found)


def _legacy(mesh: Mesh) -> Any:
    utility, geometry = load_open3d().utility, load_open3d().geometry
    vertices, faces = mesh.vertices.detach().cpu(), mesh.faces.cpu()
    whole = vertices.isfinite().all(1)[faces.long()].all(1)
    return geometry.TriangleMesh(
        utility.Vector3dVector(vertices.nan_to_num(0.0, 0.0, 0.0).double().numpy()),
        utility.Vector3iVector(faces[whole].int().numpy()),
    )


def _mesh(found: Any) -> Mesh:
    # Copies: Open3D changes its arrays in place.
    vertices, faces = np.array(found.vertices, np.float32), np.array(found.triangles, np.int32)
    return Mesh(torch.from_numpy(vertices), torch.from_numpy(faces))


def _without_faults(found: Any) -> None:
    found.remove_duplicated_vertices()
    found.remove_duplicated_triangles()
    found.remove_degenerate_triangles()
    found.remove_non_manifold_edges()
    corners = np.asarray(found.vertices)[np.asarray(found.triangles)].reshape(-1, 3, 3).astype(np.float32)
    # Open3D knows faces of two corners only; slivers in float32 have no normal either.
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    longest = np.linalg.norm(corners - np.roll(corners, 1, 1), axis=2).max(1, initial=0)
    found.remove_triangles_by_mask(area <= 1e-6 * longest * longest)
    found.remove_unreferenced_vertices()


def _fill(found: Any, size: float) -> None:
    """Add faces over boundaries that fit into a sphere of radius `size`."""
    open3d = load_open3d()
    given = open3d.t.geometry.TriangleMesh.from_legacy(found)
    result = given.fill_holes(size)
    # Its arrays lie in memory of VTK that may be gone when both are: only what was added is taken, as a copy.
    old = np.asarray(found.triangles)
    new = result.triangle.indices.numpy()[len(old) :].copy()
    del given, result
    found.triangles = open3d.utility.Vector3iVector(np.concatenate([old, new]).astype(np.int32))


def _turn_like(found: Any, before: Mesh) -> None:
    """Each connected part, whose faces all agree, to the side that most of its earlier faces looked to."""
    mesh, faces = _mesh(found), np.array(found.triangles)
    labels = torch.from_numpy(np.asarray(found.cluster_connected_triangles()[0])).long()
    _, face, _ = EmbreeTracer(mesh).closest(before.corner_positions().mean(1))
    agreement = (before.face_normals() * mesh.face_normals()[face]).sum(1)
    votes = torch.zeros(int(labels.max()) + 1).index_add_(0, labels[face], agreement)
    wrong = (votes[labels] < 0).numpy()
    faces[wrong] = faces[wrong][:, ::-1]
    found.triangles = load_open3d().utility.Vector3iVector(faces)


def _seen_faces(mesh: Mesh, cameras: Sequence[Camera], rasterizer: MeshRasterizer) -> np.ndarray:
    """(F,) bool."""
    seen: Tensor = torch.zeros(len(mesh.faces), dtype=torch.bool)
    for camera in cameras:
        face = rasterizer.rasterize(mesh.vertices, mesh.faces, camera.to("cpu")).face
        seen[face[face >= 0].long().unique()] = True
    return seen.numpy()
