"""Gaussians: activations, subsets, shapes."""

import pytest
import torch

from relight.errors import ShapeError
from relight.geometry.gaussians import Gaussians


def gaussians(n: int = 5, **extra) -> Gaussians:
    g = torch.Generator().manual_seed(0)
    return Gaussians(
        means=torch.randn(n, 3, generator=g),
        quats_wxyz=torch.randn(n, 4, generator=g),
        log_scales=torch.randn(n, 3, generator=g),
        logit_opacity=torch.randn(n, generator=g),
        sh=torch.randn(n, 4, 3, generator=g),
        **extra,
    )


def test_tensors_and_flags_make_an_equal_set():
    g = gaussians(filter_3d=torch.rand(5), channels={"roughness": torch.rand(5)}, surfels=True)
    again = Gaussians.from_tensors(g.tensors(), **g.flags)
    assert again.flags == g.flags and again.sh_degree == 1
    assert all(torch.equal(again.tensors()[k], v) for k, v in g.tensors().items())


def test_subset_takes_every_tensor_along():
    g = gaussians(filter_3d=torch.rand(5), channels={"roughness": torch.rand(5)})
    part = g[torch.tensor([True, False, True, False, False])]
    assert len(part) == 2 and len(part.channels["roughness"]) == 2 and part.filter_3d is not None
    assert torch.equal(part.means, g.means[[0, 2]])


def test_filter_keeps_the_weight():
    """A wider Gaussian gets as much fainter as its volume grew (Mip-Splatting, eq. 9)."""
    plain, filtered = gaussians(), gaussians(filter_3d=torch.full((5,), 0.7))
    weight = [g.opacities * g.scales.prod(-1) for g in (plain, filtered)]
    assert torch.allclose(*weight, rtol=1e-5)
    assert bool((filtered.scales > plain.scales).all())


def test_covariance_has_the_scales_as_eigenvalues():
    g = gaussians()
    found = torch.linalg.eigvalsh(g.covariances)
    assert torch.allclose(found, (g.scales**2).sort(-1).values, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"means": torch.zeros(5, 2)},
        {"sh": torch.zeros(5, 5, 3)},
        {"filter_3d": torch.zeros(4)},
        {"channels": {"base_color": torch.zeros(5)}},
    ],
)
def test_wrong_shapes_are_named(change):
    g = gaussians()
    with pytest.raises(ShapeError, match=next(iter(change))):
        Gaussians(
            **{**{k: getattr(g, k) for k in ("means", "quats_wxyz", "log_scales", "logit_opacity", "sh")}, **change}
        )
