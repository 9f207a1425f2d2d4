"""Makes `relight.viewer` importable in a checkout, and small scenes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from relight.cli.view import viewer_module
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.geometry.transforms import look_at
from relight.scene import Frame, Scene
from relight.shading.environment import Environment

viewer_module("display")


def balls(count: int = 400) -> Gaussians:
    """Two balls of Gaussians, left red at x = -1 and right blue at x = 1, radius 0.5; the left one rough plastic, the
    right one metal."""
    generator = torch.Generator().manual_seed(3)
    outwards = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    left = torch.arange(count) < count // 2
    center = torch.where(left[:, None], torch.tensor([-1.0, 0, 0]), torch.tensor([1.0, 0, 0]))
    color = torch.where(left[:, None], torch.tensor([0.8, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.8]))
    return Gaussians(
        means=center + 0.5 * outwards,
        quats_wxyz=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        log_scales=torch.full((count, 3), math.log(0.08)),
        logit_opacity=torch.full((count,), 4.0),
        sh=((color - 0.5) / 0.28209479)[:, None],
        channels={
            "base_color": color, "roughness": torch.where(left, 0.7, 0.3), "metallic": torch.where(left, 0.0, 1.0),
            "normal": outwards, "progress": torch.full((count,), 0.9),
        },
    )  # fmt: skip


@pytest.fixture
def scene() -> Scene:
    light = Environment(torch.rand(8, 16, 3, generator=torch.Generator().manual_seed(1)) + 0.5)
    return Scene(Frame((0.0, 0.0, 0.0), 2.0, (0.0, 1.0, 0.0)), gaussians=balls(), light=light)


@pytest.fixture
def plain(scene: Scene) -> Scene:
    """Without materials and light."""
    assert scene.gaussians is not None
    return replace(scene, gaussians=replace(scene.gaussians, channels={}), light=None)


@pytest.fixture
def camera() -> Camera:
    pose = look_at(torch.tensor([0.0, 0.0, 5.0]), torch.zeros(3), torch.tensor([0.0, 1.0, 0.0]))
    return Camera.from_fov(pose, math.radians(40), 64, 48)
