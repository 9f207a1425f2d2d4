"""Light from all around, from a photograph that shows a part of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import pad

from relight.diffusion.own.prior import Prior
from relight.diffusion.protocol import Condition, Denoiser
from relight.diffusion.samplers import ddim
from relight.diffusion.surroundings.framing import Frame, condition, map_directions, resized_map, warped
from relight.errors import RelightError, ShapeError
from relight.resize import averaged
from relight.shading.color import linear_to_srgb
from relight.shading.encoding import decode, encode

CHANNELS = 6
"""Of a model for panoramas: `encode`'s two pictures, display-like first."""
CLIPPED = 250 / 255
"""sRGB value from which a channel of a photograph may have been brighter than it shows."""
FEATHER = 0.25
"""Of half the photograph's width: over so much it fades into what is made up around it."""
KEY = 0.18
"""Geometric mean that known light is exposed to where it isn't a photograph, which is exposed already."""


@runtime_checkable
class PanoramaEstimator(Protocol):
    """Anything that guesses what a photograph doesn't show."""

    def estimate(self, photo: Tensor, frame: Frame, rows: int = 64) -> Tensor:
        """(rows, 2 rows, 3) radiance in units of the photograph's white, turned so that what (h, w, 3) the photograph
        looks at is in the middle; frame of `Environment`.  photo: linear; near 1 a channel is clipped, above, where
        exposures were merged, it is not.  frame: one camera.
        """
        ...


@dataclass(frozen=True)
class DiffusionPanorama:
    """A `PanoramaEstimator` by a diffusion model of 6 channels that is told the maps of `framing.CONDITION`.

    size: rows that the model makes.  steps: of sampling; one gives what is to be expected, the better light, and more
    give one of what may be, the better picture.  draws: independent samples, whose light is averaged.  wrap: columns by
    which the map is continued around at both ends, for models that are not circular themselves; 0 for those that are.
    Raises RelightError for a model of something else.
    """

    model: Denoiser
    size: int = 32
    steps: int = 1
    draws: int = 1
    seed: int = 0
    wrap: int = 0

    def __post_init__(self) -> None:
        if self.model.channels != CHANNELS:
            raise RelightError(
                f"panorama: expected a model of {CHANNELS} channels, found one of {self.model.channels}; "
                "train one with python -m relight.diffusion.own.train panorama"
            )
        if min(self.steps, self.draws) < 1:
            raise RelightError(f"panorama: expected at least one step and one draw, found {self.steps}, {self.draws}")

    def estimate(self, photo: Tensor, frame: Frame, rows: int = 64) -> Tensor:
        """See `PanoramaEstimator.estimate`."""
        check_photo(photo)
        parts, seen = laid(photo, frame, self.size)
        shown, clipped = parts[..., :3], parts[..., 3:]
        trusted = (seen[..., None] > 0.99).float() * (1 - clipped)
        made = self._made(condition(shown, seen), shown, trusted)
        return with_photo(resized_map(made, rows), photo, frame)

    def complete(self, radiance: Tensor, known: Tensor) -> Tensor:
        """(H, 2H, 3) radiance of a map of which only `known` (H, 2H), 0 or 1, is given, with the rest made up; what is
        known stays as it is.  Best where that is about as much as a photograph shows: that's what models are taught.
        Raises ShapeError, and RelightError if nothing is known.
        """
        rows = radiance.shape[0]
        if radiance.shape != (rows, 2 * rows, 3) or known.shape != radiance.shape[:2]:
            expected = "radiance (H, 2H, 3), known (H, 2H)"
            raise ShapeError.expected("panorama", expected, (tuple(radiance.shape), tuple(known.shape)))
        if not bool((known > 0).any()):
            raise RelightError("panorama: nothing of it is known; give a mask that is white somewhere")
        known = (known > 0.5).float()[..., None]
        # The middle of what is known is to be the map's, as photographs are.
        angle = torch.arange(2 * rows, device=known.device) * (torch.pi / rows)
        middle = torch.atan2((known[..., 0] * angle.sin()).sum(), (known[..., 0] * angle.cos()).sum())
        shift = rows - round(float(middle) / torch.pi * rows)
        radiance, known = radiance.roll(shift, 1), known.roll(shift, 1)
        scale = KEY / torch.exp((radiance.mean(-1, keepdim=True).clamp_min(1e-5).log() * known).sum() / known.sum())
        small, share = (averaged(x, self.size, 2 * self.size) for x in (radiance * scale * known, known))
        given = small / share.clamp_min(1e-6)
        whole = (share > 0.99).float()
        made = self._made(condition(given.clamp(0, 1)[None], share[None, ..., 0]), given[None], whole[None])
        inner = _shrunk_share(known)
        return torch.lerp(resized_map(made, rows) / scale, radiance, inner).where(known == 0, radiance).roll(-shift, 1)

    @torch.no_grad()
    def _made(self, maps: Tensor, known: Tensor, trusted: Tensor) -> Tensor:
        """(size, 2 size, 3): samples that keep what is known (1, size, 2 size, 3) and trusted (..., 1), averaged."""
        pictures = torch.cat(encode(known), -1).permute(0, 3, 1, 2) * 2 - 1
        share = trusted.permute(0, 3, 1, 2)

        def held(picture: Tensor) -> Tensor:
            return torch.lerp(picture, pictures, share)

        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(self.draws, CHANNELS, self.size, 2 * self.size, generator=generator)
        maps = maps.expand(self.draws, -1, -1, -1)
        made = held(self._sampled(noise, maps, held)).clamp(-1, 1) / 2 + 0.5
        return decode(*made.permute(0, 2, 3, 1).split(3, -1)).mean(0)

    def _sampled(self, noise: Tensor, maps: Tensor, held: Callable[[Tensor], Tensor]) -> Tensor:
        if isinstance(self.model, Prior):
            device = self.model.device
            told = Condition(maps.to(device))
            shape = (self.draws, self.size, 2 * self.size)
            if self.steps == 1:
                return self.model.expected(told, shape).cpu()
            return self.model.sample(
                told, shape, steps=self.steps, noise=noise.to(device), between=lambda x: held(x.cpu()).to(device)
            ).cpu()
        times = torch.linspace(1, 0, self.steps + 1)[:, None].expand(-1, self.draws)
        return ddim(self.model, noise, times.unbind(), lambda x, t: held(self._clean(x, t, maps)))

    def _clean(self, noisy: Tensor, t: Tensor, maps: Tensor) -> Tensor:
        if self.wrap == 0:
            return self.model.clean(noisy, t, Condition(maps))
        around = (self.wrap, self.wrap, 0, 0)
        told = Condition(pad(maps, around, mode="circular"))
        return self.model.clean(pad(noisy, around, mode="circular"), t, told)[..., self.wrap : -self.wrap]


