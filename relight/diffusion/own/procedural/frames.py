"""Procedural views under light: photographs, radiance hints and the truth behind them, drawn afresh for every step.

Shading is `relight.shading`'s own; shadows come from the bits of sky that each pixel sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from relight.diffusion.own.procedural.draw import Draw
from relight.diffusion.own.procedural.views import Views
from relight.diffusion.pictures.hints import DIRECTIONS, Seen, closeness, radiance_hints, shown
from relight.shading.color import linear_to_srgb, srgb_to_linear
from relight.shading.environment import Environment
from relight.shading.shade import SplitSum, shade
from relight.shading.surface import Surface
from relight.shading.tonemap import clip, reinhard
from relight.vectors import unit


@dataclass(frozen=True)
class Frames:
    """What is known of B pictures of (S, S) pixels, all (B, C, S, S).

    photo: 3, sRGB-encoded as a camera gives it, 0 to 1; the backdrop is behind.  base_color: 3, sRGB-encoded.
    roughness, metallic: 1.  normal: 3, camera frame (+x right, +y down, +z forward).  depth: 1, 1 near to 0 far and
    where nothing is.  mask: 1.  hints: 12, sRGB of Reinhard's curve of the hints' radiance at the photo's exposure.
    """

    photo: Tensor
    base_color: Tensor
    roughness: Tensor
    metallic: Tensor
    normal: Tensor
    depth: Tensor
    mask: Tensor
    hints: Tensor


Light = Callable[[Generator], Environment]
"""Draws a light."""


def pool(environments: Sequence[Environment]) -> Light:
    """One of them, turned about the vertical: what is slow to work out in an environment is done once."""

    def light(generator: Generator) -> Environment:
        draw = Draw(generator)
        return draw.pick(environments).turned(draw.number(0, 6.2832))

    return light


def frames(views: Views, light: Light, generator: Generator, *, relit: bool = False) -> tuple[Frames, ...]:
    """The views, each under a light of its own; with `relit` also the same views under others, exposed alike."""
    draw = Draw(generator)
    made = [_lit(views[i : i + 1], light, draw, 1 + relit) for i in range(len(views))]
    return tuple(_stacked([m[k] for m in made]) for k in range(1 + relit))


def _lit(view: Views, light: Light, draw: Draw, times: int) -> list[Frames]:
    if draw.chance(0.5):
        view = _mirrored(view)
    surface, visible, mask = surface_of(view)
    curve = draw.pick((clip, clip, reinhard))
    key, noise, dark = draw.number(0.1, 0.35), draw.number(0, 0.015), draw.chance(0.5)
    backdrop = torch.zeros(3) if dark else torch.rand(3, generator=draw.generator)
    out = []
    for _ in range(times):
        seen = [Seen(light(draw.generator), visible)]
        radiance = shade(surface, seen, SplitSum())
        # As a camera meters: what is matte and grey comes out at the key.
        hints = radiance_hints(surface, seen)
        exposure = key / (0.4 * hints[0].mean().clamp_min(1e-6) + 0.3 * radiance.mean() + 1e-6)
        photo = linear_to_srgb(curve(radiance * exposure))
        photo = photo + noise * torch.randn(photo.shape, generator=draw.generator)
        whole = _picture(photo, mask, backdrop)
        out.append((whole.clamp(0, 1), torch.cat([_picture(shown(h, exposure), mask) for h in hints])))
    known = _known(view, mask)
    return [Frames(photo=photo, hints=hints, **known) for photo, hints in out]


def unlit(views: Views) -> Frames:
    """What is there, without a light to see it by: photo and hints are 0.  Much quicker."""
    parts = []
    for index in range(len(views)):
        view = views[index : index + 1]
        known = _known(view, view.depth[0] > 0)
        none = known["mask"].new_zeros(15, *known["mask"].shape[1:])
        parts.append(Frames(photo=none[:3], hints=none[3:], **known))
    return _stacked(parts)


def _known(view: Views, mask: Tensor) -> dict[str, Tensor]:
    return {
        "base_color": (view.base_color[0].float() / 255).permute(2, 0, 1),
        "roughness": view.roughness.float() / 255,
        "metallic": view.metallic.float() / 255,
        "normal": (view.normal[0].float() @ view.rotation[0]).permute(2, 0, 1),
        "depth": closeness(view.depth[0].float(), mask)[None],
        "mask": mask[None].float(),
    }


def surface_of(view: Views) -> tuple[Surface, Tensor, Tensor]:
    """Of one view: the N points that show something, (N, DIRECTIONS) open sky at each, and where they are (S, S)."""
    mask = view.depth[0] > 0
    size = mask.shape[0]
    j, i = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    local = torch.stack([i - size / 2, j - size / 2, view.focal[0].expand(size, size)], -1).to(view.rotation)
    towards = -unit(local @ view.rotation[0].mT)[mask]
    normal = view.normal[0][mask].float()
    bits = (view.open[0][mask][:, None] >> torch.arange(DIRECTIONS, device=normal.device)) & 1
    color = srgb_to_linear(view.base_color[0][mask].float() / 255)
    surface = Surface(
        torch.zeros_like(normal), unit(normal), towards, color,
        view.roughness[0][mask].float() / 255, view.metallic[0][mask].float() / 255,
    )  # fmt: skip
    return surface, bits.float(), mask


def _mirrored(view: Views) -> Views:
    """Left and right exchanged in the picture; the world stays, so what is open and which way normals point change.

    Instead of moving the sky's directions, the camera's x axis is turned around: a mirrored world looks like this.
    """
    flip = {
        name: getattr(view, name).flip(2) for name in ("base_color", "roughness", "metallic", "normal", "depth", "open")
    }
    rotation = view.rotation.clone()
    rotation[:, :, 0] = -rotation[:, :, 0]
    return replace(view, **flip, rotation=rotation)


def _picture(values: Tensor, mask: Tensor, backdrop: Tensor | None = None) -> Tensor:
    """(3, S, S) of (N, 3) values where the mask is."""
    blank = torch.zeros(*mask.shape, 3) if backdrop is None else backdrop.expand(*mask.shape, 3).clone()
    blank = blank.to(values)
    blank[mask] = values
    return blank.permute(2, 0, 1)


def _stacked(parts: list[Frames]) -> Frames:
    return Frames(**{name: torch.stack([getattr(p, name) for p in parts]) for name in Frames.__dataclass_fields__})
