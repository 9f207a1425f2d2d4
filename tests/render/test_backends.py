"""Every splat backend against the reference twin, and the twin against differences of itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.geometry.transforms import rigid_from_twist
from relight.render.backends import BACKENDS
from relight.render.backends.splat_cpu import SplatCpu
from relight.render.protocol import RasterOptions, ScreenStatistics
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


def prepared(backend, case, variant):
    """The backend, and the case as this kind of Gaussian."""
    rasterizer = created(backend)
    cases = conformance.variants(case, surfels=rasterizer.capabilities.surfels)
    if variant not in cases:
        pytest.skip(f"{backend.name} draws no surfels")
    return rasterizer, cases[variant]


@pytest.mark.parametrize("variant", conformance.VARIANTS)
@pytest.mark.parametrize("name", nasty.CASES)
@pytest.mark.parametrize("backend", OTHERS)
def test_backend_matches_the_twin(backend, name, variant):
    rasterizer, case = prepared(backend, nasty.CASES[name](), variant)
    conformance.check_case(rasterizer, case, f"{name}, {variant}")


@pytest.mark.parametrize("variant", conformance.VARIANTS)
@pytest.mark.parametrize("name", nasty.extremes())
@pytest.mark.parametrize("backend", OTHERS)
def test_finite_in_finite_out(backend, name, variant):
    rasterizer, case = prepared(backend, nasty.extremes()[name], variant)
    conformance.check_finite(rasterizer, case, f"extreme {name}, {variant}")


@pytest.mark.parametrize("variant", conformance.VARIANTS)
@pytest.mark.parametrize("backend", OTHERS)
def test_same_bits_every_time(backend, variant):
    conformance.check_repeatable(*prepared(backend, nasty.cloud(), variant), variant)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("backend", OTHERS)
def test_broken_gaussians_are_left_out(backend, value):
    conformance.check_skips_broken(created(backend), value)


@pytest.mark.parametrize("variant", conformance.VARIANTS)
def test_boxes_of_the_cpu_are_the_twins(variant):
    case = conformance.variants(nasty.cloud())[variant]
    with torch.no_grad():
        found, expected = (
            r.rasterize(case.gaussians, case.camera, case.features).statistics.radii
            for r in (SplatCpu(), ReferenceRasterizer())
        )
    side = max(case.camera.width, case.camera.height)
    torch.testing.assert_close(found.clamp_max(side), expected.clamp_max(side), rtol=1e-3, atol=1e-3)


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


INPUTS = ["means", "quats_wxyz", "log_scales", "logit_opacity", "filter_3d", "features", "twist"]


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("kind", ["ellipsoids", "antialiased", "surfels"])
def test_twin_matches_central_differences(kind, name):
    gaussians, features = smooth(3, kind == "surfels")
    gaussians = replace(gaussians, antialiased=kind == "antialiased", filter_3d=torch.linspace(0.3, 0.6, 5).double())

    def loss(value: torch.Tensor) -> torch.Tensor:
        g = replace(gaussians, **{name: value}) if name not in ("features", "twist") else gaussians
        f = value if name == "features" else features
        pose = rigid_from_twist(value) if name == "twist" else torch.eye(4).double()
        return weighed(g, Camera(pose, 9.0, 10.0, 5.0, 4.0, 11, 9), f)[0]

    at = {"features": features, "twist": torch.zeros(6).double()}.get(name)
    at = (getattr(gaussians, name) if at is None else at).clone().requires_grad_()
    loss(at).backward()
    assert at.grad is not None
    expected = central_differences(loss, at.detach(), 1e-5)
    if kind == "surfels" and name == "log_scales":
        assert not at.grad[:, 2].any()
    assert_gradients_close(at.grad, expected, name=name, relative_l2=1e-4)


@pytest.mark.parametrize("kind", ["ellipsoids", "antialiased", "surfels"])
def test_screen_gradients_are_what_moving_the_picture_does(kind):
    """A shift of the principal point moves all screen means, and nothing else."""
    gaussians, features = smooth(3, kind == "surfels")
    gaussians = replace(gaussians, antialiased=kind == "antialiased", means=gaussians.means.requires_grad_())

    def at(shift: torch.Tensor) -> tuple[torch.Tensor, ScreenStatistics]:
        camera = Camera(torch.eye(4).double(), 9.0, 10.0, 5.0 + float(shift[0]), 4.0 + float(shift[1]), 11, 9)
        return weighed(gaussians, camera, features)

    loss, statistics = at(torch.zeros(2))
    loss.backward()
    assert statistics.gradients is not None and statistics.absolute_gradients is not None
    expected = central_differences(lambda shift: at(shift)[0], torch.zeros(2).double(), 1e-5)
    assert_gradients_close(statistics.gradients.sum(0), expected, relative_l2=1e-4)
    assert bool((statistics.absolute_gradients >= statistics.gradients.abs() - 1e-9).all())


def weighed(gaussians: Gaussians, camera: Camera, features: torch.Tensor) -> tuple[torch.Tensor, ScreenStatistics]:
    """A random linear function of all maps of the twin."""
    weights = torch.randn(9, 11, 4, generator=torch.Generator().manual_seed(1)).double()
    image = ReferenceRasterizer().rasterize(gaussians, camera, features, RasterOptions())
    maps = torch.cat([image.features, image.alpha[..., None], image.depth[..., None]], -1)
    return (maps * weights).sum(), image.statistics


class Faulty:
    """A backend with a planted fault."""

    name = "faulty"

    def __init__(self, fault: str):
        self.inner, self.fault, self.calls = SplatCpu(), fault, 0
        self.capabilities = self.inner.capabilities

    def rasterize(self, gaussians, camera, features, options=RasterOptions()):
        self.calls += 1
        image = self.inner.rasterize(*self.changed(gaussians, camera, features), options)
        if self.fault == "depth divided by alpha":
            image = replace(image, depth=image.depth / image.alpha.clamp_min(1e-3))
        if self.fault == "transposed":
            image = replace(image, features=image.features.transpose(0, 1))
        if self.fault == "upside down":
            image = replace(image, alpha=image.alpha.flip(0))
        if self.fault == "one bad pixel":
            image = replace(
                image, alpha=image.alpha + 0.1 * (torch.arange(image.alpha.numel()) == 700).view_as(image.alpha)
            )
        if self.fault == "no median depth":
            image = replace(image, median_depth=torch.zeros_like(image.median_depth))
        if self.fault == "nothing counts as drawn":
            image.statistics.radii = torch.zeros_like(image.statistics.radii)
        if self.fault == "normalised screen means":
            image.statistics.means = image.statistics.means / torch.tensor([camera.width, camera.height])
        if self.fault == "screen gradients for other rows":
            image = replace(image, statistics=Rolled(image.statistics))
        return image

    def changed(self, gaussians, camera, features):
        if self.fault == "half a pixel":
            camera = replace(camera, cx=camera.cx + 0.5)
        if self.fault == "no gradient of opacity":
            gaussians = replace(gaussians, logit_opacity=gaussians.logit_opacity.detach())
        if self.fault == "no gradient of the camera":
            camera = replace(camera, world_from_camera=camera.world_from_camera.detach())
        if self.fault == "gradient of means 2 % off":
            gaussians = replace(gaussians, means=1.02 * gaussians.means - 0.02 * gaussians.means.detach())
        if self.fault == "scales 3 % off":
            gaussians = replace(gaussians, log_scales=gaussians.log_scales + 0.03)
        if self.fault == "channels swapped":
            features = features.flip(1)
        if self.fault == "one Gaussian missing":
            gaussians = replace(gaussians, logit_opacity=gaussians.logit_opacity - 50.0 * (torch.arange(60) == 7))
        if self.fault == "forgets the 3D filter":
            gaussians = replace(gaussians, filter_3d=None)
        return gaussians, camera, features


class Rolled:
    """Statistics whose gradients are those of the Gaussian before."""

    def __init__(self, inner: ScreenStatistics):
        self.inner = inner

    def __getattr__(self, name):
        value = getattr(self.inner, name)
        return value.roll(1, 0) if name == "gradients" else value


FAULTS = {
    "half a pixel": "features",
    "transposed": "features: shape",
    "upside down": "alpha",
    "one bad pixel": "alpha",
    "channels swapped": "features",
    "depth divided by alpha": "depth",
    "no median depth": "median depth",
    "scales 3 % off": "features",
    "one Gaussian missing": "features",
    "no gradient of opacity": "gradient of logit_opacity",
    "no gradient of the camera": "gradient of camera twist",
    "gradient of means 2 % off": "gradient of means",
    "nothing counts as drawn": "drawn by the twin only",
    "normalised screen means": "screen means",
    "screen gradients for other rows": r"gradient of screen means \(gradients\)",
}
"""And the quantity that gives it away."""


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_noticed(fault):
    with pytest.raises(AssertionError, match=f"case: .*{FAULTS[fault]}"):
        conformance.check_case(Faulty(fault), nasty.cloud(), "case")


def test_without_a_fault_nothing_is_noticed():
    conformance.check_case(Faulty("none"), nasty.cloud(), "whole")


def test_a_forgotten_filter_is_noticed():
    with pytest.raises(AssertionError, match="filter"):
        conformance.check_case(
            Faulty("forgets the 3D filter"), conformance.variants(nasty.cloud())["3D filter"], "filter"
        )


class Noisy(Faulty):
    """Not the same twice, and NaN from input that is large."""

    def changed(self, gaussians, camera, features):
        wild = gaussians.means.abs().max() > 1e5
        return gaussians, camera, features * (float("nan") if wild else 1.0 + 1e-6 * self.calls)


class Careless(Faulty):
    """Draws broken Gaussians somewhere."""

    def changed(self, gaussians, camera, features):
        return gaussians.map(torch.Tensor.nan_to_num), camera, features


def test_noise_and_nan_are_noticed():
    with pytest.raises(AssertionError, match="features differs the second time"):
        conformance.check_repeatable(Noisy("none"), nasty.cloud(), "noise")
    with pytest.raises(AssertionError, match="features is not finite"):
        conformance.check_finite(Noisy("none"), nasty.extremes()["means"], "nan")
    with pytest.raises(AssertionError, match="nan in"):
        conformance.check_skips_broken(Careless("none"), float("nan"))
