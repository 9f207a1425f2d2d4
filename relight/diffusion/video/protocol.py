"""What relights films is, to the rest: a stretch of frames with shape and light for each, to the same frames relit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from relight.diffusion.pictures.geometry import Geometry
from relight.diffusion.pictures.relighters import ImageRelighter, NewLight, RelighterError


@dataclass(frozen=True)
class Window:
    """frames: (H, W, 3) each, sRGB-encoded, 0 to 1, of one size.  geometries, lights: one a frame.  first: number of
    the first in its film.  guides: (H, W, 3) linear each, what physically based rendering says the result is, where a
    scene is known.  rendered: geometries are exact and in one world where nothing moves, so flow is exact, too.

    Raises RelighterError.
    """

    frames: Sequence[Tensor]
    geometries: Sequence[Geometry]
    lights: Sequence[NewLight]
    first: int = 0
    guides: Sequence[Tensor] | None = None
    rendered: bool = False

    def __post_init__(self) -> None:
        counts = {"frames": len(self.frames), "shapes": len(self.geometries), "lights": len(self.lights)}
        if self.guides is not None:
            counts["guides"] = len(self.guides)
        if not self.frames or len(set(counts.values())) > 1:
            found = ", ".join(f"{n} {name}" for name, n in counts.items())
            raise RelighterError(f"window: expected one shape and light for each frame, and frames; found {found}")
        size = (*self.geometries[0].size, 3)
        wrong = [i for i, frame in enumerate(self.frames) if tuple(frame.shape) != size]
        wrong += [i for i, shape in enumerate(self.geometries) if shape.size != size[:2]]
        if wrong:
            raise RelighterError(f"window: frame {self.first + wrong[0]} has another size than the first, {size[:2]}")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def mask(self) -> Tensor:
        """(H, W) bool: where any frame shows the subject."""
        return torch.stack([shape.mask for shape in self.geometries]).any(0)


@runtime_checkable
class VideoRelighter(Protocol):
    """One model."""

    def relit(self, window: Window, *, seed: int = 0) -> list[Tensor]:
        """(H, W, 3) sRGB-encoded, 0 to 1, one a frame; outside a frame's mask the same as before.  The same seed gives
        the same frames.  Raises RelighterError."""
        ...


@dataclass(frozen=True)
class FrameByFrame:
    """Each frame by itself, with noise of its own where the relighter samples: what flickers."""

    relighter: ImageRelighter

    def relit(self, window: Window, *, seed: int = 0) -> list[Tensor]:
        """See `VideoRelighter`."""
        return [
            self.relighter.relit(frame, shape, light, seed=seed + window.first + i)
            for i, (frame, shape, light) in enumerate(zip(window.frames, window.geometries, window.lights, strict=True))
        ]
