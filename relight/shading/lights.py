"""Lights other than the surroundings.  All linear Rec.709, scene-referred; positions and directions in the world."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from relight.shading.surface import dot, to_world

FAR = math.inf


@dataclass(frozen=True)
class LightSample:
    """What reaches points (...) from one place on a light.

    direction: (..., 3) unit, towards the light.  distance: (...,) world units, infinite for far lights.
    radiance: (..., 3); for lights without extent, irradiance at normal incidence.
    pdf: (...,) density over directions, 1/sr; 1 for lights without extent.
    """

    direction: Tensor
    distance: Tensor
    radiance: Tensor
    pdf: Tensor


@runtime_checkable
class Light(Protocol):
    """Something that shines."""

    @property
    def delta(self) -> bool:
        """No extent, so directions chosen elsewhere never hit it."""
        ...

    def sample_light(self, position: Tensor, u: Tensor) -> LightSample:
        """One place for each of (..., 3) points, from (..., 2) numbers in 0 to 1."""
        ...

    def hit(self, position: Tensor, direction: Tensor) -> LightSample:
        """What comes from (..., 3) directions; radiance and pdf are 0 where they miss."""
        ...


@runtime_checkable
class Surroundings(Protocol):
    """Far light from all around that knows its own reflections, so that `SplitSum` needs no samples of it."""

    def irradiance(self, normals: Tensor) -> Tensor:
        """(..., 3) irradiance / pi on surfaces with (..., 3) unit world normals."""
        ...

    def reflection(self, directions: Tensor, roughness: Tensor) -> Tensor:
        """(..., 3) radiance seen by GGX lobes of perceptual roughness (...,) about (..., 3) mirror directions."""
        ...


@dataclass(frozen=True)
class Sun:
    """A distant light.  direction: (3,) unit, towards it.  irradiance: (3,) on a surface facing it.
    angular_radius: radians; 0 for no extent (the Sun's is 0.00465).
    """

    direction: Tensor
    irradiance: Tensor
    angular_radius: float = 0.0

    @property
    def delta(self) -> bool:
        return self.angular_radius == 0

    @property
    def _solid_angle(self) -> float:
        return 2 * math.pi * (1 - math.cos(self.angular_radius))

    def sample_light(self, position: Tensor, u: Tensor) -> LightSample:
        """See `Light`."""
        centre = self.direction.to(position).expand_as(position)
        distance = torch.full_like(position[..., 0], FAR)
        if self.delta:
            return LightSample(centre, distance, self.irradiance.expand_as(position), torch.ones_like(distance))
        z = 1 - u[..., 0] * (1 - math.cos(self.angular_radius))
        r, phi = ((1 - z) * (1 + z)).clamp_min(0).sqrt(), 2 * math.pi * u[..., 1]
        direction = to_world(torch.stack([r * phi.cos(), r * phi.sin(), z], -1), centre)
        pdf = torch.full_like(distance, 1 / self._solid_angle)
        return LightSample(direction, distance, self._radiance().expand_as(position), pdf)

    def hit(self, position: Tensor, direction: Tensor) -> LightSample:
        """See `Light`."""
        inside = dot(direction, self.direction.to(direction)) > math.cos(self.angular_radius)
        inside = inside & (not self.delta)
        distance = torch.full_like(direction[..., 0], FAR)
        pdf = inside / max(self._solid_angle, 1e-12)
        return LightSample(direction, distance, self._radiance() * inside[..., None], pdf.to(direction))

    def _radiance(self) -> Tensor:
        # The disc's mean cosine to its centre is (1 + cos) / 2.
        return self.irradiance / max(self._solid_angle * 0.5 * (1 + math.cos(self.angular_radius)), 1e-12)


@dataclass(frozen=True)
class Point:
    """position: (3,).  intensity: (3,) power per solid angle.  direction, inner, outer: of a spot (glTF
    KHR_lights_punctual): (3,) unit away from the light, and the angles, radians, where it begins to fall and ends.
    """

    position: Tensor
    intensity: Tensor
    direction: Tensor | None = None
    inner: float = 0.0
    outer: float = math.pi / 4

    delta = True

    def sample_light(self, position: Tensor, u: Tensor) -> LightSample:
        """See `Light`."""
        offset = self.position.to(position) - position
        square = dot(offset, offset).clamp_min(1e-12)
        distance = square.sqrt()
        towards = offset / distance[..., None]
        strength = 1 / square
        if self.direction is not None:
            cosine = -dot(towards, self.direction.to(position))
            scale = 1 / max(0.001, math.cos(self.inner) - math.cos(self.outer))
            strength = strength * ((cosine - math.cos(self.outer)) * scale).clamp(0, 1) ** 2
        return LightSample(towards, distance, self.intensity * strength[..., None], torch.ones_like(distance))

    def hit(self, position: Tensor, direction: Tensor) -> LightSample:
        """See `Light`."""
        nothing = torch.zeros_like(direction[..., 0])
        return LightSample(direction, nothing, torch.zeros_like(direction), nothing)


@dataclass(frozen=True)
class Rectangle:
    """Shines from the side its edges turn anticlockwise on.  corner, edge_a, edge_b: (3,), at right angles.
    radiance: (3,).
    """

    corner: Tensor
    edge_a: Tensor
    edge_b: Tensor
    radiance: Tensor

    delta = False

    @property
    def _normal_area(self) -> tuple[Tensor, Tensor]:
        cross = torch.linalg.cross(self.edge_a, self.edge_b)
        area = cross.norm()
        return cross / area, area

    def sample_light(self, position: Tensor, u: Tensor) -> LightSample:
        """See `Light`."""
        place = self.corner + u[..., :1] * self.edge_a + u[..., 1:] * self.edge_b
        offset = place - position
        distance = dot(offset, offset).clamp_min(1e-12).sqrt()
        return self._seen(offset / distance[..., None], distance, torch.ones_like(distance, dtype=torch.bool))

    def hit(self, position: Tensor, direction: Tensor) -> LightSample:
        """See `Light`."""
        normal, _ = self._normal_area
        facing = dot(direction, normal)
        distance = dot(self.corner - position, normal) / torch.where(facing.abs() < 1e-9, 1e-9, facing)
        place = position + distance[..., None] * direction - self.corner
        a = dot(place, self.edge_a) / dot(self.edge_a, self.edge_a)
        b = dot(place, self.edge_b) / dot(self.edge_b, self.edge_b)
        inside = (distance > 0) & (a >= 0) & (a <= 1) & (b >= 0) & (b <= 1)
        return self._seen(direction, distance, inside)

    def _seen(self, direction: Tensor, distance: Tensor, inside: Tensor) -> LightSample:
        normal, area = self._normal_area
        cosine = -dot(direction, normal)
        shines = inside & (cosine > 1e-6)
        pdf = torch.where(shines, distance * distance / (cosine.clamp_min(1e-6) * area), 0.0)
        return LightSample(direction, distance, self.radiance * shines[..., None], pdf)
