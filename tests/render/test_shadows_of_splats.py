"""Proxy meshes and baked light: against closed forms and against the light itself."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.geometry.mesh import Mesh
from relight.render.proxy import NoSurfaceError, Proxy, fuse
from relight.render.relit import Relit
from relight.render.splats import create_rasterizer
from relight.render.tracing import unavailable
from relight.render.transfer import bake, mirrored
from relight.shading.color import linear_to_srgb
from relight.shading.environment import Environment
from relight.shading.lighting import Lighting
from relight.shading.shade import MonteCarlo
from relight.shading.surface import Surface

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


def ball(opacity: float = 6.0) -> Gaussians:
    """Discs on a unit sphere."""
    n = 1500
    i = torch.arange(n) + 0.5
    z, phi = 1 - 2 * i / n, i * math.pi * (1 + math.sqrt(5))
    r = (1 - z * z).sqrt()
    means = torch.stack([r * phi.cos(), r * phi.sin(), z], 1)
    return Gaussians(
        means=means,
        quats_wxyz=torch.stack([1 + z, -means[:, 1], means[:, 0], torch.zeros(n)], 1),
        log_scales=torch.full((n, 3), math.log(0.05)),
        logit_opacity=torch.full((n,), opacity),
        sh=torch.zeros(n, 1, 3),
        surfels=True,
    )


def around(count: int, size: int) -> list[Camera]:
    """Four radii away, from all heights."""
    cameras = []
    for k in range(count):
        angle, height = 2.4 * k, 3.0 * math.sin(1.7 * k)
        eye = 4 * normalize(torch.tensor([math.cos(angle) * 3, height, math.sin(angle) * 3]), dim=0)
        right = normalize(torch.linalg.cross(-eye, torch.tensor([0.0, 1.0, 0.0])), dim=0)
        forward = normalize(-eye, dim=0)
        pose = torch.eye(4)
        pose[:3] = torch.stack([right, torch.linalg.cross(forward, right), forward, eye], -1)
        cameras.append(Camera.from_fov(pose, 0.7, size, size))
    return cameras


def sky(rows: int = 16) -> Environment:
    torch.manual_seed(0)
    return Environment(torch.rand(rows, 2 * rows, 3) + 0.1)


def square(height: float, half: float = 50.0, color: tuple[float, float, float] = (0.2, 0.5, 0.8)) -> Mesh:
    """Level, facing up (+y)."""
    corners = torch.tensor([[-half, height, -half], [-half, height, half], [half, height, half], [half, height, -half]])
    return Mesh(
        corners, torch.tensor([[0, 1, 2], [0, 2, 3]]), normals=torch.tensor([[0.0, 1.0, 0.0]]).expand(4, 3),
        colors=torch.tensor([[*color, 1.0]]).expand(4, 4).contiguous(),
    )  # fmt: skip


UP = torch.tensor([[0.0, 1.0, 0.0]])


def test_open_sky_gives_the_lights_own_irradiance():
    light = sky()
    baked = bake(Proxy(square(-5.0)), torch.zeros(1, 3), UP, light.rotation)
    torch.testing.assert_close(baked.irradiance(light), light.irradiance(UP), rtol=0.03, atol=0)
    assert (baked.bounced == 0).all()


def test_under_a_ceiling_there_is_its_colour_instead():
    """A white-lit half space: with all of the sky hidden, irradiance / pi is the ceiling's radiance."""
    baked = bake(Proxy(square(2.0, half=2000.0)), torch.zeros(1, 3), UP, torch.eye(3))
    assert baked.weights.sum() < 0.01
    torch.testing.assert_close(baked.bounced, torch.tensor([[0.2, 0.5, 0.8]]), rtol=0.02, atol=0)


def test_baking_for_a_turned_light_turns_the_weights():
    light = sky().turned(0.8)
    tilted = normalize(torch.tensor([[0.5, 1.0, -0.3]]), dim=-1)
    baked = bake(Proxy(square(-500.0, half=1e-3)), torch.zeros(1, 3), tilted, light.rotation)
    torch.testing.assert_close(baked.irradiance(light), light.irradiance(tilted), rtol=0.03, atol=0)


