"""A first cloud for captures that come without one."""

from __future__ import annotations

import torch
from torch import Tensor

from relight.errors import DataError
from relight.geometry.camera import Camera
from relight.scene import Frame, Points, Scene
from relight.views import Photo, Views

DEPTHS = 32
"""Candidates along each ray."""
SIDE = 128
"""Pixels of the reduced photos that are compared: small enough that a pixel is a neighbourhood."""


def initial_points(scene: Scene, count: int, generator: torch.Generator) -> Points:
    """`count` points with colours: from structure from motion if the scene has them, else by sweeping rays.

    A ray is cast through a random pixel of a random training view, and the depth is kept at which the other views that
    see the point agree best on its colour (space carving's photo-consistency, Kutulakos and Seitz 2000, one sample a
    ray).  Rays through transparent or unusable pixels are not cast; points outside other views' cut-outs score badly.

    Raises DataError if every pixel is transparent or unusable.
    """
    if scene.views is None:
        raise ValueError("initial_points: the scene has no views")
    if scene.points is not None and len(scene.points.positions) >= 100:
        return _thinned(_without_outliers(scene.points), count, generator)
    return _swept(scene, scene.views.train, count, generator)


def _without_outliers(points: Points) -> Points:
    """Drop points further from the median than 10 times the median distance: triangulation of noise."""
    offset = (points.positions - points.positions.median(0).values).norm(dim=1)
    keep = offset <= 10 * offset.median()
    return Points(points.positions[keep], points.colors[keep])


def _thinned(points: Points, count: int, generator: torch.Generator) -> Points:
    if len(points.positions) <= count:
        return points
    chosen = torch.randperm(len(points.positions), generator=generator)[:count]
    return Points(points.positions[chosen], points.colors[chosen])


def _swept(scene: Scene, views: Views, count: int, generator: torch.Generator) -> Points:
    cameras = [view.camera_at(SIDE) for view in views]
    photos = [view.photo(SIDE) for view in views]
    has_alpha = any(photo.alpha is not None for photo in photos)
    pictures = [_picture(photo) for photo in photos]
    # Rays start where there is a subject; each view casts the same number.
    starts = [(p[0, 3] > 0.5) & (p[0, 4] > 0.999) for p in pictures]
    casting = [i for i, start in enumerate(starts) if bool(start.any())]
    if not casting:
        raise DataError("all training photos are transparent or masked out everywhere; correct data.masks")
    positions, colors = [], []
    for order, i in enumerate(casting):
        rays = count // len(casting) + (1 if order < count % len(casting) else 0)
        if rays == 0:
            continue
        chosen = torch.multinomial(starts[i].float().flatten(), rays, replacement=True, generator=generator)
        corner = torch.stack([chosen % cameras[i].width, chosen // cameras[i].width], -1)
        pixels = corner + torch.rand(rays, 2, generator=generator)
        near, far = _depth_range(cameras[i], scene.frame, has_alpha)
        # Even in inverse depth: a pixel's parallax is.
        steps = (torch.arange(DEPTHS) + torch.rand(rays, DEPTHS, generator=generator)) / DEPTHS
        depth = 1 / (1 / far + steps * (1 / near - 1 / far))
        local = cameras[i].local_rays(pixels)[:, None] * depth[..., None]
        points = local @ cameras[i].world_from_camera[:3, :3].mT + cameras[i].position
        score, color = _agreement(points, cameras, pictures, has_alpha)
        best = score.argmin(1)
        index = torch.arange(rays)
        positions.append(points[index, best])
        colors.append(color[index, best])
    return Points(torch.cat(positions), torch.cat(colors).clamp(0, 1))


def _picture(photo: Photo) -> Tensor:
    """(1, 5, H, W): colour times alpha, alpha, and 1 where the pixel may be used."""
    ones = torch.ones(photo.rgb.shape[:2])
    alpha = ones if photo.alpha is None else photo.alpha
    usable = ones if photo.mask is None else photo.mask.float()
    return torch.cat([photo.rgb * alpha[..., None], alpha[..., None], usable[..., None]], -1).permute(2, 0, 1)[None]


def _depth_range(camera: Camera, frame: Frame, has_alpha: bool) -> tuple[float, float]:
    """Nearest and farthest candidate along +z, world units."""
    reach = float((torch.tensor(frame.center) - camera.position) @ camera.forward)
    if reach < 0.1 * frame.radius:
        # The centre is no subject: parallel cameras, or cameras that look outwards.
        return 0.2 * frame.radius, 50 * frame.radius
    return (0.5 * reach, 1.5 * reach) if has_alpha else (0.15 * reach, 6.0 * reach)


def _agreement(points: Tensor, cameras: list[Camera], pictures: list[Tensor], has_alpha: bool) -> tuple[Tensor, Tensor]:
    """(R, D) disagreement and (R, D, 3) mean colour of (R, D, 3) points over all views that see them."""
    flat = points.reshape(-1, 3)
    total, square, seen, inside = (torch.zeros(len(flat), k) for k in (3, 3, 1, 1))
    for camera, picture in zip(cameras, pictures, strict=True):
        pixels, depth = camera.project(flat)
        grid = pixels / torch.tensor([camera.width, camera.height]) * 2 - 1
        grid = grid.nan_to_num(9.0)
        sample = torch.nn.functional.grid_sample(picture, grid[None, None], padding_mode="border", align_corners=False)
        values = sample[0, :, 0].T
        visible = ((grid.abs() < 1).all(-1) & (depth > 0) & (values[:, 4] > 0.5)).float()[:, None]
        values = values * visible
        total += values[:, :3]
        square += values[:, :3] ** 2
        inside += values[:, 3:4]
        seen += visible
    count = seen.clamp_min(1)
    color = total / count
    deviation = (square / count - color**2).clamp_min(0).sum(-1).sqrt()
    # Few views agree easily: ask for at least three, and reward more.
    score = deviation + 0.5 / seen[:, 0].clamp_min(1) + (seen[:, 0] < min(3, len(cameras))).float()
    if has_alpha:
        score = score + 4 * (1 - inside / count)[:, 0]
        color = color / (inside / count).clamp_min(0.1)
    return score.reshape(points.shape[:-1]), color.reshape(points.shape)
