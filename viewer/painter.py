"""From a scene, a camera and a display to a picture: what drawing splats and drawing meshes have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.scene import Scene
from relight.shading.bsdf import Bsdf
from relight.shading.environment import Environment
from relight.shading.lights import Light
from relight.shading.look import Look
from relight.shading.shade import Estimator, shade
from relight.shading.surface import Surface
from relight.shading.tracing import Tracer

from .display import Display, Lighting
from .lights import Lamps
from .photos import seen, view_at

SAMPLES = 8
"""Of light and of material, a pixel, in one step of refinement."""
STEPS = 8
"""Of refinement, after which a picture is good."""
SHOWN = (3, 5, STEPS)
"""Steps whose pictures are shown: one or two are noisier than what is shown already."""
CHUNK = 1 << 14
"""Points that are shaded between two looks whether somebody wants something else."""
_NEAR_TO_FAR = ((0.99, 0.91, 0.14), (0.37, 0.79, 0.38), (0.13, 0.57, 0.55), (0.23, 0.32, 0.55), (0.27, 0.0, 0.33))


class Superseded(Exception):  # noqa: N818 - not an error: something else is wanted by now
    """Raised inside a refinement that nobody waits for any longer."""


class Painter(ABC):
    """Draws one scene.  One thread at a time.

    note: what people should know about its pictures.  off_photograph: the mode that stands for a photograph where the
    camera is at none.
    """

    off_photograph = "final"

    def __init__(self, scene: Scene, lamps: Lamps):
        self.scene, self.lamps = scene, lamps
        self.note = ""

    @property
    def ready(self) -> bool:
        """Shadows are worked out, or there are none to work out."""
        return True

    def prepare(self) -> None:  # noqa: B027 - most have nothing to prepare
        """Work out shadows: seconds, for pictures that have them from then on."""

    def edited(self, gaussians: Gaussians, selected: Tensor | None) -> Painter:
        """The same scene with other materials or opacities of the same Gaussians, and another selection."""
        return self

    @abstractmethod
    def modes(self) -> list[str]:
        """Those that this scene has something for."""

    def paint(self, camera: Camera, display: Display) -> Tensor:
        """(H, W, 3) sRGB-encoded, at once: lit without noise, mirrors without what stands before them.

        `display.other` is for `Beside`.
        """
        with torch.no_grad():
            return self._tinted(self._quick(camera, display), camera, display)

    def refined(self, camera: Camera, display: Display, give_up: Callable[[], bool]) -> Iterator[Tensor]:
        """Better and better pictures of the same; none where `paint` is as good as it gets.

        Steps are numbered by their seeds, so the last picture is the same every time.  give_up: asked often; raises
        Superseded once it is true.
        """
        if not self._refines(display):
            return
        with torch.no_grad():
            for step, picture in enumerate(self._progressive(camera, display, give_up), 1):
                if step in SHOWN:
                    yield self._tinted(picture, camera, display)

    @abstractmethod
    def _quick(self, camera: Camera, display: Display) -> Tensor:
        """What `paint` returns but for the selection."""

    @abstractmethod
    def _refines(self, display: Display) -> bool:
        """Whether there is anything better than `_quick`."""

    @abstractmethod
    def _progressive(self, camera: Camera, display: Display, give_up: Callable[[], bool]) -> Iterator[Tensor]:
        """The picture after each of `STEPS` steps."""

    @abstractmethod
    def _captured(self, camera: Camera) -> tuple[Tensor, Tensor]:
        """(H, W, 3) sRGB-encoded, premultiplied, and alpha, to be compared with a photograph; quickly."""

    def _tinted(self, picture: Tensor, camera: Camera, display: Display) -> Tensor:
        """With the selection marked."""
        return picture

    def _against_photo(self, camera: Camera, display: Display) -> Tensor:
        """The photograph, or how far from it what is drawn is."""
        index = view_at(self.scene, camera)
        if index is None or self.scene.views is None:
            return self._quick(camera, replace(display, mode=self.off_photograph))
        picture, inside = seen(self.scene.views, index, camera)
        if display.mode == "photo":
            return picture
        return (4 * (self._captured(camera)[0] - picture).abs()).clamp(0, 1) * inside

    def _lights(self, lighting: Lighting) -> tuple[Environment | None, list[Light]]:
        """From all around, and the lamps."""
        return self.lamps.environment(lighting, self.scene), self.lamps.others(lighting, self.scene)

    def _look(self, picture: Tensor, camera: Camera, display: Display) -> Tensor:
        """(H, W, 4) linear radiance, premultiplied, to what is shown."""
        lighting = display.lighting
        behind, background = None, display.background
        if background == "surroundings":
            light = self.lamps.environment(lighting, self.scene)
            if light is None:
                background = "black"
            else:
                behind = light.eval(camera.ray_directions())
        return Look(lighting.exposure, lighting.curve, background).encoded(picture, behind)


def shaded(
    surface: Surface, lights: Sequence[Light], estimator: Estimator, tracer: Tracer | None, step: int = 0,
    give_up: Callable[[], bool] = lambda: False,
) -> Tensor:  # fmt: skip
    """(N, 3) radiance of a step, in parts with seeds of their own; raises Superseded between two of them."""
    out = torch.zeros_like(surface.normal)
    for start in range(0, len(out), CHUNK):
        if give_up():
            raise Superseded
        some = slice(start, start + CHUNK)
        out[some] = shade(surface[some], lights, estimator, tracer=tracer, seed=step * 4096 + start // CHUNK)
    return out


def lobe(surface: Surface, mode: str) -> Surface:
    """The material without what a mode leaves out.  Exact for metals and for dielectrics, close between."""
    if mode == "diffuse":
        zero = torch.zeros_like(surface.metallic)
        return replace(surface, base_color=Bsdf(surface).under, metallic=zero, specular=zero)
    if mode == "specular":
        f0 = torch.lerp(surface.dielectric_f0, surface.base_color, surface.metallic[..., None])
        return replace(surface, base_color=f0, metallic=torch.ones_like(surface.metallic))
    return surface


def over(color: Tensor, alpha: Tensor, background: str) -> Tensor:
    """(H, W, 3): a premultiplied picture over white, or anything else, which is black."""
    return color.clamp(0, 1) + (1 - alpha)[..., None] * float(background == "white")


def near_to_far(depth: Tensor) -> Tensor:
    """(H, W, 3) colours of (H, W) depths, between the nearest and the farthest that is drawn; 0 is nothing."""
    drawn = depth[depth > 0]
    if len(drawn) == 0:
        return depth[..., None].expand(-1, -1, 3)
    near, far = torch.quantile(drawn[:: max(1, len(drawn) // 50_000)], torch.tensor([0.01, 0.99])).tolist()
    share = ((depth - near) / max(far - near, 1e-9)).clamp(0, 1) * (len(_NEAR_TO_FAR) - 1)
    colors, below = torch.tensor(_NEAR_TO_FAR), share.long().clamp_max(len(_NEAR_TO_FAR) - 2)
    return torch.lerp(colors[below], colors[below + 1], (share - below)[..., None])
