"""Stage `portrait`: photographs of a person, relit, beside the scene."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relight.data.environments import load_environment
from relight.diffusion.light_words import LightDescription
from relight.diffusion.pictures.geometry import Geometry
from relight.diffusion.pictures.hints import sky
from relight.diffusion.pictures.relighters import ALBEDO, NewLight, create_relighter, exposure_of
from relight.diffusion.portrait.matting import NobodyError
from relight.diffusion.portrait.sitting import Sitting
from relight.errors import MissingPartError, RelightError
from relight.export.images import write_image
from relight.geometry.camera import Camera, evenly
from relight.scene import Scene
from relight.shading.color import luminance, srgb_to_linear
from relight.shading.environment import Environment
from relight.stages.base import Checkpoint, Job, Stage
from relight.views import View

FOLDER = "portraits"


@dataclass(frozen=True, kw_only=True)
class Portrait(Stage):
    """Relight photographs of a person as `relight portrait` does, and save them in the stage's folder `portraits/`.

    Light that stands in the world, of `env` or of the scene (stage panorama finds one), comes from one side in all
    photographs; words say sides as each camera sees them.  The scene itself stays as it is.
    """

    needs: ClassVar[tuple[str, ...]] = ("views",)
    files: ClassVar[tuple[str, ...]] = ("env",)
    files_or_names: ClassVar[tuple[str, ...]] = ("weights",)

    text: str = ""
    """Light in words, as of `relight relight --text`."""
    env: str | None = None
    """Equirectangular light (.hdr, .exr), +y up; a path from the scene file.  Neither this nor words: the light of
    the scene."""
    rotate: float = 0.0
    """Degrees that `env` is turned about the vertical."""
    exposure: float = 0.0
    """Stops; at 0 the person stays about as bright."""
    views: str = ""
    """Names of photographs, with commas between.  Empty: `count` of them, evenly spread."""
    count: int = 8
    """Photographs that are relit; 0 for all."""
    size: int = 1024
    """Longest side of the pictures, in pixels."""
    cut_out: bool = False
    """Save transparency instead of the photographs' background."""
    gloss: float = 0.5
    """Of skin, 1 as measured."""
    model: str | None = None
    """That refines what was shaded: prior, or a published model; none by default."""
    weights: str | None = None
    """Of the model: file, folder or a hub's name; default: its own."""
    share: float = 0.5
    """Of the change of light that the model has its way with."""

    def __post_init__(self) -> None:
        self.check_ranges({
            "rotate": (-360, 360), "exposure": (-10, 10), "count": (0, 100_000), "size": (64, 8192), "gloss": (0, 1),
            "share": (0, 1),
        })  # fmt: skip
        if self.text and self.env:
            raise ValueError("text, env: both say what the light is; leave one out")
        if self.text:
            try:
                LightDescription.parse(self.text)
            except RelightError as error:
                raise ValueError(f"text: {error}") from error

    def run(self, scene: Scene, job: Job) -> Scene:
        """Raises MissingPartError without photographs or light, NobodyError if nobody is in any of them."""
        if scene.views is None or len(scene.views) == 0:
            raise MissingPartError("portrait: the scene has no photographs")
        chosen = self._chosen(list(scene.views))
        relighter = create_relighter(self.model, self.weights) if self.model else None
        given = None
        if self.env is not None:
            given = load_environment(self.env).turned(torch.pi / 180 * self.rotate).upright(scene.frame.up)
        elif not self.text and (scene.light is None or scene.light.main is None):
            raise MissingPartError("portrait: no light; give text or env, or put panorama before it")
        done = [0, 0, 0] if job.restored is None else [int(str(n)) for n in str(job.restored.values["done"]).split()]
        start, people, faces = done
        for k in range(start, len(chosen)):
            view = chosen[k]
            photo, camera = view.photo(self.size), view.camera_at(self.size)
            cut = photo.alpha is not None and bool((photo.alpha < 0.5).any())
            sitting = _sitting(photo.rgb.clamp(0, 1), photo.alpha if cut else None, camera)
            if sitting is not None:
                light = given
                if light is None and scene.light is not None and not self.text:
                    light = scene.light.of(view.light, camera.camera_from_world)
                new = self._light(sitting.cut.front, sitting.geometry, light)
                made = sitting.lit(
                    new, refiner=relighter, share=self.share, gloss=self.gloss, seed=job.seed, alone=self.cut_out
                )
                if self.cut_out:
                    made = torch.cat([made, sitting.cut.alpha[..., None]], -1)
                write_image(job.folder / FOLDER / f"{_names(chosen)[k]}.png", made)
                people, faces = people + 1, faces + len(sitting.faces)
            job.report(k + 1, len(chosen), {"relit": float(people), "faces": float(faces)})
            if k + 1 < len(chosen) and job.checkpoint_due():
                job.checkpoint(Checkpoint(k + 1, {}, {"done": f"{k + 1} {people} {faces}"}))
            if k + 1 < len(chosen) and job.enough():
                break
        if not people:
            raise NobodyError("portrait: nobody was found in the photographs; choose others by portrait.views")
        return scene

    def _chosen(self, views: Sequence[View]) -> list[View]:
        if not self.views:
            many = min(self.count or len(views), len(views))
            return [views[i] for i in evenly(len(views), many)]
        known = {view.name: view for view in views}
        names = [name.strip() for name in self.views.split(",")]
        if unknown := [name for name in names if name not in known]:
            raise RelightError(f"portrait.views: no photograph is named {unknown[0]!r}; there are: "
                               f"{', '.join(sorted(known)[:8])}{', ...' if len(known) > 8 else ''}")  # fmt: skip
        return [known[name] for name in names]

    def _light(self, picture: Tensor, geometry: Geometry, light: Environment | None) -> NewLight:
        stops = 2.0**self.exposure
        if light is None:
            said = LightDescription.parse(self.text)
            lights = said.lights(geometry.world_from_viewer, geometry.middle, geometry.radius)
            return NewLight(lights, exposure_of(picture, geometry) * stops, said)
        # Not metered for this photograph: from behind, light that stands in the world is to look darker.
        bright = luminance(srgb_to_linear(picture[geometry.mask])).mean()
        mean = luminance(light.irradiance(sky())).mean().clamp_min(1e-6)
        return NewLight((light,), float(bright / (ALBEDO * mean)) * stops)


def _sitting(picture: Tensor, alpha: Tensor | None, camera: Camera) -> Sitting | None:
    """None where nobody is found."""
    try:
        return Sitting.of(picture, alpha, camera)
    except NobodyError:
        return None


def _names(views: Sequence[View]) -> list[str]:
    """Of files, all different."""
    plain = [re.sub(r"[^\w-]+", "_", view.name.rsplit(".", 1)[0]).strip("_") for view in views]
    return plain if len(set(plain)) == len(plain) else [f"{k:04d}_{name}" for k, name in enumerate(plain)]
