"""A relighter of pictures: as bright as the new light makes a white surface of that shape, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relight.diffusion.pictures.geometry import Geometry
from relight.diffusion.pictures.hints import matte
from relight.diffusion.pictures.relighters import NewLight, checked, rays
from relight.shading.color import linear_to_srgb, luminance, srgb_to_linear


@dataclass(frozen=True)
class Brightness:
    """`ImageRelighter`: the least that one can do, and sometimes enough."""

    def relit(self, picture: Tensor, geometry: Geometry, light: NewLight, *, seed: int = 0) -> Tensor:
        """See `ImageRelighter`."""
        checked(picture, geometry)
        surface, tracer = geometry.surface, rays(geometry, light.lights)
        received = luminance(matte(surface, geometry.seeing(light.lights), tracer)).mean() * light.exposure
        linear = srgb_to_linear(picture)
        gain = received / luminance(linear[geometry.mask]).mean().clamp_min(1e-6)
        brighter = linear_to_srgb((linear * gain).clamp(0, 1))
        return torch.where(geometry.mask[..., None], brighter, picture)


def test_a_brighter_light_makes_a_brighter_picture() -> None:
    from relight.diffusion.light_words import LightDescription
    from relight.diffusion.pictures.geometry import from_maps
    from relight.diffusion.pictures.relighters import ImageRelighter

    towards_the_eye = torch.tensor([0.0, 0.0, 1.0]).expand(16, 16, 3)
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[4:12, 4:12] = True
    shape = from_maps(mask, normal=towards_the_eye)
    picture = torch.full((16, 16, 3), 0.5)
    model = Brightness()
    assert isinstance(model, ImageRelighter)
    means = []
    for words in ("dim light from the front", "bright light from the front"):
        light = LightDescription.parse(words)
        new = NewLight(light.lights(shape.world_from_viewer, shape.middle, shape.radius), 0.2, light)
        lit = model.relit(picture, shape, new)
        assert torch.equal(lit[~mask], picture[~mask]) and torch.equal(lit, model.relit(picture, shape, new))
        means.append(float(lit[mask].mean()))
    assert means[0] < means[1]
