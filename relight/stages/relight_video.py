"""Stage `relight_video`: a film of the scene under another light, the physically based relight for a guide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

import torch
from torch import Tensor

from relight.data.environments import load_environment
from relight.diffusion.light_words import LightDescription
from relight.diffusion.pictures.geometry import Geometry, of_splat
from relight.diffusion.pictures.relighters import NewLight, Painter, create_relighter, exposure_of, metered
from relight.diffusion.video.feedback import kept
from relight.diffusion.video.fusion import FusedRelighter
from relight.diffusion.video.motion import ExactMotion
from relight.diffusion.video.scores import unsteadiness
from relight.diffusion.video.windows import Frame, Windows
from relight.errors import MissingPartError, RelightError
from relight.export.clips import FilmParts
from relight.geometry.camera import Camera
from relight.render import trajectory
from relight.render.deferred import GBuffer
from relight.render.relit import Relit
from relight.scene import Scene
from relight.shading.shade import SplitSum, shade
from relight.stages.base import Checkpoint, Job, Stage

FILM = "relit.mp4"


@dataclass(frozen=True, kw_only=True)
class RelightVideo(Stage):
    """A film along a path of cameras, relit: the scene stays as it is, `relit.mp4` lies in the stage's folder.

    Materials and new light give each frame as physics has it; a relighter of pictures adds what materials lack, kept
    steady along exact flow.  Put it after `distill`.
    """

    needs: ClassVar[tuple[str, ...]] = ("views", "gaussians", "light")
    files: ClassVar[tuple[str, ...]] = ("environment",)
    files_or_names: ClassVar[tuple[str, ...]] = ("weights",)

    text: str = ""
    """The new light in words, "soft warm light from the left, moving"."""
    environment: str = ""
    """Or a file of it, .hdr or .exr; a path from the scene file."""
    rotate: float = 0.0
    """Degrees that the environment map is turned about the vertical."""
    exposure: float = 0.0
    """Stops."""
    path: Literal["orbit", "spline", "spiral"] = "orbit"
    """orbit: around the scene.  spline: through the photographs' cameras.  spiral: in front of it."""
    frames: int = 120
    """Of the film."""
    fps: int = 30
    """Frames a second."""
    longest: int = 512
    """Pixels along the longer side, at most that of the photographs."""
    model: str = "prior"
    """Relighter of pictures: prior (ours), shading, or a published one."""
    weights: str = ""
    """Of it: a file, folder or a hub's name.  Empty: the model's own."""
    steps: int = 0
    """Of sampling by the prior; 0 for the mean of what could be."""
    trust: float = 0.3
    """Share of what the relighter says beyond the materials.  0: materials alone, 1: all.  0 to 1."""
    attention: float = 0.5
    """Share of the network's attention that goes to the whole window.  0 to 1."""
    reach: int = 4
    """Frames before and after that the change of light is averaged over."""
    window: int = 24
    """Frames relit together."""
    overlap: int = 6
    """That windows share and fade over; at most half of a window."""

    def __post_init__(self) -> None:
        self.check_ranges({
            "frames": (2, 1_000_000), "fps": (1, 240), "longest": (16, 8192), "steps": (0, 1000), "trust": (0, 1),
            "attention": (0, 1), "reach": (0, 64), "window": (1, 4096), "exposure": (-20, 20),
        })  # fmt: skip
        if bool(self.text) == bool(self.environment):
            raise ValueError("text, environment: expected one of them, which says the light")
        if self.text:
            LightDescription.parse(self.text)
        Windows(self.window, self.overlap)

    def run(self, scene: Scene, job: Job) -> Scene:
        """Raises MissingPartError without views, or a splat with materials and light."""
        if scene.views is None or len(scene.views.train) == 0:
            raise MissingPartError("relight_video: the scene has no training views")
        relit = Relit(scene.gaussians, scene.mesh, scene.light, extent=scene.frame.radius)
        model = create_relighter(self.model, self.weights or None, steps=self.steps)
        if not isinstance(model, Painter):
            raise RelightError(f"model {self.model!r}: can't keep a film steady; use prior or shading")
        attention = self.attention if model.network is not None else 0.0
        relighter = FusedRelighter(model, attention, self.reach, self.trust)
        shots = _Shots(self, scene, relit, self._path(scene))
        windows = Windows(self.window, self.overlap)
        options = {name: getattr(self, name) for name in self.__dataclass_fields__}
        parts = FilmParts(job.folder / FILM, {**options, "seed": job.seed}, Fraction(self.fps))
        done, before, geometries = parts.done, [], []

        def remembered() -> Iterator[Frame]:
            for number in range(windows.begins(done), self.frames):
                frame = shots.frame(number)
                if number >= done:
                    before.append(frame.picture)
                    geometries.append(frame.geometry)
                yield frame

        job.report(done, self.frames)
        for made in windows.relit(remembered(), relighter, done=done, seed=job.seed):
            parts.add(made)
            job.report(parts.done, self.frames, _measured(made, before[: len(made)], geometries[: len(made)]))
            del before[: len(made)], geometries[: len(made)]
            if parts.done < self.frames and job.checkpoint_due():
                job.checkpoint(Checkpoint(parts.done, {}, {}))
            if parts.done < self.frames and job.enough():
                break
        parts.finish()
        return scene

    def _path(self, scene: Scene) -> list[Camera]:
        assert scene.views is not None
        cameras = [scene.views.train.camera(i) for i in range(len(scene.views.train))]
        center = torch.tensor(scene.frame.center)
        if self.path == "spline":
            path = trajectory.spline(cameras, frames=self.frames)
        elif self.path == "spiral":
            path = trajectory.spiral(cameras, center, frames=self.frames)
        else:
            up = torch.tensor(scene.frame.up) if scene.frame.up else None
            path = trajectory.orbit(cameras, center, up, frames=self.frames)
        lens = path[0]
        scale = min(1.0, self.longest / max(lens.height, lens.width))
        size = (max(2, round(lens.width * scale / 2) * 2), max(2, round(lens.height * scale / 2) * 2))
        return [trajectory.with_size(camera, *size) for camera in path]


