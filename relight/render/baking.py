"""What texels show: materials of a splat, normals of a finer mesh, occlusion; and guesses where nothing was seen."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.geometry.mesh import Mesh, groups
from relight.render.atlas import Texels
from relight.render.deferred import MATERIALS
from relight.render.mesh_protocol import MeshRasterizer
from relight.render.protocol import RasterOptions, SplatRasterizer
from relight.render.splats import render
from relight.render.tracing import EmbreeTracer
from relight.shading.surface import to_world
from relight.vectors import unit

GRAZING = 0.15
"""Cosine under which a view tells nothing of a texel: its neighbours are mixed in."""
TOLERANCE = 3.0
"""Pixels' worth of depth between a texel and the surface that is seen, for it to be that surface."""
STEEPEST = 0.3
"""Cosine between a mesh's normal and a finer one's, below which they belong to different sides."""
_RAYS = 1 << 21


def bake_splat(
    rasterizer: SplatRasterizer,
    gaussians: Gaussians,
    mesh: Mesh,
    texels: Texels,
    cameras: Sequence[Camera],
    mesh_rasterizer: MeshRasterizer,
    *,
    options: RasterOptions = RasterOptions(),
) -> tuple[Tensor, Tensor]:
    """(T, C) the splat's materials, `relight.render.deferred.MATERIALS` in order, and (T,) confidence from 0 to 1.

    Each camera's picture of them is read where it sees the texel; the mean weighs views by the square of the cosine and
    by how close they are.  Confidence nears 1 as views add up.  Not differentiated; on the CPU.
    """
    features = torch.cat([c if (c := gaussians.channels[n]).ndim == 2 else c[:, None] for n in MATERIALS], 1)
    return average_views(
        mesh, texels, cameras, mesh_rasterizer,
        lambda index, camera: _premultiplied(rasterizer, gaussians, camera, features, options),
    )  # fmt: skip


def average_views(
    mesh: Mesh, texels: Texels, cameras: Sequence[Camera], rasterizer: MeshRasterizer, picture
) -> tuple[Tensor, Tensor]:
    """(T, C) mean over cameras of what pictures show of each texel, and (T,) confidence.

    picture: (number, camera) to (H, W, C + 1), premultiplied, alpha last.
    """
    places, normals = texels.at(mesh, "vertices"), texels.normals(mesh)
    total, weights, views = None, torch.zeros(len(places)), torch.zeros(len(places))
    nearest = min(float((places - c.position.cpu()).norm(dim=-1).median()) / c.fx for c in cameras)
    for number, camera in enumerate(cameras):
        camera = camera.to("cpu")
        with torch.no_grad():
            depth = rasterizer.rasterize(mesh.vertices, mesh.faces, camera).depth
            pixel, z = camera.project(places)
            facing = (normals * unit(camera.position - places)).sum(-1)
            size = pixel.new_tensor([camera.width, camera.height])
            chosen = ((facing > GRAZING) & (z > 0) & (pixel > 0).all(-1) & (pixel < size).all(-1)).nonzero()[:, 0]
            x, y = pixel[chosen].floor().long().unbind(-1)
            apart = (z[chosen] - depth[y, x]).abs() * camera.fx / z[chosen]
            chosen = chosen[(apart < TOLERANCE / facing[chosen]) & (depth[y, x] > 0)]
            if not len(chosen):
                continue
            grid = (2 * pixel[chosen] / size - 1)[None, None]
            planes = picture(number, camera).permute(2, 0, 1)[None]
            found = grid_sample(planes, grid, align_corners=False, padding_mode="border")[0, :, 0].mT
            weight = facing[chosen] ** 2 * (nearest * camera.fx / z[chosen]).clamp_max(2.0) ** 2
            if total is None:
                total = torch.zeros(len(places), found.shape[1] - 1)
            # Premultiplied values: alpha is part of the weight.
            total.index_add_(0, chosen, found[:, :-1] * weight[:, None])
            weights.index_add_(0, chosen, found[:, -1] * weight)
            views.index_add_(0, chosen, found[:, -1] * facing[chosen] ** 2)
    if total is None:
        channels = picture(0, cameras[0].to("cpu")).shape[-1] - 1
        return torch.zeros(len(places), channels), weights
    return total / weights.clamp_min(1e-8)[:, None], 1 - torch.exp(-views)


