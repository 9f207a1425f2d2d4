"""Pictures of a textured mesh as photographed and under any light: `relight.render.relit.Relit` for the mesh renderer.

Both shade with the same code.  They differ in what lies under it: here a hard surface with materials from textures,
silhouettes antialiased, shadows and bounces by rays at the surface itself; there blended Gaussians, soft silhouettes,
and rays against a proxy that knows no materials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from relight.errors import BackendUnavailableError, MissingPartError
from relight.geometry.camera import Camera
from relight.geometry.mesh import Mesh
from relight.render.mesh_protocol import MeshRasterizer
from relight.render.meshes import Visible, create_mesh_rasterizer, render, surface
from relight.render.monte_carlo import FastMonteCarlo
from relight.render.tracing import create_tracer
from relight.shading.color import linear_to_srgb
from relight.shading.lighting import Lighting
from relight.shading.lights import Light
from relight.shading.look import material_colors
from relight.shading.shade import Estimator, SplitSum, shade
from relight.shading.surface import Surface

SAMPLES = 32
"""Of the photographs' light, in `RelitMesh.photographed`."""


class RelitMesh:
    """An asset, ready to be drawn under light.

    lighting: that of the photographs, if it is known.  shadows: without rays there are none.
    Raises MissingPartError without a mesh.
    """

    def __init__(
        self,
        mesh: Mesh | None,
        lighting: Lighting | None = None,
        *,
        rasterizer: MeshRasterizer | None = None,
        shadows: bool = True,
    ):
        if mesh is None:
            raise MissingPartError("relighting: the scene has no mesh with textures; run the stage mesh first")
        self.mesh, self.lighting = mesh, lighting or Lighting()
        self.rasterizer = rasterizer or create_mesh_rasterizer()
        self.tracer = None
        self.no_shadows: str | None = None
        if shadows:
            try:
                self.tracer = create_tracer(mesh)
            except BackendUnavailableError as error:
                self.no_shadows = str(error)

    def buffer(self, camera: Camera) -> Visible:
        """The materials that the camera sees."""
        with torch.no_grad():
            return surface(self.mesh, camera, self.rasterizer)

    def material(self, camera: Camera, name: str) -> tuple[Tensor, Tensor]:
        """(H, W, 3) premultiplied, see `material_colors`, and (H, W) alpha; silhouettes antialiased."""
        with torch.no_grad():
            picture = render(self.mesh, camera, self.rasterizer, partial(material_colors, name=name))
        return picture[..., :3], picture[..., 3]

    def photographed(
        self, camera: Camera, name: str | None = None, *, samples: int | None = SAMPLES, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """(H, W, 3) sRGB-encoded, premultiplied, and (H, W) alpha, in a light of the photographs.

        name: of the light; None for the main one.  samples: of Monte Carlo; None for split-sum, a quick preview without
        shadows.  Raises MissingPartError for a scene without light.
        """
        light = self.lighting.of(name, camera.camera_from_world)
        if light is None:
            raise MissingPartError("relighting: the scene has no light of its own; run the stage distill first")
        estimator = SplitSum() if samples is None else FastMonteCarlo(samples)
        return displayed(self.under(camera, light, estimator, seed=seed))

    def under(
        self, camera: Camera, light: Light | Sequence[Light], estimator: Estimator, *, scale: Tensor | None = None,
        seed: int = 0,
    ) -> Tensor:  # fmt: skip
        """(H, W, 4) linear radiance, premultiplied, and alpha, under another light.  scale: see `Relit.under`."""

        def shaded(points: Surface) -> Tensor:
            if scale is not None:
                points = replace(points, base_color=(points.base_color * scale).clamp(0, 1))
            return shade(points, light, estimator, tracer=self.tracer, seed=seed)

        with torch.no_grad():
            return render(self.mesh, camera, self.rasterizer, shaded)


def displayed(picture: Tensor) -> tuple[Tensor, Tensor]:
    """(H, W, 4) linear radiance, premultiplied, as a photograph holds it: sRGB-encoded, premultiplied, and alpha."""
    alpha = picture[..., 3]
    straight = picture[..., :3] / alpha.clamp_min(1e-6)[..., None]
    return linear_to_srgb(straight.clamp(0, 1)) * alpha[..., None], alpha
