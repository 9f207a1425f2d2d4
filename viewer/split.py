"""The divider: one picture of two, each with its own scene and mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from relight.geometry.camera import Camera

from .display import Display
from .painter import Painter


class Beside:
    """Two scenes with the divider between them; the display's mode left, and `other`, or the same mode, right."""

    def __init__(self, left: Painter, right: Painter):
        self.left, self.right = left, right

    def paint(self, camera: Camera, display: Display) -> Tensor:
        """See `Painter.paint`."""
        return torch.cat([painter.paint(c, d) for painter, c, d in self._sides(camera, display)], 1)

    def refined(self, camera: Camera, display: Display, give_up: Callable[[], bool]) -> Iterator[Tensor]:
        """See `Painter.refined`."""
        sides = [(p.paint(c, d), p.refined(c, d, give_up)) for p, c, d in self._sides(camera, display)]
        pictures = [picture for picture, _ in sides]
        while True:
            better = [next(iterator, None) for _, iterator in sides]
            if all(b is None for b in better):
                return
            pictures = [p if b is None else b for p, b in zip(pictures, better, strict=True)]
            yield torch.cat(pictures, 1)

    def _sides(self, camera: Camera, display: Display) -> list[tuple[Painter, Camera, Display]]:
        """Those that are at least a column wide, each with the camera of its columns."""
        middle = round(display.divider * camera.width)
        left, right = replace(camera, width=middle), replace(camera, width=camera.width - middle, cx=camera.cx - middle)
        sides = [(self.left, left, display.mode), (self.right, right, display.other or display.mode)]
        return [(p, c, replace(display, mode=mode, other=None)) for p, c, mode in sides if c.width > 0]
