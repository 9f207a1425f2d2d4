"""What every splat backend must do: the same pictures and gradients as the reference twin.

    from relight.testing import conformance
    conformance.check_splat_backend(MyRasterizer())

Runs each case of `relight.testing.nasty` with ellipsoids, antialiased ellipsoids, the 3D filter and surfels, and what
holds for all of them: broken Gaussians are left out, finite input gives finite output, and the same input gives the
same bits.  Each check can be called by itself.  Raises AssertionError naming the case and the quantity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.geometry.transforms import rigid_from_twist
from relight.render.protocol import ALPHA_MIN, RasterOptions, SplatImage, SplatRasterizer
from relight.render.reference import ReferenceRasterizer
from relight.testing import nasty
from relight.testing.gradients import assert_gradients_close

VARIANTS: dict[str, dict[str, bool]] = {
    "ellipsoids": {},
    "antialiased": {"antialiased": True},
    "surfels": {"surfels": True},
    "3D filter": {"antialiased": True},
    "3D filter on surfels": {"surfels": True},
}
VALUE_BOUND = 2e-3
"""Of the largest value: float32, and backends may stop where less than TRANSMITTANCE_MIN passes."""
OUTLIERS = 0.01
"""Share of values that may differ by more: alpha is cut off at ALPHA_MIN, and a rounding decides on which side."""
OUTLIER_BOUND = 3 * ALPHA_MIN
"""Of the largest value: what a few Gaussians on the wrong side of the cut-off amount to."""


@dataclass(frozen=True)
class Drawn:
    """One picture and its gradients in a fixed random direction.  `gradients` by name of the input."""

    image: SplatImage
    gradients: dict[str, Tensor]

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Everything that a backend has computed."""
        for name in ("features", "alpha", "depth", "median_depth"):
            yield name.replace("_", " "), getattr(self.image, name).detach()
        yield "radii", self.image.statistics.radii
        yield "screen means", self.image.statistics.means[self.image.statistics.radii > 0]
        for name, gradient in self.gradients.items():
            yield f"gradient of {name}", gradient


def draw(rasterizer: SplatRasterizer, case: nasty.Case, dtype: torch.dtype, device: str = "cpu") -> Drawn:
    """Rasterise and differentiate a random linear function of all maps in every input."""
    g = case.gaussians
    leaves = {k: t.to(device, dtype).requires_grad_() for k, t in g.tensors().items() if k != "sh"}
    features = case.features.to(device, dtype).requires_grad_()
    twist = torch.zeros(6, dtype=dtype, device=device, requires_grad=True)
    moved = Gaussians.from_tensors({**leaves, "sh": g.sh.to(device, dtype)}, **g.flags)
    c = case.camera
    pose = c.world_from_camera.to(device, dtype) @ rigid_from_twist(twist)
    image = rasterizer.rasterize(
        moved, Camera(pose, c.fx, c.fy, c.cx, c.cy, c.width, c.height), features, RasterOptions()
    )
    generator = torch.Generator().manual_seed(7)
    total = torch.zeros((), dtype=dtype, device=device)
    for value, weight in ((image.features, 1.0), (image.alpha, 1.0), (image.depth, 0.3)):
        total = total + weight * (value * torch.randn(value.shape, generator=generator).to(device, dtype)).sum()
    inputs = {**leaves, "features": features, "camera twist": twist}
    found = torch.autograd.grad(total, list(inputs.values()), allow_unused=True)
    gradients = {
        name: torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(inputs.items(), found, strict=True)
    }
    for name in ("gradients", "absolute_gradients"):
        value = getattr(image.statistics, name)
        if value is not None:
            gradients[f"screen means ({name})"] = value
    return Drawn(image, {k: v.detach().cpu() for k, v in gradients.items()})


def variants(case: nasty.Case, *, surfels: bool = True) -> dict[str, nasty.Case]:
    """The case as each kind of Gaussian.  The 3D filter's sizes go from a fraction of a pixel to three pixels."""
    n = len(case.gaussians)
    found = {}
    for name, flags in VARIANTS.items():
        if flags.get("surfels") and not surfels:
            continue
        sizes = torch.linspace(0.02, 0.2, max(n, 1))[:n] if name.startswith("3D filter") else None
        found[name] = replace(case, gaussians=replace(case.gaussians, filter_3d=sizes, **flags))
    return found


def check_splat_backend(rasterizer: SplatRasterizer) -> None:
    """Everything.  Seconds on a CPU."""
    for name, make in nasty.CASES.items():
        for variant, case in variants(make(), surfels=rasterizer.capabilities.surfels).items():
            check_case(rasterizer, case, f"{name}, {variant}")
    for name, case in nasty.extremes().items():
        for variant, extreme in variants(case, surfels=rasterizer.capabilities.surfels).items():
            check_finite(rasterizer, extreme, f"extreme {name}, {variant}")
    for variant, case in variants(nasty.cloud(), surfels=rasterizer.capabilities.surfels).items():
        check_repeatable(rasterizer, case, variant)
    for value in (float("nan"), float("inf")):
        check_skips_broken(rasterizer, value)


