"""From a scene, a camera and a display to a picture, by the code that fits and renders."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from relight.errors import BackendUnavailableError
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
from relight.shading.bsdf import Bsdf
from relight.shading.color import linear_to_srgb
from relight.shading.environment import Environment
from relight.shading.look import Look
from relight.shading.shade import SplitSum, shade
from relight.shading.surface import Surface
from relight.shading.tracing import Tracer

from .display import LIT, MODES, NEED_FEATURES, NEED_MATERIALS, Display, Lighting
from .features import principal_colors, similarity
from .lights import Lamps

SAMPLES = 8
"""Of light and of material, a pixel, in one step of refinement."""
STEPS = 8
"""Of refinement, after which a picture is good."""
CHUNK = 1 << 14
"""Points that are shaded between two looks whether somebody wants something else."""
SELECTED = (1.0, 0.55, 0.1)
"""sRGB tint of what is selected."""
_NEAR_TO_FAR = ((0.99, 0.91, 0.14), (0.37, 0.79, 0.38), (0.13, 0.57, 0.55), (0.23, 0.32, 0.55), (0.27, 0.0, 0.33))


class Superseded(Exception):  # noqa: N818 - not an error: something else is wanted by now
    """Raised inside a refinement that nobody waits for any longer."""


@dataclass(frozen=True)
class _Part:
    """One side of the divider."""

    camera: Camera
    mode: str


class Painter:
    """Draws one scene.  One thread at a time.

    rays: shadows, where the scene has a mesh and a tracer is installed; drawn after `prepare`.
    selected: (N,) bool, tinted; None for nothing.
    """

    def __init__(self, scene: Scene, lamps: Lamps, *, rays: bool = True, selected: Tensor | None = None):
        assert scene.gaussians is not None
        self.scene, self.lamps, self.selected = scene, lamps, selected
        self.rasterizer = create_rasterizer()
        self.options = RasterOptions.for_extent(scene.frame.radius)
        self.note = ""
        # The last light and what it gives each Gaussian; one object for all that `edited` makes.
        self._sky: list[tuple[Environment, Tensor | None]] = []
        self._principal: list[Tensor] = []
        self.relit: Relit | None = None
        if has_materials(scene.gaussians):
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
        """Shadows are worked out, or there are none to work out."""
        return self.relit is None or self.relit.proxy is None or "transfer" in self.relit.__dict__

    def prepare(self) -> None:
        """Work out shadows: seconds, for pictures that have them from then on."""
        if self.relit is not None and self.relit.proxy is not None:
            _ = self.relit.transfer

    def edited(self, gaussians: Gaussians, selected: Tensor | None) -> Painter:
        """The same scene with other materials or opacities of the same Gaussians, and another selection."""
        other = Painter.__new__(Painter)
        other.__dict__.update(self.__dict__)
        other.scene, other.selected = replace(self.scene, gaussians=gaussians), selected
        if self.relit is not None:
            other.relit = self.relit.edited(gaussians)
        return other

    def modes(self) -> list[str]:
        """Those that this scene has something for."""
        without = set() if self.relit is not None else set(NEED_MATERIALS)
        if "feature" not in self.gaussians.channels:
            without |= set(NEED_FEATURES)
        if self.relit is not None and self.relit.proxy is None:
            without.add("visibility")
        if self.scene.views is None:
            without |= {"error", "photo"}
        return [mode for mode in MODES if mode not in without]

    def paint(self, camera: Camera, display: Display) -> Tensor:
        """(H, W, 3) sRGB-encoded, at once: lit without noise, mirrors without what stands before them."""
        with torch.no_grad():
            parts = [self._quick(part, display) for part in _parts(camera, display)]
        # What is like the selection is what shows there.
        alike = "similarity" in (display.mode, display.other)
        return torch.cat(parts, 1) if alike else self._tinted(torch.cat(parts, 1), camera)

    def refined(self, camera: Camera, display: Display, give_up: Callable[[], bool]) -> Iterator[Tensor]:
        """Better and better pictures of the same; none where `paint` is as good as it gets.

        Steps are numbered by their seeds, so the last picture is the same every time.  give_up: asked often; raises
        Superseded once it is true.
        """
        parts = list(_parts(camera, display))
        if not any(self._refines(part.mode, display.lighting) for part in parts):
            return
        with torch.no_grad():
            sides = [self._progressive(part, display, give_up) for part in parts]
            for step in range(STEPS):
                pictures = [next(side) for side in sides]
                # One or two steps are noisier than what is shown already.
                if step + 1 in (3, 5, STEPS):
                    yield self._tinted(torch.cat(pictures, 1), camera)

    # --- what is not refined

    def _quick(self, part: _Part, display: Display) -> Tensor:
        mode, camera = part.mode, part.camera
        if mode in LIT and self.relit is not None:
            if mode == "final" and display.lighting.photographed and self.relit.lighting.main is not None:
                if not self.ready:
                    return _over(*self._plain(camera, "radiance"), display.background)
                return _over(*self.relit.photographed(camera, samples=None), display.background)
            buffer, lights, tracer = self._lit_buffer(camera, display.lighting)
            surface = _lobe(buffer.surface, mode)
            if tracer is not None:
                surface = self.relit.proxy.above(surface)  # type: ignore[union-attr] - there is no tracer without
            shaded = shade(surface, lights, SplitSum(), tracer=tracer) if lights else torch.zeros_like(surface.normal)
            return self._look(buffer.lit(shaded), camera, display)
        if mode in ("photo", "error"):
            return self._against_photo(camera, mode, display)
        return _over(*self._plain(camera, mode), display.background)

    def _plain(self, camera: Camera, mode: str) -> tuple[Tensor, Tensor]:
        """Premultiplied (H, W, 3) and alpha of a mode that no light changes."""
        if self.relit is not None and mode in ("base_color", "roughness", "metallic", "normal", "progress"):
            buffer = self.relit.buffer(camera)
            return _material(buffer, mode), buffer.splat.alpha * buffer.mask
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
            return self._depth(image.depth) * image.alpha[..., None], image.alpha
        if mode in ("points", "ellipsoids"):
            return self._shapes(camera, mode)
        if mode in NEED_FEATURES and "feature" in self.gaussians.channels:
            image = render(self.rasterizer, self.gaussians, camera, options=self.options, features=self._features(mode))
            assert image.features is not None
            return image.features.clamp(0, 1), image.alpha
        image = render(self.rasterizer, self.gaussians, camera, options=self.options)
        return image.color.clamp(0, 1), image.alpha

    def _depth(self, depth: Tensor) -> Tensor:
        """Colours between the nearest and the farthest that is drawn."""
        drawn = depth[depth > 0]
        if len(drawn) == 0:
            return depth[..., None].expand(-1, -1, 3)
        near, far = torch.quantile(drawn[:: max(1, len(drawn) // 50_000)], torch.tensor([0.01, 0.99])).tolist()
        share = ((depth - near) / max(far - near, 1e-9)).clamp(0, 1) * (len(_NEAR_TO_FAR) - 1)
        colors, below = torch.tensor(_NEAR_TO_FAR), share.long().clamp_max(len(_NEAR_TO_FAR) - 2)
        return torch.lerp(colors[below], colors[below + 1], (share - below)[..., None])

    def _features(self, mode: str) -> Tensor:
        """(N, 3) colours."""
        feature = self.gaussians.channels["feature"]
        if mode == "feature":
            if not self._principal:
                self._principal.append(principal_colors(feature))
            return self._principal[0]
        dim = 0.4 * sh.to_constant(self.gaussians.sh[:, 0]).mean(1, keepdim=True).clamp(0, 1).expand(-1, 3)
        return torch.lerp(dim, torch.tensor(SELECTED), similarity(feature, self.selected)[:, None] ** 2)

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

    def _against_photo(self, camera: Camera, mode: str, display: Display) -> Tensor:
        index = self.view_at(camera)
        if index is None or self.scene.views is None:
            return _over(*self._plain(camera, "radiance"), display.background)
        photo = self.scene.views.photo(index)
        rgb = photo.rgb if photo.alpha is None else photo.rgb * photo.alpha[..., None]
        lens, inside = self.scene.views.camera(index), None
        rays = camera.local_rays(camera.pixel_grid())
        x = (rays[..., 0] * lens.fx + lens.cx) / lens.width * 2 - 1
        y = (rays[..., 1] * lens.fy + lens.cy) / lens.height * 2 - 1
        grid = torch.stack([x, y], -1)
        inside = ((grid.abs() <= 1).all(-1) & (rays[..., 2] > 0))[..., None]
        picture = grid_sample(rgb.permute(2, 0, 1)[None], grid[None], align_corners=False, padding_mode="border")
        picture = picture[0].permute(1, 2, 0).clamp(0, 1) * inside
        if mode == "photo":
            return picture
        shown, _ = self._plain(camera, "radiance")
        if self.ready and self.relit is not None and self.relit.lighting.main is not None:
            shown, _ = self.relit.photographed(camera, samples=None)
        return (4 * (shown - picture).abs()).clamp(0, 1) * inside

    def view_at(self, camera: Camera) -> int | None:
        """The photograph that was taken from where the camera is."""
        views = self.scene.views
        if views is None or len(views) == 0:
            return None
        poses = torch.stack([view.camera.world_from_camera for view in views])
        apart = (poses[:, :3, 3] - camera.position).norm(dim=1) / self.scene.frame.radius
        turned = (poses[:, :3, 2] - camera.forward).norm(dim=1) + (
            poses[:, :3, 1] - camera.world_from_camera[:3, 1]
        ).norm(dim=1)
        best = int((apart + turned).argmin())
        return best if float(apart[best]) < 2e-3 and float(turned[best]) < 4e-3 else None

    # --- light

    def _refines(self, mode: str, lighting: Lighting) -> bool:
        if mode not in LIT or self.relit is None:
            return False
        return lighting.shadows and self.relit.proxy is not None and self.ready

    def _lit_buffer(self, camera: Camera, lighting: Lighting) -> tuple[GBuffer, list, Tracer | None]:
        """What is seen, its lights, and the tracer that lamps need."""
        assert self.relit is not None
        light, others = self.lamps.environment(lighting, self.scene), self.lamps.others(lighting, self.scene)
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

    def _progressive(self, part: _Part, display: Display, give_up: Callable[[], bool]) -> Iterator[Tensor]:
        """The side's picture after each step; always the same where nothing is refined."""
        lighting = display.lighting
        if not self._refines(part.mode, lighting) or self.relit is None or self.relit.proxy is None:
            picture = self._quick(part, display)
            while True:
                yield picture
        if part.mode == "final" and lighting.photographed and self.relit.lighting.main is not None:
            total = torch.zeros(())
            for step in range(STEPS):
                if give_up():
                    raise Superseded
                shown = self.relit.photographed(part.camera, samples=SAMPLES, seed=step)
                total = total + _over(*shown, display.background)
                yield total / (step + 1)
        light = self.lamps.environment(lighting, self.scene)
        lights = [*([] if light is None else [light]), *self.lamps.others(lighting, self.scene)]
        buffer = self.relit.buffer(part.camera)
        surface = self.relit.proxy.above(_lobe(buffer.surface, part.mode))
        sums = torch.zeros_like(surface.normal)
        for step in range(STEPS):
            for start in range(0, len(sums), CHUNK):
                if give_up():
                    raise Superseded
                some = slice(start, start + CHUNK)
                seed = step * 4096 + start // CHUNK
                if lights:
                    sums[some] += shade(
                        surface[some], lights, FastMonteCarlo(SAMPLES), tracer=self.relit.proxy.tracer, seed=seed
                    )
            yield self._look(buffer.lit(sums / (step + 1)), part.camera, display)

    def _look(self, picture: Tensor, camera: Camera, display: Display) -> Tensor:
        lighting = display.lighting
        behind, background = None, display.background
        if background == "surroundings":
            light = self.lamps.environment(lighting, self.scene)
            if light is None:
                background = "black"
            else:
                behind = light.eval(camera.ray_directions())
        return Look(lighting.exposure, lighting.curve, background).encoded(picture, behind)

    def _tinted(self, picture: Tensor, camera: Camera) -> Tensor:
        if self.selected is None or not bool(self.selected.any()):
            return picture
        chosen = self.selected.float()[:, None]
        with torch.no_grad():
            share = self.rasterizer.rasterize(self.gaussians, camera, chosen, self.options).features
        return torch.lerp(picture, torch.tensor(SELECTED), 0.6 * share.clamp(0, 1))


