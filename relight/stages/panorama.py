"""Stage `panorama`: the light that the photographs were taken in, from what they show of the surroundings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from relight.diffusion.own.prior import Prior
from relight.diffusion.surroundings.framing import Frame, map_directions
from relight.diffusion.surroundings.panorama import DiffusionPanorama, PanoramaEstimator, laid
from relight.errors import MissingPartError, RelightError
from relight.geometry.camera import Camera, evenly
from relight.images import read_image
from relight.resize import averaged, within
from relight.scene import Scene
from relight.shading.color import srgb_to_linear
from relight.shading.environment import Environment
from relight.shading.lighting import Lighting
from relight.stages.base import Job, Stage
from relight.vectors import unit
from relight.views import View

MADE_UP = 1e-3
"""Weight of what a photograph doesn't show beside what another does."""
SMALL = 256
"""Pixels of a photograph's longer side that an estimator is shown."""
CUT = 0.5
"""Share of a photograph without a background from which it says nothing of its surroundings."""


@dataclass(frozen=True, kw_only=True)
class Panorama(Stage):
    """Estimate the light of the photographs, so that stages after this one begin with it.

    Each chosen photograph is completed to light from all around by a prior; where one shows what others only guess, it
    counts.  Light that is measured is never replaced.
    """

    gives: ClassVar[tuple[str, ...]] = ("light",)
    files: ClassVar[tuple[str, ...]] = ("picture",)
    files_or_names: ClassVar[tuple[str, ...]] = ("prior",)

    picture: str | None = None
    """A picture of the surroundings, taken level and looking along the world's axis that maps have in their middle; a
    path from the scene file.  Empty: the scene's photographs."""
    fov: float = 60.0
    """Degrees that `picture` is wide."""
    pitch: float = 0.0
    """Degrees that it looks up."""
    photographs: int = 4
    """That are looked at for each light, evenly spread."""
    rows: int = 64
    """Of the map."""
    prior: str = "panorama"
    """A prior of panoramas: one that comes with relight, or a file."""
    steps: int = 1
    """Of sampling; 1 gives the mean of what could be, more give one of it."""
    draws: int = 1
    """Possible surroundings that are averaged."""

    def __post_init__(self) -> None:
        self.check_ranges({
            "fov": (1, 170), "pitch": (-89, 89), "photographs": (1, 1000), "rows": (8, 1024), "steps": (1, 1000),
            "draws": (1, 64),
        })  # fmt: skip

    def run(self, scene: Scene, job: Job) -> Scene:
        """Raises MissingPartError without a picture or photographs, RelightError if those show no surroundings, or if
        the light is measured already."""
        before = scene.light or Lighting()
        if before.measured and before.maps:
            raise RelightError("panorama: the capture says what its light is (data.light); leave this stage out")
        if before.follows_camera:
            raise RelightError("panorama: the light follows the camera, so photographs don't look around in it")
        prior = Prior.load(self.prior)
        estimator = DiffusionPanorama(prior, prior.config.size[0], self.steps, self.draws, job.seed)
        stand = Environment(torch.zeros(1, 2, 3)).upright(_up(scene))
        if self.picture is not None:
            shown = read_image(self.picture)
            photo = _small(shown.rgb if shown.linear else srgb_to_linear(shown.rgb))
            frame = Frame.of(self.fov, photo.shape[1] / photo.shape[0], self.pitch)
            job.report(1, 1)
            made = Environment(estimator.estimate(photo, frame, self.rows), stand.rotation)
            return replace(scene, light=Lighting.everywhere(made))
        if scene.views is None or len(scene.views.train) == 0:
            raise MissingPartError("panorama: the scene has no photographs; name a picture of the surroundings")
        views = scene.views.train
        names = sorted({view.light or "" for view in views})
        chosen = {name: self._chosen([v for v in views if (v.light or "") == name]) for name in names}
        total, done, maps = sum(map(len, chosen.values())), 0, {}
        for name, some in chosen.items():
            parts = []
            for view in some:
                photo = view.photo(SMALL)
                if photo.alpha is None or float((photo.alpha > CUT).float().mean()) > 1 - 1e-3:
                    parts.append((photo.linear(), view.camera_at(SMALL)))
                done += 1
                job.report(done, total)
            if not parts:
                raise RelightError(
                    "panorama: the photographs have no background, so they show nothing of their surroundings; "
                    "name a picture of those by panorama.picture"
                )
            maps[name] = Environment(merged(estimator, parts, stand.rotation, self.rows), stand.rotation)
        return replace(scene, light=Lighting(maps))

    def _chosen(self, views: Sequence[View]) -> list[View]:
        return [views[i] for i in evenly(len(views), min(self.photographs, len(views)))]


def merged(
    estimator: PanoramaEstimator, photos: Sequence[tuple[Tensor, Camera]], env_from_world: Tensor, rows: int
) -> Tensor:
    """(rows, 2 rows, 3) radiance of one map by several (h, w, 3) linear photographs of one exposure, each completed by
    itself; what is seen outweighs what is made up.  Things are taken to be far away.
    """
    total, weights = torch.zeros(rows, 2 * rows, 3), torch.zeros(rows, 2 * rows, 1)
    world = map_directions(rows) @ env_from_world
    for photo, camera in photos:
        frame, turn = framed(camera, env_from_world)
        made = estimator.estimate(photo.clamp_min(0), frame, rows)
        _, seen = laid(photo, frame, rows)
        there = Environment(made, turn).eval(world)
        share = MADE_UP + Environment(seen[0][..., None].expand(-1, -1, 3).contiguous(), turn).eval(world)[..., :1]
        total, weights = total + share * there, weights + share
    return total / weights


def framed(camera: Camera, env_from_world: Tensor) -> tuple[Frame, Tensor]:
    """How a camera looks out of the map that it has in its middle, and (3, 3) that map's env_from_world.

    env_from_world: of any map that stands upright.  The camera's middle is taken for the picture's.
    """
    up, right, ahead = env_from_world[1], camera.world_from_camera[:3, 0], camera.forward
    pitch = torch.asin((ahead @ up).clamp(-0.999, 0.999))
    level = unit(ahead - (ahead @ up) * up)
    side = torch.linalg.cross(level, up)
    # Right of the camera before it was rolled is level.
    roll = torch.atan2(right @ torch.linalg.cross(ahead, side), right @ side)
    fov = torch.tensor(2 * math.atan(camera.width / (2 * camera.fx)))
    aspect = torch.tensor(camera.width * camera.fy / (camera.fx * camera.height))
    frame = Frame(fov[None], pitch[None], roll[None], aspect[None])
    return frame, torch.stack([level, up, side])


def _up(scene: Scene) -> tuple[float, float, float] | None:
    if scene.frame.up is not None or scene.views is None or len(scene.views) == 0:
        return scene.frame.up
    # Photographers hold cameras level, on the average.
    x, y, z = unit(-torch.stack([view.camera.world_from_camera[:3, 1] for view in scene.views]).mean(0)).tolist()
    return x, y, z


def _small(picture: Tensor) -> Tensor:
    height, width = picture.shape[:2]
    return averaged(picture, *within((height, width), SMALL))
