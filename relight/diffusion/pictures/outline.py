"""A guess at the shape of what a picture shows, with nothing but the picture: for when nobody knows better.

A subject with an outline is blown up like a balloon: right for balls, fair for what is round, and flat things come out
round.  A picture without one is taken for a floor that bends up into a backdrop.  Fine relief is read off brightness,
dark being deep (Langer and Zucker, JOSA A 1994), which also takes painted patterns for relief, a little.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, pad

from relight.diffusion.pictures.geometry import Geometry, from_maps, level_camera
from relight.resize import resized, within
from relight.vectors import unit

GRID = 128
"""Most pixels a side at which shapes are worked out."""
RELIEF = 0.25
"""Slope of relief whose brightness changes by a factor of e over its own width."""
PLAIN = 0.05
"""How much a plain background's sRGB values may differ from its median."""
ROUNDS = 300
"""Of conjugate gradients, at most."""


def estimated(picture: Tensor, mask: Tensor | None = None, relief: float = RELIEF) -> Geometry:
    """Of (H, W, 3), sRGB-encoded.  mask: (H, W) bool, the subject; None: found if the background is plain, else all."""
    height, width = picture.shape[:2]
    if mask is None:
        mask = subject(picture)
    small = within((height, width), GRID, 4)
    inside = resized(mask[..., None].float(), *small)[..., 0] >= 0.5
    # A border of one pixel that isn't the subject is a frame, not an outline.
    normal = _backdrop(small) if float(inside[1:-1, 1:-1].float().mean()) > 0.98 else _inflated(inside)
    normal = unit(normal + relief * relief_of(resized(picture, *small), inside))
    whole = unit(resized(normal, height, width))
    camera = level_camera(*small)
    depth = resized(from_maps(inside, normal=normal, camera=camera).depth[..., None], height, width)[..., 0]
    return from_maps(mask, normal=whole, depth=depth, camera=level_camera(height, width))


def subject(picture: Tensor) -> Tensor:
    """(H, W) bool: what stands out from a plain background; everything where the background isn't plain."""
    edge = max(1, min(picture.shape[:2]) // 50)
    rim = torch.ones(picture.shape[:2], dtype=torch.bool)
    rim[edge:-edge, edge:-edge] = False
    tone = picture[rim].median(0).values
    away = (picture - tone).abs().amax(-1)
    if float((away[rim] < PLAIN).float().mean()) < 0.9:
        return torch.ones_like(rim)
    found = (away > PLAIN).float()
    # Holes and specks of less than about a hundredth of the picture go.
    reach = max(1, min(picture.shape[:2]) // 100)
    share = avg_pool2d(pad(found[None, None], [reach] * 4, mode="reflect"), 2 * reach + 1, 1)[0, 0]
    found = share > 0.5
    return found if float(found.float().mean()) > 0.01 else torch.ones_like(rim)


def _inflated(mask: Tensor) -> Tensor:
    """(H, W, 3) viewer's normals of the height 2 sqrt(u) where u's Laplacian is -1 and u is 0 outside: of a disc it is
    a ball.  Beyond the picture's edges the subject goes on."""
    u = _poisson(mask)
    around = pad(u[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    dx, dy = (around[1:-1, 2:] - around[1:-1, :-2]) / 2, (around[2:, 1:-1] - around[:-2, 1:-1]) / 2
    out = torch.stack([-2 * dx, 2 * dy, 2 * u.clamp_min(0).sqrt()], -1)
    return unit(torch.where(mask[..., None], out, out.new_tensor([0.0, 0.0, 1.0])))


def _poisson(mask: Tensor) -> Tensor:
    inside = mask.float()
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]

    def negative_laplacian(u: Tensor) -> Tensor:
        return -conv2d(pad((u * inside)[None, None], (1, 1, 1, 1), mode="replicate"), kernel)[0, 0] * inside

    u, left = torch.zeros_like(inside), inside.clone()
    way, size = left.clone(), float((left * left).sum())
    begun = size
    for _ in range(ROUNDS):
        if size <= 1e-8 * begun:
            break
        turned = negative_laplacian(way)
        step = size / max(float((way * turned).sum()), 1e-12)
        u, left = u + step * way, left - step * turned
        before, size = size, float((left * left).sum())
        way = left + size / before * way
    return u


def _backdrop(size: tuple[int, int]) -> Tensor:
    """(H, W, 3) viewer's normals of a floor in the lowest part that bends up into a wall."""
    down = torch.linspace(0, 1, size[0])[:, None].expand(size)
    lean = ((down - 0.45) / 0.55).clamp(0, 1)
    angle = 1.2 * lean * lean * (3 - 2 * lean)
    return torch.stack([torch.zeros_like(angle), angle.sin(), angle.cos()], -1)


def relief_of(picture: Tensor, mask: Tensor) -> Tensor:
    """(H, W, 3) what relief adds to viewer's normals, of slope 1: of the logarithm of brightness without its slow
    changes.  picture: (H, W, 3) sRGB-encoded.  mask: (H, W) bool.  Differentiable."""
    bright = picture.mean(-1).clamp_min(0.02).log()

    def mean(values: Tensor, reach: int) -> Tensor:
        filled = pad(values[None, None], [reach] * 4, mode="replicate")
        return avg_pool2d(filled, 2 * reach + 1, 1)[0, 0]

    inside, wide = mask.float(), 6
    slow = mean(bright * inside, wide) / mean(inside, wide).clamp_min(1e-3)
    fine = mean(torch.where(mask, bright - slow, 0.0), 1)
    around = pad(fine[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    dx, dy = around[1:-1, 2:] - around[1:-1, :-2], around[2:, 1:-1] - around[:-2, 1:-1]
    return torch.stack([-dx, dy, torch.zeros_like(dx)], -1).clamp(-1, 1) * inside[..., None]
