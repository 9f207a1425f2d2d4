"""A head and shoulders of which everything is known, made from formulas: nobody's face, for known light."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from relight.diffusion.pictures.geometry import Geometry
from relight.diffusion.pictures.lumos.shots import Shot
from relight.geometry.camera import Camera
from relight.geometry.mesh import Mesh
from relight.geometry.transforms import look_at
from relight.render.tracing import MeshTracer, create_tracer
from relight.shading.surface import Surface
from relight.vectors import unit

GRID = 200
"""Rings of the head; twice as many points each."""
SKIN, LIPS, WHITE, IRIS, BROW = (0.50, 0.32, 0.24), (0.40, 0.15, 0.13), (0.62, 0.60, 0.58), (0.05, 0.03, 0.02), 0.12
HAIR, CLOTH = (0.06, 0.04, 0.03), (0.10, 0.14, 0.30)


def head(yaw: float = 0.0) -> Mesh:
    """About 1.7 high, at the origin, looking along +z, +y up; turned by radians.  Colours are linear base colours."""
    face = _turned(_face(), yaw)
    neck = _ball(torch.tensor([0.42, 0.75, 0.42]), torch.tensor([0.0, -1.0, -0.12]), SKIN, 64)
    torso = _ball(torch.tensor([1.45, 1.0, 0.62]), torch.tensor([0.0, -2.15, -0.2]), CLOTH, 96)
    vertices, faces, colors, start = [], [], [], 0
    for points, triangles, paint in (face, neck, torso):
        vertices.append(points), faces.append(triangles + start), colors.append(paint)
        start += len(points)
    mesh = Mesh(torch.cat(vertices), torch.cat(faces), colors=torch.cat(colors))
    return mesh.with_smooth_normals()


def portrait(size: int = 256, yaw: float = 0.0) -> Shot:
    """A camera's view of it."""
    mesh = head(yaw)
    tracer = create_tracer(mesh)
    assert isinstance(tracer, MeshTracer) and mesh.normals is not None and mesh.colors is not None
    eye = torch.tensor([0.0, -0.25, 5.6])
    focal = 1.75 * size
    pose = look_at(eye, torch.tensor([0.0, -0.35, 0.0]), torch.tensor([0.0, 1.0, 0.0]))
    camera = Camera(pose, focal, focal, size / 2, size / 2, size, size)
    rays = camera.ray_directions().reshape(-1, 3)
    met, weights = tracer.nearest(camera.position.expand_as(rays), rays, torch.full((len(rays),), math.inf))
    seen = met >= 0
    corners = mesh.faces[met[seen]].long()

    def read(values: Tensor) -> Tensor:
        return (values[corners] * weights[seen][..., None]).sum(1)

    place, normal, paint = read(mesh.vertices), unit(read(mesh.normals)), read(mesh.colors)[:, :3]
    view = -rays[seen]
    facing = (normal * view).sum(1, keepdim=True)
    normal = unit(normal - (facing - 0.02).clamp_max(0) * view)
    rough = torch.full((len(place),), 0.5)
    surface = Surface(place, normal, view, paint, rough, torch.zeros_like(rough))
    mask = seen.view(size, size)
    depth, normals = torch.ones(size, size), torch.zeros(size, size, 3)
    depth[mask], normals[mask] = (place - camera.position) @ camera.forward, normal
    return Shot(surface, Geometry(normals, depth, mask, camera, tracer))


def _face() -> tuple[Tensor, Tensor, Tensor]:
    way, triangles = _grid(GRID)
    x, y, z = way.unbind(1)
    front = z.clamp_min(0)
    jaw = ((0.1 - y) / 1.1).clamp(0, 1)
    jaw = jaw * jaw * (3 - 2 * jaw)
    radius = torch.stack([0.76 - 0.24 * jaw, torch.full_like(x, 1.02), 0.9 - 0.1 * jaw], 1)
    base = way * radius
    x, y = base[:, 0], base[:, 1]

    def bump(at: float, up: float, wide: float, high: float) -> Tensor:
        return torch.exp(-(((x - at) / wide) ** 2) - ((y - up) / high) ** 2) * (front > 0) * front.sqrt()

    both = (-1.0, 1.0)
    out = 0.03 * sum(bump(s * 0.14, 0.33, 0.16, 0.06) for s in both)
    out = out - 0.10 * sum(bump(s * 0.27, 0.17, 0.14, 0.09) for s in both)
    out = out + 0.055 * sum(bump(s * 0.27, 0.17, 0.085, 0.055) for s in both)
    ridge = ((0.2 - y) / 0.38).clamp(0, 1)
    out = out + 0.20 * bump(0, -0.06, 0.075, 0.20) * ridge + 0.10 * bump(0, -0.19, 0.085, 0.07)
    out = out + 0.04 * sum(bump(s * 0.09, -0.21, 0.045, 0.04) for s in both)
    out = out + 0.03 * sum(bump(s * 0.37, -0.08, 0.16, 0.13) for s in both) - 0.02 * bump(0, -0.32, 0.05, 0.05)
    out = (
        out
        + 0.05 * bump(0, -0.41, 0.19, 0.040)
        + 0.05 * bump(0, -0.50, 0.15, 0.045)
        - 0.04 * bump(0, -0.455, 0.2, 0.015)
    )
    out = out + 0.07 * bump(0, -0.74, 0.18, 0.13)
    ears = torch.exp(-(((z + 0.08) / 0.06) ** 2) - (y / 0.17) ** 2)
    points = base + way * out[:, None] + torch.stack([0.07 * ears * x.sign(), 0 * x, -0.05 * ears], 1)
    return points, triangles, _painted(x, y, z)


