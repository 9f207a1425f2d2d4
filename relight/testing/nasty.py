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
    return replace(_with(case, logit_opacity=torch.full((300,), 9.0)), camera=camera(27, 19, focal=25.0))


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


def _zero_quaternions() -> Case:
    case = cloud(40)
    quats = case.gaussians.quats_wxyz.clone()
    quats[::2] = 0.0
    return _with(case, quats_wxyz=quats)


def _all_sizes() -> Case:
    """A thousandth of a pixel to larger than the picture, each axis by itself."""
    case = cloud(60)
    scales = torch.linspace(math.log(1e-4), math.log(3.0), 180)
    order = torch.randperm(180, generator=torch.Generator().manual_seed(0))
    return _with(case, log_scales=scales[order].view(60, 3))


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


def _cropped() -> Case:
    """A window of a larger picture: the principal point is outside."""
    case = cloud(depth=3.0)
    camera_ = replace(camera(), cx=-14.0, cy=50.0)
    shift = torch.tensor([34.5 / camera_.fx, -32.5 / camera_.fy, 0.0])
    return replace(_with(case, means=case.gaussians.means + 3.0 * shift), camera=camera_)


def _from_afar() -> Case:
    """Both the camera and what it sees are far from the origin of the world, as in surveyed captures."""
    case = _turned()
    offset = torch.tensor([300.0, -200.0, 50.0])
    pose = case.camera.world_from_camera.clone()
    pose[:3, 3] += offset
    moved = _with(case, means=case.gaussians.means + offset)
    return replace(moved, camera=replace(case.camera, world_from_camera=pose))


def _signed() -> Case:
    """Features that are no colours: negative and large."""
    case = cloud(40, channels=7)
    return replace(case, features=20.0 * case.features - 10.0)


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
    "quaternions of zero": _zero_quaternions,
    "all sizes": _all_sizes,
    "edge-on": _edge_on,
    "wide angle": _wide,
    "cropped": _cropped,
    "far from the origin": _from_afar,
    "one pixel": _sized(1, 1),
    "a tile and a pixel": _sized(17, 33),
    "a row": _sized(64, 1),
    "1 channel": _channels(1),
    "7 signed channels": _signed,
    "32 channels": _channels(32),
    "33 channels": _channels(33),
}
"""All of them; each is made anew and deterministic."""


def extremes() -> dict[str, Case]:
    """By parameter: half of the Gaussians have values at the ends of what can be computed with in float32."""
    values = {
        "means": (0.0, 1e-30, 1e-10, 1e6, 1e9, 1e12),
        "quats_wxyz": (0.0, 1e-38, 1e-20, 1e-12, 1e15, 3e38),
        "log_scales": (-200.0, -80.0, -40.0, 20.0, 40.0, 80.0),
        "logit_opacity": (-200.0, -90.0, -20.0, 20.0, 90.0, 200.0),
    }
    found = {}
    for name, ends in values.items():
        case = cloud(48)
        tensor = getattr(case.gaussians, name).clone()
        generator = torch.Generator().manual_seed(0)
        chosen = torch.randint(len(ends), tensor[::2].shape, generator=generator)
        signs = tensor[::2].sign() if name in ("means", "quats_wxyz") else 1.0
        tensor[::2] = torch.tensor(ends)[chosen] * signs
        found[name] = _with(case, **{name: tensor})
    return found


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
