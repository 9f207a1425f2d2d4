"""Where a photograph lies on a panorama: what the panorama head is told, made from a picture or for training.

The panorama turns with the camera about the vertical axis, so that the photograph's middle is always that of the map;
its frame is that of `Environment`: +y up, +x in the middle, +z to the right of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from relight.errors import RelightError
from relight.resize import averaged
from relight.shading.color import linear_to_srgb
from relight.shading.environment import Environment, bilinear

CONDITION = ("red", "green", "blue", "seen", "up")
"""Maps of `condition`, in this order."""
SUB = 4
"""Directions each way that are looked up for a pixel of the map."""


@dataclass(frozen=True)
class Frame:
    """Cameras (B,) that look along the middle of the map.

    fov: across the width.  pitch: above 0 looks up.  roll: above 0 turns the camera clockwise.  Radians.
    aspect: width over height.  Raises RelightError for a field of view that no pinhole has.
    """

    fov: Tensor
    pitch: Tensor
    roll: Tensor
    aspect: Tensor

    def __post_init__(self) -> None:
        if not bool(((self.fov > 0) & (self.fov < math.pi)).all()):
            degrees = math.degrees(float(self.fov.flatten()[0]))
            raise RelightError(f"field of view: expected above 0 and below 180 degrees, found {degrees:g}")

    @staticmethod
    def of(fov: float, aspect: float = 1.0, pitch: float = 0.0, roll: float = 0.0) -> Frame:
        """One camera; angles in degrees."""
        return Frame(*(torch.tensor([x]) for x in (*map(math.radians, (fov, pitch, roll)), aspect)))

    @property
    def env_from_camera(self) -> Tensor:
        """(B, 3, 3) rotations of OpenCV's axes: +x right, +y down, +z forward."""
        zero, one = torch.zeros_like(self.fov), torch.ones_like(self.fov)
        c, s = self.pitch.cos(), self.pitch.sin()
        nod = torch.stack([one, zero, zero, zero, c, -s, zero, s, c], -1).view(-1, 3, 3)
        c, s = self.roll.cos(), self.roll.sin()
        tilt = torch.stack([c, -s, zero, s, c, zero, zero, zero, one], -1).view(-1, 3, 3)
        level = self.fov.new_tensor([[0, 0, 1], [0, -1, 0], [1, 0, 0]])
        return level @ nod @ tilt

    def place(self, directions: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W, 2) where (H, W, 3) directions are in the pictures, -1 to 1 from left to right and from top to
        bottom; and (B, H, W) whether they are.
        """
        x, y, z = torch.einsum("bji,hwj->bhwi", self.env_from_camera, directions).unbind(-1)
        scale = 1 / (self.fov / 2).tan()
        depth = z.clamp_min(1e-6)
        where = torch.stack([x / depth * scale[:, None, None], y / depth * (scale * self.aspect)[:, None, None]], -1)
        return where, (where.abs() <= 1).all(-1) & (z > 1e-6)

    def rays(self, height: int, width: int) -> Tensor:
        """(B, height, width, 3) unit directions through pixels' centres."""
        y, x = torch.meshgrid(_centres(height), _centres(width), indexing="ij")
        x, y = x.to(self.fov), y.to(self.fov)
        tan = (self.fov / 2).tan()[:, None, None]
        rays = torch.stack([x * tan, y * tan / self.aspect[:, None, None], torch.ones_like(x * tan)], -1)
        return torch.nn.functional.normalize(torch.einsum("bij,bhwj->bhwi", self.env_from_camera, rays), dim=-1)


def map_directions(rows: int, device: torch.device | str = "cpu") -> Tensor:
    """(rows, 2 rows, 3) unit directions of a map's pixels."""
    v, u = torch.meshgrid((_centres(rows) + 1) / 2, (_centres(2 * rows) + 1) / 2, indexing="ij")
    return Environment(torch.zeros(1, 2, 3)).directions(torch.stack([u, v], -1)).to(device)


def photographed(radiance: Tensor, frame: Frame, height: int, width: int) -> Tensor:
    """(B, height, width, 3) radiance that the cameras see of one (H, 2H, 3) map: four by four rays a pixel."""
    uv = Environment(radiance[:1, :2]).uv(frame.rays(height * SUB, width * SUB))
    rays = bilinear(radiance, uv)
    return rays.unflatten(1, (height, SUB)).unflatten(3, (width, SUB)).mean((2, 4))


def warped(picture: Tensor, frame: Frame, rows: int) -> tuple[Tensor, Tensor]:
    """(B, h, w, C) pictures, in quantities that may be averaged, laid on maps (B, rows, 2 rows, C): means over what of
    each pixel is in the picture, 0 where nothing is; and that share, (B, rows, 2 rows).
    """
    where, inside = frame.place(map_directions(rows * SUB, picture.device))
    picture = picture.permute(0, 3, 1, 2)
    # Pixels as large as the map's finest directions are apart, so that none is passed over.
    across = (2 * (frame.fov / 2).tan() * rows * SUB / math.pi).amax()
    width = max(4, math.ceil(float(across)))
    if width < picture.shape[3]:
        height = max(4, round(width * picture.shape[2] / picture.shape[3]))
        picture = interpolate(picture, (height, width), mode="bilinear", antialias=True)
    found = torch.nn.functional.grid_sample(picture, where, padding_mode="border", align_corners=False)
    return seen_means(found.permute(0, 2, 3, 1), inside.to(picture.dtype), SUB)


def seen_means(values: Tensor, weight: Tensor, by: int) -> tuple[Tensor, Tensor]:
    """Means of (B, H, W, C) over blocks of `by` each way, weighted (B, H, W), 0 without weight; and of weights."""

    def blocks(x: Tensor) -> Tensor:
        return x.unflatten(1, (-1, by)).unflatten(3, (-1, by)).mean((2, 4))

    share = blocks(weight[..., None])
    return blocks(values * weight[..., None]) / share.clamp_min(1e-6), share[..., 0]


def condition(photo: Tensor, seen: Tensor) -> Tensor:
    """(B, 5, H, W) maps named in `CONDITION`, of a photograph on the map (B, H, W, 3), linear, 0 to 1, which is
    white, and the share of each pixel that it shows (B, H, W).

    The photograph is sRGB-encoded, -1 to 1, and 0 where it shows nothing; up is the cosine to the zenith.
    """
    batch, rows = photo.shape[:2]
    shown = (linear_to_srgb(photo.clamp(0, 1)) * 2 - 1) * (seen > 0)[..., None]
    up = map_directions(rows, photo.device)[..., 1:2].to(photo).expand(batch, -1, -1, -1)
    return torch.cat([shown, seen[..., None], up], -1).permute(0, 3, 1, 2)


def resized_map(radiance: Tensor, rows: int) -> Tensor:
    """(rows, 2 rows, 3) of a (H, 2H, 3) map: means where there is more, cubic in the logarithm where there is less, and
    around in either case.
    """
    height = radiance.shape[0]
    if rows <= height:
        return averaged(radiance, rows, 2 * rows)
    edge = 2
    log = pad(torch.log1p(radiance).permute(2, 0, 1)[None], (edge, edge, 0, 0), mode="circular")
    scale = rows / height
    big = interpolate(log, scale_factor=scale, mode="bicubic", align_corners=False)
    cut = round(edge * scale)
    return torch.expm1(big[0, :, :rows, cut : cut + 2 * rows].clamp_min(0)).permute(1, 2, 0)


def _centres(count: int) -> Tensor:
    """-1 to 1."""
    return (torch.arange(count) + 0.5) * (2 / count) - 1
