"""Pictures of a splat: its captured look, its materials under a light, and what it is made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace

import torch
from torch import Tensor

from relight.errors import BackendUnavailableError
from relight.fit.feature_space import likeness, principal_colors
from relight.geometry import sh
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.render.deferred import GBuffer, gbuffer
from relight.render.monte_carlo import FastMonteCarlo
from relight.render.protocol import RasterOptions
from relight.render.relit import Relit, has_materials
from relight.render.splats import create_rasterizer, radiance, render
from relight.render.transfer import Shadowed
from relight.scene import Scene
from relight.shading.environment import Environment
from relight.shading.shade import SplitSum, shade
from relight.shading.tracing import Tracer

from .display import LIT, MODES, NEED_FEATURES, NEED_MATERIALS, Display, Lighting
from .lights import Lamps
from .painter import SAMPLES, STEPS, Painter, Superseded, lobe, near_to_far, over, shaded

SELECTED = (1.0, 0.55, 0.1)
"""sRGB tint of what is selected."""


class SplatPainter(Painter):
    """rays: shadows, where the scene has a mesh and a tracer is installed; drawn after `prepare`.
    selected: (N,) bool, tinted; None for nothing.
    """

    off_photograph = "radiance"

    def __init__(self, scene: Scene, lamps: Lamps, *, rays: bool = True, selected: Tensor | None = None):
        super().__init__(scene, lamps)
        self.selected = selected
        self.rasterizer = create_rasterizer()
        self.options = RasterOptions.for_extent(scene.frame.radius)
        # The last light and what it gives each Gaussian; one object for all that `edited` makes.
        self._sky: list[tuple[Environment, Tensor | None]] = []
        self._principal: list[Tensor] = []
        self.relit: Relit | None = None
        if has_materials(self.gaussians):
            mesh = scene.mesh if rays else None
            try:
                self.relit = Relit(scene.gaussians, mesh, scene.light, extent=scene.frame.radius)
            except BackendUnavailableError as error:
                self.note = f"No shadows: {error}"
                self.relit = Relit(scene.gaussians, None, scene.light, extent=scene.frame.radius)

    @property
    def gaussians(self) -> Gaussians:
        assert self.scene.gaussians is not None
        return self.scene.gaussians

    @property
    def ready(self) -> bool:
        """See `Painter`."""
        return self.relit is None or self.relit.proxy is None or "transfer" in self.relit.__dict__

    def prepare(self) -> None:
        """See `Painter`."""
        if self.relit is not None and self.relit.proxy is not None:
            _ = self.relit.transfer

    def edited(self, gaussians: Gaussians, selected: Tensor | None) -> SplatPainter:
        """See `Painter`."""
        other = copy(self)
        other.scene, other.selected = replace(self.scene, gaussians=gaussians), selected
        if self.relit is not None:
            other.relit = self.relit.edited(gaussians)
        return other

    def modes(self) -> list[str]:
        """See `Painter`."""
        without = set() if self.relit is not None else set(NEED_MATERIALS)
        if "feature" not in self.gaussians.channels:
            without |= set(NEED_FEATURES)
        if self.relit is not None and self.relit.proxy is None:
            without.add("visibility")
        if self.scene.views is None:
            without |= {"error", "photo"}
        return [mode for mode in MODES if mode not in without]

    # --- what is not refined

    def _quick(self, camera: Camera, display: Display) -> Tensor:
        mode = display.mode
        if mode in LIT and self.relit is not None:
            if mode == "final" and display.lighting.photographed and self.relit.lighting.main is not None:
                return over(*self._captured(camera), display.background)
            buffer, lights, tracer = self._lit_buffer(camera, display.lighting)
            surface = lobe(buffer.surface, mode)
            if tracer is not None:
                surface = self.relit.proxy.above(surface)  # type: ignore[union-attr] - there is no tracer without
            lit = shade(surface, lights, SplitSum(), tracer=tracer) if lights else torch.zeros_like(surface.normal)
            return self._look(buffer.lit(lit), camera, display)
        if mode in ("photo", "error"):
            return self._against_photo(camera, display)
        return over(*self._plain(camera, mode), display.background)

    def _captured(self, camera: Camera) -> tuple[Tensor, Tensor]:
        if self.ready and self.relit is not None and self.relit.lighting.main is not None:
            return self.relit.photographed(camera, samples=None)
        return self._plain(camera, "radiance")

    def _plain(self, camera: Camera, mode: str) -> tuple[Tensor, Tensor]:
        """Premultiplied (H, W, 3) and alpha of a mode that no light changes."""
        if self.relit is not None and mode in ("base_color", "roughness", "metallic", "normal", "progress"):
            return self.relit.material(camera, mode)
        if mode == "visibility" and self.ready and self.relit is not None and self.relit.transfer is not None:
            seen = self.relit.transfer.weights.sum(1, keepdim=True)
            image = render(self.rasterizer, self.gaussians, camera, options=self.options, features=seen)
            assert image.features is not None
            return image.features.clamp(0, 1).expand(-1, -1, 3), image.alpha
        if mode == "normal":
            image = render(self.rasterizer, self.gaussians, camera, options=self.options, normals=True)
            assert image.normals is not None
            return (0.5 + 0.5 * image.normals) * image.alpha[..., None], image.alpha
        if mode == "depth":
            image = render(self.rasterizer, self.gaussians, camera, options=self.options)
            return near_to_far(image.depth) * image.alpha[..., None], image.alpha
        if mode in ("points", "ellipsoids"):
            return self._shapes(camera, mode)
        if mode in NEED_FEATURES and "feature" in self.gaussians.channels:
            image = render(self.rasterizer, self.gaussians, camera, options=self.options, features=self._features(mode))
            assert image.features is not None
            return image.features.clamp(0, 1), image.alpha
        image = render(self.rasterizer, self.gaussians, camera, options=self.options)
        return image.color.clamp(0, 1), image.alpha

    def _features(self, mode: str) -> Tensor:
        """(N, 3) colours."""
        feature = self.gaussians.channels["feature"]
        if mode == "feature":
            if not self._principal:
                self._principal.append(principal_colors(feature))
            return self._principal[0]
        dim = 0.4 * sh.to_constant(self.gaussians.sh[:, 0]).mean(1, keepdim=True).clamp(0, 1).expand(-1, 3)
        if self.selected is None:
            return dim
        like = likeness(feature, self.selected).clamp(0, 1)[:, None]
        return torch.lerp(dim, torch.tensor(SELECTED), like**2)

    def _shapes(self, camera: Camera, mode: str) -> tuple[Tensor, Tensor]:
        """Centres as dots, or the surface at one standard deviation as a solid, lit from the eye."""
        g, eye = self.gaussians, camera.position
        shown = g.opacities > 0.02
        opaque = torch.where(shown, 6.0, -40.0)
        color = radiance(g, eye)
        if mode == "points":
            distance = (g.means - eye).norm(dim=1, keepdim=True)
            log_scales = (0.9 * distance / camera.fx).clamp_min(1e-9).log().expand(-1, 3)
        else:
            log_scales = g.scales.clamp_min(1e-9).log() - math.log(2)
            toward = torch.nn.functional.normalize(eye - g.means, dim=1)
            color = color * (0.35 + 0.65 * (g.normals(eye) * toward).sum(1, keepdim=True).abs())
        solid = replace(g, log_scales=log_scales, logit_opacity=opaque, filter_3d=None, channels={})
        image = self.rasterizer.rasterize(solid, camera, color, self.options)
        return image.features.clamp(0, 1), image.alpha

    def _tinted(self, picture: Tensor, camera: Camera, display: Display) -> Tensor:
        # What is like the selection is what shows there.
        if display.mode == "similarity" or self.selected is None or not bool(self.selected.any()):
            return picture
        chosen = self.selected.float()[:, None]
        share = self.rasterizer.rasterize(self.gaussians, camera, chosen, self.options).features
        return torch.lerp(picture, torch.tensor(SELECTED), 0.6 * share.clamp(0, 1))

    # --- light

    def _refines(self, display: Display) -> bool:
        if display.mode not in LIT or self.relit is None:
            return False
        return display.lighting.shadows and self.relit.proxy is not None and self.ready

    def _lit_buffer(self, camera: Camera, lighting: Lighting) -> tuple[GBuffer, list, Tracer | None]:
        """What is seen, its lights, and the tracer that lamps need."""
        assert self.relit is not None
        light, others = self._lights(lighting)
        sky = None
        if light is not None and lighting.shadows and self.ready:
            sky = self._sky_of(light)
        buffer = gbuffer(self.rasterizer, self.gaussians, camera, options=self.options, further=sky)
        lights: list = [] if light is None else [light]
        if light is not None and buffer.further is not None:
            nothing = torch.zeros_like(buffer.surface.normal)
            lights = [Shadowed(light, buffer.further, nothing, torch.ones_like(buffer.surface.roughness))]
        shadows = bool(others) and lighting.shadows and self.relit.proxy is not None
        return buffer, [*lights, *others], self.relit.proxy.tracer if shadows and self.relit.proxy else None

    def _sky_of(self, light: Environment) -> Tensor | None:
        assert self.relit is not None
        if not self._sky or self._sky[0][0] is not light:
            self._sky[:] = [(light, self.relit.sky(light))]
        return self._sky[0][1]

    def _progressive(self, camera: Camera, display: Display, give_up: Callable[[], bool]) -> Iterator[Tensor]:
        lighting = display.lighting
        assert self.relit is not None and self.relit.proxy is not None
        if display.mode == "final" and lighting.photographed and self.relit.lighting.main is not None:
            total = torch.zeros(())
            for step in range(STEPS):
                if give_up():
                    raise Superseded
                shown = self.relit.photographed(camera, samples=SAMPLES, seed=step)
                total = total + over(*shown, display.background)
                yield total / (step + 1)
            return
        light, others = self._lights(lighting)
        lights = [*([] if light is None else [light]), *others]
        buffer = self.relit.buffer(camera)
        surface = self.relit.proxy.above(lobe(buffer.surface, display.mode))
        sums = torch.zeros_like(surface.normal)
        for step in range(STEPS):
            if lights:
                sums += shaded(surface, lights, FastMonteCarlo(SAMPLES), self.relit.proxy.tracer, step, give_up)
            yield self._look(buffer.lit(sums / (step + 1)), camera, display)
