"""`relight relight` of films: frames with masks, shapes and lights in, windows through a relighter, a film out."""

from __future__ import annotations

import argparse
import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relight import __version__
from relight.cli.arguments import keep_files
from relight.cli.relight_picture import completed, shaped
from relight.errors import RelightError

if TYPE_CHECKING:
    from torch import Tensor

    from relight.cli.picture_light import ChosenLight
    from relight.diffusion.pictures.geometry import Geometry
    from relight.diffusion.video.protocol import VideoRelighter
    from relight.export.clips import Clip

KEYS = 8
"""Frames of a film in the background whose light is estimated; between them it is mixed."""
MIXED = 32
"""Rows of these lights."""
NOT_FOR_FILMS = ("sweep", "scene", "view")
UNSAID = ("run", "force", "output")
"""Of the command's options, what doesn't change the film."""


def relight_clip(arguments: argparse.Namespace) -> int:
    """Relight and write."""
    from relight.cli.progress import bar
    from relight.diffusion.video.windows import Windows
    from relight.export.clips import FilmParts, open_clip

    given = [name for name in NOT_FOR_FILMS if getattr(arguments, name) is not None]
    if given:
        raise RelightError(f"--{given[0]}: is for pictures, and {arguments.picture} is a film; leave it out")
    if arguments.output is None or arguments.output.suffix.lower() != ".mp4":
        raise RelightError(f"-o {arguments.output or ''}: expected FILE.mp4 for the relit film".replace(" :", ":"))
    keep_files([arguments.output], arguments.force)
    windows = Windows(arguments.window, arguments.overlap)
    clip = open_clip(arguments.picture)
    source = _Source(arguments, clip)
    relighter = chosen_relighter(arguments)
    parts = FilmParts(
        arguments.output, _job(arguments), clip.fps, aspect=clip.aspect, anew=arguments.force,
    )  # fmt: skip
    done, held = parts.done, []
    with bar("frames", clip.count) as advance:
        advance(done)
        frames = source.frames(windows.begins(done))
        waiting: deque[tuple[Tensor, Geometry, Tensor | None]] = deque()

        def remembered():
            for number, (frame, background) in enumerate(frames, windows.begins(done)):
                if number >= done:
                    waiting.append((frame.picture, frame.geometry, background))
                yield frame

        for made in windows.relit(remembered(), relighter, done=done, seed=arguments.seed):
            held.append(_geometry(made[0], waiting[0]))
            parts.add(completed(one, *waiting.popleft(), arguments, arguments.ambient or 0.0) for one in made)
            advance(len(made))
    if not parts.done:
        raise RelightError(f"{arguments.picture}: has no frames")
    count = parts.finish(arguments.picture if clip.sound else None)
    print(f"wrote {arguments.output} ({count} frames)")
    if held:
        off = {name: sum(one[name] for one in held) / len(held) for name in held[0]}
        print(f"geometry kept to {off['normals, degrees']:.1f} degrees of relief and {off['depth, %']:.2f} % of depth")
    return 0


def _geometry(made: Tensor, given: tuple[Tensor, Geometry, Tensor | None]) -> dict[str, float]:
    """How far the shapes that a frame shows before and after are apart, looked at as small as they are estimated."""
    from relight.diffusion.pictures.outline import GRID
    from relight.diffusion.video.feedback import kept
    from relight.resize import resized, within

    picture, shape, _ = given
    size = within(shape.size, GRID, 4)
    return kept(resized(made, *size)[None], resized(picture, *size)[None], [shape.resized(*size)])


def chosen_relighter(arguments: argparse.Namespace) -> VideoRelighter:
    """By --model and its options.  Raises RelightError."""
    from relight.diffusion.pictures.relighters import Painter, create_relighter
    from relight.diffusion.video.feedback import GeometryFeedback
    from relight.diffusion.video.fusion import FusedRelighter
    from relight.diffusion.video.protocol import FrameByFrame

    feedback = GeometryFeedback(arguments.hold_geometry) if arguments.hold_geometry else None
    if arguments.model in ("unilumos", "lumen") or arguments.video_model is not None:
        from relight.diffusion.video.models import create_video_relighter

        return create_video_relighter(
            arguments.model, arguments.weights, arguments.base, arguments.video_model, arguments.video_weights,
            gamma=arguments.attention, feedback=feedback,
        )  # fmt: skip
    relighter = create_relighter(
        arguments.model, arguments.weights, base=arguments.base, steps=arguments.steps, detail=arguments.detail
    )
    if arguments.frame_by_frame:
        return FrameByFrame(relighter)
    if not isinstance(relighter, Painter):
        raise RelightError(
            f"--model {arguments.model}: can't keep a film consistent; --frame-by-frame uses it as it is"
        )
    attention = 0.5 if arguments.attention is None else arguments.attention
    attention = attention if relighter.network is not None else 0.0
    return FusedRelighter(relighter, attention, arguments.reach, feedback=feedback)


def _job(arguments: argparse.Namespace) -> dict[str, object]:
    """What the film is made from and how, as parts of it are compared by."""
    job: dict[str, object] = {name: value for name, value in vars(arguments).items() if name not in UNSAID}
    job["relight"] = __version__
    for name, value in list(job.items()):
        if isinstance(value, Path) and value.is_file():
            there = value.stat()
            job[name] = [str(value), there.st_size, there.st_mtime_ns]
    return job


