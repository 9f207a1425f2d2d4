"""Random solids as triangle meshes: smooth closed surfaces over a grid, alone, in groups and on the ground."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from relight.diffusion.own.procedural.draw import Draw
from relight.geometry.mesh import Mesh, merge
from relight.vectors import unit

ROWS = 40
"""Of a surface's grid, which has twice as many columns."""


@dataclass(frozen=True)
class Solids:
    """mesh: all of them, world, +y up, within about 1 of the origin.  part: (F,) which solid a face belongs to; ground
    is the last.  local: (V, 3) each vertex in its own solid's coordinates, about -1 to 1, which textures are drawn in.
    """

    mesh: Mesh
    part: Tensor
    local: Tensor


def solids(draw: Draw, *, most: int = 4) -> Solids:
    """One to `most` solids that may touch and pass through each other; in two of three cases on rolling ground."""
    count = draw.pick(range(1, most + 1))
    placed = [_placed(draw, alone=count == 1) for _ in range(count)]
    if draw.chance(0.65):
        placed.append(_ground(draw, min(float(p[1][:, 1].min()) for p in placed)))
    part = torch.cat([torch.full((len(p[2]),), i) for i, p in enumerate(placed)])
    meshes = [Mesh(_welded(there), faces.int()).with_smooth_normals() for _, there, faces in placed]
    return Solids(merge(meshes), part, torch.cat([own for own, _, _ in placed]))


def _welded(vertices: Tensor) -> Tensor:
    """Places that differ by rounding alone are one: the seams of grids."""
    return (vertices * 1e5).round() / 1e5


def _placed(draw: Draw, *, alone: bool) -> tuple[Tensor, Tensor, Tensor]:
    """A solid in its own coordinates and in the world, and its triangles."""
    own, faces = draw.pick(KINDS)(draw)
    own = own / own.abs().max()
    size = draw.number(0.55, 0.9) if alone else draw.number(0.25, 0.6)
    stretch = torch.tensor([draw.number(0.6, 1.0) for _ in range(3)])
    at = torch.zeros(3) if alone else draw.direction() * draw.number(0.15, 0.7)
    turn = _rotation(draw) if draw.chance(0.6) else torch.eye(3)
    return own, (own * stretch * size) @ turn.mT + at, faces


def _ground(draw: Draw, lowest: float) -> tuple[Tensor, Tensor, Tensor]:
    """A square below everything, flat or in waves."""
    side, reach = 2 * ROWS, 4.0
    line = torch.linspace(-reach, reach, side)
    x, z = torch.meshgrid(line, line, indexing="ij")
    height = torch.zeros_like(x)
    if draw.chance(0.3):
        for _ in range(4):
            angle, wave = draw.number(0, 2 * math.pi), draw.number(0.8, 3.0)
            along = x * math.cos(angle) + z * math.sin(angle)
            height = height + 0.04 * (wave * along + draw.number(0, 6)).sin()
    there = torch.stack([x, lowest + height - height.max(), z], -1).reshape(-1, 3)
    return there * 0.4, there, _triangles(side, side)


def _rotation(draw: Draw) -> Tensor:
    """(3, 3), uniform (Shoemake 1992, through Gram and Schmidt of normal numbers)."""
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=draw.generator))
    q = q * r.diagonal().sign()
    return q * torch.linalg.det(q)


def _triangles(rows: int, columns: int) -> Tensor:
    """(F, 3) over a grid."""
    i = torch.arange(rows * columns).view(rows, columns)
    a, b, c, d = (x.reshape(-1) for x in (i[:-1, :-1], i[1:, :-1], i[1:, 1:], i[:-1, 1:]))
    return torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])


def _around() -> tuple[Tensor, Tensor]:
    """Latitude -pi/2 to pi/2 and longitude -pi to pi of a grid, both (ROWS, 2 ROWS)."""
    latitude = torch.linspace(-math.pi / 2, math.pi / 2, ROWS)
    longitude = torch.linspace(-math.pi, math.pi, 2 * ROWS)
    u, v = torch.meshgrid(latitude, longitude, indexing="ij")
    return u, v


def _surface(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    return torch.stack([x, y, z], -1).reshape(-1, 3), _triangles(*x.shape)


def _superquadric(draw: Draw) -> tuple[Tensor, Tensor]:
    """Ball, cylinder, box, and what lies between (Barr 1981)."""
    e, n = (draw.pick((0.15, 0.3, 0.6, 1.0, 1.4)) for _ in range(2))
    u, v = _around()
    c = _power(u.cos(), n)
    return _surface(c * _power(v.cos(), e), _power(u.sin(), n), c * _power(v.sin(), e))


def _power(value: Tensor, exponent: float) -> Tensor:
    return value.sign() * value.abs().clamp_min(1e-9) ** exponent


def _torus(draw: Draw) -> tuple[Tensor, Tensor]:
    thick = draw.number(0.15, 0.45)
    u, v = _around()
    ring = 1 + thick * (2 * u).cos()
    return _surface(ring * v.cos(), -thick * (2 * u).sin(), ring * v.sin())


def _lathe(draw: Draw) -> tuple[Tensor, Tensor]:
    """Vases, bottles, bowls, chess men: a random outline, turned."""
    u, v = _around()
    height = u / (math.pi / 2)
    radius = torch.full_like(u, draw.number(0.4, 0.7))
    for k in range(1, 4):
        radius = radius + draw.number(-0.35, 0.35) / k * (k * math.pi * height + draw.number(0, 6)).cos()
    radius = radius.clamp_min(0.08) * (1 - height.abs() ** draw.number(6, 20)).clamp_min(0).sqrt()
    return _surface(radius * v.cos(), height, radius * v.sin())


def _blob(draw: Draw) -> tuple[Tensor, Tensor]:
    """A ball pushed in and out by a few waves: stones, fruit, heads."""
    u, v = _around()
    ball = torch.stack([u.cos() * v.cos(), u.sin(), u.cos() * v.sin()], -1)
    radius = torch.ones_like(u)
    for octave in range(1, 4):
        for _ in range(3):
            wave = draw.direction() * draw.number(1.0, 2.5) * octave
            radius = radius + 0.14 / octave * (ball @ wave * 1.6 + draw.number(0, 6)).sin()
    return _surface(*(unit(ball) * radius[..., None]).unbind(-1))


KINDS: tuple[Callable[[Draw], tuple[Tensor, Tensor]], ...] = (_superquadric, _torus, _lathe, _blob, _blob)
