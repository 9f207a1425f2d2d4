"""The shape of a person in a picture: faces by their points, the rest by its outline."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from relight.diffusion.pictures.geometry import Geometry, from_maps, level_camera
from relight.diffusion.pictures.outline import estimated
from relight.diffusion.portrait.networks import Face
from relight.geometry.camera import Camera
from relight.resize import resized, within
from relight.vectors import unit

GRID = 256
"""Most pixels a side at which shapes are worked out."""
STIFF = 0.1
"""Regulariser of the spline through a face's points, which shake a little."""
SOFT = 0.12
"""Of a face's size: over so much its shape fades into the head's."""
CHEST = 0.7
"""Of a face's size: by how much more than a face a body comes forward at most.  A ball of its width would by more."""
NECK = 0.45
"""Of a face's size: by how much necks lie behind where an outline blown up has them, so that chins stand out."""
RELIEF = 0.12
"""Of cloth, see `outline.RELIEF`: skin and prints aren't relief."""


def person(picture: Tensor, mask: Tensor, faces: Sequence[Face], camera: Camera | None = None) -> Geometry:
    """Of (H, W, 3) sRGB.  mask: (H, W) bool, the person.  camera: None for one that looks level.  Without faces it is
    what the outline says.  How far away it is, is made up: about 1.
    """
    height, width = mask.shape
    taken_by = camera or level_camera(height, width)
    scale = min(1.0, GRID / max(height, width))
    size = within((height, width), GRID, 4)
    inside = resized(mask[..., None].float(), *size)[..., 0] >= 0.5
    if not bool(inside.any()):
        inside = torch.ones_like(inside)
    shown = [face for face in faces if bool(inside[_pixel(face.middle * scale, size)])]
    whole = estimated(resized(picture, *size), inside, RELIEF if shown else 0.5 * RELIEF)
    normal = whole.normal @ whole.world_from_viewer
    camera = taken_by.resized(size[1], size[0])
    if shown:
        normal = _chest(normal, from_maps(inside, normal=normal, camera=camera).depth * camera.fx, shown, scale)
    depth = from_maps(inside, normal=normal, camera=camera).depth
    if shown:
        depth = depth + _behind_chin(shown[0].points[:, 1] * scale, size) * (NECK * shown[0].size * scale / camera.fx)
    for face in reversed(shown):
        points = face.points * scale
        away, there = spline(points, size)
        there = there & inside
        slope = torch.stack(torch.gradient(away)[::-1], -1)
        own = unit(torch.stack([slope[..., 0], -slope[..., 1], torch.ones_like(away)], -1))
        share = _fading(there, SOFT * face.size * scale)[..., None]
        normal = unit(torch.lerp(normal, own, share))
        # It joins the head at its temples: there alone is the outline's depth that of the face.
        above = there & (_rows(size) < float(points[:, 1].mean())) & (share[..., 0] < 0.6)
        if bool(above.any()):
            nearer = away / camera.fx
            shift = (depth - nearer)[above].median()
            depth = torch.lerp(depth, (nearer + shift).clamp_min(0.05), (3 * share[..., 0]).clamp_max(1))
    full = unit(resized(normal, height, width)), resized(depth[..., None], height, width)[..., 0]
    return from_maps(mask, normal=full[0], depth=full[1], camera=taken_by)


def skin(size: tuple[int, int], faces: Sequence[Face]) -> Tensor:
    """(H, W) bool: within the outlines of faces."""
    found = torch.zeros(size, dtype=torch.bool)
    for face in faces:
        found |= _within(face.points[:, :2], size)
    return found


