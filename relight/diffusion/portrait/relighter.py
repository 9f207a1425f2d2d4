"""People under another light: shaded by the shape of their faces, with skin's own gloss, and refined by any relighter.

What changes is a smooth factor per pixel and gloss that is added; features, colours and grain are the photograph's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from relight.diffusion.pictures.detail import FLOOR, colours_kept, upsampled
from relight.diffusion.pictures.geometry import Geometry
from relight.diffusion.pictures.hints import matte
from relight.diffusion.pictures.relighters import (
    ALBEDO,
    ImageRelighter,
    NewLight,
    checked,
    light_basis,
    light_in,
    rays,
    shrunk,
)
from relight.diffusion.portrait.networks import Face
from relight.diffusion.portrait.shape import skin
from relight.resize import resized
from relight.shading.color import linear_to_srgb, luminance, srgb_to_linear
from relight.shading.shade import SplitSum, shade

SKIN = 0.35
"""Luminance of lit skin's albedo, in the middle of what is measured (0.1 to 0.5): it tells gloss from paint."""
SKIN_ROUGHNESS, SKIN_IOR = 0.45, 1.4
"""Of skin's oily layer (Weyrich et al., SIGGRAPH 2006: m about 0.3; F0 0.028)."""
CLOTH_ROUGHNESS, CLOTH_SPECULAR = 0.85, 0.5
HEAD = 2.2
"""Sides of a face's box within which light is worked out again, finer."""
DARKEST, BRIGHTEST = 0.2, 2.5
"""Of mean shading: the old light is nowhere taken to be less, or noise in shadows would be multiplied, nor more."""
ENOUGH = 150
"""Small pixels of skin that light is read off."""
SCATTER = 0.02
"""Of a face's size: how far light goes in skin, some millimetres (Jensen et al., SIGGRAPH 2001); it also hides that few
directions of the sky tell where shadows end."""
DIMMEST, BRIGHTENED = 1 / 60, 8.0
"""By which a pixel is made darker or brighter, at most."""
KNEE = 0.7
"""Linear value from which what gets brighter is rolled off instead of clipped: white skin is the first thing seen."""


@dataclass(frozen=True)
class PortraitRelighter:
    """An `ImageRelighter` for people.

    faces: as found in the picture.  size: pixels of the longer side at which light is worked out, of the whole and of
    each head.  refiner: whose change of light is mixed in, by `share` from 0 to 1; None for none.  gloss: of skin, 1 as
    measured; what the photograph shows stays in it.  keep_colours: of hues, against a refiner that makes some up.
    """

    faces: tuple[Face, ...] = ()
    size: int = 160
    refiner: ImageRelighter | None = None
    share: float = 0.0
    gloss: float = 0.5
    keep_colours: float = 1.0

    def relit(self, picture: Tensor, geometry: Geometry, light: NewLight, *, seed: int = 0) -> Tensor:
        """See `ImageRelighter`."""
        checked(picture, geometry)
        linear, on_skin = srgb_to_linear(picture), skin(geometry.size, self.faces) & geometry.mask
        whole = _OldLight.of(picture, geometry, on_skin, self.size)
        factor, added = self._change(whole, picture, geometry, on_skin, light)
        for face in self.faces:
            area = _around(face, geometry)
            if area is None:
                continue
            rows, columns = area
            part = geometry.cropped(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)
            finer = self._change(whole, picture[rows, columns], part, on_skin[rows, columns], light)
            weight = _feather(*part.size)
            factor[rows, columns] = torch.lerp(factor[rows, columns], finer[0], weight)
            added[rows, columns] = torch.lerp(added[rows, columns], finer[1], weight)
        if self.refiner is not None and self.share > 0:
            factor = factor + self.share * (self._refined(picture, geometry, light, seed) - factor)
            added = added * (1 - self.share)
        after = ((linear + FLOOR) * factor.exp() - FLOOR).clamp_min(0) + added
        return torch.where(geometry.mask[..., None], linear_to_srgb(_rolled_off(after, linear)), picture)

    def _change(
        self, old: _OldLight, picture: Tensor, geometry: Geometry, on_skin: Tensor, light: NewLight
    ) -> tuple[Tensor, Tensor]:
        """(H, W, 3) logarithm of the factor, and (H, W, 3) gloss."""
        whole, small = shrunk(picture, geometry, self.size)
        before = whole[small.mask]
        lights, surface, tracer = small.seeing(light.lights), small.surface, rays(small, light.lights)
        share = _share(on_skin, small)
        received = matte(surface, lights, tracer) * light.exposure
        if self.faces:
            reach = SCATTER * self.faces[0].size * small.size[1] / geometry.size[1]
            received = torch.lerp(received, _scattered(received, share, small, reach), share[:, None])
        after = before / old.shading(small)[:, None] * received
        factor = ((after + FLOOR) / (before + FLOOR)).clamp(DIMMEST, BRIGHTENED).log()
        oil = replace(
            surface,
            base_color=torch.zeros_like(surface.normal),
            roughness=CLOTH_ROUGHNESS + (SKIN_ROUGHNESS - CLOTH_ROUGHNESS) * share,
            specular=CLOTH_SPECULAR + (1 - CLOTH_SPECULAR) * share,
            ior=torch.full_like(share, SKIN_IOR),
        )
        gloss = shade(oil, lights, SplitSum(), tracer=tracer) * (light.exposure * self.gloss * old.skin / SKIN)
        both = upsampled(torch.cat([small.spread(factor), small.spread(gloss)], -1), small, geometry)
        return both[..., :3].clone(), both[..., 3:].clamp_min(0)

    def _refined(self, picture: Tensor, geometry: Geometry, light: NewLight, seed: int) -> Tensor:
        """(H, W, 3) logarithm of the factor by which another model changes the picture."""
        assert self.refiner is not None
        made = srgb_to_linear(self.refiner.relit(picture, geometry, light, seed=seed))
        source = srgb_to_linear(picture)
        made = colours_kept(source, made, geometry.mask, self.keep_colours) if self.keep_colours else made
        return ((made + FLOOR) / (source + FLOOR)).clamp(DIMMEST, BRIGHTENED).log()


