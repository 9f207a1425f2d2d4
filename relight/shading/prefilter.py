"""Environment maps blurred by kernels that depend only on the angle: what glossy and diffuse surfaces see of them.

On an equirectangular map such a blur is, for each pair of rows, a convolution around the axis: a product of Fourier
coefficients.  So every texel counts, weighted by its solid angle, and a sun of one texel is neither missed nor counted
twice, as importance samples would.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from relight.shading.microfacet import alpha_of, ggx_d

LARGEST = 128
"""Rows of the finest blurred map."""
SMALLEST = 32
"""Rows of the coarsest."""


def blurred(radiance: Tensor, roughness: float | None) -> Tensor:
    """(H, W, 3) radiance to (h, 2h, 3), seen by GGX lobes whose eye, normal and mirror direction coincide (Karis 2013).

    roughness: perceptual; None for the clamped cosine, which gives irradiance / pi.  h is as large as blur and map
    need, SMALLEST to LARGEST.  Linear and differentiable in the radiance.
    """
    alpha = 1.0 if roughness is None else float(alpha_of(torch.tensor(roughness)))
    # Texels of about a fifth of the lobe's width, which is about 4 alpha.
    need = math.pi * 5 / (4 * alpha)
    rows = min(LARGEST, max(64, 2 ** round(math.log2(need))))
    # Small maps, as fits learn, are blurred anew in every step, and have little that finer rows would keep.
    own = max(SMALLEST, 2 ** math.ceil(math.log2(radiance.shape[0])))
    rows = min(rows, own if need < 1.5 * own else 2 * own)
    operator = _operator(rows, roughness).to(radiance)
    waves = torch.fft.rfft(_resized(radiance, rows), dim=1).transpose(0, 1)
    # The kernel is even, so its coefficients are real: real and imaginary parts are six columns of one product.
    product = operator @ torch.cat([waves.real, waves.imag], -1)
    return torch.fft.irfft(torch.complex(product[..., :3], product[..., 3:]).transpose(0, 1), n=2 * rows, dim=1)


def _resized(radiance: Tensor, rows: int) -> Tensor:
    """(H, W, 3) to (rows, 2 rows, 3): averaged over solid angle where there is more, linear where there is less."""
    image = radiance.permute(2, 0, 1)[None]
    height, width = (max(have, need) for have, need in zip(radiance.shape[:2], (rows, 2 * rows), strict=True))
    if (height, width) != tuple(radiance.shape[:2]):
        # One column more on both sides, so that interpolation goes around.
        scale = math.ceil(width / radiance.shape[1])
        around = functional.pad(image, (1, 1, 0, 0), mode="circular")
        size = (height, around.shape[-1] * scale)
        image = functional.interpolate(around, size, mode="bilinear", align_corners=False)[..., scale:-scale]
    solid = _solid_angles(image.shape[-2]).to(radiance)[:, None].expand(image.shape[-2:])[None]
    mean = functional.adaptive_avg_pool2d(image * solid, (rows, 2 * rows))
    return (mean / functional.adaptive_avg_pool2d(solid, (rows, 2 * rows)))[0].permute(1, 2, 0)


def _solid_angles(rows: int) -> Tensor:
    """(rows,) of a texel in each row of a map, times a constant."""
    edges = torch.linspace(0, math.pi, rows + 1, dtype=torch.float64).cos()
    return edges[:-1] - edges[1:]


@lru_cache(maxsize=16)
def _operator(rows: int, roughness: float | None) -> Tensor:
    """(rows + 1, rows, rows) float32: for each Fourier order, the weight of source rows in each row of the result."""
    theta = (torch.arange(rows) + 0.5) * (math.pi / rows)
    solid = _solid_angles(rows).float()
    turn = (torch.arange(2 * rows) * (math.pi / rows)).cos()
    orders = []
    for t in theta:  # one row of the result at a time: the kernels of all would not fit into a cache
        cosine = (t.cos() * theta.cos())[:, None] + (t.sin() * theta.sin())[:, None] * turn
        weight = cosine.clamp_min(0)
        if roughness is not None:
            # The half vector's squares, from those of half the angle.
            cos2, alpha = (1 + cosine.clamp(-1, 1)) / 2, alpha_of(torch.tensor(roughness))
            weight = weight * ggx_d(cos2.sqrt(), alpha)
        kernel = torch.fft.rfft(weight * solid[:, None], dim=1).real
        orders.append(kernel / kernel[:, 0].sum())
    return torch.stack(orders).permute(2, 0, 1).contiguous()
