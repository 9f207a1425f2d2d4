"""Light from all around as a sum of spherical Gaussians, whose diffuse and glossy reflections have closed forms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from relight.errors import ShapeError
from relight.shading.lights import FAR, LightSample
from relight.shading.microfacet import alpha_of
from relight.shading.surface import to_world

SHARPNESS_MIN = 1e-2
"""Flatter lobes are taken for this one, which varies by 2 % over the sphere."""


@dataclass(frozen=True)
class SphericalGaussians:
    """Radiance from d: the sum over K of amplitude exp(sharpness (axis . d - 1)) (Wang et al., SIGGRAPH Asia 2009).

    axis: (K, 3) unit, world.  sharpness: (K,) above 0.  amplitude: (K, 3) linear radiance at the axis, at least 0.
    Differentiable in all three.  Raises ShapeError.
    """

    axis: Tensor
    sharpness: Tensor
    amplitude: Tensor

    delta = False

    def __post_init__(self) -> None:
        count = self.sharpness.shape[0] if self.sharpness.ndim == 1 else -1
        for name, value, shape in (
            ("sharpness", self.sharpness, (count,)),
            ("axis", self.axis, (count, 3)),
            ("amplitude", self.amplitude, (count, 3)),
        ):
            if count < 1 or tuple(value.shape) != shape:
                raise ShapeError.expected(f"SphericalGaussians.{name}", "(K, ...), K at least 1", tuple(value.shape))

    @property
    def _sharp(self) -> Tensor:
        return self.sharpness.clamp_min(SHARPNESS_MIN)

    @property
    def power(self) -> Tensor:
        """(K, 3) integral of each lobe over the sphere: 2 pi / sharpness (1 - exp(-2 sharpness)) of its amplitude."""
        return self.amplitude * _integral(self._sharp)[:, None]

    def eval(self, directions: Tensor) -> Tensor:
        """(..., 3) radiance from (..., 3) unit world directions."""
        return torch.exp(self._sharp * (directions @ self.axis.mT - 1)) @ self.amplitude

    def irradiance(self, normals: Tensor) -> Tensor:
        """(..., 3) irradiance / pi on surfaces with (..., 3) unit world normals.

        With c the cosine between axis and normal and <> the mean over a lobe, it is half of <c> + <|c|>.  <c> is exact.
        <|c|> is exact along the axis and across it, and taken to be an ellipse between: within 0.016 of the lobe's
        power.
        """
        k = self._sharp
        cosine = normals @ self.axis.mT
        mean = 1 / torch.tanh(k) - 1 / k
        along = 1 - torch.tanh(k / 2) / k
        across = 2 * torch.special.i1e(k) / -torch.expm1(-2 * k)
        square = (along * cosine) ** 2 + across**2 * (1 - cosine**2).clamp_min(0)
        received = 0.5 * (mean * cosine + square.clamp_min(1e-20).sqrt())
        return received @ self.power / math.pi

    def reflection(self, directions: Tensor, roughness: Tensor) -> Tensor:
        """(..., 3) radiance seen by GGX lobes of roughness (...,) about (..., 3) mirror directions.

        The lobe (eye, normal and mirror direction coinciding, as in split-sum) is replaced by a spherical Gaussian and
        a share of the clamped cosine, which is what the lobe is at roughness 1; the integral of a product of two
        spherical Gaussians is closed (Wang et al. 2009).  Sharpness and share are fitted to the lobe's harmonics to
        band 64.  Within 8 % of the largest value.
        """
        alpha, k = alpha_of(roughness), self._sharp
        gloss = (0.35 / (alpha * alpha) + 1.2 / alpha + 1)[..., None]
        # |k axis + gloss mirror| without the cancellation that large sharpnesses suffer.
        apart = 2 * k * gloss * (1 - directions @ self.axis.mT).clamp_min(0)
        total = k + gloss
        length = (total * total - apart).clamp_min(1e-12).sqrt()
        overlap = torch.exp(-apart / (total + length)) * _integral(length) / _integral(gloss)
        wide = (0.4 * roughness + 0.6 * roughness**8)[..., None]
        return torch.lerp(overlap @ self.amplitude, self.irradiance(directions), wide)

    def pdf(self, directions: Tensor) -> Tensor:
        """(...,) density of `sample_light`, 1/sr."""
        lobes = torch.exp(self._sharp * (directions @ self.axis.mT - 1)) / _integral(self._sharp)
        return lobes @ self._chance()

    def _chance(self) -> Tensor:
        weight = self.power.detach().mean(-1) + 1e-12
        return weight / weight.sum()

    def sample_light(self, position: Tensor, u: Tensor) -> LightSample:
        """See `relight.shading.lights.Light`.  Lobes by power, then directions by their shape (Jakob 2012)."""
        with torch.no_grad():
            edges = self._chance().cumsum(0)
            # The first number picks the lobe; where it fell within the lobe's share is as good as new.
            lobe = torch.searchsorted(edges, u[..., 0].contiguous(), right=True).clamp_max(len(edges) - 1)
            start = torch.where(lobe > 0, edges[(lobe - 1).clamp_min(0)], 0.0)
            left = ((u[..., 0] - start) / (edges[lobe] - start)).clamp(0, 1)
            k = self._sharp[lobe]
            below = torch.log1p(left * torch.expm1(-2 * k)) / k  # cosine minus 1
            r, phi = (-below * (2 + below)).clamp_min(0).sqrt(), 2 * math.pi * u[..., 1]
            local = torch.stack([r * phi.cos(), r * phi.sin(), 1 + below], -1)
            direction = to_world(local, self.axis[lobe])
        return self.hit(position, direction)

    def hit(self, position: Tensor, direction: Tensor) -> LightSample:
        """See `relight.shading.lights.Light`."""
        pdf = self.pdf(direction)
        return LightSample(direction, torch.full_like(pdf, FAR), self.eval(direction), pdf)

    def rotated(self, rotation: Tensor) -> SphericalGaussians:
        """The light turned by the (3, 3) world rotation."""
        return SphericalGaussians(self.axis @ rotation.mT, self.sharpness, self.amplitude)

    @staticmethod
    def spread(count: int, *, overlap: float = 1.0, brightness: float = 1.0) -> SphericalGaussians:
        """`count` equal lobes over the whole sphere, as a start for fitting: nearly uniform light of that brightness.

        Axes follow a Fibonacci lattice (Gonzalez 2010).  overlap: above 1 for wider lobes.
        """
        i = torch.arange(count, dtype=torch.float64) + 0.5
        z, phi = 1 - 2 * i / count, i * math.pi * (3 - math.sqrt(5))
        r = (1 - z * z).sqrt()
        axis = torch.stack([r * phi.cos(), r * phi.sin(), z], -1).float()
        sharpness = torch.full((count,), count / (2 * overlap))
        # The mean over the sphere of the sum is the brightness.
        amplitude = brightness * 4 * math.pi / (count * _integral(sharpness))
        return SphericalGaussians(axis, sharpness, amplitude[:, None].expand(count, 3).clone())


def _integral(sharpness: Tensor) -> Tensor:
    """Of exp(sharpness (cos - 1)) over the sphere."""
    return 2 * math.pi * -torch.expm1(-2 * sharpness) / sharpness
