"""The narrow waist between everything that wants pictures and everything that draws Gaussians.

A backend turns Gaussians, a camera and F per-Gaussian features into blended feature maps.  It knows nothing of
colour, light or losses; those are features to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians

ALPHA_MIN = 1.0 / 255.0
"""A Gaussian contributes nothing to a pixel where its alpha is below this (3DGS)."""
ALPHA_MAX = 0.99
"""Alpha is clamped here, so that transmittance never reaches zero; no gradient above (3DGS; 0.999 in gsplat)."""
TRANSMITTANCE_MIN = 1e-4
"""Backends may stop where less light than this passes; pictures agree within this bound."""


@dataclass(frozen=True)
class RasterOptions:
    """How Gaussians become pixels.

    near: world units; Gaussians whose centre is nearer than this along +z are skipped.
    low_pass: pixels squared, added to the screen covariance's diagonal (3DGS: 0.3; Mip-Splatting: 0.1).  Surfels
        use 2DGS's screen-space floor (a disc of sigma 1/sqrt(2) px) instead.
    """

    near: float = 0.01
    low_pass: float = 0.3

    @staticmethod
    def for_extent(radius: float) -> RasterOptions:
        """Defaults for a scene of this radius, world units."""
        return RasterOptions(near=2e-3 * radius)


class ScreenStatistics:
    """What one rasterisation knows about each Gaussian in the picture; filled in place by the backend.

    radii: (N,) pixels, half the larger side of the screen box; 0 where the Gaussian is not drawn.
    means: (N, 2) pixels, detached; without meaning where the Gaussian is not drawn.
    gradients, absolute_gradients: (N, 2), dL/d(screen mean) in loss per pixel, and the same with the absolute value
        taken per pixel before summing (AbsGS, Ye et al. 2024).  None until `backward` has run.
    """

    def __init__(self, radii: Tensor, means: Tensor):
        self.radii = radii
        self.means = means
        self.gradients: Tensor | None = None
        self.absolute_gradients: Tensor | None = None


@dataclass(frozen=True)
class SplatImage:
    """What a rasteriser returns.

    features: (H, W, F) = sum over Gaussians front to back of weight * feature (not divided by alpha, no background).
    alpha: (H, W), 0 to 1 = sum of weights.
    depth: (H, W) world units along +z = sum of weight * depth of the centre; divide by alpha for expected depth.
        (`expected_depth` does.)
    median_depth: (H, W) depth of the Gaussian at which transmittance falls below 1/2; 0 where it never does.
        Not differentiated.
    statistics: per Gaussian.
    """

    features: Tensor
    alpha: Tensor
    depth: Tensor
    median_depth: Tensor
    statistics: ScreenStatistics

    @property
    def expected_depth(self) -> Tensor:
        """(H, W) world units; 0 where nothing is drawn."""
        return self.depth / self.alpha.clamp_min(1e-6)


@dataclass(frozen=True)
class Capabilities:
    """What a splat backend can do: drives `backend: auto`, error texts and the conformance matrix.

    device: "cpu" or "cuda": where its tensors live.
    surfels: draws 2D Gaussian discs.
    camera_gradient: differentiates in `camera.world_from_camera`.
    median_depth: fills `SplatImage.median_depth`.
    absolute_gradients: fills `ScreenStatistics.absolute_gradients` of surfels exactly, not with a lower bound.
    deterministic: the same input gives the same bits; with another number of threads too, but for the gradient of the
        camera, which is a sum over all Gaussians.
    alpha_max: where it clamps alpha.
    floor_on_box: the screen-space floor of a surfel is around the middle of its 1-sigma outline's box, as in 2DGS's
        code, not around its projected centre, as in 2DGS's equation 11.
    """

    device: str
    surfels: bool = True
    camera_gradient: bool = True
    median_depth: bool = True
    absolute_gradients: bool = True
    deterministic: bool = True
    alpha_max: float = ALPHA_MAX
    floor_on_box: bool = False


@runtime_checkable
class SplatRasterizer(Protocol):
    """One method.  Differentiable in features, means, quaternions, scales, opacities and the camera's pose."""

    name: str
    capabilities: Capabilities

    def rasterize(
        self, gaussians: Gaussians, camera: Camera, features: Tensor, options: RasterOptions = RasterOptions()
    ) -> SplatImage:
        """gaussians: N.  camera: size gives H, W.  features: (N, F) float32, F >= 1, on the backend's device."""
        ...


Made = TypeVar("Made")


@dataclass(frozen=True)
class Backend(Generic[Made]):
    """A name, the device its tensors live on, why it can't run here (None if it can), and how to make it."""

    name: str
    device: str
    unavailable: Callable[[], str | None]
    create: Callable[[], Made]


__all__ = [
    "ALPHA_MAX", "ALPHA_MIN", "TRANSMITTANCE_MIN", "Backend", "Capabilities", "RasterOptions", "ScreenStatistics",
    "SplatImage", "SplatRasterizer",
]  # fmt: skip
