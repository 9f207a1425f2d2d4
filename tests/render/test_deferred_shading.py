"""Materials of a splat as pictures, ready to shade."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from relight.errors import MissingPartError
from relight.geometry import sh
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.render.deferred import GBuffer, gbuffer
from relight.render.splats import create_rasterizer
from relight.shading.environment import Environment
from relight.shading.shade import SplitSum, shade

CAMERA = Camera(torch.eye(4), 60.0, 60.0, 16.0, 16.0, 32, 32)
TILT = 0.5


def wall(**channels: torch.Tensor) -> Gaussians:
    """An opaque, square wall of surfels, 4 in front of the camera, turned by TILT about the vertical axis."""
    line = torch.linspace(-1, 1, 24)
    x, y = torch.meshgrid(line, line, indexing="xy")
    n = x.numel()
    right = torch.tensor([math.cos(TILT), 0.0, math.sin(TILT)])
    means = x.reshape(-1, 1) * right + y.reshape(-1, 1) * torch.tensor([0.0, 1.0, 0.0]) + torch.tensor([0.0, 0.0, 4.0])
    values = {
        "base_color": torch.tensor([0.2, 0.5, 0.8]).expand(n, 3),
        "roughness": torch.full((n,), 0.4),
        "metallic": torch.full((n,), 0.3),
        "progress": torch.full((n,), 0.7),
    } | channels
    return Gaussians(
        means=means,
        quats_wxyz=torch.tensor([math.cos(TILT / 2), 0.0, -math.sin(TILT / 2), 0.0]).expand(n, 4),
        log_scales=torch.full((n, 3), math.log(0.08)),
        logit_opacity=torch.full((n,), 4.0),
        sh=sh.from_constant(torch.full((n, 3), 0.5))[:, None],
        channels={k: v for k, v in values.items() if len(v)},
        surfels=True,
    )


def seen(gaussians: Gaussians) -> GBuffer:
    return gbuffer(create_rasterizer(), gaussians, CAMERA)


def solid(buffer: GBuffer) -> torch.Tensor:
    return buffer.at(buffer.splat.alpha[..., None])[:, 0] > 0.95


def test_a_wall_comes_out_as_it_is():
    buffer = seen(wall())
    inside = solid(buffer)
    surface = buffer.surface[inside]
    assert inside.sum() > 300
    torch.testing.assert_close(surface.base_color, torch.tensor([0.2, 0.5, 0.8]).expand(len(surface.base_color), 3))
    assert torch.allclose(surface.roughness, torch.tensor(0.4)) and torch.allclose(surface.metallic, torch.tensor(0.3))
    assert torch.allclose(buffer.progress, torch.tensor(0.7), atol=1e-5)
    normal = torch.tensor([math.sin(TILT), 0.0, -math.cos(TILT)])
    assert (surface.normal @ normal).min() > 0.999
    assert (((surface.position - torch.tensor([0.0, 0.0, 4.0])) @ normal).abs() < 0.05).all()  # discs are 0.08 wide
    torch.testing.assert_close(
        surface.view, torch.nn.functional.normalize(-surface.position, dim=-1), atol=1e-4, rtol=0
    )


def test_edges_keep_their_material():
    """Blended values are divided by alpha: a half-covered pixel is not darker."""
    buffer = seen(wall())
    assert (~solid(buffer)).any()
    assert torch.allclose(buffer.surface.roughness, torch.tensor(0.4), atol=1e-4)


def test_own_normals_are_used_and_never_seen_from_behind():
    n = 24 * 24
    for along in ((0.6, 0.0, -0.8), (0.0, 0.0, 1.0)):
        buffer = seen(wall(normal=torch.tensor(along).expand(n, 3)))
        if along[2] < 0:
            torch.testing.assert_close(buffer.surface.normal[:, 0], torch.full_like(buffer.progress, 0.6))
        assert (buffer.surface.normal * buffer.surface.view).sum(-1).min() > 0


def test_spread_and_at_are_inverse():
    buffer = seen(wall())
    picture = buffer.spread(buffer.surface.base_color)
    assert picture.shape == (32, 32, 3) and (picture[~buffer.mask] == 0).all()
    assert torch.equal(buffer.at(picture), buffer.surface.base_color)


def test_materials_get_gradients_through_shading():
    gaussians = wall()
    channels = {k: v.clone().requires_grad_() for k, v in gaussians.channels.items()}
    quats = gaussians.quats_wxyz.clone().requires_grad_()
    buffer = seen(replace(gaussians, channels=channels, quats_wxyz=quats))
    light = torch.rand(8, 16, 3, generator=torch.Generator().manual_seed(0))
    color = shade(buffer.surface, Environment(light), SplitSum())
    (buffer.spread(color * buffer.progress[:, None]) ** 2).sum().backward()
    for name, leaf in (*channels.items(), ("quats", quats)):
        assert leaf.grad is not None and leaf.grad.isfinite().all() and leaf.grad.abs().max() > 1e-5, name


def test_a_splat_without_materials_says_so():
    with pytest.raises(MissingPartError, match="no progress"):
        seen(wall(progress=torch.empty(0)))


def test_nothing_in_view():
    buffer = seen(wall()[:0])
    assert buffer.surface.shape == (0,) and not buffer.mask.any()
    assert buffer.spread(buffer.surface.base_color).shape == (32, 32, 3)
