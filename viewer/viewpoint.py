"""Where one client's camera is, and where it is put; the photographs' cameras as it sees them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from relight.export.images import to_bytes
from relight.geometry.camera import Camera
from relight.geometry.transforms import quaternion_from_rotation, rotation_from_quaternion
from relight.resize import within
from relight.scene import Scene

LONGEST = 1280
"""Pixels of the longer side of a full picture."""
THUMBNAIL = 128
"""Pixels of the longer side of the photographs in the frustums."""
MOST_FRUSTUMS = 200


class Viewpoint:
    """client: viser's.  scene: what is looked at, asked each time; None for nothing yet."""

    def __init__(self, client: Any, scene: Callable[[], Scene | None]):
        self.client, self._scene = client, scene
        self._frustums: list[Any] = []
        self._ended = False

    def end(self) -> None:
        """The browser is gone: no more frustums."""
        self._ended = True

    def camera(self) -> Camera | None:
        """Of the browser's window; None before it has said anything, and for nonsense."""
        c = self.client.camera
        wxyz, position = torch.tensor(list(c.wxyz)).float(), torch.tensor(list(c.position)).float()
        numbers = torch.cat([wxyz, position, torch.tensor([float(c.fov)])])
        if not bool(torch.isfinite(numbers).all()) or float(wxyz.norm()) < 1e-6 or not 1e-3 < float(c.fov) < 3.1:
            return None
        height, width = c.image_height, c.image_width
        if not (isinstance(height, int) and isinstance(width, int) and 0 < height < 1 << 15 and 0 < width < 1 << 15):
            return None
        pose = torch.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation_from_quaternion(wxyz), position
        return Camera.from_fov(pose, float(c.fov), *within((width, height), LONGEST, 1))

    def start(self, *, all_cameras: bool) -> None:
        """At the first photograph, or where all cameras are seen; a little above a subject without any."""
        scene = self._scene()
        if scene is None:
            return
        up = scene.frame.up or (0.0, -1.0, 0.0)
        center, direction = torch.tensor(scene.frame.center), torch.tensor(up)
        distance = 2.5 * scene.frame.radius
        if scene.views is not None and len(scene.views):
            if not all_cameras:
                self.jump(0)
                return
            places = torch.stack([view.camera.position for view in scene.views])
            distance = max(distance, 2.2 * float((places - center).norm(dim=1).max()))
        side = torch.linalg.cross(direction, torch.eye(3)[int(direction.abs().argmin())])
        # Models show their front towards +z (glTF).
        side = -side if float(side[2]) < 0 else side
        offset = torch.nn.functional.normalize(torch.nn.functional.normalize(side, dim=0) + 0.4 * direction, dim=0)
        with self.client.atomic():
            self.client.camera.up_direction = up
            self.client.camera.position = tuple((center + distance * offset).tolist())
            self.client.camera.look_at = scene.frame.center

    def jump(self, index: int) -> None:
        """To where a photograph was taken."""
        scene = self._scene()
        if scene is None or scene.views is None:
            return
        camera = scene.views.camera(index)
        depth = (torch.tensor(scene.frame.center) - camera.position) @ camera.forward
        distance = float(depth) if float(depth) > 0.05 * scene.frame.radius else scene.frame.radius
        self.place(camera, distance, camera.fov_y)

    def place(self, camera: Camera, distance: float, fov: float) -> None:
        """Move the browser's camera; it will turn about what is `distance` ahead, world units.  fov: radians."""
        right, own = camera.world_from_camera[:3, 0], -camera.world_from_camera[:3, 1]
        scene = self._scene()
        up = own if scene is None or scene.frame.up is None else torch.tensor(scene.frame.up)
        # The scene's up as nearly as the camera's roll allows, so that dragging keeps the horizon.
        up = up - (up @ right) * right
        up = own if float(up @ own) < 0.05 else up / up.norm()
        with self.client.atomic():
            self.client.camera.fov = fov
            self.client.camera.up_direction = tuple(up.tolist())
            self.client.camera.position = tuple(camera.position.tolist())
            self.client.camera.look_at = tuple((camera.position + distance * camera.forward).tolist())

    def show_cameras(self, visible: bool) -> None:
        """Frustums with their photographs; a click jumps in."""
        for handle in self._frustums:
            handle.remove()
        self._frustums = []
        scene = self._scene()
        if not visible or scene is None or scene.views is None:
            return
        every = max(1, math.ceil(len(scene.views) / MOST_FRUSTUMS))
        places = torch.stack([view.camera.position for view in scene.views])[::every]
        apart = torch.cdist(places, places).fill_diagonal_(torch.inf).min(1).values.median()
        # Neighbours shall not hide each other, nor the scene.
        size = float(torch.tensor(0.05 * scene.frame.radius).minimum(0.4 * apart))
        for i in range(0, len(scene.views), every):
            lens = scene.views.camera(i)
            scale = min(1.0, THUMBNAIL / max(lens.width, lens.height))
            camera, photo = scene.views.camera(i, scale), scene.views.photo(i, scale)
            if self._ended:
                return
            rgb = photo.rgb if photo.alpha is None else photo.rgb * photo.alpha[..., None]
            handle = self.client.scene.add_camera_frustum(
                f"/cameras/{i:04d}", camera.fov_y, camera.width / camera.height, scale=size,
                thickness=1.5, thickness_units="screen",
                image=to_bytes(rgb), format="jpeg", jpeg_quality=70, color=(230, 150, 60),
                wxyz=quaternion_from_rotation(camera.world_from_camera[:3, :3]).numpy(),
                position=camera.position.numpy(),
            )  # fmt: skip
            handle.on_click(lambda _, index=i: self.jump(index))
            self._frustums.append(handle)
