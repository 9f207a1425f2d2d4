"""What every splat backend must do: the same pictures and gradients as the reference twin.

    from relight.testing import conformance
    conformance.check_splat_backend(MyRasterizer())

Runs each case of `relight.testing.nasty` with ellipsoids, antialiased ellipsoids, the 3D filter and surfels.
Raises AssertionError naming the case and the quantity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.geometry.transforms import rigid_from_twist
from relight.render.protocol import RasterOptions, SplatImage, SplatRasterizer
from relight.render.reference import ReferenceRasterizer
from relight.testing import nasty
from relight.testing.gradients import assert_gradients_close

VARIANTS: dict[str, dict[str, bool]] = {
    "ellipsoids": {},
    "antialiased": {"antialiased": True},
    "surfels": {"surfels": True},
}
VALUE_BOUND = 2e-3
"""Of the largest value: float32, and backends may stop where less than TRANSMITTANCE_MIN passes."""
OUTLIERS = 0.01
"""Share of pixels that may differ by more: alpha is cut off at ALPHA_MIN, and a rounding decides on which side."""


@dataclass(frozen=True)
class Drawn:
    """One picture and its gradients in a fixed random direction.  `gradients` by name of the input."""

    image: SplatImage
    gradients: dict[str, Tensor]


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
            gradients[f"screen {name}"] = value
    return Drawn(image, {k: v.detach().cpu() for k, v in gradients.items()})


def check_case(rasterizer: SplatRasterizer, case: nasty.Case, label: str) -> None:
    """Values and gradients of one case against the twin in float64."""
    device = rasterizer.capabilities.device
    found = draw(rasterizer, case, torch.float32, device)
    expected = draw(ReferenceRasterizer(), case, torch.float64)
    for name in ("features", "alpha", "depth"):
        _close(getattr(found.image, name), getattr(expected.image, name), f"{label}: {name}")
    if rasterizer.capabilities.median_depth:
        _close(found.image.median_depth, expected.image.median_depth, f"{label}: median depth", outliers=0.03)
    drawn, truly = found.image.statistics.radii.cpu() > 0, expected.image.statistics.radii > 0
    if bool((drawn != truly).float().mean() > OUTLIERS) and int((drawn != truly).sum()) > 1:
        raise AssertionError(f"{label}: {int((drawn != truly).sum())} Gaussians are drawn by one and not by the other")
    if case.empty and (bool(found.image.alpha.any()) or bool(drawn.any())):
        raise AssertionError(f"{label}: something is drawn")
    for name, gradient in expected.gradients.items():
        if name == "camera twist" and not rasterizer.capabilities.camera_gradient:
            continue
        if name not in found.gradients:
            raise AssertionError(f"{label}: no {name}")
        assert_gradients_close(
            found.gradients[name], gradient, name=f"{label}: gradient of {name}", bias=1e-2, outliers=0.03
        )


def check_skips_broken(rasterizer: SplatRasterizer, value: float) -> None:
    """Gaussians with NaN or infinite parameters are left out, and the others drawn as if alone."""
    device = rasterizer.capabilities.device
    for name, (case, whole) in nasty.broken(value).items():
        found = draw(rasterizer, case, torch.float32, device)
        alone = replace(case, gaussians=case.gaussians[whole], features=case.features[whole])
        expected = draw(rasterizer, alone, torch.float32, device)
        label = f"{value} in {name}"
        _close(found.image.features, expected.image.features, label)
        for key in ("means", "logit_opacity", "features"):
            assert_gradients_close(
                found.gradients[key][whole], expected.gradients[key], name=f"{label}: gradient of {key}"
            )


def variants(case: nasty.Case, *, surfels: bool = True) -> dict[str, nasty.Case]:
    """The case with each primitive, and with a 3D filter of one to three pixels."""
    found = {
        name: replace(case, gaussians=replace(case.gaussians, **flags))
        for name, flags in VARIANTS.items()
        if surfels or not flags.get("surfels")
    }
    n = len(case.gaussians)
    filtered = replace(case.gaussians, filter_3d=torch.linspace(0.02, 0.2, max(n, 1))[:n])
    return found | {"3D filter": replace(case, gaussians=filtered)}


def check_splat_backend(rasterizer: SplatRasterizer) -> None:
    """Everything.  Seconds on a CPU."""
    for name, make in nasty.CASES.items():
        for variant, case in variants(make(), surfels=rasterizer.capabilities.surfels).items():
            check_case(rasterizer, case, f"{name}, {variant}")
    for value in (float("nan"), float("inf")):
        check_skips_broken(rasterizer, value)


def _close(found: Tensor, expected: Tensor, label: str, outliers: float = OUTLIERS) -> None:
    if found.shape != expected.shape:
        raise AssertionError(f"{label}: shape {tuple(found.shape)}, expected {tuple(expected.shape)}")
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    if not bool(found.isfinite().all()):
        raise AssertionError(f"{label}: not finite")
    if expected.numel() == 0:
        return
    difference = (found - expected).abs()
    bound = VALUE_BOUND * max(1.0, float(expected.abs().max()))
    wrong = float((difference > bound).double().mean())
    if wrong > outliers and int((difference > bound).sum()) > 1:
        raise AssertionError(
            f"{label}: {wrong:.1%} of values are off by more than {bound:.2g}, worst {difference.max():.2g}"
        )
