"""Where in another frame the things are that a frame shows: exact where a renderer made both, else estimated."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from relight.diffusion.pictures.geometry import Geometry, flow, looked_up
from relight.resize import resized, within

APART = 1.5
"""Pixels by which a way there and back may miss, at the size that flow is estimated at."""
UNLIKE = 0.1
"""sRGB difference at which two frames show things that are unlikely the same."""
FLOW_SIZE = 256
"""Pixels of the longer side at which flow is estimated."""


class Motion(Protocol):
    """Of the frames of one window, at (h, w) pixels."""

    def between(self, t: int, s: int) -> tuple[Tensor, Tensor]:
        """(h, w, 2) places (x, y, pixels) in frame s of what frame t shows, and (h, w) how sure that is, 0 to 1."""
        ...


class ExactMotion:
    """Of a world where only the camera moves.  tolerance: see `geometry.flow`."""

    def __init__(self, geometries: Sequence[Geometry], tolerance: float = 0.03):
        self._between = cache(lambda t, s: flow(geometries[t], geometries[s], tolerance))

    def between(self, t: int, s: int) -> tuple[Tensor, Tensor]:
        """See `Motion`."""
        place, both = self._between(t, s)
        return place, both.float()


class EstimatedMotion:
    """By dense inverse search (Kroeger et al., ECCV 2016) between neighbours, chained to frames farther away.

    frames: (H, W, 3) sRGB-encoded.  A place is sure where the way back leads home (Sundaram et al., ECCV 2010) and both
    frames have about the same colour there.
    """

    def __init__(self, frames: Sequence[Tensor]):
        height, width = frames[0].shape[:2]
        # Below 32 pixels the search has no level to begin at.
        self._size = within((height, width), FLOW_SIZE, 32)
        self._frames = [resized(frame, *self._size) for frame in frames]
        self._grey = [(frame.mean(-1) * 255).to(torch.uint8).numpy() for frame in self._frames]
        self._step = cache(self._estimated)

    def at(self, height: int, width: int) -> Motion:
        """For frames of another size."""
        return resized_motion(self, height, width)

    def between(self, t: int, s: int) -> tuple[Tensor, Tensor]:
        """See `Motion`, at `FLOW_SIZE`."""
        place, sure = _grid(*self._size), torch.ones(self._size)
        way = 1 if s > t else -1
        for k in range(t, s, way):
            step, safe = self._step(k, k + way)
            sure = sure * looked_up(safe[..., None], place)[..., 0]
            place = looked_up(step, place)
        if s != t:
            off = (looked_up(self._frames[s], place) - self._frames[t]).abs().mean(-1)
            sure = sure * torch.exp(-((off / UNLIKE) ** 2))
        return place, sure

    def _estimated(self, a: int, b: int) -> tuple[Tensor, Tensor]:
        there, back = self._flow(a, b), self._flow(b, a)
        place = _grid(*self._size) + there
        missed = (there + looked_up(back, place)).norm(dim=-1)
        height, width = self._size
        inside = (place >= 0).all(-1) & (place[..., 0] < width) & (place[..., 1] < height)
        return place, torch.exp(-((missed / APART) ** 2)) * inside

    def _flow(self, a: int, b: int) -> Tensor:
        import cv2

        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        found = search.calc(self._grey[a], self._grey[b], np.zeros((*self._size, 2), np.float32))
        return torch.from_numpy(np.ascontiguousarray(found))


def resized_motion(motion: Motion, height: int, width: int) -> Motion:
    """Motion found at one size, told at another."""
    return _At(motion, (height, width))


class _At:
    def __init__(self, motion: Motion, size: tuple[int, int]):
        self._between = cache(lambda t, s: self._told(motion.between(t, s), size))

    def between(self, t: int, s: int) -> tuple[Tensor, Tensor]:
        return self._between(t, s)

    @staticmethod
    def _told(found: tuple[Tensor, Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        place, sure = found
        scale = place.new_tensor([size[1] / place.shape[1], size[0] / place.shape[0]])
        both = resized(torch.cat([place * scale, sure[..., None]], -1), *size)
        return both[..., :2], both[..., 2]


def _grid(height: int, width: int) -> Tensor:
    """(H, W, 2) x, y of pixels' middles."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x, y], -1)
