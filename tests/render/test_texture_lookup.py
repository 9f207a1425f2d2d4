"""Texture lookup against its twin and against what it should be."""

from __future__ import annotations

import pytest
import torch

from relight.errors import ShapeError
from relight.geometry.material import Texture
from relight.render.textures import Pyramid, level_of_detail, lookup, lookup_torch, sample

WRAPS = [("repeat", "clamp"), ("mirror", "repeat"), ("clamp", "mirror")]


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("shape", [(5, 7, 3), (8, 4, 1), (1, 1, 4), (1, 6, 2)])
def test_kernels_are_their_twin(wrap, shape):
    g = torch.Generator().manual_seed(1)
    results = []
    for function in (lookup, lookup_torch):
        g.manual_seed(1)
        image = torch.randn(shape, generator=g, dtype=torch.float64).requires_grad_()
        uv = (torch.randn(60, 2, generator=g, dtype=torch.float64) * 2).requires_grad_()
        lod = torch.randn(60, generator=g, dtype=torch.float64) * 3
        values = function(Pyramid.of(image), uv, lod, wrap)
        (values * torch.randn(values.shape, generator=g, dtype=torch.float64)).sum().backward()
        results.append((values.detach(), image.grad, uv.grad))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("wrap", WRAPS)
def test_gradients_are_exact(wrap):
    g = torch.Generator().manual_seed(2)
    image = torch.randn(5, 6, 2, generator=g, dtype=torch.float64).requires_grad_()
    uv = (torch.rand(20, 2, generator=g, dtype=torch.float64) * 3 - 1).requires_grad_()
    lod = torch.rand(20, generator=g, dtype=torch.float64) * 3 - 0.5
    assert torch.autograd.gradcheck(lambda i, u: lookup(Pyramid.of(i), u, lod, wrap), (image, uv), nondet_tol=0.0)


def test_texel_centres_give_texels_and_between_them_is_linear():
    image = torch.rand(4, 3, 2)
    pyramid = Pyramid.of(image)
    y, x = torch.meshgrid(torch.arange(4.0), torch.arange(3.0), indexing="ij")
    centres = torch.stack([(x + 0.5) / 3, (y + 0.5) / 4], -1)
    torch.testing.assert_close(lookup(pyramid, centres, None, ("clamp", "clamp")), image)
    between = lookup(pyramid, torch.tensor([[0.75 / 3, 1 / 4]]), None, ("clamp", "clamp"))[0]
    expected = 0.5 * (0.75 * image[0, 0] + 0.25 * image[0, 1]) + 0.5 * (0.75 * image[1, 0] + 0.25 * image[1, 1])
    torch.testing.assert_close(between, expected)


@pytest.mark.parametrize(
    ("wrap", "u", "same_as"),
    [("repeat", 1.3, 0.3), ("repeat", -0.2, 0.8), ("clamp", 1.7, 0.999), ("clamp", -3.0, 0.001), ("mirror", 1.3, 0.7),
     ("mirror", -0.2, 0.2), ("mirror", 2.1, 0.1)],
)  # fmt: skip
def test_wrapping(wrap, u, same_as):
    pyramid = Pyramid.of(torch.rand(1, 8, 3))
    values = lookup(pyramid, torch.tensor([[u, 0.5], [same_as, 0.5]]), None, (wrap, "clamp"))
    torch.testing.assert_close(values[0], values[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wrap", ["repeat", "clamp", "mirror"])
def test_any_coordinate_is_safe(wrap):
    bad = [float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 1e9, -1e-9]
    uv = torch.tensor([[a, b] for a in bad for b in bad])
    lod = torch.tensor(bad).repeat(len(bad))
    pyramid = Pyramid.of(torch.rand(5, 4, 3))
    found = lookup(pyramid, uv, lod, (wrap, wrap))
    assert found.isfinite().all()
    torch.testing.assert_close(found, lookup_torch(pyramid, uv, lod, (wrap, wrap)))


def test_levels_average_and_end_at_one_texel():
    image = torch.rand(8, 4, 3)
    pyramid = Pyramid.of(image)
    assert [level[1:] for level in pyramid.levels] == [(8, 4), (4, 2), (2, 1), (1, 1)]
    assert pyramid.levels[-1][0] + 1 == len(pyramid.texels)
    torch.testing.assert_close(pyramid.texels[-1], image.mean((0, 1)))
    coarse = lookup(pyramid, torch.rand(5, 2), torch.full((5,), 99.0), ("repeat", "repeat"))
    torch.testing.assert_close(coarse, image.mean((0, 1)).expand(5, 3))


def test_the_level_is_the_footprint_in_texels():
    d = torch.tensor([[1 / 64, 0.0], [0.0, 1 / 16], [1 / 512, 0.0], [0.0, 0.0]])
    level = level_of_detail(d, torch.zeros_like(d), (32, 64, 3))
    torch.testing.assert_close(level, torch.tensor([0.0, 1.0, -3.0, -torch.inf]))


def test_a_minified_checkerboard_turns_grey():
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    texture = Texture(((x + y) % 2).float()[..., None])
    uv = torch.rand(200, 2)
    step = torch.full_like(uv, 1 / 8)
    torch.testing.assert_close(sample(texture, uv, step, step), torch.full((200, 1), 0.5))
    assert sample(texture, uv).std() > 0.1


def test_nearest_has_no_shades():
    texture = Texture(torch.rand(4, 4, 1).round(), nearest=True)
    values = sample(texture, torch.rand(100, 2), torch.ones(100, 2), torch.ones(100, 2))
    assert set(values.flatten().tolist()) <= {0.0, 1.0}


def test_transform_applies_to_coordinates_and_derivatives():
    moved = Texture(torch.rand(8, 8, 3), transform=((0.0, 2.0, 0.25), (-3.0, 0.0, 0.5)))
    plain = Texture(moved.image)
    uv, d = torch.rand(20, 2), torch.rand(20, 2) * 0.1
    expected = sample(plain, torch.stack([2 * uv[:, 1] + 0.25, -3 * uv[:, 0] + 0.5], -1),
                      torch.stack([2 * d[:, 1], -3 * d[:, 0]], -1), torch.zeros_like(d))  # fmt: skip
    torch.testing.assert_close(sample(moved, uv, d, torch.zeros_like(d)), expected)


def test_a_picture_changed_in_place_is_seen():
    """As optimisers do; the kept mips would be those of before."""
    texture = Texture(torch.zeros(4, 4, 1))
    uv, far = torch.rand(3, 2), torch.ones(3, 2)
    assert sample(texture, uv, far, far).max() == 0
    texture.image.add_(1)
    assert sample(texture, uv, far, far).min() == 1


def test_pictures_have_three_dimensions():
    with pytest.raises(ShapeError, match=r"H, W, C"):
        Texture(torch.zeros(4, 4))
    with pytest.raises(ShapeError, match=r"H, W, C"):
        Pyramid.of(torch.zeros(0, 4, 3))