class _Source:
    """Frames of a film with all that belongs to each."""

    def __init__(self, arguments: argparse.Namespace, clip: Clip):
        from relight.diffusion.pictures.outline import subject

        self.arguments, self.clip = arguments, clip
        first = next(clip.frames(), None)
        if first is None:
            raise RelightError(f"{clip.path}: has no frames")
        self.size = tuple(first.shape[:2])
        # A background that is plain at first is taken to stay so: one frame with and one without an outline flicker.
        self.cut = arguments.mask is not None or not bool(subject(first).all())
        self.light = self._light(first, next(self._shapes(0))[1])

    def frames(self, skip: int) -> Iterator[tuple[Any, Tensor | None]]:
        """From a frame on: what windows take, and its background or None."""
        from relight.diffusion.video.windows import Frame

        for i, ((picture, shape), background) in enumerate(zip(self._shapes(skip), self._behind(skip), strict=False)):
            number = skip + i
            seconds = float(number / self.clip.fps)
            # Only what was told to move does: environment maps of films stand still.
            share = min(1.0, number / self.clip.count) if self.arguments.point else 0.0
            light = self.light.at(seconds, share)
            if background is not None:
                light = replace(light, background=background)
            yield Frame(picture, shape, light), background

    def _shapes(self, skip: int) -> Iterator[tuple[Tensor, Geometry]]:
        import torch

        from relight.diffusion.pictures.outline import subject

        masks, normals, depths = (self._beside(name, skip) for name in ("mask", "normals", "depth"))
        for number, picture in enumerate(self.clip.frames(skip), skip):
            mask, normal, depth = next(masks, 0), next(normals, 0), next(depths, 0)
            for name, value in (("mask", mask), ("normals", normal), ("depth", depth)):
                if isinstance(value, int):
                    path = getattr(self.arguments, name)
                    raise RelightError(f"{path}: ends at frame {number}, before {self.clip.path}; expected one a frame")
            if isinstance(mask, torch.Tensor):
                inside = mask.mean(-1) > 0.5
            elif self.cut:
                inside = subject(picture)
                inside = inside & ~inside.all()
            else:
                inside = torch.ones(self.size, dtype=torch.bool)
            yield picture, shaped(self.arguments, picture, inside, normal, depth)  # type: ignore[arg-type]

    def _beside(self, name: str, skip: int) -> Iterator[Tensor | None]:
        """(H, W, 3) of each frame, of a picture for all or a film; None for ever if nothing was given."""
        from relight.export.clips import SUFFIXES, open_clip
        from relight.images import read_image

        path: Path | None = getattr(self.arguments, name)
        if path is None:
            return itertools.repeat(None)
        if path.suffix.lower() not in SUFFIXES:
            return itertools.repeat(self._fitting(path, read_image(path).rgb))
        return (self._fitting(path, frame) for frame in open_clip(path).frames(skip))

    def _fitting(self, path: Path, picture: Tensor) -> Tensor:
        rows, columns = picture.shape[:2]
        if (rows, columns) != self.size:
            raise RelightError(
                f"{path}: is {columns}x{rows}, the film {self.size[1]}x{self.size[0]}; expected one value a pixel"
            )
        return picture

    def _behind(self, skip: int) -> Iterator[Tensor | None]:
        """(H, W, 3) sRGB of each frame; films shorter than the foreground begin again."""
        from relight.export.clips import SUFFIXES, open_clip

        path: Path | None = self.arguments.background
        if path is None or path.suffix.lower() not in SUFFIXES:
            yield from itertools.repeat(self.light.background)
            return
        clip = open_clip(path)
        for _ in itertools.count():
            empty = True
            for frame in clip.frames():
                empty = False
                if skip:
                    skip -= 1
                else:
                    yield frame
            if empty:
                raise RelightError(f"{path}: has no frames")

    def _light(self, first: Tensor, shape: Geometry) -> ChosenLight:
        from relight.cli.picture_light import chosen
        from relight.export.clips import SUFFIXES

        path: Path | None = self.arguments.background
        if path is None or path.suffix.lower() not in SUFFIXES:
            return chosen(self.arguments, first, shape, film=True)
        others = [name for name in ("direction", "text", "env", "point") if getattr(self.arguments, name) is not None]
        if others:
            raise RelightError(f"relight: expected one light; found --background and --{others[0]}")
        if bool(shape.mask.all()):
            raise RelightError(f"--background: {self.clip.path} has no outline; give --mask, a picture or a film")
        return self._light_of_film(path, first, shape)

    def _light_of_film(self, path: Path, first: Tensor, shape: Geometry) -> ChosenLight:
        """Light of a film behind: estimated at some of its frames, mixed between."""
        import torch

        from relight.cli.picture_light import ChosenLight, seen_behind
        from relight.diffusion.pictures.relighters import NewLight
        from relight.export.clips import open_clip
        from relight.resize import resized
        from relight.shading.environment import Environment

        clip = open_clip(path)
        length = min(clip.count, self.clip.count)
        every = max(1, -(-length // KEYS))
        found = [
            seen_behind(frame, first, shape, self.arguments.fov)
            for frame in itertools.islice(clip.frames(), 0, length, every)
        ]
        maps = torch.stack([resized(light.radiance, MIXED, 2 * MIXED) for light, _ in found])
        exposure = found[0][1] * 2.0**self.arguments.exposure
        span, rate = clip.count, self.clip.fps

        def at(seconds: float, share: float) -> NewLight:
            along = round(seconds * rate) % span / every
            low = min(int(along), len(maps) - 1)
            high = min(low + 1, len(maps) - 1)
            return NewLight((Environment(torch.lerp(maps[low], maps[high], along - int(along))),), exposure)

        return ChosenLight(at)
