"""A ball as splat and as mesh, and photographs of it, for tests of meshes and textures."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch

from relight.export.images import write_image
from relight.geometry import sh
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.geometry.material import Material, Texture
from relight.geometry.mesh import Mesh, groups
from relight.geometry.transforms import look_at
from relight.render.meshes import create_mesh_rasterizer, render
from relight.scene import Frame, Scene
from relight.shading.color import linear_to_srgb
from relight.shading.environment import Environment
from relight.shading.lighting import Lighting
from relight.shading.shade import SplitSum, shade
from relight.views import View, Views

RED, BLUE = torch.tensor([0.7, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.6])


def ball_splat(n: int = 1200) -> Gaussians:
    """Surfels on a unit sphere; red where x > 0, blue where not."""
    i = torch.arange(n) + 0.5
    z, phi = 1 - 2 * i / n, i * math.pi * (1 + math.sqrt(5))
    r = (1 - z * z).sqrt()
    means = torch.stack([r * phi.cos(), r * phi.sin(), z], 1)
    red = (means[:, :1] > 0).float()
    color = red * RED + (1 - red) * BLUE
    return Gaussians(
        means=means,
        quats_wxyz=torch.stack([1 + z, -means[:, 1], means[:, 0], torch.zeros(n)], 1),
        log_scales=torch.full((n, 3), math.log(2.0 / math.sqrt(n))),
        logit_opacity=torch.full((n,), 4.0),
        sh=sh.from_constant(linear_to_srgb(color))[:, None],
        channels={
            "base_color": color,
            "roughness": torch.full((n,), 0.5),
            "metallic": torch.zeros(n),
            "progress": torch.ones(n),
        },
        surfels=True,
    )


def ball_mesh(rows: int = 16) -> Mesh:
    """Unit sphere with one chart; red where x > 0, blue where not, roughness 0.5."""
    v, u = torch.meshgrid(torch.linspace(0, 1, rows + 1), torch.linspace(0, 1, 2 * rows + 1), indexing="ij")
    theta, phi = v * math.pi, u * 2 * math.pi
    points = torch.stack([theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()], -1).reshape(-1, 3)
    a = (torch.arange(rows)[:, None] * (2 * rows + 1) + torch.arange(2 * rows)).reshape(-1)
    b, c, d = a + 1, a + 2 * rows + 1, a + 2 * rows + 2
    faces = torch.cat([torch.stack([a, c, d], -1), torch.stack([a, d, b], -1)])
    solid = torch.linalg.cross(points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]])
    faces = faces[solid.norm(dim=1) > 1e-6]
    across = (torch.arange(2 * rows) + 0.5) / (2 * rows) * 2 * math.pi
    red = (across.cos() > 0).float()[None, :, None].expand(rows, -1, 1)
    packed = torch.tensor([1.0, 0.5, 0.0]).expand(rows, 2 * rows, 3).contiguous()
    material = Material(
        base_color_texture=Texture(red * RED + (1 - red) * BLUE, ("repeat", "clamp")),
        metallic_roughness_texture=Texture(packed, ("repeat", "clamp")),
    )
    return Mesh(points, faces, normals=points, uv=torch.stack([u, v], -1).reshape(-1, 2), materials=(material,))


def welded(mesh: Mesh) -> Mesh:
    """Positions alone, seams closed."""
    places = (mesh.vertices * 1e5).round() / 1e5
    group = groups(places)
    first = torch.zeros(int(group.max()) + 1, dtype=torch.long).scatter(0, group, torch.arange(len(group)))
    faces = group[mesh.faces.long()]
    return Mesh(places[first], faces[(faces != faces.roll(1, 1)).all(1)])


def sky() -> Environment:
    """Bright from one side, +z up."""
    light = torch.full((8, 16, 3), 0.4)
    light[1:4, 3:7] = 3.0
    return Environment.z_up(light)


def cameras(count: int = 20, size: int = 40) -> list[Camera]:
    """From all sides, evenly."""
    i = torch.arange(count) + 0.5
    z, phi = 1 - 2 * i / count, i * math.pi * (1 + math.sqrt(5))
    r = (1 - z * z).sqrt()
    eyes, up = 3 * torch.stack([r * phi.cos(), r * phi.sin(), z], 1), torch.tensor([0.0, 0.0, 1.0])
    return [Camera.from_fov(look_at(eye, torch.zeros(3), up), 0.85, size, size) for eye in eyes]


def photographed_ball(folder: Path, count: int = 20, size: int = 64, lighting: Lighting | None = None) -> Scene:
    """Photographs of `ball_mesh` under `sky`, or lights that take turns, with cut-outs; frame and views only."""
    lighting = lighting or Lighting.everywhere(sky())
    mesh, rasterizer, views, names = ball_mesh(), create_mesh_rasterizer(), [], list(lighting.maps)
    folder.mkdir(parents=True, exist_ok=True)
    for i, camera in enumerate(cameras(count, size)):
        name = names[i % len(names)]
        light = lighting.of(name, camera.camera_from_world)
        assert light is not None
        picture = render(mesh, camera, rasterizer, lambda s, light=light: shade(s, light, SplitSum()), supersample=2)
        straight = linear_to_srgb((picture[..., :3] / picture[..., 3:].clamp_min(1e-4)).clamp(0, 1))
        write_image(folder / f"{i:02d}.png", torch.cat([straight, picture[..., 3:].clamp(0, 1)], -1))
        views.append(View(f"{i:02d}", folder / f"{i:02d}.png", camera, "train", light=name or None))
    return Scene(Frame(radius=3.0, up=(0.0, 0.0, 1.0)), Views(tuple(views)))


def with_splat(scene: Scene) -> Scene:
    """The same with `ball_splat` and the light."""
    return replace(scene, gaussians=ball_splat(), light=Lighting.everywhere(sky()))