@dataclass(frozen=True)
class _OldLight:
    """coefficients: (10,) of `light_basis` for shading, with which the subject's mean albedo is about ALBEDO, as
    exposures are told.  mean: of that shading.  skin: median luminance of what skin's albedo would then be.
    """

    coefficients: Tensor
    mean: float
    skin: float

    @staticmethod
    def of(picture: Tensor, geometry: Geometry, on_skin: Tensor, size: int) -> _OldLight:
        """Read off skin, whose paint is much the same all over; off everything if there is too little of it."""
        whole, small = shrunk(picture, geometry, size)
        linear = whole[small.mask]
        bright, values = luminance(linear).clamp_min(1e-3), light_basis(small)
        told = _share(on_skin, small) > 0.9
        found = bool(int(told.sum()) >= ENOUGH)
        told = told if found else torch.ones_like(told)
        coefficients = light_in(bright[told], values[told])
        old = _OldLight(coefficients, float((values[told] @ coefficients).mean()), SKIN)
        scale = float(bright.mean() / ALBEDO / old.shading(small).mean())
        old = _OldLight(coefficients * scale, old.mean * scale, SKIN)
        return replace(old, skin=float((bright / old.shading(small))[told].median())) if found else old

    def shading(self, small: Geometry) -> Tensor:
        """(N,) of the mask's points."""
        return (light_basis(small) @ self.coefficients).clamp(DARKEST * self.mean, BRIGHTEST * self.mean)


def _rolled_off(after: Tensor, before: Tensor) -> Tensor:
    """(H, W, 3) below 1, of one hue; what was bright in (H, W, 3) before may stay so."""
    most = after.amax(-1, keepdim=True).clamp_min(1e-6)
    knee = before.amax(-1, keepdim=True).clamp(KNEE, 0.999)
    soft = knee + (1 - knee) * (1 - torch.exp(-(most - knee) / (1 - knee)))
    return (after * torch.where(most > knee, soft / most, 1.0)).clamp(0, 1)


def _scattered(received: Tensor, share: Tensor, small: Geometry, reach: float) -> Tensor:
    """(N, 3) means over skin within `reach` pixels, of (N, 3) and its share (N,) of the mask's points."""
    side = round(reach)
    if side < 1:
        return received
    planes = small.spread(torch.cat([received * share[:, None], share[:, None]], 1)).permute(2, 0, 1)[None]
    for _ in range(2):
        planes = avg_pool2d(planes, 2 * side + 1, 1, side)
    mean = planes[0].permute(1, 2, 0)[small.mask]
    return mean[:, :3] / mean[:, 3:].clamp_min(1e-4)


def _share(on_skin: Tensor, small: Geometry) -> Tensor:
    """(N,) of a small geometry's points: how much of them (H, W) says."""
    return resized(on_skin[..., None].float(), *small.size)[..., 0][small.mask]


def _around(face: Face, geometry: Geometry) -> tuple[slice, slice] | None:
    """Rows and columns of a head; None if it's most of the picture anyway, or not of the subject."""
    height, width = geometry.size
    reach = HEAD / 2 * face.size
    x, y = face.middle.tolist()
    rows = slice(max(0, round(y - reach)), min(height, round(y + reach)))
    columns = slice(max(0, round(x - reach)), min(width, round(x + reach)))
    if reach > 0.4 * max(height, width) or not bool(geometry.mask[rows, columns].any()):
        return None
    return rows, columns


def _feather(height: int, width: int) -> Tensor:
    """(H, W, 1) 1 in the middle, 0 at the edges."""
    row, column = torch.linspace(-1, 1, height).abs(), torch.linspace(-1, 1, width).abs()
    weight = ((1 - torch.maximum(row[:, None], column[None])) * 4).clamp(0, 1)
    return (weight * weight * (3 - 2 * weight))[..., None]
