"""What any relighter's result can be mended with afterwards: detail and colours of the photograph it was made from.

All colour is linear Rec.709 unless said otherwise.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from relight.diffusion.pictures.geometry import Geometry, resized_inside
from relight.resize import resized, within
from relight.shading.color import luminance

FLOOR = 0.01
"""Light that is added before ratios are taken, so that dark noise isn't multiplied by large numbers."""
MOST = 12.0
"""By which a pixel is made brighter or darker, at most."""
REACH = 2
"""Small pixels around, whose values a large pixel mixes."""
SAME_NORMAL, SAME_DEPTH = 0.25, 0.08
"""Differences, of unit normals and of closeness, by which pixels are likely of other surfaces."""


def detailed(source: Tensor, relit: Tensor, geometry: Geometry, size: int, strength: float = 1.0) -> Tensor:
    """(H, W, 3): the light of `relit`, as seen at `size` pixels along the longer side, on the detail of `source`.

    source: (H, W, 3).  relit: (H, W, 3) of the same picture, or smaller.  geometry: of (H, W); light doesn't run over
    its edges.  strength: 0 keeps `relit`, only larger; 1 takes all detail from `source`.
    At a low resolution, relit over source is the change of light, and what is finer is material (the quotient image of
    Riklin-Raviv and Shashua, PAMI 2001); it is brought to full size by joint bilateral upsampling (Kopf et al.,
    SIGGRAPH 2007).
    """
    height, width = geometry.size
    small = geometry.resized(*within((height, width), size))
    before = resized_inside(source, geometry.mask, small.size)
    after = relit if relit.shape[:2] == small.size else _shrunk(relit, geometry, small.size)
    ratio = ((after + FLOOR) / (before + FLOOR)).clamp(1 / MOST, MOST).log()
    factor = upsampled(ratio, small, geometry).exp()
    full = ((source + FLOOR) * factor - FLOOR).clamp_min(0)
    if strength >= 1:
        return full
    plain = relit if relit.shape[:2] == (height, width) else upsampled(after, small, geometry)
    return torch.lerp(plain.clamp_min(0), full, strength)


def _shrunk(relit: Tensor, geometry: Geometry, size: tuple[int, int]) -> Tensor:
    same = relit.shape[:2] == geometry.size
    return resized_inside(relit, geometry.mask, size) if same else resized(relit, *size)


def upsampled(values: Tensor, small: Geometry, large: Geometry) -> Tensor:
    """(H, W, C) of (h, w, C) values: means of those near and of the same surface, by normals and depth."""
    height, width = large.size
    rows, columns = small.size
    normal, depth = large.normal_in_camera, _closeness(large, large)
    guide = torch.cat([small.normal_in_camera, _closeness(small, large)[..., None], small.mask[..., None].float()], -1)
    stacked = torch.cat([values, guide], -1).permute(2, 0, 1)[None]
    stacked = pad(stacked, [REACH] * 4, mode="replicate")[0].permute(1, 2, 0)
    y = (torch.arange(height) + 0.5) * rows / height - 0.5
    x = (torch.arange(width) + 0.5) * columns / width - 0.5
    top, left = y.round().long().clamp(0, rows - 1), x.round().long().clamp(0, columns - 1)
    count = values.shape[-1]
    total, weights = values.new_zeros(height, width, count), values.new_zeros(height, width, 1)
    for i in range(-REACH, REACH + 1):
        for j in range(-REACH, REACH + 1):
            near = stacked[top + i + REACH][:, left + j + REACH]
            apart = ((top + i - y) ** 2)[:, None] + ((left + j - x) ** 2)[None]
            turned = (near[..., count : count + 3] - normal).square().sum(-1) / SAME_NORMAL**2
            deeper = ((near[..., count + 3] - depth) / SAME_DEPTH) ** 2
            weight = torch.exp(-0.5 * (apart / 0.7 + turned + deeper)) + 1e-6 * torch.exp(-0.5 * apart)
            weight = weight * torch.where((near[..., -1] > 0) == large.mask, 1.0, 1e-4)
            total += weight[..., None] * near[..., :count]
            weights += weight[..., None]
    return total / weights


def _closeness(geometry: Geometry, scale: Geometry) -> Tensor:
    """(H, W) inverse depth, 0 to 1 over the mask of `scale`."""
    inverse = 1 / geometry.depth.clamp_min(1e-6)
    range_ = 1 / scale.depth[scale.mask].clamp_min(1e-6) if bool(scale.mask.any()) else inverse
    return ((inverse - range_.min()) / (range_.max() - range_.min()).clamp_min(1e-6)).clamp(0, 1)


def colours_kept(source: Tensor, relit: Tensor, mask: Tensor, strength: float = 1.0) -> Tensor:
    """(H, W, 3) of the brightness of `relit` and the colours of `source`, tinted as a whole as the light tints them.

    mask: (H, W) bool, where the tint is measured.  strength: 0 to 1.
    Chromaticities are multiplied by the one colour, of median over the mask, that `relit` differs by: warm light stays
    warm, while hues that a model made up go.
    """
    bright = luminance(relit)[..., None]
    own, new = (c / luminance(c)[..., None].clamp_min(FLOOR) for c in (source, relit))
    told = mask & (luminance(source) > 0.02) & (luminance(relit) > 0.02) & (source.amax(-1) < 0.98)
    if not bool(told.any()):
        return relit
    tint = (new[told] + FLOOR) / (own[told] + FLOOR)
    kept = own * tint.median(0).values
    kept = kept / luminance(kept)[..., None].clamp_min(1e-4)
    # Of what is nearly black the colour isn't known.
    sure = (luminance(source)[..., None] / 0.02).clamp(0, 1) * strength
    return torch.lerp(relit, bright * kept, sure)


def blended(picture: Tensor, background: Tensor, mask: Tensor) -> Tensor:
    """(H, W, 3) sRGB: the subject in front of a picture of any size, cut to fill the frame; soft by a pixel."""
    alpha = mask.float()[None, None]
    alpha = interpolate(
        torch.nn.functional.avg_pool2d(pad(alpha, (1, 1, 1, 1), mode="replicate"), 3, 1), mask.shape, mode="nearest"
    )[0, 0, ..., None]
    return torch.lerp(filling(background, *mask.shape), picture, alpha)


def filling(picture: Tensor, height: int, width: int) -> Tensor:
    """(height, width, 3) of a picture of any size, cut to fill the frame."""
    scale = max(height / picture.shape[0], width / picture.shape[1])
    size = (max(height, round(picture.shape[0] * scale)), max(width, round(picture.shape[1] * scale)))
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return resized(picture, *size)[top : top + height, left : left + width]
