"""Films of any length by overlapping windows, in the memory of one: what streams through a `VideoRelighter`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from relight.diffusion.pictures.geometry import Geometry
from relight.diffusion.pictures.relighters import NewLight
from relight.diffusion.video.protocol import VideoRelighter, Window
from relight.errors import RelightError


@dataclass(frozen=True)
class Frame:
    """One frame as of `Window`, before it is in one."""

    picture: Tensor
    geometry: Geometry
    light: NewLight
    guide: Tensor | None = None
    rendered: bool = False


@dataclass(frozen=True)
class Windows:
    """size: frames relit together.  overlap: of them, relit twice and faded from one window into the next.

    Raises RelightError.
    """

    size: int = 24
    overlap: int = 6

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 <= 2 * self.overlap <= self.size:
            raise RelightError(
                f"windows of {self.size} frames that overlap by {self.overlap}: expected at least one frame, and an "
                "overlap of at most half of them"
            )

    @property
    def step(self) -> int:
        """Frames from one window to the next: as many are finished by each but the last."""
        return self.size - self.overlap

    def begins(self, done: int) -> int:
        """The first frame to be read again, so that a film of which `done` frames are finished goes on as if it had
        never stopped."""
        return max(0, done // self.step - 1) * self.step if self.overlap else done // self.step * self.step

    def relit(
        self, frames: Iterable[Frame], relighter: VideoRelighter, *, done: int = 0, seed: int = 0
    ) -> Iterator[list[Tensor]]:
        """Finished frames, a window's worth at a time, (H, W, 3) sRGB-encoded each: `step` of them, at the end more.

        frames: from number `begins(done)` on.  done: finished before, a multiple of `step`; those are not given again.
        """
        source, first = iter(frames), self.begins(done)
        held = list(islice(source, self.size))
        tail: Sequence[Tensor] = ()
        while held:
            fresh = list(islice(source, self.step))
            last = not fresh
            made = relighter.relit(_window(held, first), seed=seed)
            made = [*(_faded(old, made[i], i, len(tail)) for i, old in enumerate(tail)), *made[len(tail) :]]
            if first >= done:
                yield made if last else made[: self.step]
            if last:
                return
            tail = made[self.step :]
            held, first = [*held[self.step :], *fresh], first + self.step
            del made, fresh


def _faded(old: Tensor, new: Tensor, i: int, overlap: int) -> Tensor:
    return torch.lerp(old, new, (i + 1) / (overlap + 1))


def _window(frames: Sequence[Frame], first: int) -> Window:
    guides = [frame.guide for frame in frames]
    return Window(
        [frame.picture for frame in frames], [frame.geometry for frame in frames], [frame.light for frame in frames],
        first, None if any(g is None for g in guides) else [g for g in guides if g is not None],
        all(frame.rendered for frame in frames),
    )  # fmt: skip
