"""The mesh rasteriser against its twin, its own laws, and a supersampled picture."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from relight.errors import BackendUnavailableError, ShapeError
from relight.geometry.camera import Camera
from relight.geometry.mesh import opposite_corners
from relight.geometry.transforms import look_at
from relight.render.backends import MESH_BACKENDS
from relight.render.backends.mesh_cpu import MeshCpu
from relight.render.fragments import interpolate, interpolate_derivatives, interpolate_torch
from relight.render.mesh_protocol import MeshRasterizer
from relight.render.meshes import available_mesh_backends, create_mesh_rasterizer
from relight.testing import mesh_conformance as suite
from relight.testing.gradients import central_differences, gradient_error

CASES = {case.name: case for case in suite.cases()}


@pytest.mark.parametrize("name", CASES)
def test_fragments_are_the_twins(name):
    suite.check_fragments(MeshCpu(), CASES[name])


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.clean])
def test_silhouettes_are_the_twins(name):
    suite.check_antialias(MeshCpu(), CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_layers_are_the_twins(name):
    suite.check_peeling(MeshCpu(), CASES[name])


def test_pytorch3d_is_the_twins():
    """On the CPU, where PyTorch3D has been built: it is not on PyPI."""
    pytest.importorskip("pytorch3d", reason="pytorch3d is not installed")
    from relight.render.backends.mesh_pytorch3d import MeshPytorch3d

    suite.check_mesh_backend(MeshPytorch3d("cpu"))


class _Faulty(MeshCpu):
    """Wrong in one way."""

    def __init__(self, fault: str):
        self.fault = fault

    def rasterize(self, vertices, faces, camera, *, near=1e-3, behind=None):
        found = super().rasterize(vertices, faces, camera, near=near, behind=None if self.fault == "peel" else behind)
        if self.fault == "face":
            return replace(found, face=found.face.roll(1, 1))
        if self.fault == "depth":
            return replace(found, depth=found.depth * 1.0001)
        if self.fault == "derivative":
            return replace(found, barycentrics_dx=found.barycentrics_dy)
        if self.fault == "gradient":
            return replace(found, barycentrics=found.barycentrics.detach())
        return found

    def antialias(self, color, fragments, vertices, faces, camera, *, opposite=None):
        if self.fault == "silhouette":
            vertices = vertices.detach()
        blended = super().antialias(color, fragments, vertices, faces, camera, opposite=opposite)
        return color if self.fault == "aliased" else blended


@pytest.mark.parametrize("fault", ["face", "depth", "derivative", "gradient", "silhouette", "aliased", "peel"])
def test_the_suite_notices(fault):
    with pytest.raises(AssertionError, match="globe"):
        for check in (suite.check_fragments, suite.check_antialias, suite.check_peeling):
            check(_Faulty(fault), CASES["globe"])


def test_gradients_are_exact_in_float64():
    ball = suite.sphere(5, 4)
    vertices = (ball.vertices + torch.tensor([0.1, 0.03, 2.5])).double().requires_grad_()
    twist = torch.zeros(3, dtype=torch.float64, requires_grad=True)

    def maps(v, t):
        pose = torch.eye(4, dtype=torch.float64)
        pose = torch.cat([pose[:3, :3], t[:, None]], 1)
        pose = torch.cat([pose, torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)])
        found = MeshCpu().rasterize(v, ball.faces, Camera(pose, 9.0, 9.0, 4.0, 3.5, 8, 7))
        return found.barycentrics, found.depth

    assert torch.autograd.gradcheck(maps, (vertices, twist))


@pytest.mark.parametrize("seed", range(6))
def test_every_pixel_centre_of_a_tiling_belongs_to_one_face(seed):
    """Each face alone: the counts add up to one inside the union, none outside."""
    g = torch.Generator().manual_seed(seed)
    vertices, faces = suite.tiling(5, 4, g)
    tilt = torch.randn(2, generator=g) * 0.5
    vertices = torch.cat([vertices[:, :2] - 0.5, 1.5 + (vertices[:, :2] - 0.5) @ tilt[:, None]], 1)
    camera = Camera(torch.eye(4), 40.0, 37.0, 20.3, 18.1, 40, 36)
    count = torch.zeros(36, 40, dtype=torch.int64)
    for face in faces:
        count += MeshCpu().rasterize(vertices, face[None], camera).mask
    whole = MeshCpu().rasterize(vertices, faces, camera).mask
    assert count.max() == 1
    assert torch.equal(count == 1, whole)
    outline = vertices.view(5, 6, 3)[[0, 0, -1, -1], [0, -1, -1, 0]]
    square = MeshCpu().rasterize(outline, torch.tensor([[0, 1, 2], [0, 2, 3]]), camera).mask
    assert torch.equal(whole, square)
    assert whole.any()


def test_tiles_whose_corners_are_pixel_centres_leave_no_hole_and_do_not_overlap():
    case = CASES["tiles on the pixel grid"]
    count = sum(MeshCpu().rasterize(case.vertices, f[None], case.camera).mask.long() for f in case.faces)
    assert isinstance(count, torch.Tensor)
    # 16 x 12 pixels wide, from centre to centre: each centre but those of the last row and column, or the first.
    assert count.max() == 1
    assert count.sum() == 16 * 12


def test_depth_and_barycentrics_are_those_of_the_ray():
    ball = suite.sphere(20, 12)
    camera = Camera.from_fov(
        look_at(torch.tensor([2.0, 1.0, 1.5]), torch.zeros(3), torch.tensor([0.0, 0.0, 1.0])), 0.8, 40, 30
    )
    found = MeshCpu().rasterize(ball.vertices, ball.faces, camera)
    points = interpolate(ball.vertices, ball.faces, found)
    torch.testing.assert_close(points[found.mask], camera.unproject(found.depth)[found.mask], rtol=0, atol=1e-5)
    radius = points[found.mask].norm(dim=-1)
    assert radius.min() > math.cos(math.pi / 12) * math.cos(math.pi / 20) - 1e-6
    assert radius.max() < 1 + 1e-6


def test_derivatives_are_differences_between_pixels():
    one = CASES["one face"]
    found = MeshCpu().rasterize(one.vertices.double(), one.faces, one.camera)
    fine = one.camera.resized(one.camera.width * 64, one.camera.height * 64)
    near = MeshCpu().rasterize(one.vertices.double(), one.faces, fine)
    dx, dy = interpolate_derivatives(one.vertices.double(), one.faces, found)
    values = interpolate(one.vertices.double(), one.faces, near)
    inner = found.mask & torch.nn.functional.pad(found.mask[2:, 2:] & found.mask[:-2, :-2], (1, 1, 1, 1))
    y, x = (inner.nonzero() * 64).unbind(-1)
    for d, (sx, sy) in ((dx, (1, 0)), (dy, (0, 1))):
        # Between the fine pixels around the coarse pixel's centre, 1/64 of a pixel apart.
        difference = (values[y + 31 + sy, x + 31 + sx] - values[y + 31, x + 31]) * 64
        torch.testing.assert_close(d[inner], difference, rtol=2e-3, atol=5e-5)


def test_interpolation_is_its_twins_and_its_gradients_are_exact():
    ball = suite.sphere(6, 4)
    found = MeshCpu().rasterize((ball.vertices + torch.tensor([0.0, 0.0, 3.0])).double(), ball.faces,
                                Camera(torch.eye(4), 9.0, 9.0, 4.0, 3.0, 8, 6))  # fmt: skip
    attributes = torch.randn(len(ball.vertices), 4, dtype=torch.float64, requires_grad=True)
    weights = found.barycentrics.clone().requires_grad_()

    def blended(a, w):
        return interpolate(a, ball.faces, replace(found, barycentrics=w))

    torch.testing.assert_close(
        blended(attributes, weights), interpolate_torch(attributes, ball.faces, found.face, weights)
    )
    assert torch.autograd.gradcheck(blended, (attributes, weights), nondet_tol=0.0)


def _coverage(rasterizer: MeshRasterizer, vertices, faces, camera, opposite):
    found = rasterizer.rasterize(vertices, faces, camera)
    return rasterizer.antialias(found.mask[..., None].to(vertices), found, vertices, faces, camera, opposite=opposite)


@pytest.mark.parametrize(
    ("columns", "rows", "least", "image"), [(6, 4, 0.98, 5e-3), (16, 8, 0.99, 3e-3), (120, 60, 0.995, 2e-3)]
)
def test_silhouettes_move_as_supersampled_ones_do(columns, rows, least, image):
    """From a few large faces to faces far smaller than a pixel: coverage, and its gradient in smooth deformations."""
    g = torch.Generator().manual_seed(0)
    ball = suite.sphere(columns, rows)
    base = ball.vertices * torch.tensor([1.0, 0.7, 1.2])
    modes = torch.stack(
        [
            torch.sin(base @ (torch.randn(3, generator=g) * 1.5) + torch.rand(1, generator=g) * 6)[:, None]
            * torch.randn(3, generator=g)
            for _ in range(8)
        ]
    )
    camera = Camera.from_fov(
        look_at(torch.tensor([2.0, 1.5, 1.0]), torch.zeros(3), torch.tensor([0.0, 0.0, 1.0])), 1.0, 40, 32
    )
    opposite = opposite_corners(base, ball.faces)
    assert opposite.min() >= 0
    weights = torch.nn.functional.interpolate(torch.randn(1, 1, 5, 5, generator=g), size=(32, 40), mode="bicubic")[0, 0]
    fine = camera.resized(40 * 16, 32 * 16)

    def supersampled(p):
        vertices = base + torch.einsum("k,kvc->vc", p, modes)
        mask = MeshCpu().rasterize(vertices, ball.faces, fine).mask.float()
        return torch.nn.functional.avg_pool2d(mask[None], 16)[0]

    p = torch.zeros(8, requires_grad=True)
    covered = _coverage(MeshCpu(), base + torch.einsum("k,kvc->vc", p, modes), ball.faces, camera, opposite)[..., 0]
    aliased = MeshCpu().rasterize(base, ball.faces, camera).mask.float()
    exact = supersampled(torch.zeros(8))
    assert (covered - exact).abs().mean() < image
    assert (covered - exact).abs().mean() < 0.5 * (aliased - exact).abs().mean()
    (covered * weights).sum().backward()
    expected = central_differences(lambda q: (supersampled(q) * weights).double().sum(), torch.zeros(8), 0.02)
    assert p.grad is not None
    assert gradient_error(p.grad, expected).cosine > least


def test_a_seam_is_no_silhouette():
    """Vertices doubled along every edge: without welding, each would be one."""
    ball = suite.sphere(16, 8)
    split = ball.vertices[ball.faces.flatten()] + torch.tensor([0.0, 0.0, 2.5])
    faces = torch.arange(len(split)).view(-1, 3)
    camera = CASES["globe"].camera
    found = MeshCpu().rasterize(split, faces, camera)
    color = torch.rand(*found.face.shape, 3)
    inside = ~torch.nn.functional.max_pool2d((~found.mask).float()[None], 3, 1, 1)[0].bool()
    blended = MeshCpu().antialias(color, found, split, faces, camera)
    assert torch.equal(blended[inside], color[inside])
    assert not torch.equal(blended, color)


def test_same_input_same_bits_whatever_the_threads():
    ball = suite.sphere(60, 40)
    camera = Camera(torch.eye(4), 60.0, 60.0, 32.0, 24.0, 64, 48)
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        try:
            vertices = (ball.vertices + torch.tensor([0.0, 0.0, 3.0])).requires_grad_()
            found = MeshCpu().rasterize(vertices, ball.faces, camera)
            picture = interpolate(vertices, ball.faces, found) * found.depth[..., None]
            picture = MeshCpu().antialias(picture, found, vertices, ball.faces, camera)
            picture.square().sum().backward()
            results.append((found.face, picture.detach(), vertices.grad))
        finally:
            torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(1, 3, dtype=torch.int64), "vertices"),
        (torch.zeros(3, 3), torch.zeros(1, 3), "faces"),
        (torch.zeros(3, 3), torch.tensor([[0, 1, 3]]), "0 to 3"),
        (torch.zeros(3, 3), torch.tensor([[0, -1, 2]]), "-1 to 2"),
    ],
)
def test_wrong_shapes_and_indices_are_told(vertices, faces, message):
    with pytest.raises(ShapeError, match=message):
        MeshCpu().rasterize(vertices, faces, CASES["one face"].camera)


def test_backends_say_why_they_cannot_run():
    reasons = available_mesh_backends()
    assert set(reasons) == {b.name for b in MESH_BACKENDS}
    assert reasons["mesh_cpu"] is None
    assert create_mesh_rasterizer().name == "mesh_cpu"
    for name, reason in reasons.items():
        if reason is not None:
            with pytest.raises(BackendUnavailableError, match=name):
                create_mesh_rasterizer(name)
    with pytest.raises(BackendUnavailableError, match="mesh_cpu"):
        create_mesh_rasterizer("mesh_gpu")
