"""A ball of any material, photographed under a light with bright spots."""

from __future__ import annotations

from pathlib import Path

import torch
from meshed_ball import ball_mesh, ball_splat

from relight.export.images import write_image
from relight.fit.places import Places
from relight.fit.textures import glowing
from relight.geometry.camera import Camera
from relight.geometry.transforms import look_at
from relight.render.deferred import displayed, gbuffer
from relight.render.proxy import Proxy
from relight.render.splats import create_rasterizer, render
from relight.render.transfer import bake
from relight.shading.environment import Environment
from relight.shading.shade import SplitSum, shade
from relight.vectors import unit
from relight.views import View, Views

SIZE = 48


def sky() -> Environment:
    """Bright spots of two sizes in the dark, so that how sharp they are mirrored tells."""
    light = torch.full((32, 64, 3), 0.25)
    light[6:10, 10:16], light[12:14, 40:42], light[20:24, 50:60] = 6.0, 20.0, 3.0
    return Environment(light)


def photographs(folder: Path, metallic: torch.Tensor, roughness: torch.Tensor, count: int) -> Views:
    """Of `ball_splat` with these materials."""
    splat, views = ball_splat(), []
    splat.channels["metallic"][:], splat.channels["roughness"][:] = metallic, roughness
    for i in range(count):
        angle = torch.tensor(2.4 * i)
        eye = torch.stack([3 * angle.cos(), torch.tensor(1.8 * ((i * 0.618) % 1) - 0.9), 3 * angle.sin()])
        pose = look_at(eye, torch.zeros(3), torch.tensor([0.0, 1.0, 0.0]))
        camera = Camera(pose, 60.0, 60.0, SIZE / 2, SIZE / 2, SIZE, SIZE)
        with torch.no_grad():
            buffer = gbuffer(create_rasterizer(), splat, camera)
            picture = displayed(buffer, shade(buffer.surface, sky(), SplitSum()))
        alpha = buffer.splat.alpha[..., None]
        write_image(folder / f"{i}.png", torch.cat([picture / alpha.clamp_min(1e-4), alpha], -1).clamp(0, 1))
        views.append(View(f"{i}", folder / f"{i}.png", camera, "train"))
    return Views(tuple(views))


def places_of_ball() -> Places:
    """Where the splat's Gaussians are."""
    splat, rasterizer = ball_splat(), create_rasterizer()
    mesh = ball_mesh()
    proxy = Proxy(glowing(mesh, torch.full_like(mesh.vertices, 0.2)))
    normals = unit(splat.means)
    points = splat.means + proxy.lift * normals
    return Places(
        points, normals, proxy, bake(proxy, points, normals, torch.eye(3)),
        lambda camera: render(rasterizer, splat, camera).median_depth,
    )  # fmt: skip
