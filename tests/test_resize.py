"""Pictures at another size: ratios, means, gradients, edges."""

from __future__ import annotations

import pytest
import torch

from relight.resize import averaged, bicubic, resized, within


@pytest.mark.parametrize(
    ("size", "longest", "least", "expected"),
    [
        ((400, 300), 100, 2, (100, 75)),
        ((300, 400), 100, 2, (75, 100)),
        ((40, 30), 100, 2, (40, 30)),
        ((4000, 10), 100, 2, (100, 2)),
        ((4000, 10), 100, 8, (100, 8)),
        ((5, 3), 100, 8, (8, 8)),
    ],
)
def test_the_longer_side_fits_and_the_ratio_stays(size, longest, least, expected):
    assert within(size, longest, least) == expected


def test_smaller_pictures_are_means():
    picture = torch.rand(8, 12, 2, generator=torch.Generator().manual_seed(0))
    blocks = picture.unflatten(0, (4, 2)).unflatten(2, (4, 3)).mean((1, 3))
    torch.testing.assert_close(averaged(picture, 4, 4), blocks)
    torch.testing.assert_close(resized(picture, 4, 4), blocks)
    torch.testing.assert_close(averaged(picture, 5, 7).mean(), picture.mean(), atol=0.05, rtol=0)


def test_larger_pictures_are_bilinear():
    ramp = torch.arange(6.0)[None, :, None].expand(4, 6, 1)
    found = resized(ramp, 8, 12)[:, :, 0]
    expected = ((torch.arange(12) + 0.5) / 2 - 0.5).clamp(0, 5).expand(8, 12)
    torch.testing.assert_close(found, expected)
    mixed = resized(ramp, 2, 12)[:, :, 0]
    torch.testing.assert_close(mixed, expected[:2])


def test_a_picture_of_the_right_size_stays_to_the_bit():
    picture = torch.rand(7, 5, 3, generator=torch.Generator().manual_seed(0)) * 3 - 1
    planes = picture.permute(2, 0, 1)[None]
    assert torch.equal(averaged(picture, 7, 5), picture) and torch.equal(resized(picture, 7, 5), picture)
    assert torch.equal(bicubic(planes, (7, 5)), planes)


def test_bicubic_is_antialiased_and_overshoots():
    stripes = (torch.arange(64) % 2).float().expand(1, 1, 64, 64)
    assert float((bicubic(stripes, (64, 16)) - 0.5).abs()[..., 2:-2].max()) < 0.02
    step = (torch.arange(16) >= 8).float().expand(1, 1, 16, 16)
    assert float(bicubic(step, (32, 32)).max()) > 1.02


@pytest.mark.parametrize("size", [(3, 2), (9, 11)])
def test_gradients_reach_every_pixel(size):
    picture = torch.rand(6, 7, 1, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: resized(x, *size), picture)
    (slopes,) = torch.autograd.grad(resized(picture, *size).sum(), picture)
    assert bool((slopes > 0).all())
