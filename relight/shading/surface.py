"""What there is to shade: points with a material, in any arrangement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from relight.errors import ShapeError
from relight.vectors import unit

_TRAILING = {
    "position": (3,), "normal": (3,), "view": (3,), "base_color": (3,), "roughness": (), "metallic": (),
    "occlusion": (), "emission": (3,), "geometric_normal": (3,), "ior": (), "specular": (), "specular_color": (3,),
}  # fmt: skip

_LOWEST = 0.02
"""Sine of the angle, about one degree, that `leant` keeps a mirrored eye above the face."""


@dataclass(frozen=True)
class Surface:
    """Points of any leading shape (...): (H, W) for a picture, (N,) for Gaussians or ray hits.

    position: (..., 3) world units.  normal: (..., 3) unit, world, the shading normal.
    view: (..., 3) unit, world, from the point towards the eye.
    base_color: (..., 3) linear Rec.709, 0 to 1.  roughness: (...,) perceptual (its square is GGX's alpha), 0 to 1.
    metallic: (...,) 0 to 1.
    occlusion: (...,) share of the surroundings that is seen, 0 to 1; None for 1.
    emission: (..., 3) linear radiance; None for 0.
    geometric_normal: (..., 3) unit; which side rays leave from; None for `normal`.
    ior: (...,) index of refraction of the dielectric, at least 1 (KHR_materials_ior); None for 1.5.
    specular: (...,) 0 to 1, scales the dielectric's reflection at all angles; None for 1.  specular_color: (..., 3) at
        least 0, tints it at normal incidence; None for white (KHR_materials_specular).
    """

    position: Tensor
    normal: Tensor
    view: Tensor
    base_color: Tensor
    roughness: Tensor
    metallic: Tensor
    occlusion: Tensor | None = None
    emission: Tensor | None = None
    geometric_normal: Tensor | None = None
    ior: Tensor | None = None
    specular: Tensor | None = None
    specular_color: Tensor | None = None

    def __post_init__(self) -> None:
        for name, trailing in _TRAILING.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != (*self.shape, *trailing):
                raise ShapeError.expected(f"Surface.{name}", str((*self.shape, *trailing)), tuple(value.shape))

    @property
    def shape(self) -> tuple[int, ...]:
        """The leading shape."""
        return tuple(self.roughness.shape)

    def map(self, function: Callable[[Tensor], Tensor]) -> Surface:
        """Apply `function` to every tensor."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Surface(**{k: None if v is None else function(v) for k, v in values.items()})  # type: ignore[arg-type]

    def flat(self) -> Surface:
        """With one leading dimension."""
        n = len(self.shape)
        return self.map(lambda t: t.reshape(-1, *t.shape[n:]))

    def __getitem__(self, index) -> Surface:
        """Some of the points, by mask, slice or index over the leading shape."""
        return self.map(lambda t: t[index])

    @property
    def dielectric_f0(self) -> Tensor:
        """(..., 3) reflectance of the dielectric at normal incidence: 0.04 unless ior or specular say otherwise."""
        f0 = torch.full_like(self.base_color, 0.04)
        if self.ior is not None:
            f0 = (((self.ior - 1) / (self.ior + 1)) ** 2)[..., None].expand_as(f0)
        if self.specular_color is not None:
            f0 = (f0 * self.specular_color).clamp_max(1)
        return f0 if self.specular is None else f0 * self.specular[..., None]

    @property
    def dielectric_f90(self) -> Tensor:
        """(..., 1) reflectance of the dielectric at grazing incidence."""
        return (torch.ones_like(self.roughness) if self.specular is None else self.specular)[..., None]

    @property
    def f0(self) -> Tensor:
        """(..., 3) reflectance at normal incidence: the dielectric's, or the base colour for metals (glTF 2.0)."""
        m = self.metallic[..., None]
        return self.dielectric_f0 * (1 - m) + self.base_color * m

    @property
    def diffuse_color(self) -> Tensor:
        """(..., 3) albedo of the Lambertian part."""
        return self.base_color * (1 - self.metallic[..., None])

    @property
    def side(self) -> Tensor:
        """(..., 3) the normal that rays leave along."""
        return self.normal if self.geometric_normal is None else self.geometric_normal


def dot(a: Tensor, b: Tensor) -> Tensor:
    """(..., 3), (..., 3) to (...,)."""
    return (a * b).sum(-1)


def reflect(direction: Tensor, normal: Tensor) -> Tensor:
    """(..., 3) `direction`, which points away from the surface, mirrored about `normal`."""
    return 2 * dot(direction, normal)[..., None] * normal - direction


def leant(normal: Tensor, face: Tensor, view: Tensor) -> Tensor:
    """(..., 3) `normal`, leant towards `face` as far as it takes for the mirror image of `view` to lie above the face.

    Mapped and interpolated normals may mirror the eye to below the surface itself, where no light comes from, so that
    metals show black rims (Keller et al., The Iray Light Transport Simulation and Rendering System, 2017, adapt the
    normal likewise).  All (..., 3) unit; a face that is seen from behind changes nothing.
    """
    v_g = dot(view, face)
    # A little above: of a narrow lobe along the face, half would be lost.
    lowest = (v_g / 2).clamp_max(_LOWEST)
    below = (v_g > 0) & (dot(reflect(view, normal), face) < lowest)
    side = normal - dot(normal, face)[..., None] * face
    side = torch.where(below[..., None], side, frame(face)[0])
    side = unit(side)
    # A normal at the angle t from the face's mirrors the eye to the height v_g cos 2t + v_t sin 2t.
    v_t = torch.where(below, dot(view, side), 0.0)
    height = torch.where(below, (v_g * v_g + v_t * v_t).clamp_min(1e-12).sqrt(), 1.0)
    steepest = (torch.atan2(v_t, v_g.clamp_min(1e-6)) + torch.acos((lowest / height).clamp(0, 1 - 1e-6))) / 2
    steepest = steepest[..., None]
    return torch.where(below[..., None], steepest.cos() * face + steepest.sin() * side, normal)


def frame(normal: Tensor) -> tuple[Tensor, Tensor]:
    """Two unit (..., 3) tangents; with `normal` a right-handed basis.

    Duff et al., Building an Orthonormal Basis, Revisited, JCGT 6(1), 2017.
    """
    x, y, z = normal.unbind(-1)
    sign = torch.where(z >= 0, 1.0, -1.0).to(z)
    a = -1 / (sign + z)
    b = x * y * a
    return torch.stack([1 + sign * x * x * a, sign * b, -sign * x], -1), torch.stack([b, sign + y * y * a, -y], -1)


def to_world(local: Tensor, normal: Tensor) -> Tensor:
    """(..., 3) from the basis of `frame`, normal last, to the world."""
    tangent, bitangent = frame(normal)
    return local[..., :1] * tangent + local[..., 1:2] * bitangent + local[..., 2:] * normal


def to_local(world: Tensor, normal: Tensor) -> Tensor:
    """Inverse of `to_world`."""
    tangent, bitangent = frame(normal)
    return torch.stack([dot(world, tangent), dot(world, bitangent), dot(world, normal)], -1)