def check_case(rasterizer: SplatRasterizer, case: nasty.Case, label: str) -> None:
    """Values, statistics and gradients of one case against the twin in float64."""
    able = rasterizer.capabilities
    found = draw(rasterizer, case, torch.float32, able.device)
    expected = draw(ReferenceRasterizer(like=able), case, torch.float64)
    for name in ("features", "alpha", "depth"):
        _close(getattr(found.image, name), getattr(expected.image, name), f"{label}: {name}")
    if able.median_depth:
        # Where transmittance comes near to 1/2, a rounding decides which Gaussian it is.
        _close(
            found.image.median_depth,
            expected.image.median_depth,
            f"{label}: median depth",
            outliers=0.03,
            outlier_bound=float("inf"),
        )
    _check_statistics(found.image, expected.image, case, label)
    for name, gradient in expected.gradients.items():
        if name == "camera twist" and not able.camera_gradient:
            continue
        if name == "screen means (absolute_gradients)" and case.gaussians.surfels and not able.absolute_gradients:
            continue
        if name not in found.gradients:
            raise AssertionError(f"{label}: no gradient of {name}")
        assert_gradients_close(
            found.gradients[name], gradient, name=f"{label}: gradient of {name}", bias=1e-2, outliers=0.03
        )


def _check_statistics(found: SplatImage, expected: SplatImage, case: nasty.Case, label: str) -> None:
    radii, true_radii = found.statistics.radii.detach().cpu(), expected.statistics.radii
    drawn, truly = radii > 0, true_radii > 0
    # Boxes may be larger than what is seen, so that more may count as drawn; but none that is behind or far outside.
    _few(truly & ~drawn, f"{label}: Gaussians drawn by the twin only")
    if case.empty and (bool(found.alpha.any()) or bool(drawn.any())):
        raise AssertionError(f"{label}: something is drawn")
    both = drawn & truly
    # What is outside the picture does not count.
    largest = float(max(case.camera.width, case.camera.height))
    _few(both & (radii + 1.0 < 0.9 * true_radii.clamp_max(largest)), f"{label}: radii that are too small")
    means, true_means = found.statistics.means.detach().cpu().double(), expected.statistics.means
    off = (means - true_means).abs().amax(-1) > 1e-3 * (1.0 + true_means.abs().amax(-1))
    _few(both & off, f"{label}: screen means that are elsewhere")


def check_finite(rasterizer: SplatRasterizer, case: nasty.Case, label: str) -> None:
    """Nothing that is computed from finite input is NaN or infinite, and no pixel is more than opaque."""
    found = draw(rasterizer, case, torch.float32, rasterizer.capabilities.device)
    for name, value in found.tensors():
        if not bool(value.isfinite().all()):
            raise AssertionError(f"{label}: {name} is not finite")
    alpha = found.image.alpha.detach()
    if not -1e-5 <= float(alpha.min()) <= float(alpha.max()) <= 1.0 + 1e-5:
        raise AssertionError(f"{label}: alpha from {float(alpha.min())} to {float(alpha.max())}")


def check_repeatable(rasterizer: SplatRasterizer, case: nasty.Case, label: str) -> None:
    """The same bits every time, on a CPU with any number of threads; nothing to check if it doesn't claim that."""
    if not rasterizer.capabilities.deterministic:
        return
    device = rasterizer.capabilities.device
    threads = torch.get_num_threads()
    first = dict(draw(rasterizer, case, torch.float32, device).tensors())
    for count in (threads, 1, 3):
        torch.set_num_threads(count)
        try:
            again = draw(rasterizer, case, torch.float32, device)
        finally:
            torch.set_num_threads(threads)
        for name, value in again.tensors():
            # The camera's gradient is a sum over all Gaussians, each thread's part by itself.
            exact = name != "gradient of camera twist" or count == threads
            if not (torch.equal(value, first[name]) if exact else torch.allclose(value, first[name], rtol=1e-3)):
                raise AssertionError(f"{label}: {name} differs the second time, with {count} threads")


def check_skips_broken(rasterizer: SplatRasterizer, value: float) -> None:
    """Gaussians with NaN or infinite parameters are left out, and the others drawn as if alone."""
    device = rasterizer.capabilities.device
    for name, (case, whole) in nasty.broken(value).items():
        found = draw(rasterizer, case, torch.float32, device)
        alone = replace(case, gaussians=case.gaussians[whole], features=case.features[whole])
        expected = draw(rasterizer, alone, torch.float32, device)
        label = f"{value} in {name}"
        _close(found.image.features, expected.image.features, label)
        if bool((found.image.statistics.radii.cpu() > 0)[~whole].any()):
            raise AssertionError(f"{label}: a broken Gaussian counts as drawn")
        for key in ("means", "logit_opacity", "features"):
            assert_gradients_close(
                found.gradients[key][whole], expected.gradients[key], name=f"{label}: gradient of {key}"
            )


def _few(wrong: Tensor, label: str) -> None:
    if int(wrong.sum()) > max(1, OUTLIERS * len(wrong)):
        raise AssertionError(f"{label}: {int(wrong.sum())} of {len(wrong)}")


def _close(
    found: Tensor, expected: Tensor, label: str, outliers: float = OUTLIERS, outlier_bound: float = OUTLIER_BOUND
) -> None:
    if found.shape != expected.shape:
        raise AssertionError(f"{label}: shape {tuple(found.shape)}, expected {tuple(expected.shape)}")
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    if not bool(found.isfinite().all()):
        raise AssertionError(f"{label}: not finite")
    if expected.numel() == 0:
        return
    difference = (found - expected).abs()
    scale = max(1.0, float(expected.abs().max()))
    wrong = float((difference > VALUE_BOUND * scale).double().mean())
    if wrong > outliers or float(difference.max()) > outlier_bound * scale:
        raise AssertionError(
            f"{label}: {wrong:.1%} of values are off by more than {VALUE_BOUND * scale:.2g}, "
            f"worst {float(difference.max()):.2g}"
        )
