"""Pictures of a textured mesh: what its textures hold, and under a light."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from relight.geometry.camera import Camera
from relight.render.meshes import render
from relight.render.monte_carlo import FastMonteCarlo
from relight.render.relit_mesh import RelitMesh, displayed
from relight.scene import Scene
from relight.shading.lights import Light
from relight.shading.shade import Estimator, SplitSum
from relight.shading.surface import Surface

from .display import LIT, MODES, Display
from .lights import Lamps
from .painter import SAMPLES, STEPS, Painter, lobe, near_to_far, over, shaded

TEXTURES = ("base_color", "roughness", "metallic", "normal")


class MeshPainter(Painter):
    """Of the scene's asset.  Raises MissingPartError for a scene without."""

    def __init__(self, scene: Scene, lamps: Lamps):
        super().__init__(scene, lamps)
        self.relit = RelitMesh(scene.asset, scene.light)
        self.note = f"No shadows: {self.relit.no_shadows}" if self.relit.no_shadows else ""

    def modes(self) -> list[str]:
        """See `Painter`."""
        found = {*LIT, *TEXTURES, "depth"}
        if self.scene.views is not None:
            # Under another light than the photograph's there is nothing to compare.
            found |= {"photo"} if self.relit.lighting.main is None else {"photo", "error"}
        return [mode for mode in MODES if mode in found]

    def _quick(self, camera: Camera, display: Display) -> Tensor:
        mode = display.mode if display.mode in self.modes() else "final"
        if mode in ("photo", "error"):
            return self._against_photo(camera, display)
        if mode in TEXTURES:
            return over(*self.relit.material(camera, mode), display.background)
        if mode == "depth":
            seen = self.relit.buffer(camera)
            depth = torch.where(seen.mask, seen.depth, 0.0)
            return over(near_to_far(depth) * seen.mask[..., None], seen.mask.float(), display.background)
        if self._as_photographed(mode, display):
            return over(*self._captured(camera), display.background)
        return self._look(self._lit(camera, mode, self._all_lights(display), SplitSum(), display), camera, display)

    def _captured(self, camera: Camera) -> tuple[Tensor, Tensor]:
        return self.relit.photographed(camera, samples=None)

    def _refines(self, display: Display) -> bool:
        lit = display.mode in LIT or display.mode not in self.modes()
        return lit and display.lighting.shadows and self.relit.tracer is not None

    def _progressive(self, camera: Camera, display: Display, give_up: Callable[[], bool]) -> Iterator[Tensor]:
        mode = display.mode if display.mode in LIT else "final"
        photographed = self._as_photographed(mode, display)
        main = self.relit.lighting.of(None, camera.camera_from_world)
        lights = [main] if photographed and main is not None else self._all_lights(display)
        total = torch.zeros(())
        for step in range(STEPS):
            total = total + self._lit(camera, mode, lights, FastMonteCarlo(SAMPLES), display, step, give_up)
            mean = total / (step + 1)
            yield over(*displayed(mean), display.background) if photographed else self._look(mean, camera, display)

    def _as_photographed(self, mode: str, display: Display) -> bool:
        return mode == "final" and display.lighting.photographed and self.relit.lighting.main is not None

    def _all_lights(self, display: Display) -> list[Light]:
        light, others = self._lights(display.lighting)
        return [*([] if light is None else [light]), *others]

    def _lit(
        self, camera: Camera, mode: str, lights: Sequence[Light], estimator: Estimator, display: Display,
        step: int = 0, give_up: Callable[[], bool] = lambda: False,
    ) -> Tensor:  # fmt: skip
        """(H, W, 4) linear radiance, premultiplied, and alpha."""
        tracer = self.relit.tracer if display.lighting.shadows else None

        def radiance(surface: Surface) -> Tensor:
            return shaded(lobe(surface, mode), lights, estimator, tracer, step, give_up)

        return render(self.relit.mesh, camera, self.relit.rasterizer, radiance)