def _painted(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    paint = torch.tensor(SKIN).expand(len(x), 3).clone()

    def over(share: Tensor, color) -> None:
        share = share.clamp(0, 1)[:, None]
        paint.copy_(torch.lerp(paint, torch.as_tensor(color, dtype=torch.float32).expand(3), share))

    cheeks = torch.exp(-(((x.abs() - 0.36) / 0.14) ** 2) - ((y + 0.15) / 0.12) ** 2) * (z > 0)
    over(0.25 * cheeks, (0.55, 0.27, 0.22))
    mouth = 1 - ((x / 0.2) ** 2 + ((y + 0.455) / 0.075) ** 2)
    over(8 * mouth * (z > 0), LIPS)
    over(4 * (1 - ((x / 0.19) ** 2 + ((y + 0.458) / 0.012) ** 2)) * (z > 0), (0.10, 0.03, 0.03))
    for side in (-1.0, 1.0):
        ax = x - side * 0.27
        lid = 1 - ((ax / 0.105) ** 2 + ((y - 0.17) / 0.052) ** 2)
        over(8 * (1 - ((ax / 0.12) ** 2 + ((y - 0.172) / 0.064) ** 2)) * (z > 0), (0.16, 0.09, 0.07))
        over(8 * lid * (z > 0), WHITE)
        over(8 * (1 - (ax**2 + (y - 0.17) ** 2) / 0.048**2) * (lid > 0) * (z > 0), (0.12, 0.07, 0.04))
        over(8 * (1 - (ax**2 + (y - 0.17) ** 2) / 0.022**2) * (z > 0), IRIS)
        arch = 0.31 + 0.03 * torch.cos(ax * 9)
        over(6 * (1 - ((ax / 0.16) ** 4 + ((y - arch) / 0.028) ** 2)) * (z > 0), (BROW, BROW * 0.7, BROW * 0.5))
        over(5 * (1 - (((x - side * 0.05) / 0.028) ** 2 + ((y + 0.245) / 0.018) ** 2)) * (z > 0), (0.12, 0.05, 0.04))
    over(12 * (y - 0.60 + 0.25 * (x / 0.7) ** 2 * (z > 0) + 1.2 * (-z - 0.05).clamp_min(0)), HAIR)
    return torch.cat([paint, torch.ones(len(x), 1)], 1)


def _ball(radii: Tensor, middle: Tensor, color, rings: int) -> tuple[Tensor, Tensor, Tensor]:
    way, triangles = _grid(rings)
    paint = torch.tensor([*color, 1.0]).expand(len(way), 4).clone()
    return way * radii + middle, triangles, paint


def _grid(rings: int) -> tuple[Tensor, Tensor]:
    """Unit directions from +y down, ring by ring, and triangles that face outwards."""
    theta = (torch.arange(rings) + 0.5) / rings * math.pi
    phi = torch.arange(2 * rings) / rings * math.pi
    a, b = torch.meshgrid(theta, phi, indexing="ij")
    way = torch.stack([a.sin() * b.sin(), a.cos(), a.sin() * b.cos()], -1).reshape(-1, 3)
    row, column = torch.meshgrid(torch.arange(rings - 1), torch.arange(2 * rings), indexing="ij")
    right = (column + 1) % (2 * rings)
    one, two = row * 2 * rings + column, row * 2 * rings + right
    three, four = one + 2 * rings, two + 2 * rings
    upper, lower = torch.stack([one, three, two], -1), torch.stack([two, three, four], -1)
    return way, torch.cat([upper.reshape(-1, 3), lower.reshape(-1, 3)])


def _turned(part: tuple[Tensor, Tensor, Tensor], yaw: float) -> tuple[Tensor, Tensor, Tensor]:
    c, s = math.cos(yaw), math.sin(yaw)
    points, triangles, paint = part
    return points @ torch.tensor([[c, 0.0, -s], [0, 1, 0], [s, 0, c]]), triangles, paint
