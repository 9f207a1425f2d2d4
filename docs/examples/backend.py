"""A rasteriser backend: the slow twin in double precision, to find out whether rounding is to blame."""

from __future__ import annotations

import torch
from torch import Tensor

from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.render.protocol import Backend, Capabilities, RasterOptions, SplatImage
from relight.render.reference import ReferenceRasterizer


class Double:
    """`SplatRasterizer`."""

    name = "double"
    capabilities = Capabilities(device="cpu")

    def __init__(self) -> None:
        self._twin = ReferenceRasterizer(like=self.capabilities)

    def rasterize(
        self, gaussians: Gaussians, camera: Camera, features: Tensor, options: RasterOptions = RasterOptions()
    ) -> SplatImage:
        """float32 in and out; casts are differentiable, so gradients pass."""
        pose = camera.world_from_camera.double()
        exact = Camera(pose, camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height)
        image = self._twin.rasterize(gaussians.map(torch.Tensor.double), exact, features.double(), options)
        features, alpha = image.features.float(), image.alpha.float()
        return SplatImage(features, alpha, image.depth.float(), image.median_depth.float(), image.statistics)


BACKEND = Backend("double", "cpu", unavailable=lambda: None, create=Double)
"""What the entry point names."""


def test_it_draws_what_the_twin_draws() -> None:
    from relight.render.protocol import SplatRasterizer
    from relight.testing import conformance, nasty

    made = BACKEND.create()
    assert isinstance(made, SplatRasterizer)
    cases = conformance.variants(nasty.CASES["needles"]())  # conformance.check_splat_backend(made) tries everything
    for variant in ("antialiased", "surfels"):
        conformance.check_case(made, cases[variant], f"needles, {variant}")
