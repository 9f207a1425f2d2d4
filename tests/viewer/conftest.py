"""Makes `relight.viewer` importable in a checkout; a small scene."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from viewer_scenes import balls

from relight.cli.view import viewer_module
from relight.geometry.camera import Camera
from relight.geometry.transforms import look_at
from relight.scene import Frame, Scene
from relight.shading.environment import Environment
from relight.shading.lighting import Lighting

viewer_module("display")


@pytest.fixture
def scene() -> Scene:
    light = Environment(torch.rand(8, 16, 3, generator=torch.Generator().manual_seed(1)) + 0.5)
    return Scene(Frame((0.0, 0.0, 0.0), 2.0, (0.0, 1.0, 0.0)), gaussians=balls(), light=Lighting.everywhere(light))


@pytest.fixture
def plain(scene: Scene) -> Scene:
    """Without materials and light."""
    assert scene.gaussians is not None
    return replace(scene, gaussians=replace(scene.gaussians, channels={}), light=None)


@pytest.fixture
def camera() -> Camera:
    pose = look_at(torch.tensor([0.0, 0.0, 5.0]), torch.zeros(3), torch.tensor([0.0, 1.0, 0.0]))
    return Camera.from_fov(pose, math.radians(40), 64, 48)
