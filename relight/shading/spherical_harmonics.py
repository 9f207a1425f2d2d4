"""Light from all around as real spherical harmonics of any degree: smooth, and cheap to reflect."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from relight.errors import ShapeError
from relight.shading.constant import constant
from relight.shading.environment import Environment
from relight.shading.lights import FAR, LightSample
from relight.shading.microfacet import alpha_of

_NODES = 48


def basis(directions: Tensor, degree: int) -> Tensor:
    """(..., 3) unit directions to (..., (degree + 1)^2) orthonormal values.

    Within band l the order is m = -l .. l, with the Condon-Shortley phase, as in 3DGS files.  Legendre recurrences in
    Cartesian form (Sloan, Efficient Spherical Harmonic Evaluation, JCGT 2(2), 2013), so there is no pole.
    """
    x, y, z = directions.unbind(-1)
    out: list[Tensor] = [torch.zeros_like(z)] * (degree + 1) ** 2
    cosine, sine = torch.ones_like(z), torch.zeros_like(z)  # sin^m theta times cos(m phi), sin(m phi)
    diagonal = 1.0  # P_m^m over sin^m theta
    for m in range(degree + 1):
        before, here = torch.zeros_like(z), torch.full_like(z, diagonal)
        for n in range(m, degree + 1):
            scale = math.sqrt((2 * n + 1) / (4 * math.pi) * math.factorial(n - m) / math.factorial(n + m))
            if m == 0:
                out[n * n + n] = scale * here
            else:
                out[n * n + n + m] = math.sqrt(2) * scale * here * cosine
                out[n * n + n - m] = math.sqrt(2) * scale * here * sine
            before, here = here, ((2 * n + 1) * z * here - (n + m) * before) / (n + 1 - m)
        cosine, sine = x * cosine - y * sine, x * sine + y * cosine
        diagonal *= -(2 * m + 1)
    return torch.stack(out, -1)


@dataclass(frozen=True)
class SphericalHarmonics:
    """coefficients: (K, 3) linear radiance, K = (degree + 1)^2, in the order of `basis`; axes are those of the world.

    Radiance may come out negative between bright places: that is what cutting bands off does.  Differentiable in the
    coefficients and in directions.  Raises ShapeError.
    """

    coefficients: Tensor

    delta = False

    def __post_init__(self) -> None:
        shape = tuple(self.coefficients.shape)
        if len(shape) != 2 or shape[1] != 3 or (self.degree + 1) ** 2 != shape[0]:
            raise ShapeError.expected("SphericalHarmonics.coefficients", "(1, 4, 9, 16, ..., 3)", shape)

    @property
    def degree(self) -> int:
        """The highest band."""
        return math.isqrt(max(self.coefficients.shape[0], 1)) - 1

    @staticmethod
    def project(environment: Environment, degree: int = 3) -> SphericalHarmonics:
        """The bands of an environment up to `degree`, by the solid angle of its texels; differentiable."""
        radiance = environment.radiance
        height, width = radiance.shape[:2]
        rows, columns = (torch.arange(n, device=radiance.device, dtype=radiance.dtype) for n in (height, width))
        v, u = torch.meshgrid((rows + 0.5) / height, (columns + 0.5) / width, indexing="ij")
        edges = torch.linspace(0, math.pi, height + 1, device=radiance.device, dtype=radiance.dtype).cos()
        solid = (edges[:-1] - edges[1:])[:, None, None] * (2 * math.pi / width)
        values = basis(environment.directions(torch.stack([u, v], -1)), degree)
        return SphericalHarmonics(values.flatten(0, 1).mT @ (radiance * solid).flatten(0, 1))

    def eval(self, directions: Tensor) -> Tensor:
        """(..., 3) radiance from (..., 3) unit world directions."""
        return basis(directions, self.degree) @ self.coefficients

    def irradiance(self, normals: Tensor) -> Tensor:
        """(..., 3) irradiance / pi on surfaces with (..., 3) unit world normals (Ramamoorthi and Hanrahan 2001)."""
        zonal = self.coefficients.new_tensor(_clamped_cosine(self.degree))
        return (basis(normals, self.degree) @ (self._per_band(zonal)[..., None] * self.coefficients)).clamp_min(0)

    def reflection(self, directions: Tensor, roughness: Tensor) -> Tensor:
        """(..., 3) radiance seen by GGX lobes of roughness (...,) about (..., 3) mirror directions.

        Eye, normal and mirror direction coincide, as in split-sum; bands are scaled by the lobe's own harmonics
        (Ramamoorthi and Hanrahan, SIGGRAPH 2002), by quadrature.
        """
        u, weights = _nodes().to(roughness)
        alpha2 = (alpha_of(roughness) ** 2)[..., None]
        # Half vectors by GGX's own distribution; what they mirror is weighted by its cosine (Karis 2013).
        cosine = 2 * (1 - u) / (1 + (alpha2 - 1) * u) - 1
        weight = weights * cosine.clamp_min(0)
        weight = weight / weight.sum(-1, keepdim=True)
        before, here, bands = torch.zeros_like(cosine), torch.ones_like(cosine), []
        for n in range(self.degree + 1):
            bands.append((weight * here).sum(-1))
            before, here = here, ((2 * n + 1) * cosine * here - n * before) / (n + 1)
        return (
            (basis(directions, self.degree) * self._per_band(torch.stack(bands, -1))) @ self.coefficients
        ).clamp_min(0)

    def _per_band(self, zonal: Tensor) -> Tensor:
        """(..., degree + 1) to (..., K): each band's value for all of its orders."""
        return torch.cat(
            [zonal[..., n : n + 1].expand(*zonal.shape[:-1], 2 * n + 1) for n in range(self.degree + 1)], -1
        )

    def sample_light(self, position: Tensor, u: Tensor) -> LightSample:
        """See `relight.shading.lights.Light`.  Uniform over the sphere: there are no narrow peaks to look for."""
        z, phi = 1 - 2 * u[..., 0], 2 * math.pi * u[..., 1]
        r = (1 - z * z).clamp_min(0).sqrt()
        return self.hit(position, torch.stack([r * phi.cos(), r * phi.sin(), z], -1))

    def hit(self, position: Tensor, direction: Tensor) -> LightSample:
        """See `relight.shading.lights.Light`."""
        one = torch.ones_like(direction[..., 0])
        return LightSample(direction, one * FAR, self.eval(direction), one / (4 * math.pi))


@constant
def _nodes() -> Tensor:
    """(2, 48) float64: places between 0 and 1, and weights, of Gauss's rule."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return torch.from_numpy(np.stack([(nodes + 1) / 2, weights / 2]))


def _clamped_cosine(degree: int) -> tuple[float, ...]:
    """What max(cos, 0) / pi does to each band (Ramamoorthi and Hanrahan 2001, eq. 19)."""
    factors = []
    for n in range(degree + 1):
        if n % 2:
            factors.append(2 / 3 if n == 1 else 0.0)
        else:
            central = math.comb(n, n // 2) / 2**n
            factors.append(2 * (-1) ** (n // 2 + 1) / ((n + 2) * (n - 1)) * central)
    return tuple(factors)