def laid(photo: Tensor, frame: Frame, rows: int) -> tuple[Tensor, Tensor]:
    """(1, rows, 2 rows, 4) photograph (h, w, 3), linear, on the map, and the share of it that is clipped; and what of
    each pixel it shows, (1, rows, 2 rows).
    """
    encoded = linear_to_srgb(photo)
    clipped = ((encoded >= CLIPPED) & (encoded <= 1.001)).any(-1, keepdim=True).float()
    return warped(torch.cat([photo, clipped], -1)[None], frame, rows)


def with_photo(radiance: Tensor, photo: Tensor, frame: Frame) -> Tensor:
    """(H, 2H, 3) radiance with the photograph (h, w, 3), linear, where it shows something, faded in over `FEATHER`.

    Where it is clipped it only says how bright things are at least.
    """
    rows = radiance.shape[0]
    parts, seen = laid(photo, frame, rows)
    shown, clipped = parts[0, ..., :3], parts[0, ..., 3:]
    shown = torch.lerp(shown, torch.maximum(shown, radiance), clipped)
    where, inside = frame.place(map_directions(rows))
    edge = ((1 - where[0].abs().amax(-1)) / FEATHER).clamp(0, 1) * inside[0]
    weight = (edge * edge * (3 - 2 * edge) * seen[0])[..., None]
    return torch.lerp(radiance, shown, weight)


def check_photo(photo: Tensor) -> None:
    """Raise ShapeError unless it is (h, w, 3)."""
    if photo.ndim != 3 or photo.shape[-1] != 3:
        raise ShapeError.expected("photo", "(h, w, 3)", tuple(photo.shape))


def _shrunk_share(known: Tensor) -> Tensor:
    """(H, 2H, 1), 1 well within what is known (H, 2H, 1), falling to 0 at its edge, over a thirtieth of the height."""
    reach = max(1, known.shape[0] // 30)
    x = pad(known.permute(2, 0, 1)[None], (reach, reach, 0, 0), mode="circular")
    x = torch.nn.functional.avg_pool2d(pad(x, (0, 0, reach, reach), mode="replicate"), 2 * reach + 1, stride=1)[
        0
    ].permute(1, 2, 0)
    return ((x - 0.5) * 2).clamp(0, 1) * known
