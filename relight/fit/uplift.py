"""What pictures say of pixels, said of the Gaussians behind them.

Training-free: a Gaussian gets the mean of the pixels it shows in, each weighted by its share of the pixel,

    f_i = sum_v,p w_i(v, p) F_v(p) / sum_v,p w_i(v, p),        w_i = alpha_i T_i

(Marrie et al., LUDVIG, ICCV 2025; Cheng et al., Occam's LGS, BMVC 2025).  Both sums are vector-Jacobian products of
rendering: with a loss sum_p render(c)(p) . F(p), the gradient in c_i is sum_p w_i(p) F(p).  So any backend does it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, interpolate

from relight.errors import ShapeError
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.render.protocol import RasterOptions, SplatRasterizer
from relight.resize import averaged

BLOCK = 64
"""Channels rendered together: enough that projecting and sorting cost little beside them."""
SEEN = 1e-3
"""Pixels, in all pictures together, that a Gaussian must cover for its mean to mean something."""


@dataclass(frozen=True)
class Seen:
    """A picture of values, and how far each pixel counts.

    values: (h, w, C), at any size; enlarged bilinearly to the camera's.  weight: (H, W) of the camera's size, 0 to 1;
    None for everywhere.
    """

    camera: Camera
    values: Tensor
    weight: Tensor | None = None

    def enlarged(self, values: Tensor) -> Tensor:
        """(H, W, c): some channels at the camera's size."""
        size = (self.camera.height, self.camera.width)
        if tuple(values.shape[:2]) == size:
            return values
        return interpolate(values.permute(2, 0, 1)[None], size, mode="bilinear", align_corners=False)[0].permute(
            1, 2, 0
        )


def gathered(
    rasterizer: SplatRasterizer, gaussians: Gaussians, camera: Camera, values: Tensor, options: RasterOptions
) -> Tensor:
    """(N, C): sum over pixels of weight x value, for (H, W, C) values; float32."""
    if tuple(values.shape[:2]) != (camera.height, camera.width):
        raise ShapeError.expected("values", f"({camera.height}, {camera.width}, C)", tuple(values.shape))
    features = torch.zeros(len(gaussians), values.shape[2], device=gaussians.means.device, requires_grad=True)
    with torch.enable_grad():
        image = rasterizer.rasterize(gaussians, camera, features, options)
        (sums,) = torch.autograd.grad(image.features, features, values.contiguous())
    return sums


def gathered_slowly(
    rasterizer: SplatRasterizer, gaussians: Gaussians, camera: Camera, values: Tensor, options: RasterOptions
) -> Tensor:
    """What `gathered` returns, by its definition: every Gaussian's weight in every pixel is a picture of its own."""
    one_each = torch.eye(len(gaussians), device=gaussians.means.device)
    weights = rasterizer.rasterize(gaussians, camera, one_each, options).features
    return torch.einsum("hwn,hwc->nc", weights, values)


def uplift(
    rasterizer: SplatRasterizer,
    gaussians: Gaussians,
    pictures: Iterable[Seen],
    *,
    options: RasterOptions = RasterOptions(),
    block: int = BLOCK,
    gather: Callable[..., Tensor] = gathered,
) -> tuple[Tensor, Tensor]:
    """(N, C) means of what the pictures show where each Gaussian is, and (N,) the pixels that it covers in all of them.

    Zero where it covers less than `SEEN`.  block: channels rendered at once.  Nothing is differentiated.
    """
    gaussians = gaussians.detach()
    sums: list[Tensor] = []
    covered = torch.zeros(len(gaussians), device=gaussians.means.device)
    for picture in pictures:
        camera, channels = picture.camera, picture.values.shape[2]
        weight = torch.ones(camera.height, camera.width) if picture.weight is None else picture.weight
        weight = weight.to(covered)[..., None]
        if not sums:
            sums = [torch.zeros(len(gaussians), n).to(covered) for n in _blocks(channels, block)]
        if sum(s.shape[1] for s in sums) != channels:
            raise ShapeError.expected("values", f"(h, w, {sum(s.shape[1] for s in sums)})", tuple(picture.values.shape))
        start = 0
        for i, total in enumerate(sums):
            part = picture.enlarged(picture.values[..., start : start + total.shape[1]].to(covered)) * weight
            # The weight is one more channel of the first block.
            found = gather(rasterizer, gaussians, camera, torch.cat([part, weight], 2) if i == 0 else part, options)
            total += found[:, : total.shape[1]]
            if i == 0:
                covered += found[:, -1]
            start += total.shape[1]
    if not sums:
        raise ShapeError("uplift: expected at least one picture, found none")
    return torch.where(covered[:, None] > SEEN, torch.cat(sums, 1) / covered.clamp_min(SEEN)[:, None], 0.0), covered


def _blocks(channels: int, block: int) -> list[int]:
    count = math.ceil(channels / block)
    return [channels // count + (i < channels % count) for i in range(count)]


def agreement(found: Tensor, target: Tensor, loss: str) -> Tensor:
    """(...,) how far (..., C) features are from the target: 1 - cosine, or the mean absolute difference ("l1")."""
    if loss == "cosine":
        return 1 - cosine_similarity(found, target, dim=-1)
    return (found - target).abs().mean(-1)


@dataclass
class Refinement:
    """Features, and a linear map from them to what the teacher gives, fitted to pictures on frozen geometry.

    The field of Feature 3DGS (Zhou et al., CVPR 2024): few channels are blended and a 1x1 convolution widens the
    picture.  `feature`: (N, D).  `decoder`: (D, C) and `offset` (C,), which starts as principal components.
    """

    rasterizer: SplatRasterizer
    gaussians: Gaussians
    feature: Tensor
    decoder: Tensor
    offset: Tensor
    options: RasterOptions = RasterOptions()
    loss: str = "cosine"
    rate: float = 1e-2

    def __post_init__(self) -> None:
        self.gaussians = self.gaussians.detach()
        self.feature, self.decoder = (t.detach().clone().requires_grad_() for t in (self.feature, self.decoder))
        scale = float(self.feature.detach().std())
        groups = [
            {"params": [self.feature], "lr": self.rate * scale},
            {"params": [self.decoder], "lr": 0.1 * self.rate},
        ]
        self.adam = torch.optim.Adam(groups)

    def step(self, pictures: Sequence[Seen]) -> float:
        """One step on these pictures; the loss before it, a mean over their pixels."""
        total, count = torch.zeros(()), 0.0
        for picture in pictures:
            height, width = picture.values.shape[:2]
            image = self.rasterizer.rasterize(self.gaussians, picture.camera, self.feature, self.options)
            # At the teacher's resolution, as in Feature 3DGS: what it can't resolve is not asked for.
            small = averaged(torch.cat([image.features, image.alpha[..., None]], 2), height, width)
            alpha = small[..., -1]
            found = small[..., :-1] / alpha.clamp_min(1e-3)[..., None] @ self.decoder + self.offset
            weight = alpha.detach()
            if picture.weight is not None:
                weight = weight * averaged(picture.weight[..., None], height, width)[..., 0]
            total = total + (agreement(found, picture.values, self.loss) * weight).sum()
            count += float(weight.sum())
        mean = total / max(count, 1e-6)
        self.adam.zero_grad()
        mean.backward()
        self.adam.step()
        return float(mean.detach())
