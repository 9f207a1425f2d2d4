"""Texture atlases: unwrapping, which place of the surface each texel stands for, and what goes between charts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from relight.errors import BackendUnavailableError, RelightError, ShapeError
from relight.geometry.camera import Camera
from relight.geometry.mesh import Mesh
from relight.render.fragments import weighted_corners
from relight.render.mesh_protocol import Fragments, MeshRasterizer
from relight.vectors import unit

PADDING = 4
"""Texels between charts, at least: two mip levels without a neighbour's colour."""
MOST_UNWRAPPED = 500_000
"""Triangles; unwrapping more takes minutes and gigabytes, and no texture is worth it."""
FULL = 0.65
"""Share of an atlas that charts usually cover."""


def unwrap(mesh: Mesh, size: int, *, padding: int = PADDING) -> Mesh:
    """The mesh with texture coordinates for a square texture of `size` texels, every place of it used once.

    Vertices are split along seams; colours and earlier coordinates are dropped, materials kept.  By xatlas (after
    Lévy et al., Least Squares Conformal Maps, SIGGRAPH 2002), the same every time.
    Raises RelightError for too many triangles; BackendUnavailableError without xatlas.
    """
    if not 0 < len(mesh.faces) <= MOST_UNWRAPPED:
        raise RelightError(
            f"mesh: {len(mesh.faces):,} triangles to unwrap, expected 1 to {MOST_UNWRAPPED:,}; decimate it first, or "
            "give a model that has texture coordinates"
        )
    try:
        import xatlas
    except ImportError as error:
        raise BackendUnavailableError(f'mesh: unwrapping needs xatlas ({error}); pip install "relight[mesh]"') from None
    atlas = xatlas.Atlas()
    atlas.add_mesh(mesh.vertices.detach().float().cpu().numpy(), mesh.faces.cpu().numpy().astype(np.uint32))
    pack = xatlas.PackOptions()
    pack.resolution, pack.padding, pack.bilinear = size, padding, True
    atlas.generate(xatlas.ChartOptions(), pack)
    vertex_of, faces, uv = atlas[0]
    # It gives coordinates as shares of its own picture, which is only about as large as was asked for.
    scale = np.array([atlas.width, atlas.height], np.float32) / max(atlas.width, atlas.height)
    kept = torch.from_numpy(vertex_of.astype(np.int64))
    others = {n: None if (t := getattr(mesh, n)) is None else t[kept] for n in ("vertices", "normals")}
    placed, corners = torch.from_numpy(uv.astype(np.float32) * scale), torch.from_numpy(faces.astype(np.int64))
    return replace(mesh, **others, faces=corners, uv=placed, uv1=None, tangents=None, colors=None)


def texture_size(mesh: Mesh, cameras: Sequence[Camera], *, most: int, per_pixel: float = 1.0) -> int:
    """Side in texels, a power of two, at which a texel is no larger than a pixel of the photographs.

    per_pixel: texels along the side of a pixel.  most: an upper limit.
    """
    area, middle = mesh.face_areas().detach().double(), mesh.corner_positions().detach().double().mean(1)
    # The nearest fifth: photographs from afar tell less, and shall not make all textures coarse.
    pixels = [(middle - c.position.double().cpu()).norm(dim=-1) / c.fx for c in cameras]
    footprint = torch.stack(pixels).quantile(0.2, 0) if len(pixels) * len(middle) < 1 << 24 else torch.stack(
        [p.median() for p in pixels]
    ).quantile(0.2).expand_as(area)  # fmt: skip
    texels = float((area * (per_pixel / footprint.clamp_min(1e-12)) ** 2).sum()) / FULL
    side = 2 ** math.ceil(math.log2(max(texels, 1.0)) / 2)
    return max(16, min(side, 2 ** int(math.log2(most))))


@dataclass(frozen=True)
class Texels:
    """Which place of a mesh each texel stands for.

    index: (T,) of the texels in charts, row by row, within (height, width).  face: (T,).  weights: (T, 3) of corners.
    """

    height: int
    width: int
    index: Tensor
    face: Tensor
    weights: Tensor

    @staticmethod
    def of(mesh: Mesh, height: int, width: int, rasterizer: MeshRasterizer, uv_set: int = 0) -> Texels:
        """Coordinates outside 0 to 1 are not in the picture.  Of overlapping faces one wins.  Raises ShapeError."""
        uv = mesh.uv if uv_set == 0 else mesh.uv1
        if uv is None:
            raise ShapeError("texels: the mesh has no texture coordinates; unwrap it first")
        flat = torch.cat([uv.detach() * uv.new_tensor([width, height]), torch.ones_like(uv[:, :1])], 1)
        # A camera whose pixels are the plane's units, at the distance 1.
        camera = Camera(torch.eye(4), 1.0, 1.0, 0.0, 0.0, width, height)
        found: Fragments = rasterizer.rasterize(flat.float(), mesh.faces, camera)
        index = found.mask.flatten().nonzero()[:, 0]
        return Texels(
            height, width, index, found.face.flatten()[index].long(), found.barycentrics.reshape(-1, 3)[index]
        )

    def at(self, mesh: Mesh, name: str) -> Tensor:
        """(T, C) an attribute of the mesh, interpolated; normals are not normalised again."""
        values = getattr(mesh, name)
        return weighted_corners(values.float(), mesh.faces, self.face, self.weights)

    def normals(self, mesh: Mesh) -> Tensor:
        """(T, 3) unit."""
        return unit(self.at(mesh, "normals"))

    def picture(self, values: Tensor) -> Tensor:
        """(T, C) values to a picture (H, W, C) without gaps: what is in no chart continues its surroundings."""
        blank = values.new_zeros(self.height * self.width, values.shape[1])
        picture = blank.index_copy(0, self.index, values).view(self.height, self.width, -1)
        return filled(picture, self.mask)

    @property
    def mask(self) -> Tensor:
        """(H, W) bool: the texels in charts."""
        mask = torch.zeros(self.height * self.width, dtype=torch.bool)
        mask[self.index] = True
        return mask.view(self.height, self.width)


def filled(picture: Tensor, mask: Tensor) -> Tensor:
    """(H, W, C) with values outside the (H, W) mask made from those inside, by means over ever larger blocks.

    So no mip level mixes in anything strange (pull-push of Gortler et al., The Lumigraph, SIGGRAPH 1996).
    """
    if not bool(mask.any()) or bool(mask.all()):
        return picture
    height, width = mask.shape
    planes = torch.cat([picture * mask[..., None], mask[..., None].to(picture)], -1).permute(2, 0, 1)[None]
    coarse = adaptive_avg_pool2d(planes, ((height + 1) // 2, (width + 1) // 2))[0].permute(1, 2, 0)
    there = coarse[..., -1] > 0
    mean = coarse[..., :-1] / coarse[..., -1:].clamp_min(1e-12)
    mean = filled(torch.where(there[..., None], mean, 0.0), there)
    finer = interpolate(mean.permute(2, 0, 1)[None], (height, width), mode="bilinear", align_corners=False)
    return torch.where(mask[..., None], picture, finer[0].permute(1, 2, 0))