class Beside:
    """Two scenes with the divider between them; the display's mode left, and `other`, or the same mode, right."""

    def __init__(self, left: Painter, right: Painter):
        self.left, self.right = left, right

    def _sides(self, camera: Camera, display: Display) -> list[tuple[Painter, Camera, Display]]:
        alone = replace(display, other=None)
        if round(display.divider * camera.width) >= camera.width:
            return [(self.left, camera, alone)]
        parts = list(_parts(camera, replace(display, other=display.other or display.mode)))
        painters = [self.left, self.right][-len(parts) :]
        return [(p, part.camera, replace(alone, mode=part.mode)) for p, part in zip(painters, parts, strict=True)]

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


def _parts(camera: Camera, display: Display) -> Iterator[_Part]:
    """The sides of the divider, each with the camera of its columns."""
    middle = round(display.divider * camera.width)
    if display.other is None or middle >= camera.width:
        yield _Part(camera, display.mode)
        return
    if middle > 0:
        yield _Part(replace(camera, width=middle), display.mode)
    yield _Part(replace(camera, width=camera.width - middle, cx=camera.cx - middle), display.other)


def _lobe(surface: Surface, mode: str) -> Surface:
    """The material without what a mode leaves out.  Exact for metals and for dielectrics, close between."""
    if mode == "diffuse":
        zero = torch.zeros_like(surface.metallic)
        return replace(surface, base_color=Bsdf(surface).under, metallic=zero, specular=zero)
    if mode == "specular":
        f0 = torch.lerp(surface.dielectric_f0, surface.base_color, surface.metallic[..., None])
        return replace(surface, base_color=f0, metallic=torch.ones_like(surface.metallic))
    return surface


def _material(buffer: GBuffer, name: str) -> Tensor:
    """(H, W, 3) premultiplied.  Colours are sRGB-encoded, numbers are not, as glTF has it."""
    surface = buffer.surface
    if name == "normal":
        values = 0.5 + 0.5 * surface.normal
    elif name == "base_color":
        values = linear_to_srgb(surface.base_color)
    else:
        values = (buffer.progress if name == "progress" else getattr(surface, name))[:, None]
    return buffer.spread(values.expand(-1, 3)) * (buffer.splat.alpha * buffer.mask)[..., None]


def _over(color: Tensor, alpha: Tensor, background: str) -> Tensor:
    return color.clamp(0, 1) + (1 - alpha)[..., None] * float(background == "white")
