"""Triangle meshes with glTF 2.0 attributes, and what can be derived from them: normals, tangents, neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from relight.errors import ShapeError
from relight.geometry.material import Material, packed, unpacked
from relight.vectors import unit

TINY = 1e-19
"""World units, squared: faces down to this area have a direction."""


@dataclass(frozen=True)
class Mesh:
    """Triangles.  Vertices are split where an attribute jumps, as in glTF: one index reads all attributes.

    vertices: (V, 3) float, world units; may require grad, as may every other float attribute.
    faces: (F, 3) int32 or int64 indices; counter-clockwise seen from the front.
    normals: (V, 3) unit, outwards; None means flat (glTF).
    uv, uv1: (V, 2) texture coordinates, glTF's convention (see `Texture`).
    tangents: (V, 4): unit direction of growing u, and the sign w with bitangent = w (normal x tangent) (glTF).
    colors: (V, 4) linear RGB and alpha, multiplied into the base colour.
    material_ids: (F,) int64, index into `materials`; None means 0 everywhere.
    materials: at least one if material_ids is given; empty means glTF's default material.

    Raises ShapeError for shapes that do not fit together.  Indices are checked by `check_indices`.
    """

    vertices: Tensor
    faces: Tensor
    normals: Tensor | None = None
    uv: Tensor | None = None
    uv1: Tensor | None = None
    tangents: Tensor | None = None
    colors: Tensor | None = None
    material_ids: Tensor | None = None
    materials: tuple[Material, ...] = ()

    def __post_init__(self) -> None:
        count = self.vertices.shape[0] if self.vertices.ndim else 0
        for name, columns in _COLUMNS.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != (count, columns):
                raise ShapeError.expected(f"Mesh.{name}", f"({count}, {columns})", tuple(value.shape))
        if self.faces.ndim != 2 or self.faces.shape[1] != 3 or self.faces.dtype not in (torch.int32, torch.int64):
            raise ShapeError.expected("Mesh.faces", "(F, 3) int32 or int64", f"{tuple(self.faces.shape)}")
        if self.material_ids is not None and self.material_ids.shape != self.faces.shape[:1]:
            raise ShapeError.expected("Mesh.material_ids", f"({len(self.faces)},)", tuple(self.material_ids.shape))

    def check_indices(self) -> Mesh:
        """Self.  Raises ShapeError for a face or material index that is out of range."""
        for name, values, end in (
            ("faces", self.faces, len(self.vertices)),
            ("material_ids", self.material_ids, max(len(self.materials), 1)),
        ):
            if values is not None and values.numel() and not (values.min() >= 0 and values.max() < end):
                found = f"{int(values.min())} to {int(values.max())}"
                raise ShapeError(f"Mesh.{name}: expected indices from 0 to {end - 1}, found {found}")
        return self

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, pictures of textures included: what is saved."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: v for k, v in own.items() if isinstance(v, Tensor)} | packed(self.materials)[0]

    @property
    def flags(self) -> dict[str, Any]:
        """What `tensors` does not hold, as JSON values."""
        return {"materials": packed(self.materials)[1]} if self.materials else {}

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor], materials: Sequence[Mapping[str, Any]] = ()) -> Mesh:
        """Inverse of `tensors`, with `flags`."""
        own = {k: v for k, v in tensors.items() if not k.startswith("images.")}
        return Mesh(**own, materials=unpacked(tensors, materials))  # type: ignore[arg-type]

    def to(self, device: str | torch.device) -> Mesh:
        """Geometry on another device; textures stay where they are until they are looked up."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v.to(device) for k, v in moved.items() if isinstance(v, Tensor)})

    def with_vertices(self, vertices: Tensor) -> Mesh:
        """The same mesh bent: other positions, the neighbours kept.  Normals and tangents stay as they were."""
        bent = replace(self, vertices=vertices)
        if "opposite_corners" in self.__dict__:
            bent.__dict__["opposite_corners"] = self.opposite_corners
        return bent

    @cached_property
    def opposite_corners(self) -> Tensor:
        """`opposite_corners` of this mesh, worked out once."""
        return opposite_corners(self.vertices, self.faces)

    def corner_positions(self) -> Tensor:
        """(F, 3, 3) positions of each face's corners."""
        return self.vertices[self.faces.long()]

    def face_normals(self) -> Tensor:
        """(F, 3) unit, to the side from which the face is counter-clockwise; zero for faces without area."""
        a, b, c = self.corner_positions().unbind(1)
        return unit(torch.linalg.cross(b - a, c - a), TINY)

    def face_areas(self) -> Tensor:
        """(F,) at least 0."""
        a, b, c = self.corner_positions().unbind(1)
        return torch.linalg.cross(b - a, c - a).norm(dim=-1) / 2

    def with_smooth_normals(self) -> Mesh:
        """Normals averaged over the faces at each vertex, weighted by the angle there (Thürmer and Wüthrich 1998).

        Vertices at the same place count as one, so seams of the texture do not show.  Differentiable.
        """
        group = groups(self.vertices)
        angles = _corner_angles(self.corner_positions())
        weighted = (self.face_normals()[:, None] * angles[..., None]).flatten(0, 1)
        summed = self.vertices.new_zeros(int(group.max()) + 1 if len(group) else 0, 3)
        summed = summed.index_add(0, group[self.faces.flatten().long()], weighted)
        return replace(self, normals=unit(summed, TINY).index_select(0, group))

    def with_flat_normals(self) -> Mesh:
        """Every face gets vertices of its own and the face's normal; tangents, now meaningless, are dropped."""
        corners = self.faces.flatten().long()
        split = {name: getattr(self, name)[corners] for name in _COLUMNS if getattr(self, name) is not None}
        split.pop("tangents", None)
        split["normals"] = self.face_normals().repeat_interleave(3, 0)
        faces = torch.arange(len(corners), device=self.faces.device).view(-1, 3)
        return replace(self, **({"tangents": None} | split), faces=faces)

    def with_tangents(self, uv_set: int = 0) -> Mesh:
        """Tangents for normal mapping from positions, normals and texture coordinates; they must exist.

        MikkTSpace's definition (Mikkelsen 2008): each face's direction of growing u, projected to the vertex's tangent
        plane, averaged with the corner's angle over faces of the same handedness that share position, normal and
        coordinates.  w has glTF's sign: +1 where the picture is not mirrored.  Vertices at which both handednesses meet
        are split.  Unlike MikkTSpace, faces that only touch at a vertex are averaged too.  Not differentiated.
        """
        uv = self.uv if uv_set == 0 else self.uv1
        if self.normals is None or uv is None:
            raise ShapeError(
                "Mesh.with_tangents: needs normals and texture coordinates; call with_smooth_normals, unwrap"
            )
        with torch.no_grad():
            vertex_of, faces, tangents = _tangents(self.vertices, self.faces.long(), self.normals, uv)
        split = {n: getattr(self, n).index_select(0, vertex_of) for n in _COLUMNS if getattr(self, n) is not None}
        split["tangents"] = tangents
        return replace(self, **split, faces=faces)

    def transformed(self, matrix: Tensor) -> Mesh:
        """(4, 4) affine applied to positions, normals and tangents.  A reflection also turns the faces around."""
        linear = matrix[:3, :3]
        normals, tangents, faces = self.normals, self.tangents, self.faces
        mirrored = bool(torch.linalg.det(linear.detach().double()) < 0)
        if normals is not None:
            # The cofactor matrix is the inverse transpose up to scale, and exists for flattening matrices too.
            x, y, z = linear.unbind(0)
            cofactor = torch.stack([torch.linalg.cross(y, z), torch.linalg.cross(z, x), torch.linalg.cross(x, y)])
            normals = unit(normals @ cofactor.mT * (-1 if mirrored else 1))
        if tangents is not None:
            direction = unit(tangents[:, :3] @ linear.mT)
            tangents = torch.cat([direction, -tangents[:, 3:] if mirrored else tangents[:, 3:]], 1)
        if mirrored:
            faces = faces[:, [0, 2, 1]]
        vertices = self.vertices @ linear.mT + matrix[:3, 3]
        return replace(self, vertices=vertices, normals=normals, tangents=tangents, faces=faces)


