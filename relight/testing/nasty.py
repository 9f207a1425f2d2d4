"""Small splats that break rasterisers, by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.render.protocol import ALPHA_MIN


@dataclass(frozen=True)
class Case:
    """gaussians, camera, features (N, F): what a backend is given.  empty: nothing may be drawn."""

    gaussians: Gaussians
    camera: Camera
    features: Tensor
    empty: bool = False


def camera(width: int = 41, height: int = 35, focal: float = 40.0) -> Camera:
    """Looks along +z from the origin, slightly off-centre."""
    return Camera(torch.eye(4), focal, 1.05 * focal, 0.47 * width, 0.55 * height, width, height)


def cloud(n: int = 60, seed: int = 0, *, depth: float = 4.0, size: float = 0.12, channels: int = 3) -> Case:
    """A usual, well-behaved splat."""
    g = torch.Generator().manual_seed(seed)
    means = torch.randn(n, 3, generator=g) * torch.tensor([1.2, 1.0, 0.8]) + torch.tensor([0.0, 0.0, depth])
    gaussians = Gaussians(
        means=means,
        quats_wxyz=torch.randn(n, 4, generator=g),
        log_scales=torch.randn(n, 3, generator=g) * 0.5 + math.log(size),
        logit_opacity=torch.randn(n, generator=g) * 1.5,
        sh=torch.zeros(n, 1, 3),
    )
    return Case(gaussians, camera(), torch.rand(n, channels, generator=g))


def _with(case: Case, **parts: Tensor) -> Case:
    return replace(case, gaussians=replace(case.gaussians, **parts))


def _take(case: Case, count: int) -> Case:
    return replace(case, gaussians=case.gaussians[:count], features=case.features[:count])


def _empty() -> Case:
    return replace(_take(cloud(), 0), empty=True)


def _behind() -> Case:
    case = cloud()
    return replace(_with(case, means=case.gaussians.means * torch.tensor([1.0, 1.0, -1.0])), empty=True)


def _off_screen() -> Case:
    case = cloud(size=0.02)
    return replace(_with(case, means=case.gaussians.means + torch.tensor([60.0, 0, 0])), empty=True)


def _near_plane() -> Case:
    case = cloud(40)
    z = torch.linspace(-0.5, 0.5, 40)
    return _with(case, means=torch.cat([0.05 * case.gaussians.means[:, :2], z[:, None]], 1))


def _huge() -> Case:
    case = cloud(12)
    return _with(case, log_scales=case.gaussians.log_scales + math.log(80.0))


def _sub_pixel() -> Case:
    case = cloud(80)
    return _with(case, log_scales=case.gaussians.log_scales + math.log(1e-3))


def _needles() -> Case:
    case = cloud(40)
    scales = case.gaussians.log_scales.clone()
    scales[:, 0], scales[:, 1:] = math.log(0.8), math.log(1e-3)
    return _with(case, log_scales=scales)


def _flat() -> Case:
    case = cloud(40)
    scales = case.gaussians.log_scales.clone()
    scales[:, 2] = math.log(1e-7)
    return _with(case, log_scales=scales)


def _opaque_stack() -> Case:
    case = cloud(300, size=0.6)
    return _with(case, logit_opacity=torch.full((300,), 9.0))


def _faint() -> Case:
    case = cloud(50)
    alphas = torch.linspace(0.5, 3.0, 50) * ALPHA_MIN
    return _with(case, logit_opacity=torch.log(alphas / (1 - alphas)))


def _equal_depths() -> Case:
    case = cloud(40)
    means = case.gaussians.means.clone()
    means[:, 2] = 4.0
    return _with(case, means=means)


def _long_quaternions() -> Case:
    case = cloud(40)
    lengths = torch.logspace(-6, 6, 40)
    quats = torch.nn.functional.normalize(case.gaussians.quats_wxyz, dim=1) * lengths[:, None]
    return _with(case, quats_wxyz=quats)


def _edge_on() -> Case:
    """The third axis is at right angles to the view: a disc is seen from its side."""
    case = cloud(30)
    half = math.sqrt(0.5)
    turn = torch.linspace(0, 1, 30)
    quats = torch.stack([half * turn.cos(), half * turn.cos(), half * turn.sin(), half * turn.sin()], 1)
    return _with(case, quats_wxyz=quats)


def _wide() -> Case:
    case = cloud(60, depth=1.2, size=0.25)
    return replace(case, camera=camera(focal=9.0))


def _sized(width: int, height: int) -> Callable[[], Case]:
    return lambda: replace(cloud(), camera=camera(width, height))


def _channels(count: int) -> Callable[[], Case]:
    return lambda: cloud(30, channels=count)


def _turned() -> Case:
    case = cloud()
    angle = 0.7
    pose = torch.eye(4)
    pose[0, 0] = pose[2, 2] = math.cos(angle)
    pose[0, 2], pose[2, 0] = math.sin(angle), -math.sin(angle)
    pose[:3, 3] = torch.tensor([-2.0, 0.3, 0.5])
    return replace(case, camera=replace(case.camera, world_from_camera=pose))


CASES: dict[str, Callable[[], Case]] = {
    "usual": cloud,
    "turned camera": _turned,
    "empty": _empty,
    "one": lambda: _take(cloud(), 1),
    "behind": _behind,
    "off screen": _off_screen,
    "near plane": _near_plane,
    "huge": _huge,
    "sub-pixel": _sub_pixel,
    "needles": _needles,
    "flat": _flat,
    "opaque stack": _opaque_stack,
    "faint": _faint,
    "equal depths": _equal_depths,
    "quaternions of any length": _long_quaternions,
    "edge-on": _edge_on,
    "wide angle": _wide,
    "one pixel": _sized(1, 1),
    "a tile and a pixel": _sized(17, 33),
    "a row": _sized(64, 1),
    "1 channel": _channels(1),
    "7 channels": _channels(7),
    "33 channels": _channels(33),
}
"""All of them; each is made anew and deterministic."""


def broken(value: float = math.nan) -> dict[str, tuple[Case, Tensor]]:
    """By parameter: a splat with that parameter of every third Gaussian set to `value`, and which are whole."""
    found = {}
    # An infinite logit is an opacity of 1.
    for name in ("means", "quats_wxyz", "log_scales", *(["logit_opacity"] if math.isnan(value) else [])):
        case = cloud(30)
        tensor = getattr(case.gaussians, name).clone()
        tensor[::3] = value
        whole = torch.ones(30, dtype=torch.bool)
        whole[::3] = False
        found[name] = (_with(case, **{name: tensor}), whole)
    return found
