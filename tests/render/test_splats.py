"""Rendering over a backend, and the spherical-harmonics kernel against its twin."""

from __future__ import annotations

import pytest
import torch

from relight.errors import BackendUnavailableError
from relight.geometry import sh
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.render import splats
from relight.render.kernels.sh import radiance as fast_radiance


def _splat(n: int, seed: int = 0, degree: int = 3) -> tuple[Gaussians, Camera]:
    g = torch.Generator().manual_seed(seed)
    means = torch.rand(n, 3, generator=g) * 2 - 1 + torch.tensor([0.0, 0.0, 4.0])
    gaussians = Gaussians(
        means=means,
        quats_wxyz=torch.randn(n, 4, generator=g),
        log_scales=torch.randn(n, 3, generator=g) * 0.3 - 2.5,
        logit_opacity=torch.randn(n, generator=g),
        sh=torch.randn(n, sh.count(degree), 3, generator=g) * 0.2,
    )
    return gaussians, Camera(torch.eye(4), 60.0, 60.0, 24.0, 20.0, 48, 40)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_sh_kernel_matches_its_twin(degree):
    g = torch.Generator().manual_seed(degree)
    inputs = [torch.randn(*s, generator=g) for s in ((100, 16, 3), (100, 3), (3,))]
    weights = torch.randn(100, 3, generator=g)
    results = []
    for function in (sh.radiance, fast_radiance):
        leaves = [t.clone().requires_grad_() for t in inputs]
        harmonics, means, eye = leaves
        colors = function(harmonics, means, eye, degree)
        (colors * weights).sum().backward()
        results.append([colors.detach(), *(t.grad if t.grad is not None else torch.zeros_like(t) for t in leaves)])
    for twin, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, twin, rtol=1e-4, atol=2e-5)


def test_background_shows_where_nothing_is_drawn():
    gaussians, camera = _splat(20)
    background = torch.tensor([0.2, 0.4, 0.6])
    empty = splats.render(splats.create_rasterizer(), gaussians[:0], camera, background=background)
    torch.testing.assert_close(empty.color, background.expand(40, 48, 3))
    assert empty.alpha.abs().max() == 0
    some = splats.render(splats.create_rasterizer(), gaussians, camera, background=background)
    none = splats.render(splats.create_rasterizer(), gaussians, camera)
    torch.testing.assert_close(some.color, none.color + (1 - none.alpha)[..., None] * background)


def test_normals_are_unit_and_face_the_camera():
    gaussians, camera = _splat(200)
    image = splats.render(splats.create_rasterizer(), gaussians, camera, normals=True)
    assert image.normals is not None
    drawn = image.alpha > 0.5
    assert drawn.any()
    torch.testing.assert_close(image.normals.norm(dim=-1)[drawn], torch.ones(int(drawn.sum())))
    assert ((image.normals * camera.ray_directions()).sum(-1)[drawn] < 0.2).float().mean() > 0.95


def test_extra_features_do_not_change_color():
    gaussians, camera = _splat(100)
    plain = splats.render(splats.create_rasterizer(), gaussians, camera)
    extra = splats.render(splats.create_rasterizer(), gaussians, camera, normals=True, features=torch.rand(100, 7))
    torch.testing.assert_close(plain.color, extra.color)
    assert extra.features is not None
    assert extra.features.shape == (40, 48, 7)


def test_same_input_same_bits_whatever_the_threads():
    gaussians, camera = _splat(500)
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        try:
            leaf = gaussians.means.clone().requires_grad_()
            moved = Gaussians.from_tensors({**gaussians.tensors(), "means": leaf})
            image = splats.render(splats.create_rasterizer(), moved, camera)
            image.color.square().sum().backward()
            results.append((image.color.detach(), leaf.grad))
        finally:
            torch.set_num_threads(threads)
    for color, gradient in results[1:]:
        assert torch.equal(color, results[0][0])
        assert torch.equal(gradient, results[0][1])


def test_unknown_backend_names_the_known_ones():
    with pytest.raises(BackendUnavailableError, match="splat_cpu"):
        splats.create_rasterizer("splat_gpu")
