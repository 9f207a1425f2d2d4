"""Procedural views under light: photographs, radiance hints and the truth behind them, drawn afresh for every step.

Shading is `relight.shading`'s own; shadows come from the bits of sky that each pixel sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from relight.diffusion.procedural.chance import between, chance, pick
from relight.diffusion.procedural.views import DIRECTIONS, Views, sky
from relight.shading.color import linear_to_srgb, srgb_to_linear
from relight.shading.environment import Environment
from relight.shading.lights import LightSample
from relight.shading.shade import SplitSum, shade
from relight.shading.surface import Surface
from relight.shading.tonemap import clip, reinhard
from relight.vectors import unit

HINTS = ((1.0, None), (1.0, 0.05), (1.0, 0.13), (1.0, 0.34))
"""White surfaces whose pictures are radiance hints: matte, and of three GGX alphas (DiLightNet, Zeng et al. 2024)."""
SHARPEST = 20.0
"""Of a lobe that looks up how much of the sky is open: about the spacing of the directions."""


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


@dataclass(frozen=True)
class Seen:
    """An environment as (N,) points see it past what obstructs them.

    open: (N, DIRECTIONS) 0 or 1.  Where the sky is hidden, a grey neighbour of `bounce` times the mean light is seen.
    """

    light: Environment
    open: Tensor
    bounce: float = 0.2

    delta = False

    def irradiance(self, normals: Tensor) -> Tensor:
        """See `relight.shading.lights.Surroundings`."""
        cosine = (normals @ sky().to(normals).mT).clamp_min(0)
        where = self.light.reflection(sky().to(normals), torch.full((DIRECTIONS,), 0.35).to(normals))
        received, all_of_it = (cosine * self.open) @ where, cosine @ where
        hidden = 1 - (cosine * self.open).sum(1) / cosine.sum(1)
        exact = self.light.irradiance(normals)
        return exact * received / all_of_it.clamp_min(1e-6) + hidden[:, None] * self._neighbours

    def reflection(self, directions: Tensor, roughness: Tensor) -> Tensor:
        """See `relight.shading.lights.Surroundings`."""
        sharpness = (2 / (roughness**4).clamp_min(2 / SHARPEST))[:, None]
        lobe = torch.exp(sharpness * (directions @ sky().to(directions).mT - 1))
        seen = ((lobe * self.open).sum(1) / lobe.sum(1))[:, None]
        return self.light.reflection(directions, roughness) * seen + (1 - seen) * self._neighbours

    def sample_light(self, position: Tensor, u: Tensor) -> LightSample:
        """The environment's, without what obstructs it: bits of sky are too coarse for samples."""
        return self.light.sample_light(position, u)

    def hit(self, position: Tensor, direction: Tensor) -> LightSample:
        """See `sample_light`."""
        return self.light.hit(position, direction)

    @property
    def _neighbours(self) -> Tensor:
        return self.bounce * self.light.irradiance(sky().to(self.open)).mean(0)


Light = Callable[[Generator], Environment]
"""Draws a light."""


def pool(environments: Sequence[Environment]) -> Light:
    """One of them, turned about the vertical: what is slow to work out in an environment is done once."""

    def light(generator: Generator) -> Environment:
        return pick(generator, environments).turned(between(generator, 0, 6.2832))

    return light


def frames(views: Views, light: Light, generator: Generator, *, relit: bool = False) -> tuple[Frames, ...]:
    """The views, each under a light of its own; with `relit` also the same views under others, exposed alike."""
    made = [_lit(views[i : i + 1], light, generator, 1 + relit) for i in range(len(views))]
    return tuple(_stacked([m[k] for m in made]) for k in range(1 + relit))


def _lit(view: Views, light: Light, generator: Generator, times: int) -> list[Frames]:
    if chance(generator, 0.5):
        view = _mirrored(view)
    surface, visible, mask = surface_of(view)
    white = replace(
        surface, base_color=torch.ones_like(surface.base_color), metallic=torch.zeros_like(surface.metallic)
    )
    curve = pick(generator, (clip, clip, reinhard))
    key, noise, dark = between(generator, 0.1, 0.35), between(generator, 0, 0.015), chance(generator, 0.5)
    backdrop = torch.zeros(3) if dark else torch.rand(3, generator=generator)
    out = []
    for _ in range(times):
        seen = [Seen(light(generator), visible)]
        radiance = shade(surface, seen, SplitSum())
        # As a camera meters: what is matte and grey comes out at the key.
        matte = seen[0].irradiance(surface.normal)
        exposure = key / (0.4 * matte.mean().clamp_min(1e-6) + 0.3 * radiance.mean() + 1e-6)
        hints = [matte if alpha is None else _gloss(white, seen, alpha) for _, alpha in HINTS]
        photo = linear_to_srgb(curve(radiance * exposure))
        photo = photo + noise * torch.randn(photo.shape, generator=generator)
        whole = _picture(photo, mask, backdrop)
        shown = [_picture(linear_to_srgb(reinhard(h * exposure)), mask) for h in hints]
        out.append((whole.clamp(0, 1), torch.cat(shown)))
    depth = view.depth[0].float()
    inverse = torch.where(mask, 1 / depth.clamp_min(1e-3), 0.0)
    near, far = inverse.max(), inverse[mask].min() if bool(mask.any()) else inverse.max()
    closeness = torch.where(mask, (inverse - far) / (near - far).clamp_min(1e-3) * 0.9 + 0.1, 0.0)
    known = {
        "base_color": (view.base_color[0].float() / 255).permute(2, 0, 1),
        "roughness": view.roughness.float() / 255,
        "metallic": view.metallic.float() / 255,
        "normal": (view.normal[0].float() @ view.rotation[0]).permute(2, 0, 1),
        "depth": closeness[None],
        "mask": mask[None].float(),
    }
    return [Frames(photo=photo, hints=hints, **known) for photo, hints in out]


def _gloss(white: Surface, lights: list[Seen], alpha: float) -> Tensor:
    """Radiance of a white mirror of this GGX alpha."""
    rough = torch.full_like(white.roughness, alpha**0.5)
    return shade(replace(white, metallic=torch.ones_like(rough), roughness=rough), lights, SplitSum())


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
