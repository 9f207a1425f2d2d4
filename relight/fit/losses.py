"""What fitted pictures are compared by."""

from __future__ import annotations

import torch
from torch import Tensor

from relight.geometry.camera import Camera
from relight.render.splats import SplatRender

DARK = 0.01
"""Linear radiance below which errors no longer count more; sRGB itself turns straight near it."""


def ssim_map(x: Tensor, y: Tensor) -> Tensor:
    """(C, H, W) structural similarity of two (C, H, W) pictures in 0 to 1 (Wang et al., TIP 2004).

    Gaussian window of 11 taps and sigma 1.5, zeros outside the picture, as 3DGS has it.  Differentiable.
    """
    taps = torch.arange(-5, 6, dtype=x.dtype, device=x.device)
    window = torch.exp(-0.5 * (taps / 1.5) ** 2)
    window = window / window.sum()

    def blur(image: Tensor) -> Tensor:
        image = torch.nn.functional.conv2d(image[:, None], window.view(1, 1, 1, -1), padding=(0, 5))
        return torch.nn.functional.conv2d(image, window.view(1, 1, -1, 1), padding=(5, 0))[:, 0]

    mx, my = blur(x), blur(y)
    xx, yy, xy = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    return ((2 * mx * my + c1) * (2 * xy + c2)) / ((mx * mx + my * my + c1) * (xx + yy + c2))


def mean_ssim(x: Tensor, y: Tensor) -> Tensor:
    """Scalar mean of `ssim_map`; differentiable in x (in y only off the CPU)."""
    if x.device.type == "cpu" and x.dtype == torch.float32 and y.dtype == torch.float32:
        from relight.render.kernels.ssim import mean_ssim as fast

        return fast(x, y)
    return ssim_map(x, y).mean()


def photometric(found: Tensor, expected: Tensor, dssim_weight: float, mask: Tensor | None = None) -> Tensor:
    """(1 - w) L1 + w (1 - SSIM) of (3, H, W) pictures (Kerbl et al. 2023, eq. 7).

    mask: (H, W) bool; other pixels count as equal.
    """
    if mask is not None:
        found, expected = found * mask, expected * mask
    l1 = (found - expected).abs().mean()
    return (1 - dssim_weight) * l1 + dssim_weight * (1 - mean_ssim(found, expected))


def noisy_squares(one: Tensor, two: Tensor, expected: Tensor) -> Tensor:
    """Mean squared error, about as the eye sees it, of the noiseless (N, 3) picture behind two independent estimates.

    The product of two estimates' errors has the squared error of their mean as its mean, so noise adds nothing to it
    nor to its gradients, where it would to a square's.  All linear; errors count by the square of sRGB's slope at
    `expected`, and not at all where both sides are too bright for a photograph.
    """
    slope = expected.clamp_min(DARK) ** (1 / 2.2 - 1) / 2.2
    shown = (expected < 0.999) | ((one + two).detach() / 2 < 1)
    return ((one - expected) * (two - expected) * (slope * slope) * shown).mean()


def normal_consistency(image: SplatRender, camera: Camera) -> Tensor:
    """Mean of alpha (1 - n . N): normals of the Gaussians against those of their depth (2DGS, eq. 14).

    image: drawn with normals.  The outermost pixels, which have no differences, don't count.
    """
    assert image.normals is not None
    agreement = (image.normals * camera.normals(image.depth)).sum(-1)
    return (image.alpha.detach() * (1 - agreement))[1:-1, 1:-1].mean()


def smoothness(picture: Tensor, guide: Tensor, mask: Tensor, edge: float = 10.0) -> Tensor:
    """Mean |difference| of neighbouring pixels of a (H, W, C) picture, less where the (H, W, 3) guide has an edge.

    mask: (H, W) bool; both pixels of a pair must lie in it.  A difference of 1 / `edge` in the guide counts 1 / e.
    Differentiable in the picture.  Materials follow the colours of the photograph (Barron and Malik, PAMI 2015, use
    smooth reflectance; the weight by edges is that of R3DG and IRGS).
    """
    total, count = picture.new_zeros(()), 0
    for axis in (0, 1):
        pairs = mask.narrow(axis, 1, mask.shape[axis] - 1) & mask.narrow(axis, 0, mask.shape[axis] - 1)
        weight = pairs * torch.exp(-edge * guide.diff(dim=axis).abs().mean(-1))
        total = total + (picture.diff(dim=axis).abs().mean(-1) * weight).sum()
        count += int(pairs.sum())
    return total / max(count, 1)
