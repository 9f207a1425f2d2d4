"""Pictures at another size."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import interpolate


def within(size: tuple[int, int], longest: float, least: int = 2) -> tuple[int, int]:
    """Two sides, either first, in the same ratio, so that the longer is at most `longest`; never larger than they were,
    except that each is at least `least`."""
    scale = min(1.0, longest / max(size))
    first, second = size
    return max(least, round(first * scale)), max(least, round(second * scale))


def averaged(picture: Tensor, height: int, width: int) -> Tensor:
    """(height, width, C) of (H, W, C): means over the area of each new pixel; differentiable."""
    planes = interpolate(picture.permute(2, 0, 1)[None], (height, width), mode="area")
    return planes[0].permute(1, 2, 0).contiguous()


def resized(picture: Tensor, height: int, width: int) -> Tensor:
    """(height, width, C) of (H, W, C): `averaged` where both sides get smaller, else bilinear; differentiable."""
    if height <= picture.shape[0] and width <= picture.shape[1]:
        return averaged(picture, height, width)
    planes = interpolate(picture.permute(2, 0, 1)[None], (height, width), mode="bilinear", antialias=True)
    return planes[0].permute(1, 2, 0).contiguous()


def bicubic(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, *size) of (B, C, H, W), antialiased.  Overshoots at edges: clamp it where that means nothing."""
    if tuple(planes.shape[2:]) == tuple(size):
        return planes
    return interpolate(planes, size, mode="bicubic", antialias=True)
