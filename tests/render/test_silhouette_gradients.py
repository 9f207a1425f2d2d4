"""Gradients that reach vertices through silhouettes: exact for what is computed, and right about what is meant."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from relight.geometry.camera import Camera
from relight.geometry.transforms import rigid_from_twist
from relight.render.backends.mesh_cpu import MeshCpu
from relight.render.fragments import interpolate
from relight.testing.gradients import central_differences, gradient_error
from relight.testing.mesh_conformance import sphere

DOUBLE = torch.float64
WIDTH, HEIGHT = 40, 32
CAMERA = Camera(torch.eye(4, dtype=DOUBLE), 32.0, 32.0, 20.3, 15.8, WIDTH, HEIGHT)


def picture(vertices: Tensor, faces: Tensor, colors: Tensor, camera: Camera, *, antialiased: bool = True) -> Tensor:
    """(H, W, C) of interpolated vertex colours over black."""
    rasterizer = MeshCpu()
    found = rasterizer.rasterize(vertices, faces, camera)
    drawn = interpolate(colors, faces, found)
    return rasterizer.antialias(drawn, found, vertices, faces, camera) if antialiased else drawn


def supersampled(vertices: Tensor, faces: Tensor, colors: Tensor, factor: int = 24) -> Tensor:
    fine = CAMERA.resized(WIDTH * factor, HEIGHT * factor)
    drawn = picture(vertices, faces, colors, fine, antialiased=False)
    return torch.nn.functional.avg_pool2d(drawn.permute(2, 0, 1)[None], factor)[0].permute(1, 2, 0)


def smooth_weights(channels: int, seed: int = 0) -> Tensor:
    """(H, W, C) of a loss that sees where things are."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, channels, 5, 5, generator=g, dtype=DOUBLE)
    return torch.nn.functional.interpolate(coarse, size=(HEIGHT, WIDTH), mode="bicubic")[0].permute(1, 2, 0)


def sheets() -> tuple[Tensor, Tensor, Tensor]:
    """A turned square before a slanted wall that reaches beyond the picture; vertices, faces and colours."""
    turn = math.radians(20)
    ring = torch.arange(4, dtype=DOUBLE) * (math.pi / 2) + turn
    square = torch.stack([0.7 * ring.cos(), 0.6 * ring.sin(), 2.0 + 0.2 * ring.cos()], 1)
    x, y = torch.tensor([-6.0, 6.0, 6.0, -6.0], dtype=DOUBLE), torch.tensor([-5.0, -5.0, 5.0, 5.0], dtype=DOUBLE)
    wall = torch.stack([x, y, 4.0 + 0.2 * x], 1)
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    g = torch.Generator().manual_seed(1)
    return torch.cat([square, wall]), faces, torch.rand(8, 3, generator=g, dtype=DOUBLE)


