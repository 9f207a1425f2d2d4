"""Points of a surface that photographs show: when they are seen, what they send, and what light reaches them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from relight.fit.lighting import FittedLighting
from relight.geometry.camera import Camera
from relight.render.proxy import Proxy
from relight.render.transfer import Transfer
from relight.shading.lights import FAR
from relight.shading.surface import reflect
from relight.vectors import unit
from relight.views import Views

LEVELS = (0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0)
"""Roughnesses that mirrored light is looked up at."""
FACING = 0.3
"""Least cosine between normal and eye of a place that counts as seen."""
NEAR = 5.0
"""Pixels between a place and the surface that is seen there."""


@dataclass(frozen=True)
class Sighting:
    """N places in one photograph.

    seen: (N,) whether it shows them.  radiance: (N, 3) linear, where it does.  facing: (N,) cosine of normal and eye.
    irradiance: (N, 3), over pi.  mirrored: (L, N, 3) prefiltered radiance of `LEVELS`, or what other surfaces send.
    """

    seen: Tensor
    radiance: Tensor
    facing: Tensor
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

    def in_views(self, views: Views, light: FittedLighting, *, most: int = 32) -> Iterator[Sighting]:
        """In about `most` of the views, evenly chosen, in the light found so far.  Not differentiated."""
        for index in range(0, len(views), max(1, len(views) // most)):
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
                sky, mirror = light.of(views[index], camera), reflect(toward, self.normals)
                blocked, instead = self.proxy.glowing.incoming(self.points, mirror, torch.full_like(facing, FAR))
                levels = [sky.reflection(mirror, torch.full_like(facing, level)) for level in LEVELS]
                mirrored = torch.where(blocked[:, None], instead, torch.stack(levels))
                yield Sighting(seen, photo.linear()[y, x], facing, self.transfer.irradiance(sky), mirrored)
