"""A photographer's studio for when no environment is given: two softboxes, a rim light and a pale room."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from relight.shading.environment import Environment

# Azimuth and elevation of the middle, half width and half height, all in degrees; radiance.
_BOXES = (
    (55.0, 40.0, 24.0, 20.0, 7.0),  # key, to the right of a camera on +z
    (-60.0, 25.0, 20.0, 30.0, 2.0),  # fill
    (160.0, 50.0, 40.0, 10.0, 4.0),  # rim
)
_EDGE = math.radians(3.0)
_FLOOR, _WALL, _CEILING = 0.18, 0.25, 0.45


def studio(height: int = 256) -> Environment:
    """An environment (height, 2 height, 3), grey, +y up, key light to the right of a camera that looks along -z.

    A matt white surface that faces the camera shows about 1.
    """
    blank = Environment(torch.zeros(height, 2 * height, 3))
    v, u = torch.meshgrid(
        (torch.arange(height) + 0.5) / height, (torch.arange(2 * height) + 0.5) / (2 * height), indexing="ij"
    )
    x, y, z = blank.directions(torch.stack([u, v], -1)).unbind(-1)
    azimuth, elevation = torch.atan2(x, z), torch.asin(y.clamp(-1, 1))
    room = torch.where(y < 0, torch.lerp(y.new_tensor(_WALL), y.new_tensor(_FLOOR), -y), _WALL + (_CEILING - _WALL) * y)
    for middle, up, half_width, half_height, radiance in _BOXES:
        # Widths shrink towards the poles, so that a box covers the same angle at every elevation.
        across = torch.remainder(azimuth - math.radians(middle) + math.pi, 2 * math.pi) - math.pi
        across = across * math.cos(math.radians(up))
        inside = _soft(across, half_width) * _soft(elevation - math.radians(up), half_height)
        room = room + inside * radiance
    return Environment(room[..., None].expand(-1, -1, 3).contiguous())


def _soft(angle: Tensor, half_degrees: float) -> Tensor:
    """1 within, 0 outside, smooth over the edge."""
    x = ((math.radians(half_degrees) - angle.abs()) / _EDGE * 0.5 + 0.5).clamp(0, 1)
    return x * x * (3 - 2 * x)