def test_derivatives_of_the_antialiased_picture_are_exact():
    """Of what is computed, in vertices, colours and the camera's pose, silhouettes against others and the void."""
    ball = sphere(6, 4)
    near, far = ball.vertices.double() * 0.5, ball.vertices.double()
    shift = torch.tensor([0.31, 0.12, 2.0], dtype=DOUBLE), torch.tensor([-0.2, 0.05, 3.7], dtype=DOUBLE)
    vertices = torch.cat([near + shift[0], far + shift[1]])
    faces = torch.cat([ball.faces, ball.faces + len(near)])
    g = torch.Generator().manual_seed(2)
    colors = torch.rand(len(vertices), 2, generator=g, dtype=DOUBLE)

    def drawn(v: Tensor, c: Tensor, twist: Tensor) -> Tensor:
        camera = Camera(rigid_from_twist(twist), 9.0, 9.0, 4.6, 3.7, 9, 8)
        return picture(v, faces, c, camera)

    twist = torch.zeros(6, dtype=DOUBLE)
    inputs = [t.clone().requires_grad_() for t in (vertices, colors, twist)]
    aliased = picture(vertices, faces, colors, Camera(torch.eye(4, dtype=DOUBLE), 9.0, 9.0, 4.6, 3.7, 9, 8),
                      antialiased=False)  # fmt: skip
    assert ((drawn(*inputs) - aliased).abs().amax(-1) > 1e-3).sum() > 10
    assert torch.autograd.gradcheck(drawn, inputs, eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_the_area_of_a_triangle_changes_as_geometry_says(seed):
    """Summed coverage is the area on the screen; its gradient, half the opposite edge, turned by a right angle."""
    g = torch.Generator().manual_seed(seed)
    turn = torch.rand(1, generator=g, dtype=DOUBLE) * 6 + torch.arange(3, dtype=DOUBLE) * (2 * math.pi / 3)
    turn = turn + 0.4 * torch.rand(3, generator=g, dtype=DOUBLE)
    corners = torch.stack([20 + 14 * turn.cos(), 16 + 14 * turn.sin()], 1)
    depth = 2 + torch.rand(3, generator=g, dtype=DOUBLE)
    center = torch.tensor([20.3, 15.8], dtype=DOUBLE)
    vertices = torch.cat([(corners - center) / 32 * depth[:, None], depth[:, None]], 1).requires_grad_()
    face = torch.tensor([[0, 1, 2]])
    grid = (torch.arange(4) + 0.5) / 4
    areas, gradients = [], []
    for x, y in torch.cartesian_prod(grid, grid).tolist():
        # The same triangle, elsewhere on the pixel grid.
        camera = Camera(torch.eye(4, dtype=DOUBLE), 32.0, 32.0, 20.3 + x, 15.8 + y, WIDTH + 1, HEIGHT + 1)
        coverage = picture(vertices, face, torch.ones(3, 1, dtype=DOUBLE), camera).sum()
        areas.append(coverage.detach())
        gradients.append(torch.autograd.grad(coverage, vertices)[0])
    (a, b), (c, d) = corners[1] - corners[0], corners[2] - corners[0]
    area = (a * d - b * c) / 2
    torch.testing.assert_close(torch.stack(areas), area.abs().expand(16), rtol=0.01, atol=0)
    opposite = corners[[2, 0, 1]] - corners[[1, 2, 0]]
    expected = torch.stack([-opposite[:, 1], opposite[:, 0]], 1) / 2 * area.sign()
    # Pixels a world unit: focal length over depth.
    on_screen = [found[:, :2] * depth[:, None] / 32 for found in gradients]
    for found in on_screen:
        assert gradient_error(found, expected).cosine > 0.99
    # Where two edges pass between the same two pixels only one counts: a pixel or so of the 24 of an edge.
    assert gradient_error(torch.stack(on_screen).mean(0), expected).relative_l2 < 0.05
    found = gradients[0]
    # Along its ray a vertex moves without its image.
    along = (found * vertices.detach()).sum(1)
    assert along.abs().max() < 1e-9 * float(found.abs().max())


def test_each_vertex_pulls_as_finite_differences_of_a_supersampled_picture_say():
    """A shaded square before a shaded wall: both what is inside and what its outline uncovers."""
    vertices, faces, colors = sheets()
    weights = smooth_weights(3)
    leaf = vertices.clone().requires_grad_()
    (picture(leaf, faces, colors, CAMERA) * weights).sum().backward()
    assert leaf.grad is not None
    moving = torch.cat([torch.eye(3, dtype=DOUBLE)[:2], torch.zeros(1, 3, dtype=DOUBLE)])

    def loss(p: Tensor) -> Tensor:
        moved = torch.cat([vertices[:4] + p.view(4, 3) @ moving, vertices[4:]])
        return (supersampled(moved, faces, colors) * weights).sum()

    expected = central_differences(loss, torch.zeros(12, dtype=DOUBLE), 0.01).view(4, 3)[:, :2]
    error = gradient_error(leaf.grad[:4, :2], expected)
    assert error.cosine > 0.99 and error.relative_l2 < 0.12
    for found, exact in zip(leaf.grad[:4, :2], expected, strict=True):
        assert gradient_error(found, exact).cosine > 0.97
    # Without antialiasing the outline has no say, and the gradient is another.
    leaf.grad = None
    (picture(leaf, faces, colors, CAMERA, antialiased=False) * weights).sum().backward()
    assert leaf.grad is not None
    assert gradient_error(leaf.grad[:4, :2], expected).relative_l2 > 0.3


def test_an_outline_finds_its_place():
    """A white globe on black moves and grows to match a supersampled picture, by silhouettes alone."""
    ball = sphere(12, 8)
    white = torch.ones(len(ball.vertices), 1, dtype=DOUBLE)
    base = ball.vertices.double()
    truth = torch.tensor([0.25, -0.15, 0.55], dtype=DOUBLE)
    depth = torch.tensor([0.0, 0.0, 3.0], dtype=DOUBLE)

    def placed(p: Tensor) -> Tensor:
        return base * p[2] + torch.cat([p[:2], p.new_zeros(1)]) + depth

    target = supersampled(placed(truth), ball.faces, white, 8)
    p = torch.tensor([-0.1, 0.1, 0.8], dtype=DOUBLE, requires_grad=True)
    adam = torch.optim.Adam([p], lr=0.03)
    for step in range(120):
        adam.param_groups[0]["lr"] = 0.03 * 0.97**step
        adam.zero_grad()
        (picture(placed(p), ball.faces, white, CAMERA) - target).square().sum().backward()
        adam.step()
    # A pixel is 3 / 32 wide at this depth.
    assert (p.detach() - truth).abs().max() < 0.003
