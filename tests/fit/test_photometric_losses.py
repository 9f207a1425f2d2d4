"""The SSIM kernel against its twin; PSNR and the photometric loss on known pictures."""

import math

import pytest
import torch

from relight.fit.evaluate import psnr
from relight.fit.losses import mean_ssim, photometric, ssim_map
from relight.testing.gradients import assert_gradients_close


def pictures(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(height * 100 + width)
    return torch.rand(3, height, width, generator=g), torch.rand(3, height, width, generator=g)


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (16, 16), (33, 47), (64, 5), (40, 129)])
def test_kernel_matches_its_twin(size):
    x, y = pictures(*size)
    y = 0.7 * x + 0.3 * y
    results = []
    for function in (mean_ssim, lambda a, b: ssim_map(a.double(), b.double()).mean()):
        leaf = x.clone().requires_grad_()
        value = function(leaf, y)
        value.backward()
        results.append((float(value.detach()), leaf.grad))
    assert results[0][0] == pytest.approx(results[1][0], abs=2e-6)
    assert_gradients_close(results[0][1], results[1][1], relative_l2=1e-3)


def test_equal_pictures_cost_nothing():
    x, _ = pictures(20, 30)
    assert float(photometric(x, x, 0.2)) == pytest.approx(0, abs=1e-6)
    assert float(mean_ssim(x, x)) == pytest.approx(1, abs=1e-6)
    assert psnr(x, x) == math.inf


def test_masked_pixels_do_not_count():
    x, y = pictures(24, 24)
    mask = torch.rand(24, 24, generator=torch.Generator().manual_seed(0)) > 0.3
    changed = torch.where(mask, y, torch.rand(3, 24, 24))
    assert torch.equal(photometric(x, y, 0.2, mask), photometric(x, changed, 0.2, mask))
    leaf = x.clone().requires_grad_()
    photometric(leaf, y, 0.2, mask).backward()
    assert leaf.grad is not None and not leaf.grad[:, ~mask].any() and leaf.grad[:, mask].any()


def test_psnr_of_a_known_error():
    x = torch.zeros(8, 8, 3)
    assert psnr(x, x + 0.1) == pytest.approx(20, abs=1e-4)
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[0, 0] = True
    assert psnr(x, x + torch.arange(64).view(8, 8, 1) * 0.01, mask) == math.inf


def test_normal_consistency_measures_the_angle():
    """Discs that lie in their plane agree with its depth; discs turned against it don't."""
    import math as m

    from relight.fit.losses import normal_consistency
    from relight.geometry import sh
    from relight.geometry.camera import Camera
    from relight.geometry.gaussians import Gaussians
    from relight.render.splats import create_rasterizer, render

    line = torch.linspace(-1, 1, 24)
    x, y = torch.meshgrid(line, line, indexing="xy")
    means = torch.stack([x.flatten(), y.flatten(), torch.full((576,), 4.0)], 1)
    camera = Camera(torch.eye(4), 60.0, 60.0, 8.0, 8.0, 16, 16)

    def loss(angle: float) -> torch.Tensor:
        quats = torch.tensor([m.cos(angle / 2), 0.0, m.sin(angle / 2), 0.0]).repeat(576, 1).requires_grad_()
        gaussians = Gaussians(
            means, quats, torch.tensor([0.08, 0.08, 0.005]).log().repeat(576, 1), torch.full((576,), 3.0),
            sh.from_constant(torch.full((576, 3), 0.5))[:, None],
        )  # fmt: skip
        value = normal_consistency(render(create_rasterizer(), gaussians, camera, normals=True), camera)
        value.backward()
        assert quats.grad is not None and quats.grad.isfinite().all()
        return value.detach()

    assert loss(0.0) < 0.002
    assert loss(0.3) == pytest.approx(1 - m.cos(0.3), rel=0.15)
