"""Lights that an optimiser can change, none of which can turn negative.

    sky = LearnableEnvironment.constant(32)
    optimiser = torch.optim.Adam(sky.parameters(), lr=0.02)
    loss = ... shade(surface, sky.light(), SplitSum()) ...

Brightness is optimised as its logarithm: gradient steps are then relative, as eyes and exposures are, and a sun's texel
is reached in the same number of steps as a shadow's.  `light()` builds the light anew, so call it once in each step.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from relight.errors import RelightError
from relight.shading.environment import Environment
from relight.shading.lights import Point, Rectangle, Sun
from relight.shading.spherical_gaussians import SHARPNESS_MIN, SphericalGaussians
from relight.shading.spherical_harmonics import SphericalHarmonics, basis

DARKEST = 1e-4
"""Of the mean: what darker values start at, as black has no logarithm, nor anything near it a gradient to leave by."""


class LearnableEnvironment(nn.Module):
    """An `Environment` whose texels are learned; its rotation is kept.

    start: radiance (H, W, 3), at least 0; values under `DARKEST` of the mean are raised to it.
    Raises `RelightError` for negative or infinite values, and for a map that is black.
    """

    log_radiance: nn.Parameter
    rotation: Tensor

    def __init__(self, start: Environment):
        super().__init__()
        self.log_radiance = nn.Parameter(_log("LearnableEnvironment", start.radiance))
        self.register_buffer("rotation", start.rotation.detach().clone())

    @staticmethod
    def constant(height: int = 32, brightness: float = 0.5, rotation: Tensor | None = None) -> LearnableEnvironment:
        """White light from all around, (height, 2 height) texels.  rotation: see `Environment`."""
        radiance = torch.full((height, 2 * height, 3), brightness)
        return LearnableEnvironment(Environment(radiance) if rotation is None else Environment(radiance, rotation))

    def light(self) -> Environment:
        """The light as it is now, for `shade`; differentiable in the texels."""
        return Environment(self.log_radiance.exp(), self.rotation)

    def whiteness_penalty(self) -> Tensor:
        """Mean over the sphere of the L1 distance of each texel from its own grey: 0 for white light.

        Most light is nearly white, which tells the colour of the light from that of the surface (Munkberg et al.,
        Extracting Triangular 3D Models, Materials, and Lighting From Images, CVPR 2022, sec. 3.4).
        """
        radiance = self.log_radiance.exp()
        apart = (radiance - radiance.mean(-1, keepdim=True)).abs().sum(-1)
        edges = torch.linspace(0, math.pi, radiance.shape[0] + 1, dtype=torch.float64).cos()
        return (apart.mean(1) * (edges[:-1] - edges[1:]).to(apart)).sum() / 2


class LearnableGaussians(nn.Module):
    """`SphericalGaussians` whose axes, sharpnesses and amplitudes are learned.  Raises as `LearnableEnvironment`."""

    def __init__(self, start: SphericalGaussians):
        super().__init__()
        self.axis = nn.Parameter(start.axis.detach().clone())  # of any length
        self.log_sharpness = nn.Parameter(start.sharpness.detach().clamp_min(SHARPNESS_MIN).log())
        self.log_amplitude = nn.Parameter(_log("LearnableGaussians", start.amplitude))

    def light(self) -> SphericalGaussians:
        """The light as it is now; differentiable in all three."""
        axis = nn.functional.normalize(self.axis, dim=-1)
        return SphericalGaussians(axis, self.log_sharpness.exp(), self.log_amplitude.exp())


class LearnableHarmonics(nn.Module):
    """`SphericalHarmonics` that are positive everywhere: the square of harmonics of half the degree.

    A sum of harmonics with free coefficients turns negative between bright places; a square never does, and the square
    of degree n is, exactly, of degree 2 n.

    start: the light to begin with, whose square root is taken where it is positive; its degree is rounded down to an
    even one.  Raises `RelightError` if it is nowhere positive.
    """

    root: nn.Parameter
    nodes: Tensor
    weights: Tensor

    def __init__(self, start: SphericalHarmonics):
        super().__init__()
        self.root_degree = start.degree // 2
        kind = start.coefficients
        nodes, weights = _sphere_rule(4 * self.root_degree)
        # Kept out of state_dict: they follow from the degree.
        self.register_buffer("nodes", nodes.to(kind), persistent=False)
        self.register_buffer("weights", weights.to(kind), persistent=False)
        radiance = start.eval(self.nodes).detach()
        if not bool((radiance > 0).any()):
            raise RelightError("LearnableHarmonics: start: expected light; found none that is positive")
        roots = radiance.clamp_min(DARKEST * float(radiance.clamp_min(0).mean())).sqrt()
        self.root = nn.Parameter(basis(self.nodes, self.root_degree).mT @ (roots * self.weights[:, None]))

    def light(self) -> SphericalHarmonics:
        """The light as it is now, of degree 2 `root_degree`; differentiable."""
        radiance = (basis(self.nodes, self.root_degree) @ self.root) ** 2
        return SphericalHarmonics(basis(self.nodes, 2 * self.root_degree).mT @ (radiance * self.weights[:, None]))


class LearnableStrength(nn.Module):
    """A `Sun`, `Point` (or spot) or `Rectangle` whose colour and brightness are learned; its place is kept.

    Raises `RelightError` for negative, infinite or no light.
    """

    def __init__(self, start: Sun | Point | Rectangle):
        super().__init__()
        self.start = start
        self._field = {Sun: "irradiance", Point: "intensity", Rectangle: "radiance"}[type(start)]
        self.log_strength = nn.Parameter(_log("LearnableStrength", getattr(start, self._field)))

    def light(self) -> Sun | Point | Rectangle:
        """The light as it is now; differentiable in its strength."""
        return replace(self.start, **{self._field: self.log_strength.exp()})


def _log(where: str, values: Tensor) -> Tensor:
    values = values.detach()
    if not bool(torch.isfinite(values).all()) or bool((values < 0).any()) or not bool((values > 0).any()):
        raise RelightError(
            f"{where}: start: expected finite light, at least 0 and somewhere above; clean the map first"
        )
    return values.clamp_min(DARKEST * float(values.mean())).log()


def _sphere_rule(degree: int) -> tuple[Tensor, Tensor]:
    """(N, 3) directions and (N,) weights that integrate harmonics up to `degree` exactly; float64."""
    z, across = (torch.from_numpy(t) for t in np.polynomial.legendre.leggauss(degree // 2 + 1))
    phi = (torch.arange(degree + 1, dtype=torch.float64) + 0.5) * (2 * math.pi / (degree + 1))
    r = (1 - z * z).sqrt()[:, None]
    directions = torch.stack([r * phi.cos(), r * phi.sin(), z[:, None].expand(-1, len(phi))], -1)
    return directions.reshape(-1, 3), across[:, None].expand(-1, len(phi)).reshape(-1) * (2 * math.pi / (degree + 1))
