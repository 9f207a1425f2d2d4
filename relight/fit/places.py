"""Points of a surface that photographs show: when they are seen, what they send, and what light reaches them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relight.fit.lighting import FittedLighting
from relight.geometry.camera import Camera, evenly
from relight.render.proxy import Proxy
from relight.render.transfer import Transfer
from relight.shading.lights import FAR
from relight.shading.microfacet import directional_albedo
from relight.shading.surface import reflect
from relight.vectors import unit
from relight.views import Views

LEVELS = (0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0)
"""Roughnesses that mirrored light is looked up at."""
FACING = 0.3
"""Least cosine between normal and eye of a place that counts as seen."""
NEAR = 5.0
"""Pixels between a place and the surface that is seen there."""
FEWEST = 4
"""Photographs of a place from which on it counts."""
COAT = 0.04
"""Reflectance of dielectrics."""
DARK = 0.1
"""Linear radiance, where an error counts half of what it counts in the dark: errors count relative to brightness."""
MOST_VIEWS = 32


@dataclass(frozen=True)
class Glance:
    """N places in one photograph, whatever the light.

    seen: (N,) whether it shows them.  radiance: (N, 3) linear, where it does.  facing: (N,) cosine of normal and eye.
    mirror: (N, 3) unit, where mirrored light comes from.  blocked: (N,) whether that is another surface, and instead:
    (N, 3) the radiance of that one.
    """

    seen: Tensor
    radiance: Tensor
    facing: Tensor
    mirror: Tensor
    blocked: Tensor
    instead: Tensor

    @property
    def weight(self) -> Tensor:
        """(N, 1) what squares of errors count."""
        return 1 / (self.radiance.mean(-1, keepdim=True) + DARK) ** 2

    def mirrors(self, metallic: Tensor | float, roughness: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1) shares of mirrored light that come back in base colour, as metal does it, and uncoloured, off a coat
        or at grazing angles.  metallic: (N, 1) or one for all.  roughness: (N,)."""
        a, b = (t[:, None] for t in directional_albedo(self.facing, roughness))
        return metallic * a, COAT * (1 - metallic) * a + b


@dataclass(frozen=True)
class Sighting(Glance):
    """In a light.  irradiance: (N, 3), over pi.  mirrored: (L, N, 3) prefiltered radiance of `LEVELS`, or what other
    surfaces send."""

    irradiance: Tensor
    mirrored: Tensor


@dataclass(frozen=True)
class Places:
    """N points above a proxy, with what of the light they see.

    points, normals: (N, 3), world.  depth: of a camera, (H, W) along +z, of the surface that they belong to.
    """

    points: Tensor
    normals: Tensor
    proxy: Proxy
    transfer: Transfer
    depth: Callable[[Camera], Tensor]

    def __getitem__(self, index: Tensor) -> Places:
        """Some of them."""
        t = self.transfer
        transfer = replace(t, weights=t.weights[index], bounced=t.bounced[index])
        return replace(self, points=self.points[index], normals=self.normals[index], transfer=transfer)

    def in_views(self, views: Views, light: FittedLighting, *, most: int = MOST_VIEWS) -> Iterator[Sighting]:
        """In at most so many of the views, evenly chosen, in the light found so far.  Not differentiated."""
        for index, glance in self.glances(views, most=most):
            with torch.no_grad():
                sky = light.of(views[index], views.camera(index).to(self.points.device))
                levels = [sky.reflection(glance.mirror, torch.full_like(glance.facing, level)) for level in LEVELS]
                mirrored = torch.where(glance.blocked[:, None], glance.instead, torch.stack(levels))
                yield Sighting(**vars(glance), irradiance=self.transfer.irradiance(sky), mirrored=mirrored)

    def glances(self, views: Views, *, most: int = MOST_VIEWS) -> Iterator[tuple[int, Glance]]:
        """In at most so many of the views, evenly chosen, and their indices.  Not differentiated."""
        for index in evenly(len(views), most):
            camera, photo = views.camera(index).to(self.points.device), views.photo(index).to(self.points.device)
            with torch.no_grad():
                on = self.points - self.proxy.lift * self.normals
                depth, (pixel, z) = self.depth(camera), camera.project(on)
                x, y = pixel.floor().long().unbind(-1)
                seen = (z > 0) & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
                x, y = x.clamp(0, camera.width - 1), y.clamp(0, camera.height - 1)
                toward = unit(camera.position - on)
                facing = (self.normals * toward).sum(-1)
                seen = seen & (facing > FACING) & ((z - depth[y, x]).abs() < NEAR * z / camera.fx)
                if photo.alpha is not None:
                    seen = seen & (photo.alpha[y, x] > 0.99)
                if photo.mask is not None:
                    seen = seen & photo.mask[y, x]
                mirror = reflect(toward, self.normals)
                blocked, instead = self.proxy.glowing.incoming(self.points, mirror, torch.full_like(facing, FAR))
                yield index, Glance(seen, photo.linear()[y, x], facing, mirror, blocked, instead)
