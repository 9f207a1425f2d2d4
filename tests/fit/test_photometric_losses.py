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
