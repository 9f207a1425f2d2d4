"""Pictures as CLIP's vision encoder wants them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
SIDE = 224


@torch.no_grad()
def look(encoder: Any, picture: Tensor, whole: bool = False) -> Tensor:
    """(B, 1, D) of (B, 3, H, W), -1 to 1, by a `CLIPVisionModelWithProjection`.

    whole: stretched to a square, corner on corner, as Zero-1-to-3 does it; else scaled and cut as CLIP was trained.
    """
    if whole:
        square = interpolate(picture, (SIDE, SIDE), mode="bicubic", align_corners=True)
    else:
        scale = SIDE / min(picture.shape[-2:])
        size = [max(SIDE, round(n * scale)) for n in picture.shape[-2:]]
        square = interpolate(picture, size, mode="bicubic", antialias=True).clamp(-1, 1)
        top, left = ((n - SIDE) // 2 for n in size)
        square = square[..., top : top + SIDE, left : left + SIDE]
    mean, deviation = (square.new_tensor(v).view(1, 3, 1, 1) for v in (MEAN, DEVIATION))
    weight = next(encoder.parameters())
    encoder.to(picture.device)
    return encoder(((square / 2 + 0.5 - mean) / deviation).to(weight.dtype)).image_embeds[:, None].to(picture.dtype)