def test_a_light_of_another_rotation_is_resampled():
    light, tilted = sky().turned(0.8), normalize(torch.tensor([[0.5, 1.0, -0.3]]), dim=-1)
    baked = bake(Proxy(square(-500.0, half=1e-3)), torch.zeros(1, 3), tilted, torch.eye(3))
    torch.testing.assert_close(baked.irradiance(light), light.irradiance(tilted), rtol=0.03, atol=0)


def test_gradients_reach_the_light_through_baked_irradiance():
    radiance = sky().radiance.requires_grad_()
    baked = bake(Proxy(square(-5.0)), torch.zeros(1, 3), UP, torch.eye(3))
    baked.irradiance(Environment(radiance)).sum().backward()
    assert radiance.grad is not None
    torch.testing.assert_close(radiance.grad.sum(), baked.weights.sum() * 3)


def test_a_balls_proxy_is_a_ball():
    gaussians, cameras = ball(), around(12, 64)
    mesh = fuse(create_rasterizer(), gaussians, cameras)
    radius = mesh.vertices.norm(dim=1)
    assert (radius.mean() - 1).abs() < 0.04 and radius.std() < 0.03, "discs stand off the sphere a little"
    assert mesh.normals is not None and mesh.colors is not None
    outwards = (mesh.normals * mesh.vertices / radius[:, None]).sum(-1)
    assert outwards.mean() > 0.97
    places, normals, _ = (proxy := Proxy(mesh)).closest(2 * UP)
    assert (places - (1 + proxy.lift) * UP).norm() < 0.12 and (normals @ UP[0]).min() > 0.97


def test_a_mirror_below_the_ball_sees_it():
    """Straight up is the ball, aslant is the sky."""
    proxy = Proxy(fuse(create_rasterizer(), ball(), around(12, 64)))
    view = normalize(torch.tensor([[0.05, 1.0, 0.0], [1.0, 0.5, 0.0]]), dim=-1)
    flat = torch.full((2,), 0.02)
    surface = Surface(
        torch.tensor([[0.0, -2.0, 0.0]]).expand(2, 3), UP.expand(2, 3), view, torch.ones(2, 3), flat, flat
    )
    light, open_sky = mirrored(surface, proxy, rays=8)
    assert open_sky.tolist() == [0.0, 1.0]
    assert light[0].min() > 0.05 and (light[1] == 0).all()


def test_a_transparent_splat_has_no_surface():
    with pytest.raises(NoSurfaceError, match="no view shows a surface"):
        fuse(create_rasterizer(), ball(opacity=-8.0), around(3, 32))


def with_materials(gaussians: Gaussians) -> Gaussians:
    n = len(gaussians)
    outwards = normalize(gaussians.means, dim=-1)
    channels = {
        "base_color": torch.full((n, 3), 0.6), "roughness": torch.full((n,), 0.8), "metallic": torch.zeros(n),
        "progress": torch.ones(n), "normal": outwards,
    }  # fmt: skip
    return replace(gaussians, channels=channels)


def test_relit_in_the_photographs_light_is_the_fits_picture():
    """Two ways to one picture: split-sum with baked light, and Monte Carlo with rays."""
    gaussians, camera = with_materials(ball()), around(1, 48)[0]
    mesh, light = fuse(create_rasterizer(), gaussians, around(12, 64)), sky()
    scene = Relit(gaussians, mesh, Lighting.everywhere(light))
    encoded, alpha = scene.photographed(camera)
    assert encoded.shape == (48, 48, 3) and alpha.max() > 0.99
    linear = scene.under(camera, light, MonteCarlo(64))
    inside = alpha > 0.99
    assert (linear_to_srgb(linear[..., :3]) - encoded)[inside].abs().mean() < 0.04
    darker = scene.under(camera, light, MonteCarlo(64), scale=torch.full((3,), 0.5))
    ratio = darker[inside][:, :3].sum() / linear[inside][:, :3].sum()
    assert 0.5 < float(ratio) < 0.65, "half the base colour, and the coat as before"
    assert math.isclose(float(linear[0, 0].abs().sum()), 0.0)
