"""What a prior is shown in training: procedural pictures, with parts of what it is told left out at random."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import torch
from torch import Generator, Tensor

from relight.diffusion.own.procedural.frames import Frames, Light, frames, unlit
from relight.diffusion.own.procedural.views import Views
from relight.diffusion.own.tasks import GROUPS, condition_maps

BACKDROP = 0.1
"""Weight of pixels that show nothing."""


@dataclass(frozen=True)
class Batch:
    """picture: (B, channels, H, W), -1 to 1, to be made.  maps: what it is to be made from.  words: (B, L) indices, -1
    for none.  weight: (B, 1, H, W) of errors.
    """

    picture: Tensor
    maps: Tensor
    words: Tensor
    weight: Tensor

    def to(self, device: torch.device) -> Batch:
        """On another device."""
        return Batch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


Batches = Callable[[int, Generator], Batch]
"""Draws a batch of so many."""


@dataclass(frozen=True)
class Left:
    """Shares of pictures for which a group is left out; `everything` also loses all of them.

    Words are learned from pictures without a photograph, which tells all that they could.
    """

    photo: float = 0.3
    geometry: float = 0.1
    hints: float = 0.4
    words: float = 0.4
    everything: float = 0.05


def materials(views: Views, light: Light, left: Left | None = None) -> Batches:
    """For the task "material"."""
    left = Left() if left is None else left

    def draw(count: int, generator: Generator) -> Batch:
        some = views.drawn(count, generator)
        (shown,) = frames(some, light, generator)
        maps, words = _told(shown, shown, some.words, left, generator)
        return Batch(material_picture(shown), maps, words, _weight(shown))

    return draw


def captions(views: Views) -> Batches:
    """For the task "material", of which they teach the words: with no photograph, which tells all that words could."""
    left = Left(photo=1.0, geometry=0.3, hints=1.0, words=0.05, everything=0.0)

    def draw(count: int, generator: Generator) -> Batch:
        some = views.drawn(count, generator)
        shown = unlit(some)
        maps, words = _told(shown, shown, some.words, left, generator)
        return Batch(material_picture(shown), maps, words, _weight(shown))

    return draw


def relightings(views: Views, light: Light, left: Left | None = None) -> Batches:
    """For the task "relight": the hints are those of the light to come."""
    left = Left(photo=0.1, hints=0.1, words=0.7) if left is None else left

    def draw(count: int, generator: Generator) -> Batch:
        some = views.drawn(count, generator)
        before, after = frames(some, light, generator, relit=True)
        maps, words = _told(before, after, some.words, left, generator)
        return Batch(2 * after.photo - 1, maps, words, _weight(after))

    return draw


def material_picture(shown: Frames) -> Tensor:
    """(B, 5, H, W), -1 to 1: base colour sRGB-encoded, roughness, metallic; 0 where nothing is."""
    return (2 * torch.cat([shown.base_color, shown.roughness, shown.metallic], 1) - 1) * shown.mask


def _weight(shown: Frames) -> Tensor:
    return BACKDROP + (1 - BACKDROP) * shown.mask


def _told(before: Frames, after: Frames, words: Tensor, left: Left, generator: Generator) -> tuple[Tensor, Tensor]:
    """Maps and words, with parts left out."""

    def kept(share: float) -> Tensor:
        return (torch.rand(len(words), generator=generator) >= share).float().view(-1, 1, 1, 1)

    whole = kept(left.everything)
    photo, geometry, hints = (whole * kept(s) for s in (left.photo, left.geometry, left.hints))
    # Normals and depths of real pictures are estimates.
    error = 0.3 * torch.rand(len(words), 1, 1, 1, generator=generator) * (1 - kept(0.3))
    rough = torch.randn(before.normal.shape, generator=generator)
    normal = torch.nn.functional.normalize(before.normal + error * rough, dim=1) * before.mask
    maps = condition_maps(before.photo, before.mask, normal, before.depth, after.hints)
    shares = {"photo": photo, "mask": torch.ones_like(whole), "normal": geometry, "depth": geometry, "hints": hints}
    scale = torch.cat([shares[name].expand(-1, n, 1, 1) for name, n in GROUPS.items()] + [photo, geometry, hints], 1)
    # The captions go with a picture that is seen too: they are never at odds with it.
    spoken = kept(left.words).view(-1, 1).bool()
    return maps * scale, torch.where(spoken, words, -1)


BATCHES: Mapping[str, Callable[[Views, Light], Batches]] = {"material": materials, "relight": relightings}
"""By task."""
