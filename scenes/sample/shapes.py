"""Procedural triangle meshes of the sample scene.

Every function returns a `Shape` around the origin, with +Z up, analytic normals and texture coordinates.  NumPy only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """positions, normals: (V, 3).  uv: (V, 2).  faces: (F, 3), counter-clockwise seen from outside."""

    positions: Array
    normals: Array
    uv: Array
    faces: NDArray[np.int64]

    def moved(self, to: tuple[float, float, float], turn: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Shape:
        """Rotated about x, then y, then z by `turn` (degrees), then shifted by `to`."""
        rotation = np.eye(3)
        for axis, degrees in enumerate(turn):
            c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
            i, j = (axis + 1) % 3, (axis + 2) % 3
            step = np.eye(3)
            step[i, i], step[i, j], step[j, i], step[j, j] = c, -s, s, c
            rotation = step @ rotation
        return replace(self, positions=self.positions @ rotation.T + to, normals=self.normals @ rotation.T)


def _grid_faces(rows: int, columns: int) -> NDArray[np.int64]:
    """Two triangles a cell of a (rows, columns) vertex grid."""
    a = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    b, c, d = a + 1, a + columns, a + columns + 1
    return np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)])


def _from_grid(positions: Array, normals: Array, uv: Array) -> Shape:
    """(R, C, 3), (R, C, 3), (R, C, 2) vertex grid to a mesh whose winding agrees with its normals."""
    faces = _grid_faces(*positions.shape[:2])
    positions, normals, uv = positions.reshape(-1, 3), normals.reshape(-1, 3), uv.reshape(-1, 2)
    corners = positions[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    if (cross * normals[faces].sum(1)).sum() < 0:
        faces = faces[:, ::-1]
        cross = -cross
    return Shape(positions, normals, uv, faces[np.linalg.norm(cross, axis=1) > 1e-12])


def _arc_length(points: Array) -> Array:
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def rounded_profile(corners: list[tuple[float, float]], radius: float, steps: int = 12) -> tuple[Array, Array]:
    """A polyline in the (r, z) half-plane, corners rounded: (K, 2) points and (K, 2) unit normals on its right."""
    knots = np.asarray(corners, dtype=float)
    points, normals = [knots[0]], []
    for before, corner, after in zip(knots[:-2], knots[1:-1], knots[2:], strict=True):
        a, b = (before - corner) / np.linalg.norm(before - corner), (after - corner) / np.linalg.norm(after - corner)
        half = np.arccos(np.clip(a @ b, -1, 1)) / 2
        outward = np.sign(a[1] * b[0] - a[0] * b[1])  # -1 where the solid's edge is concave
        center = corner + (a + b) / np.linalg.norm(a + b) * radius / np.sin(half)
        start, stop = corner + a * radius / np.tan(half), corner + b * radius / np.tan(half)
        for t in np.linspace(0, 1, steps):
            # Spherical interpolation between the two tangent points, seen from the centre of the arc.
            omega = np.pi - 2 * half
            p = (np.sin((1 - t) * omega) * (start - center) + np.sin(t * omega) * (stop - center)) / np.sin(omega)
            points.append(center + p)
            normals.append(outward * p / radius)
    points.append(knots[-1])
    ends = [np.array([points[i + 1][1] - points[i][1], points[i][0] - points[i + 1][0]]) for i in (0, len(points) - 2)]
    normals = [ends[0] / np.linalg.norm(ends[0]), *normals, ends[1] / np.linalg.norm(ends[1])]
    return np.array(points), np.array(normals)


def revolve(profile: Array, normals: Array, segments: int = 192) -> Shape:
    """Turn a (K, 2) profile in (r, z) around the z axis.  u runs around, v along the profile from 0 to 1."""
    phi = np.linspace(0, 2 * np.pi, segments + 1)
    c, s = np.cos(phi)[:, None], np.sin(phi)[:, None]
    v = _arc_length(profile)

    def sweep(rz: Array) -> Array:
        return np.stack([rz[:, 0] * c, rz[:, 0] * s, np.broadcast_to(rz[:, 1], (segments + 1, len(rz)))], -1)

    uv = np.stack(np.broadcast_arrays(phi[:, None] / (2 * np.pi), v / v[-1]), -1)
    return _from_grid(sweep(profile), sweep(normals), uv)


def sphere(radius: float) -> Shape:
    theta = np.linspace(0, np.pi, 129)
    normals = np.stack([np.sin(theta), -np.cos(theta)], 1)
    return revolve(radius * normals, normals)


def torus(major: float, minor: float) -> Shape:
    theta = np.linspace(0, 2 * np.pi, 97)
    normals = np.stack([np.cos(theta), np.sin(theta)], 1)
    return revolve([major, 0.0] + minor * normals, normals)


def lathe(corners: list[tuple[float, float]], radius: float) -> Shape:
    """A solid of revolution with rounded edges; `corners` (r, z) from the axis at the bottom to the axis at the top."""
    return revolve(*rounded_profile(corners, radius))


def unrolled_from_axis(shape: Shape, scale: float) -> Shape:
    """Texture coordinates of a shallow solid seen from above: planar inside, unrolled down the side without stretch."""
    x, y, z = shape.positions.T
    reach, phi = np.hypot(x, y) + z.max() - z, np.arctan2(y, x)
    return replace(shape, uv=0.5 + 0.5 / scale * np.stack([reach * np.cos(phi), reach * np.sin(phi)], 1))


def rounded_cube(half: float, radius: float, cells: int = 48) -> Shape:
    """Each side has its own texture square."""
    t = np.linspace(-1, 1, cells + 1)
    a, b = np.meshgrid(t, t, indexing="ij")
    sides = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            cube = np.empty((*a.shape, 3))
            cube[..., axis], cube[..., (axis + 1) % 3], cube[..., (axis + 2) % 3] = sign * half, a * half, b * half
            inner = np.clip(cube, radius - half, half - radius)
            normals = (cube - inner) / np.linalg.norm(cube - inner, axis=-1, keepdims=True)
            sides.append(_from_grid(inner + radius * normals, normals, np.stack([a, b], -1) / 2 + 0.5))
    return merged(sides)


def merged(shapes: list[Shape]) -> Shape:
    offsets = np.cumsum([0] + [len(s.positions) for s in shapes[:-1]])
    return Shape(
        np.concatenate([s.positions for s in shapes]),
        np.concatenate([s.normals for s in shapes]),
        np.concatenate([s.uv for s in shapes]),
        np.concatenate([s.faces + o for s, o in zip(shapes, offsets, strict=True)]),
    )


def tube(curve: Callable[[Array], Array], radius: float, steps: int = 480, sides: int = 48) -> Shape:
    """A round tube along a closed curve: t in [0, 1) to (..., 3).  u runs along, v around."""
    t = np.linspace(0, 1, steps + 1)
    center = curve(t)
    tangent = curve(t + 1e-4) - curve(t - 1e-4)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    # Parallel transport keeps the section from spinning; what twist is left over is spread along the tube.
    frame = np.empty_like(center)
    frame[0] = np.cross(tangent[0], [0.3, 0.5, 0.8])
    for i in range(1, steps + 1):
        frame[i] = frame[i - 1] - (frame[i - 1] @ tangent[i]) * tangent[i]
    frame /= np.linalg.norm(frame, axis=1, keepdims=True)
    side = np.cross(tangent, frame)
    twist = np.arctan2(frame[-1] @ side[0], frame[-1] @ frame[0])
    angle = np.linspace(0, 2 * np.pi, sides + 1)[None, :] - twist * t[:, None]
    normals = frame[:, None] * np.cos(angle)[..., None] + side[:, None] * np.sin(angle)[..., None]
    uv = np.stack(np.broadcast_arrays(t[:, None], np.linspace(0, 1, sides + 1)[None, :]), -1)
    return _from_grid(center[:, None] + radius * normals, normals, uv)


def isosurface(distance: Callable[[Array], Array], low: Array, high: Array, cells: int = 72) -> Shape:
    """The zero set of a smooth function that is positive outside: naive surface nets (Gibson, MICCAI 1998).

    `distance` maps (..., 3) to (...,).  Vertices are pulled onto the surface by Newton steps.  Has no texture
    coordinates (zeros).
    """
    axes = [np.linspace(low[i], high[i], cells + 1) for i in range(3)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    inside = distance(grid) < 0
    corners = np.stack(
        [inside[i : cells + i, j : cells + j, k : cells + k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    )
    crossed = corners.any(0) & ~corners.all(0)
    index = np.full(crossed.shape, -1)
    index[crossed] = np.arange(crossed.sum())
    positions = (grid[:-1, :-1, :-1] + 0.5 * (grid[1, 1, 1] - grid[0, 0, 0]))[crossed]

    def gradient(p: Array) -> Array:
        h = 1e-4
        return np.stack([(distance(p + h * e) - distance(p - h * e)) / (2 * h) for e in np.eye(3)], -1)

    for _ in range(8):
        slope = gradient(positions)
        positions = positions - slope * (distance(positions) / (slope**2).sum(-1))[:, None]
    normals = gradient(positions)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)

    faces = []
    for axis in range(3):
        # Every grid edge along `axis` that crosses the surface is shared by four cells: one quad.
        j, k = (axis + 1) % 3, (axis + 2) % 3
        a, b = np.moveaxis(inside, (axis, j, k), (0, 1, 2)), np.moveaxis(index, (axis, j, k), (0, 1, 2))
        leaving = a[:-1, 1:-1, 1:-1] & ~a[1:, 1:-1, 1:-1]
        entering = ~a[:-1, 1:-1, 1:-1] & a[1:, 1:-1, 1:-1]
        quad = np.stack([b[:, :-1, :-1], b[:, 1:, :-1], b[:, 1:, 1:], b[:, :-1, 1:]], -1)
        for q in (quad[leaving], quad[entering][:, ::-1]):
            faces += [q[:, [0, 1, 2]], q[:, [0, 2, 3]]]
    return Shape(positions, normals, np.zeros((len(positions), 2)), np.concatenate(faces))


def trefoil(size: float, thickness: float) -> Shape:
    def curve(t: Array) -> Array:
        a = 2 * np.pi * t
        knot = [np.sin(a) + 2 * np.sin(2 * a), np.cos(a) - 2 * np.cos(2 * a), -np.sin(3 * a)]
        return size / 3 * np.stack(knot, -1)

    return tube(curve, thickness)


def bunny(size: float) -> Shape:
    """A sitting rabbit: ellipsoids joined by a smooth minimum.  Faces +x; stands on z = 0; `size` is its height."""
    # centre, half axes, lean about the y axis (degrees)
    parts = [
        ((0.00, 0.00, 0.27), (0.28, 0.23, 0.27), -20.0),  # body
        ((0.15, 0.00, 0.27), (0.16, 0.17, 0.25), 0.0),  # chest
        ((0.22, 0.00, 0.58), (0.175, 0.15, 0.14), 15.0),  # head
        ((0.33, 0.00, 0.55), (0.09, 0.08, 0.075), 0.0),  # muzzle
        ((0.11, 0.085, 0.84), (0.055, 0.065, 0.20), -22.0),  # ears
        ((0.11, -0.085, 0.84), (0.055, 0.065, 0.20), -22.0),
        ((0.24, 0.13, 0.05), (0.14, 0.07, 0.06), 0.0),  # feet
        ((0.24, -0.13, 0.05), (0.14, 0.07, 0.06), 0.0),
        ((-0.02, 0.17, 0.17), (0.18, 0.10, 0.17), 0.0),  # thighs
        ((-0.02, -0.17, 0.17), (0.18, 0.10, 0.17), 0.0),
        ((-0.30, 0.00, 0.16), (0.085, 0.085, 0.085), 0.0),  # tail
    ]

    def distance(p: Array) -> Array:
        total = np.zeros(p.shape[:-1])
        for center, axes, lean in parts:
            c, s = np.cos(np.radians(lean)), np.sin(np.radians(lean))
            q = (p - np.asarray(center)) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) / axes
            # Exponential smooth minimum of approximate distances; 45 sets how wide the joints are filled.
            total += np.exp(-45 * min(axes) * (np.linalg.norm(q, axis=-1) - 1))
        return -np.log(total + 1e-300) / 45

    shape = isosurface(distance, np.array([-0.5, -0.4, -0.1]), np.array([0.55, 0.4, 1.15]))
    scale = size / 1.04
    return replace(shape, positions=shape.positions * scale)
