"""Pinhole cameras and lens distortion, in OpenCV's convention.

Camera axes: +x right, +y down, +z forward.  Pixel (column i, row j) covers [i, i+1) x [j, j+1), so its centre is
at (i + 0.5, j + 0.5), and the principal point is measured from the image corner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relight.vectors import unit


@dataclass(frozen=True)
class Camera:
    """One pinhole camera.

    world_from_camera: (4, 4) float32, rigid; may require grad.
    fx, fy, cx, cy: pixels.  width, height: pixels.
    """

    world_from_camera: Tensor
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    @property
    def camera_from_world(self) -> Tensor:
        """(4, 4), the inverse; differentiable."""
        rotation_t = self.world_from_camera[:3, :3].mT
        top = torch.cat([rotation_t, -rotation_t @ self.world_from_camera[:3, 3:]], 1)
        return torch.cat([top, top.new_tensor([[0.0, 0.0, 0.0, 1.0]])], 0)

    @property
    def position(self) -> Tensor:
        """(3,) world units: the centre of projection."""
        return self.world_from_camera[:3, 3]

    @property
    def forward(self) -> Tensor:
        """(3,) unit, world frame: the viewing direction."""
        return self.world_from_camera[:3, 2]

    @property
    def fov_y(self) -> float:
        """Vertical field of view in radians, for a centred principal point."""
        return 2 * math.atan(self.height / (2 * self.fy))

    @staticmethod
    def from_fov(world_from_camera: Tensor, fov_y: float, width: int, height: int) -> Camera:
        """Square pixels, centred principal point; `fov_y` in radians."""
        f = height / (2 * math.tan(fov_y / 2))
        return Camera(world_from_camera, f, f, width / 2, height / 2, width, height)

    def to(self, device: str | torch.device) -> Camera:
        return replace(self, world_from_camera=self.world_from_camera.to(device))

    def resized(self, width: int, height: int) -> Camera:
        """The same camera with another pixel grid."""
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=self.cx * sx,
            cy=self.cy * sy,
            width=width,
            height=height,
        )

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(..., 3) world points to (..., 2) pixels and (...,) depth along +z.  Not valid where depth <= 0."""
        local = points @ self.camera_from_world[:3, :3].mT + self.camera_from_world[:3, 3]
        x, y, z = local.unbind(-1)
        return torch.stack([self.fx * x / z + self.cx, self.fy * y / z + self.cy], -1), z

    def pixel_grid(self) -> Tensor:
        """(H, W, 2) pixel centres (x, y)."""
        device = self.world_from_camera.device
        y, x = torch.meshgrid(
            torch.arange(self.height, device=device) + 0.5,
            torch.arange(self.width, device=device) + 0.5,
            indexing="ij",
        )
        return torch.stack([x, y], -1)

    def local_rays(self, pixels: Tensor) -> Tensor:
        """(..., 2) pixels to (..., 3) camera-frame directions with z = 1, so that point = depth * ray."""
        x = (pixels[..., 0] - self.cx) / self.fx
        y = (pixels[..., 1] - self.cy) / self.fy
        return torch.stack([x, y, torch.ones_like(x)], -1)

    def ray_directions(self) -> Tensor:
        """(H, W, 3) unit directions in the world frame, from the camera through each pixel centre."""
        rays = self.local_rays(self.pixel_grid()).to(self.world_from_camera) @ self.world_from_camera[:3, :3].mT
        return unit(rays)

    def unproject(self, depth: Tensor) -> Tensor:
        """(H, W) depth along +z to (H, W, 3) world points."""
        local = self.local_rays(self.pixel_grid()) * depth[..., None]
        return local @ self.world_from_camera[:3, :3].mT + self.position

    def normals(self, depth: Tensor) -> Tensor:
        """(H, W) depth along +z to (H, W, 3) unit normals of the surface through it, world, towards the camera.

        From central differences; zero in the outermost pixels.  Differentiable.
        """
        points = self.unproject(depth)
        across = points[1:-1, 2:] - points[1:-1, :-2]
        down = points[2:, 1:-1] - points[:-2, 1:-1]
        inner = unit(torch.linalg.cross(down, across), 1e-19)
        return torch.nn.functional.pad(inner, (0, 0, 1, 1, 1, 1))


@dataclass(frozen=True)
class Distortion:
    """Lens distortion as COLMAP and OpenCV define it; maps ideal normalised coordinates to distorted ones.

    model: "radial-tangential", with params (k1, k2, p1, p2, k3, k4, k5, k6): OpenCV's rational model, a superset
        of COLMAP's SIMPLE_RADIAL, RADIAL, OPENCV and FULL_OPENCV;
    or "fisheye", with params (k1, k2, k3, k4): OpenCV's equidistant fisheye (Kannala and Brandt, PAMI 2006).
    """

    model: str
    params: tuple[float, ...]

    def __post_init__(self) -> None:
        count = {"radial-tangential": 8, "fisheye": 4}.get(self.model)
        if count is None or len(self.params) != count:
            raise ValueError(f"Distortion: {self.model!r} with {len(self.params)} parameters is not a known model")

    @property
    def is_identity(self) -> bool:
        return self.model == "radial-tangential" and not any(self.params)

    def apply(self, xy: Tensor) -> Tensor:
        """(..., 2) ideal normalised coordinates (x/z, y/z) to distorted ones.  Differentiable."""
        x, y = xy.unbind(-1)
        if self.model == "fisheye":
            k1, k2, k3, k4 = self.params
            r = torch.sqrt(x * x + y * y).clamp_min(1e-12)
            theta = torch.atan(r)
            t2 = theta * theta
            scale = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4)))) / r
            return torch.stack([x * scale, y * scale], -1)
        k1, k2, p1, p2, k3, k4, k5, k6 = self.params
        r2 = x * x + y * y
        radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
        dx = 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
        dy = p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
        return torch.stack([x * radial + dx, y * radial + dy], -1)


def evenly(count: int, most: int) -> list[int]:
    """Indices of at most `most` of `count` cameras, evenly over all, with the first and, of several, the last."""
    return torch.linspace(0, count - 1, min(count, most)).round().long().tolist()
