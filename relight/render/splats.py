"""Pictures of a splat over any backend: colour, depth, normals and any other channel in one pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relight.geometry import sh as _sh
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.plugins import PluginError
from relight.render import backends
from relight.render.protocol import RasterOptions, ScreenStatistics, SplatRasterizer
from relight.vectors import unit


@dataclass(frozen=True)
class SplatRender:
    """color: (H, W, 3) sRGB-encoded captured look, over `background` if one was given, else premultiplied.
    alpha: (H, W), 0 to 1.  depth: (H, W) expected depth, world units along +z; 0 where nothing is drawn.
    median_depth: (H, W), world units, 0 where transmittance stays above 1/2; not differentiated.
    normals: (H, W, 3) unit, world frame, towards the camera; zero where nothing is drawn; None unless asked for.
    features: (H, W, F) sum of weight x feature; None unless given.
    """

    color: Tensor
    alpha: Tensor
    depth: Tensor
    median_depth: Tensor
    normals: Tensor | None
    features: Tensor | None
    statistics: ScreenStatistics


def available_backends() -> dict[str, str | None]:
    """Every splat backend by name, with the reason why it can't run here, or None if it can."""
    found: dict[str, str | None] = {}
    for name in backends.names():
        try:
            found[name] = backends.find(name).unavailable()
        except PluginError as error:
            found[name] = str(error)
    return found


def create_rasterizer(name: str = "auto", device: str | torch.device = "cpu") -> SplatRasterizer:
    """A backend by name; "auto" takes the first usable one made for the device.  Raises BackendUnavailableError."""
    kind = torch.device(device).type
    if name == "auto":
        candidates = [b for b in backends.BACKENDS if b.device == kind]
    else:
        candidates = [backends.find(name)] if name in backends.names() else []
    return backends.first_usable(candidates, "splat backend", name, kind, backends.names()).create()


def radiance(gaussians: Gaussians, eye: Tensor, degree: int | None = None) -> Tensor:
    """(N, 3) captured colour of each Gaussian seen from `eye` (3,), sRGB-encoded.  `degree` limits the bands used."""
    degree = gaussians.sh_degree if degree is None else min(degree, gaussians.sh_degree)
    if gaussians.sh.device.type == "cpu" and gaussians.sh.dtype == torch.float32:
        from relight.render.kernels.sh import radiance as fast

        return fast(gaussians.sh, gaussians.means, eye, degree)
    return _sh.radiance(gaussians.sh, gaussians.means, eye, degree)


def render(
    rasterizer: SplatRasterizer,
    gaussians: Gaussians,
    camera: Camera,
    *,
    sh_degree: int | None = None,
    options: RasterOptions = RasterOptions(),
    normals: bool = False,
    features: Tensor | None = None,
    background: Tensor | None = None,
) -> SplatRender:
    """One picture.

    features: (N, F) further channels to blend.  background: (3,) or (H, W, 3), sRGB-encoded.
    Memory behind the pictures is planar: `color.permute(2, 0, 1)` is contiguous up to row padding.
    """
    eye = camera.position
    channels = [radiance(gaussians, eye, sh_degree)]
    if normals:
        channels.append(gaussians.normals(eye))
    if features is not None:
        channels.append(features)
    packed = torch.cat(channels, 1) if len(channels) > 1 else channels[0]
    image = rasterizer.rasterize(gaussians, camera, packed, options)
    color = image.features[..., :3]
    if background is not None:
        color = color + (1 - image.alpha)[..., None] * background
    start = 6 if normals else 3
    return SplatRender(
        color=color,
        alpha=image.alpha,
        depth=image.expected_depth,
        median_depth=image.median_depth,
        normals=unit(image.features[..., 3:6]) if normals else None,
        features=image.features[..., start:] if features is not None else None,
        statistics=image.statistics,
    )
