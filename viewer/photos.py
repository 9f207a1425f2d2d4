"""The photograph that was taken from where a camera is, as the camera sees it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from relight.geometry.camera import Camera
from relight.scene import Scene
from relight.views import Views


def view_at(scene: Scene, camera: Camera) -> int | None:
    """Number of the photograph that was taken from where the camera is."""
    if scene.views is None or len(scene.views) == 0:
        return None
    index, apart, turned = nearest(scene, camera)
    return index if apart < 2e-3 and turned < 4e-3 else None


def nearest(scene: Scene, camera: Camera) -> tuple[int, float, float]:
    """Number of the photograph whose camera is most like this one, its distance in scene radii, and how differently it
    is turned, 0 to 4.  The scene has photographs."""
    assert scene.views is not None
    poses = torch.stack([view.camera.world_from_camera for view in scene.views])
    apart = (poses[:, :3, 3] - camera.position).norm(dim=1) / scene.frame.radius
    turned = (poses[:, :3, 1:3] - camera.world_from_camera[:3, 1:3]).norm(dim=1).sum(1)
    best = int((apart + turned).argmin())
    return best, float(apart[best]), float(turned[best])


def seen(views: Views, index: int, camera: Camera) -> tuple[Tensor, Tensor]:
    """(H, W, 3) sRGB-encoded, premultiplied: a photograph on the camera's pixels; (H, W, 1) 1 where it has any."""
    photo, lens = views.photo(index), views.camera(index)
    rgb = photo.rgb if photo.alpha is None else photo.rgb * photo.alpha[..., None]
    rays = camera.local_rays(camera.pixel_grid())
    x = (rays[..., 0] * lens.fx + lens.cx) / lens.width * 2 - 1
    y = (rays[..., 1] * lens.fy + lens.cy) / lens.height * 2 - 1
    grid = torch.stack([x, y], -1)
    inside = ((grid.abs() <= 1).all(-1) & (rays[..., 2] > 0))[..., None]
    picture = grid_sample(rgb.permute(2, 0, 1)[None], grid[None], align_corners=False, padding_mode="border")
    return picture[0].permute(1, 2, 0).clamp(0, 1) * inside, inside.float()
