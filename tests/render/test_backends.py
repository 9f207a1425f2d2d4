"""Every splat backend against the reference twin, and the twin against differences of itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.geometry.transforms import rigid_from_twist
from relight.render.backends import BACKENDS
from relight.render.protocol import RasterOptions
from relight.render.reference import ReferenceRasterizer
from relight.testing import conformance, nasty
from relight.testing.gradients import assert_gradients_close, central_differences

OTHERS = [
    pytest.param(backend, id=backend.name, marks=[pytest.mark.gpu] if backend.device == "cuda" else [])
    for backend in BACKENDS
    if backend.name != "reference"
]


def created(backend):
    reason = backend.unavailable()
    if reason is not None:
        pytest.skip(reason)
    return backend.create()


@pytest.mark.parametrize("variant", [*conformance.VARIANTS, "3D filter"])
@pytest.mark.parametrize("name", nasty.CASES)
@pytest.mark.parametrize("backend", OTHERS)
def test_backend_matches_the_twin(backend, name, variant):
    rasterizer = created(backend)
    cases = conformance.variants(nasty.CASES[name](), surfels=rasterizer.capabilities.surfels)
    if variant not in cases:
        pytest.skip(f"{backend.name} draws no surfels")
    conformance.check_case(rasterizer, cases[variant], f"{name}, {variant}")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("backend", OTHERS)
def test_broken_gaussians_are_left_out(backend, value):
    conformance.check_skips_broken(created(backend), value)


def smooth(seed: int, surfels: bool) -> tuple[Gaussians, torch.Tensor]:
    """Large, half-transparent, well apart in depth: no cut-off and no change of order within reach of a step."""
    g = torch.Generator().manual_seed(seed)
    n = 5
    means = torch.stack([*(torch.rand(2, n, generator=g) - 0.5), torch.linspace(2.5, 4.5, n)], 1).double()
    # Surfels face the camera within half a radian.
    quats = torch.tensor([1.0, 0, 0, 0]).repeat(n, 1) + 0.25 * torch.randn(n, 4, generator=g)
    gaussians = Gaussians(
        means=means,
        quats_wxyz=quats.double(),
        log_scales=(0.3 * torch.randn(n, 3, generator=g) + 0.9).double(),
        logit_opacity=(torch.rand(n, generator=g) - 0.5).double(),
        sh=torch.zeros(n, 1, 3).double(),
        surfels=surfels,
    )
    return gaussians, torch.rand(n, 2, generator=g).double()


@pytest.mark.parametrize("name", ["means", "quats_wxyz", "log_scales", "logit_opacity", "features", "twist"])
@pytest.mark.parametrize("kind", ["ellipsoids", "antialiased", "surfels"])
def test_twin_matches_central_differences(kind, name):
    gaussians, features = smooth(3, kind == "surfels")
    gaussians = replace(gaussians, antialiased=kind == "antialiased")
    weights = torch.randn(9, 11, 4, generator=torch.Generator().manual_seed(1)).double()

    def loss(value: torch.Tensor) -> torch.Tensor:
        g = replace(gaussians, **{name: value}) if name not in ("features", "twist") else gaussians
        f = value if name == "features" else features
        pose = rigid_from_twist(value) if name == "twist" else torch.eye(4).double()
        image = ReferenceRasterizer().rasterize(g, Camera(pose, 9.0, 10.0, 5.0, 4.0, 11, 9), f, RasterOptions())
        maps = torch.cat([image.features, image.alpha[..., None], image.depth[..., None]], -1)
        return (maps * weights).sum()

    at = {"features": features, "twist": torch.zeros(6).double()}.get(name)
    at = (getattr(gaussians, name) if at is None else at).clone().requires_grad_()
    loss(at).backward()
    assert at.grad is not None
    expected = central_differences(loss, at.detach(), 1e-5)
    if kind == "surfels" and name == "log_scales":
        assert not at.grad[:, 2].any()
    assert_gradients_close(at.grad, expected, name=name, relative_l2=1e-4)


class Faulty:
    """A backend with a planted fault."""

    name = "faulty"

    def __init__(self, fault: str):
        from relight.render.backends.splat_cpu import SplatCpu

        self.inner, self.fault = SplatCpu(), fault
        self.capabilities = self.inner.capabilities

    def rasterize(self, gaussians, camera, features, options=RasterOptions()):
        if self.fault == "half a pixel":
            camera = replace(camera, cx=camera.cx + 0.5)
        if self.fault == "no gradient of opacity":
            gaussians = replace(gaussians, logit_opacity=gaussians.logit_opacity.detach())
        if self.fault == "scales 3 % off":
            gaussians = replace(gaussians, log_scales=gaussians.log_scales + 0.03)
        if self.fault == "channels swapped":
            features = features.flip(1)
        image = self.inner.rasterize(gaussians, camera, features, options)
        if self.fault == "depth divided by alpha":
            image = replace(image, depth=image.depth / image.alpha.clamp_min(1e-3))
        return image


@pytest.mark.parametrize(
    "fault",
    ["half a pixel", "no gradient of opacity", "scales 3 % off", "channels swapped", "depth divided by alpha"],
)
def test_planted_faults_are_noticed(fault):
    conformance.check_case(Faulty("none"), nasty.cloud(), "whole")
    with pytest.raises(AssertionError):
        conformance.check_case(Faulty(fault), nasty.cloud(), fault)