def completed(mesh: Mesh, texels: Texels, values: Tensor, confidence: Tensor, rounds: int = 400) -> Tensor:
    """(T, C) `values` with guesses mixed in where (T,) confidence is low: what spreads along the surface from
    wherever something was seen, across seams too.  Where nothing was, the mean."""
    place = groups(mesh.vertices)
    corners = place[mesh.faces.long()]
    count = int(place.max()) + 1
    at = corners[texels.face]
    share = (texels.weights * confidence[:, None] ** 2).clamp_min(0)
    weight = torch.zeros(count).index_add_(0, at.flatten(), share.flatten())
    summed = torch.zeros(count, values.shape[1])
    for corner in range(3):
        summed.index_add_(0, at[:, corner], values * share[:, corner : corner + 1])
    mean = summed.sum(0) / weight.sum().clamp_min(1e-8)
    known = weight > 1e-3
    if not bool(known.any()):
        return values
    guess = torch.where(known[:, None], summed / weight.clamp_min(1e-8)[:, None], mean)
    edges = torch.cat([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
    edges = torch.cat([edges, edges.flip(1)])
    # Only what is unknown changes.
    edges = edges[~known[edges[:, 0]]]
    degree = torch.zeros(count).index_add_(0, edges[:, 0], torch.ones(len(edges)))[:, None]
    for _ in range(rounds if len(edges) else 0):
        around = torch.zeros_like(guess).index_add_(0, edges[:, 0], guess[edges[:, 1]])
        guess = torch.where((degree > 0) & ~known[:, None], around / degree.clamp_min(1), guess)
    filled = (guess[at] * texels.weights[..., None]).sum(1)
    trust = (confidence / 0.1).clamp(0, 1)[:, None]
    return trust * values + (1 - trust) * filled


def bake_normals(mesh: Mesh, texels: Texels, fine: Mesh) -> Tensor:
    """(T, 3) tangent-space normals, 0 to 1, that give the mesh the smooth normals of a finer one nearby.

    The mesh needs normals and tangents, the finer one normals.  Tangent and normal are not normalised after
    interpolation, as `relight.render.meshes` looks them up.  Raises what `EmbreeTracer` raises.
    """
    places, normals, tangents = (texels.at(mesh, name) for name in ("vertices", "normals", "tangents"))
    _, face, weights = EmbreeTracer(fine).closest(places)
    assert fine.normals is not None
    wanted = unit((fine.normals[fine.faces[face].long()] * weights[..., None]).sum(1))
    flat = unit(normals)
    # Thin parts: the other side may be nearer.
    wanted = torch.where(((wanted * flat).sum(-1) > STEEPEST)[:, None], wanted, flat)
    bitangent = torch.linalg.cross(normals, tangents[:, :3]) * tangents[:, 3:].sign()
    basis = torch.stack([tangents[:, :3], bitangent, normals], -1)
    sound = torch.linalg.det(basis).abs() > 1e-3
    basis = torch.where(sound[:, None, None], basis, torch.eye(3))
    local = unit(torch.linalg.solve(basis, wanted[..., None])[..., 0])
    local = torch.where((sound & (local[:, 2] > 0))[:, None], local, local.new_tensor([0.0, 0.0, 1.0]))
    return 0.5 + 0.5 * local


def bake_occlusion(mesh: Mesh, texels: Texels, *, rays: int = 32, seed: int = 0) -> Tensor:
    """(T,) share of the sky, weighted by the cosine, that each texel sees past the mesh itself.

    Stratified directions, turned at random at each texel; mip levels average what noise there is.
    """
    tracer = EmbreeTracer(mesh)
    places, normals = texels.at(mesh, "vertices"), texels.normals(mesh)
    generator = torch.Generator().manual_seed(seed)
    i = torch.arange(rays)
    # Points of a Fibonacci lattice on the disc, lifted to the hemisphere: cosine-weighted (Malley's method).
    radius, angle = ((i + 0.5) / rays).sqrt(), i * (math.pi * (3 - math.sqrt(5)))
    out, step = [], max(1, _RAYS // rays)
    for start in range(0, len(places), step):
        place, normal = places[start : start + step], normals[start : start + step]
        turned = angle + 2 * math.pi * torch.rand(len(place), 1, generator=generator)
        height = (1 - radius * radius).sqrt().expand_as(turned)
        local = torch.stack([radius * turned.cos(), radius * turned.sin(), height], -1)
        direction = to_world(local, normal[:, None].expand_as(local))
        origin = place[:, None].expand_as(direction).reshape(-1, 3)
        far = torch.full((len(origin),), math.inf)
        blocked = tracer.occluded(origin, direction.reshape(-1, 3), far).view(len(place), rays)
        out.append(1 - blocked.float().mean(1))
    return torch.cat(out) if out else torch.ones(0)


def _premultiplied(
    rasterizer: SplatRasterizer, gaussians: Gaussians, camera: Camera, features: Tensor, options: RasterOptions
) -> Tensor:
    image = render(rasterizer, gaussians, camera.to(gaussians.means.device), options=options, features=features)
    assert image.features is not None
    return torch.cat([image.features, image.alpha[..., None]], -1).cpu()