_COLUMNS = {"vertices": 3, "normals": 3, "uv": 2, "uv1": 2, "tangents": 4, "colors": 4}
"""Attributes of a vertex, and how many numbers each has."""


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of several, with all their materials.  An attribute that one of them lacks is filled: normals from the
    faces (flat), coordinates and tangents with 0, colours with 1.  Raises ShapeError for none."""
    if not meshes:
        raise ShapeError("merge: expected at least one mesh, found none")
    if any(m.normals is not None for m in meshes):
        meshes = [m if m.normals is not None else m.with_flat_normals() for m in meshes]
    if len(meshes) == 1:
        return meshes[0]
    attributes: dict[str, Tensor | None] = {}
    for name, columns in _COLUMNS.items():
        values = [getattr(m, name) for m in meshes]
        if all(v is None for v in values):
            attributes[name] = None
            continue
        blank = 1.0 if name == "colors" else 0.0
        attributes[name] = torch.cat(
            [
                m.vertices.new_full((len(m.vertices), columns), blank) if v is None else v
                for m, v in zip(meshes, values, strict=True)
            ]
        )
    faces, ids, materials = [], [], []
    shared = all(m.materials is meshes[0].materials for m in meshes)
    first_vertex = 0
    for m in meshes:
        faces.append(m.faces.long() + first_vertex)
        own = m.material_ids if m.material_ids is not None else torch.zeros_like(m.faces[:, 0], dtype=torch.int64)
        ids.append(own.long() + (0 if shared else len(materials)))
        if not shared or not materials:
            materials += m.materials or (Material(),)
        first_vertex += len(m.vertices)
    return Mesh(**attributes, faces=torch.cat(faces), material_ids=torch.cat(ids), materials=tuple(materials))  # type: ignore[arg-type]


def opposite_corners(vertices: Tensor, faces: Tensor) -> Tensor:
    """(F, 3) int32 corner table (Rossignac, Safonova and Szymczak 2001).

    Entry [f, i] belongs to the edge of face f that faces its corner i, and is 3 g + k if that edge is also the edge
    of face g that faces corner k, -1 at a boundary.  Vertices at exactly the same place count as one, so a seam is not
    a boundary.  Of more than two faces at an edge, the first and second are neighbours, the third and fourth, ...
    """
    if not len(faces):
        return torch.empty(0, 3, dtype=torch.int32, device=faces.device)
    corner = groups(vertices.detach())[faces.long()]
    ends = torch.stack([corner.roll(-1, 1), corner.roll(-2, 1)], -1).view(-1, 2)
    key = ends.min(-1).values * len(vertices) + ends.max(-1).values
    ordered, order = torch.sort(key, stable=True)
    index = torch.arange(len(ordered), device=key.device)
    is_first = torch.ones_like(ordered, dtype=torch.bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    rank = index - torch.where(is_first, index, torch.zeros_like(index)).cummax(0).values
    leads = (rank % 2 == 0) & ~torch.cat([is_first[1:], is_first.new_ones(1)])
    a, b = order[index[leads]], order[index[leads] + 1]
    table = torch.full_like(key, -1)
    table[a], table[b] = b, a
    return table.view(-1, 3).to(torch.int32)


def groups(*attributes: Tensor) -> Tensor:
    """(V,) int64: the same number, counted from 0, for vertices that agree exactly in all attributes."""
    rows = torch.cat([a.detach() for a in attributes], 1) + 0.0  # -0 becomes 0
    return torch.unique(rows, dim=0, return_inverse=True)[1]


def _corner_angles(corners: Tensor) -> Tensor:
    """(F, 3, 3) positions to (F, 3) angles in radians; 0 at corners of zero-length edges."""
    forth, back = corners.roll(-1, 1) - corners, corners.roll(-2, 1) - corners
    sine = torch.linalg.cross(forth, back).square().sum(-1).clamp_min(1e-38).sqrt()
    return torch.atan2(sine, (forth * back).sum(-1))


def _tangents(vertices: Tensor, faces: Tensor, normals: Tensor, uv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Old vertex of each new vertex, new faces, (V', 4) tangents."""
    corners, corner_uv = vertices[faces], uv[faces]
    edge1, edge2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    d1, d2 = corner_uv[:, 1] - corner_uv[:, 0], corner_uv[:, 2] - corner_uv[:, 0]
    area = d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0]
    along_u = (edge1 * d2[:, 1:] - edge2 * d1[:, 1:]) * area.sign()[:, None]
    corner_normals = normals[faces]
    projected = along_u[:, None] - corner_normals * (along_u[:, None] * corner_normals).sum(-1, keepdim=True)
    weighted = unit(projected, TINY) * _corner_angles(corners)[..., None]
    group = groups(vertices, normals, uv)[faces]
    # v grows downwards, so a picture that is not mirrored has negative area.
    upright = (area < 0)[:, None].expand_as(group)
    summed = vertices.new_zeros(2 * len(vertices), 3)
    summed.index_add_(0, (2 * group + upright).flatten(), weighted.flatten(0, 1))
    # Faces without area in the picture have no handedness; they follow the others at each vertex.
    length = summed.norm(dim=-1).view(-1, 2)
    upright = torch.where((area == 0)[:, None], (length[:, 1] >= length[:, 0])[group], upright)
    used, corner_of = torch.unique((2 * faces + upright).flatten(), return_inverse=True)
    alone = torch.ones(len(vertices), dtype=torch.bool, device=vertices.device)
    alone[used // 2] = False
    unused = alone.nonzero().flatten()
    vertex_of = torch.cat([used // 2, unused])
    row = torch.zeros(len(vertex_of), dtype=torch.int64, device=vertices.device)
    row[corner_of] = (2 * group + upright).flatten()
    direction = summed[row]
    direction[len(used) :] = 0
    helper = torch.eye(3, dtype=vertices.dtype, device=vertices.device)[normals[vertex_of].abs().argmin(-1)]
    any_direction = torch.linalg.cross(normals[vertex_of], helper)
    lost = direction.norm(dim=-1, keepdim=True) < 1e-20
    direction = unit(torch.where(lost, any_direction, direction))
    sign = torch.where(torch.cat([used % 2 == 1, torch.ones_like(unused, dtype=torch.bool)]), 1.0, -1.0)
    return vertex_of, corner_of.view(-1, 3), torch.cat([direction, sign[:, None].to(direction)], 1)
