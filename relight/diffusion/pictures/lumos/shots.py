"""Pictures of procedural scenes of which everything is known, under any light."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from relight.diffusion.own.procedural.draw import Draw
from relight.diffusion.own.procedural.shapes import Solids, solids
from relight.diffusion.own.procedural.views import seen, standpoint
from relight.diffusion.pictures.geometry import Geometry
from relight.diffusion.pictures.hints import matte
from relight.geometry.camera import Camera
from relight.geometry.transforms import look_at
from relight.render.tracing import MeshTracer, create_tracer
from relight.shading.color import linear_to_srgb, luminance
from relight.shading.lights import Light
from relight.shading.shade import Estimator, SplitSum, shade
from relight.shading.surface import Surface

ROUGH, DIELECTRIC = 0.35, 0.1
"""Roughness above and metallic below which light is read off a surface's brightness."""
ENOUGH = 0.15
"""Share of a picture that has to be so."""
TRIES = 50


@dataclass(frozen=True)
class Shot:
    """surface: (N,) points of the geometry's mask, with their materials."""

    surface: Surface
    geometry: Geometry

    def drawn(self, lights: tuple[Light, ...], exposure: float, estimator: Estimator | None = None) -> Tensor:
        """(H, W, 3) sRGB-encoded, 0 to 1, black beside the scene.  estimator: None for split-sum with the sky's
        visibility, which has no noise; others get the lights as they are."""
        own = self.geometry.seeing(lights) if estimator is None else list(lights)
        radiance = shade(self.surface, own, estimator or SplitSum(), tracer=self.geometry.rays)
        return linear_to_srgb(self.geometry.spread(radiance * exposure).clamp(0, 1))

    def received(self, lights: tuple[Light, ...]) -> float:
        """Mean brightness that the scene would have if it were white and matte."""
        own = self.geometry.seeing(lights)
        return max(float(luminance(matte(self.surface, own, self.geometry.rays)).mean()), 1e-6)

    @property
    def telling(self) -> Tensor:
        """(N,) bool: matte enough for light to be read off."""
        return (self.surface.roughness > ROUGH) & (self.surface.metallic < DIELECTRIC)


@dataclass(frozen=True)
class Stage:
    """A scene, and where it is seen from."""

    scene: Solids
    tracer: MeshTracer
    camera: Camera
    seed: int

    @staticmethod
    def of(seed: int, size: int) -> Stage:
        """The first scene from this seed on of which enough is matte."""
        for k in range(TRIES):
            generator = Generator().manual_seed(seed * 6700417 + k)
            scene = solids(Draw(generator))
            tracer = create_tracer(scene.mesh)
            assert isinstance(tracer, MeshTracer)
            stage = Stage(scene, tracer, standpoint(Draw(generator), size), seed * 6700417 + k)
            if float(stage.shot().telling.sum()) > ENOUGH * size * size:
                return stage
        raise AssertionError(f"no scene of {TRIES} is matte enough")

    def shot(self, turn: float = 0.0) -> Shot:
        """From the camera, turned by radians about the vertical through the scene's middle."""
        camera = self._turned(turn)
        there = seen(self.scene, camera, self.tracer, Draw(Generator().manual_seed(self.seed + 1)))
        view = -camera.ray_directions().reshape(-1, 3)[there.pixel]
        surface = Surface(
            there.position, there.normal, view, there.base_color, there.roughness, there.metallic,
            geometric_normal=there.geometric,
        )  # fmt: skip
        height, width = camera.height, camera.width
        mask = torch.zeros(height * width, dtype=torch.bool)
        mask[there.pixel] = True
        normal, depth = torch.zeros(height * width, 3), torch.ones(height * width)
        normal[there.pixel] = there.normal
        depth[there.pixel] = (there.position - camera.position) @ camera.forward
        shape = (height, width)
        return Shot(surface, Geometry(normal.view(*shape, 3), depth.view(shape), mask.view(shape), camera, self.tracer))

    def _turned(self, turn: float) -> Camera:
        if turn == 0:
            return self.camera
        c, s = math.cos(turn), math.sin(turn)
        around = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        eye, ahead = around @ self.camera.position, around @ self.camera.forward
        pose = look_at(eye, eye + ahead, torch.tensor([0.0, 1.0, 0.0]))
        camera = self.camera
        return Camera(pose, camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height)