class _Shots:
    """Frames of a path: as photographed, with exact shape, the new light, and materials in it."""

    def __init__(self, options: RelightVideo, scene: Scene, relit: Relit, path: Sequence[Camera]):
        self.options, self.relit, self.path = options, relit, path
        picture, shape, _ = self._seen(path[0])
        # Where the light is, is said as seen by the first camera; it stays there while cameras move.
        self.where = (shape.world_from_viewer, shape.middle, shape.radius)
        self.said = LightDescription.parse(options.text) if options.text else None
        stops = 2.0**options.exposure
        if self.said is not None:
            self.exposure = exposure_of(picture, shape) * stops
        else:
            light = load_environment(options.environment)
            self.map = light.turned(math.radians(options.rotate)).upright(scene.frame.up)
            self.exposure = metered(picture, shape, (self.map,)) * stops

    def frame(self, number: int) -> Frame:
        """Of the path, from 0."""
        picture, shape, buffer = self._seen(self.path[number])
        light = self._light(number / self.options.fps)
        return Frame(picture, shape, light, self._guide(buffer, shape, light), rendered=True)

    def _seen(self, camera: Camera) -> tuple[Tensor, Geometry, GBuffer]:
        color, _ = self.relit.photographed(camera, samples=None)
        buffer = self.relit.buffer(camera)
        return color.clamp(0, 1), of_splat(buffer, camera, self.relit.proxy), buffer

    def _light(self, seconds: float) -> NewLight:
        if self.said is None:
            return NewLight((self.map,), self.exposure)
        now = self.said.at(seconds)
        return NewLight(now.lights(*self.where), self.exposure, now)

    def _guide(self, buffer: GBuffer, shape: Geometry, light: NewLight) -> Tensor:
        """(H, W, 3) linear, by split-sum with the sky's visibility: without noise, which would flicker."""
        surface = buffer.surface[shape.mask[buffer.mask]]
        radiance = shade(surface, shape.seeing(light.lights), SplitSum(), tracer=shape.rays)
        return shape.spread(radiance * light.exposure)


def _measured(made: Sequence[Tensor], before: Sequence[Tensor], shapes: Sequence[Geometry]) -> dict[str, float]:
    """Of a window: how steady along exact flow, beside what was rendered, and how well shapes are kept."""
    if len(made) < 3:
        return {}
    motion = ExactMotion(shapes)
    now, then = unsteadiness(made, motion), unsteadiness(before, motion)
    held = kept(made[0][None], before[0][None], shapes[:1])
    return {
        "warp_error": now["warp"], "flicker": now["flicker"], "warp_error_before": then["warp"],
        "flicker_before": then["flicker"], "normals_kept_degrees": held["normals, degrees"],
    }  # fmt: skip
