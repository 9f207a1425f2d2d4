"""The glTF 2.0 metallic-roughness BSDF: Lambert under a GGX coat, with energy that single scattering loses put back.

A dielectric and a metal, mixed by metallic.  Each reflects k D V F with F = f0 + (f90 - f0) (1 - v.h)^5; under it, the
dielectric has (1 - R) diffuse / pi.  Per channel, k = 1 + f0 (1 / E - 1): E is the share of light that a white
microsurface reflects in one bounce at this angle (Turquin, Practical Multiple Scattering Compensation for Microfacet
Models, 2019), R the share that the dielectric's surface reflects in all.  glTF 2.0, appendix B, gives 1 - F for 1 - R
as the simplest choice, and lets implementations conserve energy: with 1 - F, white plastic seen at a grazing angle
reflects 1.7 times the light it gets.  k and R depend on the eye's side only: the coat is reciprocal without k, the
whole is so approximately.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from relight.shading.microfacet import (
    COSINE_MIN,
    alpha_of,
    directional_albedo,
    ggx_d,
    pdf_reflected,
    sample_visible_normal,
    schlick_weight,
    smith_v,
)
from relight.shading.surface import Surface, dot, to_local, to_world
from relight.vectors import unit


class Bsdf:
    """The BSDF at the points of a surface, with what doesn't depend on the light worked out once.

    compensate: put multiply scattered energy back.  Differentiable in all of the surface and in light directions.
    """

    def __init__(self, surface: Surface, *, compensate: bool = True):
        self.surface = surface
        self.normal = surface.normal
        self.n_v = dot(surface.normal, surface.view).clamp_min(COSINE_MIN)
        self.alpha = alpha_of(surface.roughness)
        self.a, self.b = (t[..., None] for t in directional_albedo(self.n_v, surface.roughness))
        f0, f90 = self._compensated(surface.dielectric_f0, surface.dielectric_f90, compensate)
        metal_f0, metal_f90 = self._compensated(surface.base_color, torch.ones_like(f90), compensate)
        # Only the dielectric has something under it, so only its own reflection takes light away from there.
        self.under = surface.diffuse_color * (1 - f0 * self.a - f90 * self.b).clamp_min(0)
        # F is linear in f0 and f90, and so are both materials' lobes: their mixture is one lobe.
        metallic = surface.metallic[..., None]
        self.f0, self.f90 = torch.lerp(f0, metal_f0, metallic), torch.lerp(f90, metal_f90, metallic)

    def _compensated(self, f0: Tensor, f90: Tensor, compensate: bool) -> tuple[Tensor, Tensor]:
        """k f0 and k f90, (..., 3)."""
        k = 1 + f0 * (1 / (self.a + self.b).clamp_min(1e-3) - 1) if compensate else torch.ones_like(f0)
        return k * f0, k * f90

    def specular_albedo(self) -> Tensor:
        """(..., 3) share of uniform light from all sides that the coat reflects to the eye."""
        return self.f0 * self.a + self.f90 * self.b

    def _halfway(self, light: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        view = self._wide(self.surface.view, light)
        h = unit(view + light)
        normal = self._wide(self.normal, light)
        return dot(normal, light), dot(normal, h).clamp(0, 1), dot(view, h).clamp(0, 1)

    def _wide(self, value: Tensor, light: Tensor) -> Tensor:
        """Insert sample dimensions, which lie between the points' shape and the last."""
        extra = light.ndim - self.normal.ndim
        return value.reshape(*self.surface.shape, *(1,) * extra, *value.shape[len(self.surface.shape) :])

    def eval(self, light: Tensor) -> Tensor:
        """f times the cosine, 1/sr.  light: (..., 3) or (..., S, 3) unit, world; 0 below the horizon."""
        n_l, n_h, v_h = self._halfway(light)
        lit = n_l > 0
        n_l = n_l.clamp_min(COSINE_MIN * 0.01)
        alpha, n_v = self._wide(self.alpha, light), self._wide(self.n_v, light)
        f0, f90 = self._wide(self.f0, light), self._wide(self.f90, light)
        fresnel = f0 + (f90 - f0) * schlick_weight(v_h)[..., None]
        specular = (ggx_d(n_h, alpha) * smith_v(n_v, n_l, alpha))[..., None] * fresnel
        diffuse = self._wide(self.under, light) / math.pi
        return torch.where(lit[..., None], (diffuse + specular) * n_l[..., None], 0.0)

    def coat_share(self) -> Tensor:
        """(...,) how often the coat is sampled; not differentiated."""
        coat = self.specular_albedo().detach().mean(-1)
        base = self.under.detach().mean(-1)
        share = coat / (coat + base).clamp_min(1e-8)
        # Both lobes keep a chance as long as there is anything to reflect.
        return torch.where(base > 0, share.clamp(0.1, 0.9), 1.0)

    def pdf(self, light: Tensor) -> Tensor:
        """Density of `sample`, 1/sr, (...,) or (..., S)."""
        n_l, n_h, _ = self._halfway(light)
        share = self._wide(self.coat_share(), light)
        coat = pdf_reflected(self._wide(self.n_v, light), n_h, self._wide(self.alpha, light))
        return torch.where(n_l > 0, share * coat + (1 - share) * n_l / math.pi, 0.0)

    def sample(self, u: Tensor) -> Tensor:
        """Unit world directions distributed by `pdf`, those below the horizon included; not differentiated.

        u: (..., S, 3) in 0 to 1: lobe, and two of position.  Returns (..., S, 3).
        """
        with torch.no_grad():
            normal = self._wide(self.normal, u).expand_as(u)
            view = to_local(self._wide(self.surface.view, u).expand_as(u), normal)
            view = unit(torch.cat([view[..., :2], view[..., 2:].clamp_min(COSINE_MIN)], -1))
            alpha = self._wide(self.alpha, u).expand(u.shape[:-1])
            h = sample_visible_normal(view, alpha, u[..., 1:])
            mirrored = 2 * dot(view, h)[..., None] * h - view
            r, phi = u[..., 1].sqrt(), 2 * math.pi * u[..., 2]
            cosine = torch.stack([r * phi.cos(), r * phi.sin(), (1 - u[..., 1]).clamp_min(0).sqrt()], -1)
            coat = u[..., 0] < self._wide(self.coat_share(), u)
            return unit(to_world(torch.where(coat[..., None], mirrored, cosine), normal))
