"""Pictures of a splat with materials: as it was photographed, and under any light."""

from __future__ import annotations

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
from relight.render.protocol import RasterOptions, SplatRasterizer
from relight.render.proxy import Proxy
from relight.render.splats import create_rasterizer
from relight.render.transfer import ROWS, Shadowed, Transfer, bake, mirrored
from relight.shading.environment import Environment
from relight.shading.lights import Light
from relight.shading.shade import Estimator, SplitSum, shade


@dataclass(frozen=True)
class Shader:
    """How splats are shaded in the light of their photographs; what a fit does in each step, and a renderer after it.

    proxy, transfer: for shadows and light by way of other surfaces; None for neither.
    """

    rasterizer: SplatRasterizer
    options: RasterOptions
    proxy: Proxy | None = None
    transfer: Transfer | None = None

    def __call__(
        self, gaussians: Gaussians, camera: Camera, light: Environment, *, rays: int, seed: int = 0
    ) -> tuple[GBuffer, Tensor]:
        """What the camera sees of the materials, and their (N, 3) linear radiance by split-sum.

        rays: a pixel, for what surfaces mirror.  Differentiable in the Gaussians and the light, not in visibility.
        """
        sky = None if self.transfer is None else self.transfer.irradiance(light)
        buffer = gbuffer(self.rasterizer, gaussians, camera, options=self.options, further=sky)
        if self.proxy is None or buffer.further is None:
            return buffer, shade(buffer.surface, light, SplitSum())
        around = mirrored(self.proxy.above(buffer.surface), self.proxy, rays=rays, seed=seed)
        return buffer, shade(buffer.surface, Shadowed(light, buffer.further, *around), SplitSum())


class Relit:
    """A splat that `distill` has given materials to.

    mesh: what rays meet, as `fuse` makes it; None for no shadows.  light: that of the photographs.
    extent: of the scene, world units.  Raises MissingPartError for a splat without materials.
    """

    def __init__(
        self,
        gaussians: Gaussians | None,
        mesh: Mesh | None = None,
        light: Environment | None = None,
        *,
        extent: float = 1.0,
        rasterizer: SplatRasterizer | None = None,
    ):
        if gaussians is None or not has_materials(gaussians):
            raise MissingPartError("relighting: the scene has no splat with materials; run radiance and distill first")
        self.gaussians, self.light = gaussians, light
        self.rasterizer = rasterizer or create_rasterizer()
        self.options = RasterOptions.for_extent(extent)
        self.proxy = None if mesh is None else Proxy(mesh)
        self._photographed: Shader | None = None

    def edited(self, gaussians: Gaussians) -> Relit:
        """The same with other materials or opacities of the same Gaussians: what was worked out for rays is kept."""
        other = copy(self)
        other.gaussians = gaussians
        return other

    def photographed(self, camera: Camera, *, rays: int = 16) -> tuple[Tensor, Tensor]:
        """(H, W, 3) sRGB-encoded, premultiplied, and (H, W) alpha: materials and what is left of the captured look.

        rays: a pixel, for what surfaces mirror.  Raises MissingPartError for a scene without light.
        """
        if self.light is None:
            raise MissingPartError("relighting: the scene has no light of its own; run the stage distill first")
        if self._photographed is None:
            self._photographed = Shader(self.rasterizer, self.options, self.proxy, self.transfer)
        with torch.no_grad():
            buffer, shaded = self._photographed(self.gaussians, camera, self.light, rays=rays)
            return blend(buffer, shaded), buffer.splat.alpha

    @cached_property
    def transfer(self) -> Transfer | None:
        """What of the sky each Gaussian sees, for light of the rotation of `light`; None without a mesh."""
        if self.proxy is None:
            return None
        places, normals, _ = self.proxy.closest(self.gaussians.means)
        return bake(self.proxy, places, normals, torch.eye(3) if self.light is None else self.light.rotation)

    def sky(self, light: Environment) -> Tensor | None:
        """(M, 3) irradiance / pi of the M Gaussians under any light from all around, with shadows; None without a
        mesh."""
        if self.transfer is None:
            return None
        rotation = torch.eye(3) if self.light is None else self.light.rotation
        # Four looks a side of a cell, so that small lamps are not missed between two.
        frame, fine = Environment(torch.ones(1, 2, 3), rotation), 4 * ROWS
        v, u = torch.meshgrid(torch.arange(fine), torch.arange(2 * fine), indexing="ij")
        places = (torch.stack([u, v], -1) + 0.5) / torch.tensor([2 * fine, fine])
        return self.transfer.shadowed(Environment(light.eval(frame.directions(places)), rotation))

    def buffer(self, camera: Camera) -> GBuffer:
        """The materials that the camera sees."""
        with torch.no_grad():
            return gbuffer(self.rasterizer, self.gaussians, camera, options=self.options)

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