def spline(points: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(H, W) third coordinate of (N, 3) points, pixels, as a thin plate (Duchon 1977); (H, W) bool: is it among them?

    What is hidden behind other points counts, too, so that profiles come out flat at their far side.
    """
    middle, reach = points.mean(0), points[:, :2].std().clamp_min(1e-6)
    at, value = (points[:, :2] - middle[:2]) / reach, (points[:, 2] - middle[2]) / reach
    count = len(points)
    flat = torch.cat([torch.ones(count, 1), at], 1)
    system = torch.zeros(count + 3, count + 3, dtype=torch.float64)
    system[:count, :count] = _bent(at, at).double() + STIFF * torch.eye(count, dtype=torch.float64)
    system[:count, count:], system[count:, :count] = flat.double(), flat.mT.double()
    told = torch.cat([value.double(), torch.zeros(3, dtype=torch.float64)])
    found = torch.linalg.solve(system, told).float()
    inside = _within(points[:, :2], size)
    row, column = inside.nonzero().unbind(1)
    out = torch.zeros(size)
    if len(row):
        # A margin, for slopes.
        top, bottom = max(0, int(row.min()) - 2), min(size[0], int(row.max()) + 3)
        left, right = max(0, int(column.min()) - 2), min(size[1], int(column.max()) + 3)
        y, x = torch.meshgrid(torch.arange(top, bottom) + 0.5, torch.arange(left, right) + 0.5, indexing="ij")
        where = (torch.stack([x, y], -1).reshape(-1, 2) - middle[:2]) / reach
        bent = _bent(where, at) @ found[:count] + torch.cat([torch.ones(len(where), 1), where], 1) @ found[count:]
        out[top:bottom, left:right] = (bent * reach + middle[2]).view(bottom - top, right - left)
    return out, inside


def _bent(one: Tensor, two: Tensor) -> Tensor:
    square = torch.cdist(one, two).square()
    return 0.5 * square * square.clamp_min(1e-12).log()


def _within(points: Tensor, size: tuple[int, int]) -> Tensor:
    """(H, W) bool: pixels in the convex hull of (N, 2) points: in front of all lines along its sides."""
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    found = torch.ones(size, dtype=torch.bool)
    for k in range(64):
        angle = torch.tensor(k * torch.pi / 32)
        way = torch.stack([angle.cos(), angle.sin()])
        found &= x * way[0] + y * way[1] <= (points @ way).max()
    return found


def _fading(there: Tensor, reach: float) -> Tensor:
    """(H, W) 1 within, down to 0 at the edge, over `reach` pixels."""
    side = max(1, round(reach))
    planes = pad(there.float()[None, None], [side] * 4)
    share = torch.nn.functional.avg_pool2d(planes, 2 * side + 1, 1)[0, 0]
    weight = ((share - 0.5) * 2).clamp(0, 1) * there
    return weight * weight * (3 - 2 * weight)


def _chest(normal: Tensor, depth: Tensor, faces: Sequence[Face], scale: float) -> Tensor:
    """Viewer's normals, of bodies below chins that level out instead of coming ever nearer.  depth: (H, W) pixels."""
    size = (depth.shape[0], depth.shape[1])
    chin, widest = float(faces[0].points[:, 1].max()) * scale, faces[0].size * scale
    head = torch.stack([depth[_pixel(face.middle * scale, size)] for face in faces]).median()
    level = torch.exp(-((head - depth) / (CHEST * widest)).clamp_min(0))
    share = ((_rows(size) - chin) / widest).clamp(0, 1)
    steep = torch.lerp(torch.ones_like(level), level, share)[..., None]
    return unit(torch.cat([normal[..., :2] * steep, normal[..., 2:]], -1))


def _behind_chin(rows: Tensor, size: tuple[int, int]) -> Tensor:
    """(H, W) 0 above a face's middle to 1 below its chin.  rows: (N,) of its points."""
    middle, chin = float(rows.mean()), float(rows.max())
    share = ((_rows(size) - middle) / max(chin - middle, 1e-6)).clamp(0, 1)
    return share * share * (3 - 2 * share)


def _rows(size: tuple[int, int]) -> Tensor:
    return (torch.arange(size[0]) + 0.5)[:, None].expand(size)


def _pixel(place: Tensor, size: tuple[int, int]) -> tuple[int, int]:
    x, y = place.tolist()
    return min(max(int(y), 0), size[0] - 1), min(max(int(x), 0), size[1] - 1)
