"""Texture lookup: bilinear and trilinear, wrapped, differentiable in the texture and in the coordinates."""

from __future__ import annotations

# pyright: reportCallIssue=false
# Kernels take unpacked lists of arrays, whose length it can't know.
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from relight.errors import ShapeError
from relight.geometry.material import Texture

_WRAPS = {"repeat": 0, "clamp": 1, "mirror": 2}
_FAR = 1e6


@dataclass(frozen=True)
class Pyramid:
    """A picture and its halves.  texels: (T, C), all levels one after another.  levels: first texel, height, width."""

    texels: Tensor
    levels: tuple[tuple[int, int, int], ...]

    @staticmethod
    def of(image: Tensor, mipmaps: bool = True) -> Pyramid:
        """image: (H, W, C).  Each level is the box average of the one before, down to 1x1.  Differentiable."""
        if image.ndim != 3 or 0 in image.shape:
            raise ShapeError.expected("image", "(H, W, C), none of them 0", tuple(image.shape))
        height, width, channels = image.shape
        planes = image.permute(2, 0, 1)[None]
        texels, levels, first = [image.reshape(-1, channels)], [(0, height, width)], height * width
        while mipmaps and (height > 1 or width > 1):
            height, width = max(height // 2, 1), max(width // 2, 1)
            planes = adaptive_avg_pool2d(planes, (height, width))
            texels.append(planes[0].permute(1, 2, 0).reshape(-1, channels))
            levels.append((first, height, width))
            first += height * width
        return Pyramid(torch.cat(texels) if len(texels) > 1 else texels[0], tuple(levels))


def sample(texture: Texture, uv: Tensor, uv_dx: Tensor | None = None, uv_dy: Tensor | None = None) -> Tensor:
    """(..., 2) coordinates of the mesh to (..., C) values; the texture's own transform is applied here.

    uv_dx, uv_dy: (..., 2) change of uv to the next pixel right and down; they choose the mip level.  None: full
    resolution.  Differentiable in `texture.image` and uv, not in the choice of level.
    """
    coordinates = texture.coordinates(uv)
    if texture.nearest:
        return lookup(_pyramid(texture, False), _snapped(coordinates, texture), None, texture.wrap)
    lod = None
    if uv_dx is not None and uv_dy is not None:
        lod = level_of_detail(texture.derivatives(uv_dx), texture.derivatives(uv_dy), texture.image.shape)
    return lookup(_pyramid(texture, lod is not None), coordinates, lod, texture.wrap)


@torch.no_grad()
def level_of_detail(uv_dx: Tensor, uv_dy: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """(...,) log2 of the longer side of a pixel's footprint in texels of an image (H, W, ...), OpenGL's rule; below 0
    where the picture is magnified, -inf without derivatives."""
    size = uv_dx.new_tensor([shape[1], shape[0]])
    longest = torch.maximum((uv_dx * size).square().sum(-1), (uv_dy * size).square().sum(-1))
    return 0.5 * torch.log2(longest)


def lookup(pyramid: Pyramid, uv: Tensor, lod: Tensor | None, wrap: tuple[str, str]) -> Tensor:
    """(..., 2) coordinates of the picture to (..., C).  lod: (...,) level, fractional, clamped; None for level 0.

    Differentiable in texels and uv, not in lod.  Coordinates that are NaN or infinite count as 0.
    """
    flat = uv.reshape(-1, 2)
    level = flat.new_zeros(len(flat)) if lod is None else lod.detach().reshape(-1)
    if flat.device.type == "cpu" and flat.dtype == pyramid.texels.dtype:
        values: Tensor = _Lookup.apply(pyramid.texels, flat, level, pyramid.levels, wrap)  # type: ignore[assignment]
    else:
        values = lookup_torch(pyramid, flat, level, wrap)
    return values.view(*uv.shape[:-1], pyramid.texels.shape[1])


def lookup_torch(pyramid: Pyramid, uv: Tensor, lod: Tensor, wrap: tuple[str, str]) -> Tensor:
    """The twin of the kernels, on any device.  uv: (P, 2).  lod: (P,).  Returns (P, C)."""
    last = len(pyramid.levels) - 1
    lod = lod.double().nan_to_num(0.0).clamp(0, last)
    fine = lod.floor()
    levels = torch.tensor(pyramid.levels, device=uv.device)
    total = torch.zeros((), dtype=torch.float64, device=uv.device)
    for level, share in ((fine, 1 - (lod - fine)), ((fine + 1).clamp_max(last), lod - fine)):
        first, height, width = levels[level.long()].unbind(-1)
        x0, x1, fx = _axis(uv[:, 0].double(), width, wrap[0])
        y0, y1, fy = _axis(uv[:, 1].double(), height, wrap[1])
        for y, wy in ((y0, 1 - fy), (y1, fy)):
            for x, wx in ((x0, 1 - fx), (x1, fx)):
                texel = pyramid.texels.index_select(0, first + y * width + x)
                total = total + texel * (share * wx * wy)[:, None]
    return total.to(pyramid.texels.dtype)


def _axis(u: Tensor, size: Tensor, wrap: str) -> tuple[Tensor, Tensor, Tensor]:
    if wrap == "clamp":
        u = u.nan_to_num(0.0, _FAR, -_FAR).clamp(-_FAR, _FAR)
    else:
        period = 1.0 if wrap == "repeat" else 2.0
        u = (u - period * torch.floor(u.detach() / period)).nan_to_num(0.0)
    x = u * size - 0.5
    i = x.detach().floor()
    index = [i.long(), i.long() + 1]
    if wrap == "clamp":
        index = [torch.minimum(k.clamp_min(0), size - 1) for k in index]
    elif wrap == "repeat":
        index = [k % size for k in index]
    else:
        index = [k % (2 * size) for k in index]
        index = [torch.where(k >= size, 2 * size - 1 - k, k) for k in index]
    return index[0], index[1], x - i


def _pyramid(texture: Texture, mipmaps: bool) -> Pyramid:
    """Built once for a picture that is not being optimised and has not been changed in place since."""
    image = texture.image
    if image.requires_grad:
        return Pyramid.of(image, mipmaps)
    if not mipmaps:
        return Pyramid.of(image, False)
    kept = texture.__dict__.get("_pyramid")
    if kept is None or kept[0] != image._version:
        kept = (image._version, Pyramid.of(image))
        texture.__dict__["_pyramid"] = kept
    return kept[1]


def _snapped(uv: Tensor, texture: Texture) -> Tensor:
    """To the centre of the texel they fall in, where bilinear lookup returns that texel."""
    size = uv.new_tensor([texture.image.shape[1], texture.image.shape[0]])
    return (torch.floor(uv * size) + 0.5) / size


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx, texels, uv, lod, levels, wrap):
        from relight.render.kernels import texture as kernels

        ctx.save_for_backward(texels, uv, lod)
        ctx.table = np.array(levels, np.int64)
        ctx.wrap = tuple(_WRAPS[w] for w in wrap)
        out = torch.empty(len(uv), texels.shape[1], dtype=texels.dtype)
        kernels.forward(*_arrays(texels), ctx.table, *_arrays(uv, lod), *ctx.wrap, torch.get_num_threads(), out.numpy())
        return out

    @staticmethod
    def backward(ctx, *gradients):
        from relight.render.kernels import texture as kernels

        texels, uv, lod = ctx.saved_tensors
        coordinates = (*_arrays(uv, lod), *ctx.wrap)
        gradient = gradients[0].contiguous().numpy()
        to_texels = to_uv = None
        if ctx.needs_input_grad[0]:
            to_texels = torch.zeros(texels.shape, dtype=texels.dtype)
            kernels.texels_backward(ctx.table, *coordinates, gradient, torch.get_num_threads(), to_texels.numpy())
        if ctx.needs_input_grad[1]:
            to_uv = torch.empty(uv.shape, dtype=uv.dtype)
            arguments = (gradient, torch.get_num_threads(), to_uv.numpy())
            kernels.uv_backward(*_arrays(texels), ctx.table, *coordinates, *arguments)
        return to_texels, to_uv, None, None, None


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [t.detach().contiguous().numpy() for t in tensors]
