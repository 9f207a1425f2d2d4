"""Keyframes that a client sets, and the film along them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from torch import Tensor

from relight.errors import RelightError
from relight.export.images import write_film
from relight.geometry.camera import Camera
from relight.render.trajectory import spline, with_size


def along(keys: Sequence[Camera], *, seconds: float, fps: float, size: tuple[int, int]) -> list[Camera]:
    """A closed smooth path through the keyframes.  Raises RelightError for fewer than two."""
    if len(keys) < 2:
        raise RelightError("a film needs two keyframes or more: move the camera and press Add keyframe")
    frames = max(2, round(seconds * fps))
    return [with_size(c, *size) for c in spline(keys, frames=frames, keyframes=len(keys))]


def film(
    cameras: Sequence[Camera], paint: Callable[[Camera], Tensor], fps: float, advance: Callable[[float], None]
) -> bytes:
    """An mp4.  advance: told the share that is done; may raise to end it."""

    def frames() -> Iterator[Tensor]:
        for i, camera in enumerate(cameras):
            yield paint(camera)
            advance((i + 1) / len(cameras))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        write_film(path, frames(), fps)
        return path.read_bytes()
