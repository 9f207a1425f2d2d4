"""The slow torch twin of the mesh kernels: the specification.  Every face at every pixel, in float64, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from relight.geometry.camera import Camera
from relight.geometry.mesh import opposite_corners
from relight.render.fragments import blend_crossings, edge_functions, fragments_of_faces, homogeneous_pixels
from relight.render.mesh_protocol import DEFAULT_NEAR, Fragments, MeshCapabilities, check_triangles

_TINY = 1e-300
_MAX_STEPS = 64
_CHUNK = 1 << 22


@torch.no_grad()
def visible_faces(
    vertices: Tensor, faces: Tensor, camera: Camera, near: float = DEFAULT_NEAR, behind: Tensor | None = None
) -> Tensor:
    """(H, W) int32: the nearest face at each pixel centre, -1 for none.  See `MeshRasterizer.rasterize`."""
    pixels = camera.pixel_grid().to(vertices.device, torch.float64).view(-1, 2)
    homogeneous = torch.cat([pixels, torch.ones_like(pixels[:, :1])], 1)
    limit = torch.full_like(pixels[:, 0], 1 / near)
    if behind is not None:
        peeled = behind.reshape(-1).double()
        limit = torch.where(peeled > near, (1 - 1e-6) / peeled, limit)
    corners = homogeneous_pixels(vertices, camera)[faces.long()]
    n = edge_functions(corners)
    determinant = (n[:, 0] * corners[:, 0]).sum(-1)
    drawable = determinant.isfinite() & (determinant != 0) & corners.isfinite().all(-1).all(-1)
    n = n * determinant.sign()[:, None, None]
    # Of two faces with opposite coefficients at their common edge, one owns the edge itself.
    owns = (n[..., 0] > 0) | ((n[..., 0] == 0) & (n[..., 1] > 0))
    least = (~owns).double() * _TINY
    best = torch.zeros_like(limit)
    owner = torch.full(limit.shape, -1, dtype=torch.int32, device=vertices.device)
    step = max(1, _CHUNK // max(1, 3 * len(homogeneous)))
    for first in range(0, len(faces), step):
        some = slice(first, first + step)
        a, b, c = n[some, :, None, :].unbind(-1)
        # The kernels' order of operations, so that ties at edges fall the same way.
        e = a * homogeneous[:, 0] + (b * homogeneous[:, 1] + c)
        inverse_depth = e.sum(1) / determinant[some].abs()[:, None]
        inside = (e >= least[some][..., None]).all(1) & drawable[some, None] & (inverse_depth < limit)
        value, index = torch.where(inside, inverse_depth, 0.0).max(0)
        closer = value > best
        best = torch.where(closer, value, best)
        owner = torch.where(closer, (index + first).to(torch.int32), owner)
    return owner.view(camera.height, camera.width)


@torch.no_grad()
def find_crossings(
    vertices: Tensor, faces: Tensor, camera: Camera, fragments: Fragments, opposite: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Pixel pairs that a silhouette separates: near, far (K,) flat pixel indices, edge (K, 2) vertices.

    From the nearer pixel, walk over the mesh along the segment to the other, face by face, until an edge is left
    that has no neighbour or whose neighbour lies on the same side of it on the screen.  If that finds nothing and does
    not arrive at the other pixel's face, the same from there.
    """
    points, faces = homogeneous_pixels(vertices, camera), faces.long()
    face, depth = fragments.face.long().flatten(), fragments.depth.detach().flatten()
    height, width = fragments.face.shape
    index = torch.arange(height * width, device=faces.device).view(height, width)
    here = torch.cat([index[:, :-1].flatten(), index[:-1].flatten()])
    there = torch.cat([index[:, 1:].flatten(), index[1:].flatten()])
    down = torch.arange(len(here), device=faces.device) >= height * (width - 1)
    differ = face[here] != face[there]
    here, there, down = here[differ], there[differ], down[differ]
    swap = (face[here] < 0) | ((face[there] >= 0) & (depth[there] < depth[here]))
    near, far = torch.where(swap, there, here), torch.where(swap, here, there)
    corner, last = _walk(points, faces, opposite.long(), face[near], _center(near, width), _center(far, width))
    again = (corner < 0) & (face[far] >= 0) & (last != face[far])
    near, far = torch.where(again, far, near), torch.where(again, near, far)
    corner[again], _ = _walk(
        points, faces, opposite.long(), face[near][again], _center(near[again], width), _center(far[again], width)
    )
    hit = corner >= 0
    near, far, down, corner = near[hit], far[hit], down[hit], corner[hit]
    owner, i = faces[corner // 3], corner % 3
    edge = torch.stack([owner.gather(1, ((i + k) % 3)[:, None])[:, 0] for k in (1, 2)], 1)
    line = torch.linalg.cross(points[edge[:, 0]], points[edge[:, 1]])
    across = torch.where(down, line[:, 1].abs() > line[:, 0].abs(), line[:, 0].abs() >= line[:, 1].abs())
    e_near, e_far = ((line * _center(p, width)).sum(-1) for p in (near, far))
    kept = across & ((e_near > 0) != (e_far > 0))
    return near[kept], far[kept], edge[kept]


def _walk(
    points: Tensor, faces: Tensor, opposite: Tensor, start: Tensor, origin: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """Corner (3 face + i) facing the silhouette edge that each segment crosses, or -1; and the last face walked on."""
    found = torch.full_like(start, -1)
    last = start.clone()
    entry = torch.full_like(start, -1)
    active = torch.arange(len(start), device=start.device)
    corners = torch.arange(3, device=start.device)
    for _ in range(_MAX_STEPS):
        if not len(active):
            break
        f = last[active]
        p = points[faces[f]]
        n = edge_functions(p)
        n = n * torch.where((n[:, 0] * p[:, 0]).sum(-1) > 0, 1.0, -1.0)[:, None, None]
        at0 = (n * origin[active][:, None]).sum(-1)
        at1 = (n * target[active][:, None]).sum(-1)
        t = torch.where(at0 > at1, at0 / (at0 - at1), 0.0)
        t = torch.where((at1 < 0) & (corners != entry[active][:, None]), t, torch.inf)
        soonest, leaves = t.min(1)
        leaving = soonest < torch.inf
        active, f, n, leaves = active[leaving], f[leaving], n[leaving], leaves[leaving]
        corner = opposite[f, leaves]
        beyond = points[faces[corner // 3, corner % 3]]
        same_side = (n.gather(1, leaves[:, None, None].expand(-1, 1, 3))[:, 0] * beyond).sum(-1) >= 0
        is_silhouette = (corner < 0) | same_side
        found[active[is_silhouette]] = (3 * f + leaves)[is_silhouette]
        active, corner = active[~is_silhouette], corner[~is_silhouette]
        last[active] = corner // 3
        entry[active] = corner % 3
    return found, last


def _center(pixels: Tensor, width: int) -> Tensor:
    return torch.stack([pixels % width + 0.5, pixels // width + 0.5, torch.ones_like(pixels)], -1).double()


def antialias(
    color: Tensor,
    fragments: Fragments,
    vertices: Tensor,
    faces: Tensor,
    camera: Camera,
    *,
    opposite: Tensor | None = None,
) -> Tensor:
    """`MeshRasterizer.antialias` in plain torch, for backends that have none of their own."""
    opposite = opposite_corners(vertices, faces) if opposite is None else opposite
    return blend_crossings(color, *find_crossings(vertices, faces, camera, fragments, opposite), vertices, camera)


class ReferenceMeshRasterizer:
    """`MeshRasterizer` by brute force, on any device and in the vertices' dtype."""

    name = "mesh_reference"

    def __init__(self, device: str = "cpu"):
        self.capabilities = MeshCapabilities(device=device)

    def rasterize(
        self,
        vertices: Tensor,
        faces: Tensor,
        camera: Camera,
        *,
        near: float = DEFAULT_NEAR,
        behind: Tensor | None = None,
    ) -> Fragments:
        """See `MeshRasterizer.rasterize`."""
        check_triangles(vertices, faces, self.capabilities.device)
        face = visible_faces(vertices, faces, camera, near, behind)
        return fragments_of_faces(face, vertices, faces, camera)

    antialias = staticmethod(antialias)


def unavailable() -> str | None:
    """None: needs nothing but torch."""
    return None
