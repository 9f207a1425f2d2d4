"""Pictures of a splat with materials: as it was photographed, and under any light."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from relight.errors import MissingPartError
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.geometry.mesh import Mesh
from relight.render.deferred import GBuffer, blend, gbuffer
from relight.render.monte_carlo import FastMonteCarlo
from relight.render.protocol import RasterOptions, SplatRasterizer
from relight.render.proxy import Proxy
from relight.render.splats import create_rasterizer
from relight.render.transfer import Shadowed, Transfer, bake, mirrored
from relight.shading.environment import Environment
from relight.shading.lighting import Lighting
from relight.shading.lights import Light
from relight.shading.look import material_colors
from relight.shading.shade import Estimator, SplitSum, shade

SAMPLES = 64
"""A pixel, of pictures in the light of the photographs."""


@dataclass(frozen=True)
class Shader:
    """How splats are shaded in the light of their photographs; what a fit does in each step, and a renderer after it.

    proxy, transfer: for shadows and light by way of other surfaces; None for neither.
    """

    rasterizer: SplatRasterizer
    options: RasterOptions
    proxy: Proxy | None = None
    transfer: Transfer | None = None

    def buffer(self, gaussians: Gaussians, camera: Camera, light: Environment | None = None) -> GBuffer:
        """What the camera sees of the materials, and in `further` of irradiance / pi, which `split_sum` needs: under
        `light`, None for `monte_carlo`.  Differentiable."""
        sky = None if self.transfer is None or light is None else self.transfer.irradiance(light)
        return gbuffer(self.rasterizer, gaussians, camera, options=self.options, further=sky)

    def split_sum(self, buffer: GBuffer, light: Environment, *, rays: int, seed: int = 0) -> Tensor:
        """(N, 3) linear radiance of a buffer's points, without noise but for shadows in what they mirror.

        rays: a point, along what it mirrors.  Differentiable in materials and light, not in visibility.
        """
        if self.proxy is None or buffer.further is None:
            return shade(buffer.surface, light, SplitSum())
        around = mirrored(self.proxy.above(buffer.surface), self.proxy, rays=rays, seed=seed)
        return shade(buffer.surface, Shadowed(light, buffer.further, *around), SplitSum())

    def monte_carlo(self, buffer: GBuffer, light: Environment, *, samples: int, seeds: Sequence[int]) -> list[Tensor]:
        """An estimate for each seed, (N, 3) linear radiance of a buffer's points, with noise and no bias.

        Differentiable as `split_sum`.
        """
        estimator, proxy = FastMonteCarlo(samples), self.proxy
        surface = buffer.surface if proxy is None else proxy.above(buffer.surface)
        tracer = None if proxy is None else proxy.glowing
        return [shade(surface, light, estimator, tracer=tracer, seed=seed) for seed in seeds]


class Relit:
    """A splat that `distill` has given materials to.

    mesh: what rays meet, as `fuse` makes it; None for no shadows.  lighting: that of the photographs.
    extent: of the scene, world units.  Raises MissingPartError for a splat without materials.
    """

    def __init__(
        self,
        gaussians: Gaussians | None,
        mesh: Mesh | None = None,
        lighting: Lighting | None = None,
        *,
        extent: float = 1.0,
        rasterizer: SplatRasterizer | None = None,
    ):
        if gaussians is None or not has_materials(gaussians):
            raise MissingPartError("relighting: the scene has no splat with materials; run radiance and distill first")
        self.gaussians, self.lighting = gaussians, lighting or Lighting()
        self.rasterizer = rasterizer or create_rasterizer()
        self.options = RasterOptions.for_extent(extent)
        self.proxy = None if mesh is None else Proxy(mesh)
        self._photographed: Shader | None = None

    def edited(self, gaussians: Gaussians) -> Relit:
        """The same with other materials or opacities of the same Gaussians: what was worked out for rays is kept."""
        other = copy(self)
        other.gaussians = gaussians
        return other

    def photographed(
        self, camera: Camera, name: str | None = None, *, samples: int | None = SAMPLES, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """(H, W, 3) sRGB-encoded, premultiplied, and (H, W) alpha: materials and what is left of the captured look.

        name: of the photographs' lights; None for the main one.  samples: of Monte Carlo; None for split-sum, a quick
        preview.  Raises MissingPartError for a scene without light.
        """
        light = self.lighting.of(name, camera.camera_from_world)
        if light is None:
            raise MissingPartError("relighting: the scene has no light of its own; run the stage distill first")
        if self._photographed is None:
            self._photographed = Shader(self.rasterizer, self.options, self.proxy, self.transfer)
        with torch.no_grad():
            shader = self._photographed
            buffer = shader.buffer(self.gaussians, camera, light if samples is None else None)
            if samples is None:
                shaded = shader.split_sum(buffer, light, rays=1, seed=seed)
            else:
                (shaded,) = shader.monte_carlo(buffer, light, samples=samples, seeds=[seed])
            return blend(buffer, shaded), buffer.splat.alpha

    @cached_property
    def transfer(self) -> Transfer | None:
        """What of the sky each Gaussian sees; None without a mesh."""
        if self.proxy is None:
            return None
        places, normals, _ = self.proxy.closest(self.gaussians.means)
        main = self.lighting.main
        return bake(self.proxy, places, normals, torch.eye(3) if main is None else main.rotation)

    def sky(self, light: Environment) -> Tensor | None:
        """(N, 3) irradiance / pi of the Gaussians under another light, with shadows; None without a mesh."""
        return None if self.transfer is None else self.transfer.shadowed(light)

    def buffer(self, camera: Camera) -> GBuffer:
        """The materials that the camera sees."""
        with torch.no_grad():
            return gbuffer(self.rasterizer, self.gaussians, camera, options=self.options)

    def material(self, camera: Camera, name: str) -> tuple[Tensor, Tensor]:
        """(H, W, 3) premultiplied, see `material_colors`, and (H, W) alpha.  name: "progress" too."""
        buffer = self.buffer(camera)
        of_surface = name != "progress"
        values = material_colors(buffer.surface, name) if of_surface else buffer.progress[:, None].expand(-1, 3)
        alpha = buffer.splat.alpha * buffer.mask
        return buffer.spread(values) * alpha[..., None], alpha

    def under(
        self,
        camera: Camera,
        light: Light,
        estimator: Estimator,
        *,
        scale: Tensor | None = None,
        seed: int = 0,
    ) -> Tensor:
        """(H, W, 4) linear radiance, premultiplied, and alpha, under another light; materials alone.

        scale: (3,) factors of the base colour.  Shadows by rays, if the estimator casts any.
        """
        buffer = self.buffer(camera)
        with torch.no_grad():
            surface = buffer.surface if self.proxy is None else self.proxy.above(buffer.surface)
            if scale is not None:
                surface = replace(surface, base_color=(surface.base_color * scale).clamp(0, 1))
            tracer = None if self.proxy is None else self.proxy.tracer
            shaded = shade(surface, light, estimator, tracer=tracer, seed=seed)
            return buffer.lit(shaded)


def has_materials(gaussians: Gaussians) -> bool:
    """Whether a splat can be relit."""
    return "progress" in gaussians.channels
