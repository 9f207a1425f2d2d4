"""GGX: distribution, shadowing, Fresnel, sampling of visible normals, and directional albedo.

alpha = roughness squared.  Letters as in the literature: v towards the eye, l towards the light, h halfway, n normal.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from relight.shading.constant import constant
from relight.vectors import unit

ALPHA_MIN = 1e-3
"""GGX has no density at alpha 0; a mirror is drawn as this, which blurs by about a twentieth of a degree."""
COSINE_MIN = 1e-4
_TABLE = 48


def alpha_of(roughness: Tensor) -> Tensor:
    """GGX's alpha of a perceptual roughness (Burley, Physically-Based Shading at Disney, 2012)."""
    return (roughness * roughness).clamp_min(ALPHA_MIN)


def ggx_d(n_h: Tensor, alpha: Tensor) -> Tensor:
    """Density of normals, 1/sr (Walter et al., Microfacet Models for Refraction, EGSR 2007, eq. 33)."""
    a2 = alpha * alpha
    # 1 - n_h^2 (1 - a2), arranged so that a narrow peak keeps its digits.
    t = (1 - n_h) * (1 + n_h) + n_h * n_h * a2
    return a2 / (math.pi * t * t)


def smith_v(n_v: Tensor, n_l: Tensor, alpha: Tensor) -> Tensor:
    """Height-correlated masking and shadowing over 4 n_v n_l (Heitz, JCGT 3(2), 2014, eq. 99)."""
    a2 = alpha * alpha
    v = n_l * torch.sqrt(n_v * n_v * (1 - a2) + a2)
    return 0.5 / (v + n_v * torch.sqrt(n_l * n_l * (1 - a2) + a2)).clamp_min(1e-12)


def smith_g1(n_v: Tensor, alpha: Tensor) -> Tensor:
    """Masking of one direction (Walter et al. 2007, eq. 34)."""
    a2 = alpha * alpha
    return 2 * n_v / (n_v + torch.sqrt(n_v * n_v * (1 - a2) + a2))


def schlick_weight(v_h: Tensor) -> Tensor:
    """(1 - cos)^5: F = f0 + (1 - f0) of it (Schlick, CGF 13(3), 1994)."""
    x = (1 - v_h).clamp(0, 1)
    return x * x * x * x * x


def sample_visible_normal(view: Tensor, alpha: Tensor, u: Tensor) -> Tensor:
    """(..., 3) half vectors in the local frame, distributed as the normals that `view` (..., 3) sees.

    u: (..., 2) in 0 to 1.  Dupuy and Benyoub, Sampling Visible GGX Normals with Spherical Caps, CGF 42(8), 2023.
    """
    a = alpha[..., None]
    stretched = unit(torch.cat([view[..., :2] * a, view[..., 2:]], -1))
    phi = 2 * math.pi * u[..., 0]
    z = (1 - u[..., 1]) * (1 + stretched[..., 2]) - stretched[..., 2]
    r = torch.sqrt(((1 - z) * (1 + z)).clamp_min(0))
    h = torch.stack([r * torch.cos(phi), r * torch.sin(phi), z], -1) + stretched
    return unit(torch.cat([h[..., :2] * a, h[..., 2:].clamp_min(1e-7)], -1))


def pdf_reflected(n_v: Tensor, n_h: Tensor, alpha: Tensor) -> Tensor:
    """Density over light directions, 1/sr, of reflecting at a visible normal."""
    return ggx_d(n_h, alpha) * smith_g1(n_v, alpha) / (4 * n_v).clamp_min(1e-12)


@constant
def albedo_table() -> Tensor:
    """(48, 48, 2) float32: A, B over n_v (rows) and roughness (columns), so that f0 A + B is the share of light that
    single scattering reflects (Karis, Real Shading in Unreal Engine 4, 2013).  Sampled at (i / 47)^2 and j / 47.

    With bilinear interpolation, A + B is good to 0.15 % wherever n_v is at least 0.05.
    """
    grid = torch.linspace(0, 1, _TABLE, dtype=torch.float64)
    n_v = (grid**2).clamp_min(COSINE_MIN)[:, None, None]
    alpha = alpha_of(grid)[None, :, None]
    # Half the circle by midpoints, as the other half is its mirror image; the other dimension by Gauss's rule.
    around, across = 24, 48
    count = around * across
    nodes, weights = np.polynomial.legendre.leggauss(across)
    phi = (torch.arange(around, dtype=torch.float64) + 0.5) / (2 * around)
    u = torch.cartesian_prod(phi, torch.from_numpy((nodes + 1) / 2))
    weight = torch.from_numpy(weights / 2).repeat(around) / around
    view = torch.cat([torch.sqrt(1 - n_v * n_v), torch.zeros_like(n_v), n_v], -1)
    out = torch.empty(_TABLE, _TABLE, 2, dtype=torch.float64)
    for row in range(_TABLE):
        v = view[row, :, None, :].expand(_TABLE, count, 3)
        a = alpha[0].expand(_TABLE, count)
        h = sample_visible_normal(v, a, u.expand(_TABLE, count, 2))
        v_h = (v * h).sum(-1)
        n_l = 2 * v_h * h[..., 2] - v[..., 2]
        # D V F n_l / pdf = F G2 / G1.
        cos_v = v[..., 2]
        g = 4 * n_l * cos_v * smith_v(cos_v, n_l, a) / smith_g1(cos_v, a)
        g = torch.where(n_l > 0, g, 0.0) * weight
        f = schlick_weight(v_h)
        out[row] = torch.stack([((1 - f) * g).sum(-1), (f * g).sum(-1)], -1)
    return out.float()


def directional_albedo(n_v: Tensor, roughness: Tensor) -> tuple[Tensor, Tensor]:
    """(A, B), (...,) each, by bilinear interpolation of `albedo_table`; differentiable."""
    table = albedo_table().to(n_v).reshape(-1, 2)
    x = n_v.clamp(0, 1).clamp_min(1e-8).sqrt() * (_TABLE - 1)
    y = roughness.clamp(0, 1) * (_TABLE - 1)
    # What is not a number is no index; its fraction stays what it is.
    x0, y0 = (t.detach().nan_to_num(0.0).floor().clamp(0, _TABLE - 2) for t in (x, y))
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    index = (x0 * _TABLE + y0).long()
    low = table[index] * (1 - fy) + table[index + 1] * fy
    high = table[index + _TABLE] * (1 - fy) + table[index + _TABLE + 1] * fy
    a, b = (low * (1 - fx) + high * fx).unbind(-1)
    return a, b
