"""What every mesh backend must do: the same fragments, silhouettes and gradients as the reference twin.

    from relight.testing import mesh_conformance
    mesh_conformance.check_mesh_backend(MyRasterizer())

Raises AssertionError naming the case and the quantity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relight.geometry.camera import Camera
from relight.geometry.mesh import Mesh
from relight.geometry.transforms import look_at, rigid_from_twist
from relight.render.mesh_protocol import MeshRasterizer
from relight.render.reference_mesh import ReferenceMeshRasterizer
from relight.testing.gradients import assert_gradients_close

OUTLIERS = 0.01
"""Share of pixels whose face may differ for a backend that does not claim exact coverage."""


@dataclass(frozen=True)
class MeshCase:
    """vertices: (V, 3) float32.  faces: (F, 3) int64.  `clean`: no surfaces cut each other, so silhouettes compare."""

    name: str
    vertices: Tensor
    faces: Tensor
    camera: Camera
    near: float = 0.1
    clean: bool = True


def sphere(columns: int, rows: int, radius: float = 1.0) -> Mesh:
    """A closed globe around the origin without seam, outside counter-clockwise, with smooth normals."""
    u = torch.arange(columns) * (2 * math.pi / columns)
    v = torch.arange(1, rows) * (math.pi / rows)
    ring = torch.stack([torch.cos(u), torch.sin(u), torch.zeros_like(u)], -1)
    body = ring[None] * torch.sin(v)[:, None, None] + torch.tensor([0.0, 0.0, 1.0]) * torch.cos(v)[:, None, None]
    vertices = torch.cat([body.reshape(-1, 3), torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])])
    i = torch.arange(columns)
    j = (i + 1) % columns
    north, south = len(vertices) - 2, len(vertices) - 1
    last = (rows - 2) * columns
    faces = [torch.stack([torch.full_like(i, north), i, j], 1)]
    faces += [torch.stack([torch.full_like(i, south), last + j, last + i], 1)]
    for row in range(rows - 2):
        a, b, c, d = row * columns + i, row * columns + j, (row + 1) * columns + i, (row + 1) * columns + j
        faces += [torch.stack([a, c, d], 1), torch.stack([a, d, b], 1)]
    return Mesh(vertices * radius, torch.cat(faces), normals=vertices)


def tiling(columns: int, rows: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """(V, 3) in the plane z = 0 of the unit square, and (F, 3): every point inside lies in exactly one triangle.

    With a generator inner vertices are moved, by less than would turn a triangle over, and diagonals chosen at random.
    """
    y, x = torch.meshgrid(torch.arange(rows + 1.0), torch.arange(columns + 1.0), indexing="ij")
    grid = torch.stack([x / columns, y / rows, torch.zeros_like(x)], -1)
    flipped = torch.zeros(rows * columns, dtype=torch.bool)
    if generator is not None:
        move = (torch.rand(rows - 1, columns - 1, 2, generator=generator) - 0.5) * 0.6
        grid[1:-1, 1:-1, :2] += move / torch.tensor([columns, rows])
        flipped = torch.rand(rows * columns, generator=generator) < 0.5
    index = torch.arange((rows + 1) * (columns + 1)).view(rows + 1, columns + 1)
    a, b, c, d = (s.flatten() for s in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    first = torch.where(flipped[:, None], torch.stack([a, b, c], 1), torch.stack([a, b, d], 1))
    second = torch.where(flipped[:, None], torch.stack([b, d, c], 1), torch.stack([a, d, c], 1))
    return grid.view(-1, 3), torch.cat([first, second])


def cases() -> list[MeshCase]:
    """The nasty ones."""
    g = torch.Generator().manual_seed(3)
    front = Camera(torch.eye(4), 30.0, 32.0, 20.0, 18.0, 41, 37)
    ahead = torch.tensor([0.0, 0.0, 2.5])
    ball = sphere(16, 8)
    soup = torch.randn(60, 3, generator=g)
    corners = torch.randint(0, 60, (40, 3), generator=g)
    one = torch.tensor([[-0.6, -0.5, 2.0], [0.7, -0.4, 3.0], [0.1, 0.8, 2.5]])
    face = torch.tensor([[0, 1, 2]])
    flat, tiles = tiling(8, 4)
    broken = one.repeat(4, 1)
    broken[3:6] = torch.tensor([0.2, 0.1, 2.0])
    broken[6, 1], broken[10, 2] = float("nan"), float("inf")
    turned = look_at(torch.tensor([2.0, 1.5, 1.0]), torch.zeros(3), torch.tensor([0.0, 0.0, 1.0]))
    return [
        MeshCase("globe", ball.vertices + ahead, ball.faces, front),
        MeshCase("globe, turned camera", ball.vertices, ball.faces, Camera(turned, 34.0, 30.0, 19.0, 11.0, 33, 17)),
        MeshCase("fine globe, faces below a pixel", *_moved(sphere(90, 60), ahead), front),
        MeshCase("soup, all around the camera", soup, corners, front, clean=False),
        MeshCase("soup", soup * 0.7 + ahead, corners, front, clean=False),
        MeshCase("inside a globe", ball.vertices * 2, ball.faces, front),
        MeshCase("one face", one, face, front),
        MeshCase("one face, from behind", one, face.flip(1), front),
        MeshCase("behind the camera", one * torch.tensor([1.0, 1.0, -1.0]), face, front),
        MeshCase("off screen", one + torch.tensor([50.0, 0.0, 0.0]), face, front),
        MeshCase("through the near plane", one - torch.tensor([0.0, 0.0, 2.2]), face, front),
        MeshCase("huge", one * torch.tensor([1e4, 1e4, 1.0]), face, front),
        MeshCase("one pixel", one, face, Camera(torch.eye(4), 1.0, 1.0, 0.5, 0.5, 1, 1)),
        MeshCase("no faces", one, face[:0], front),
        MeshCase("no vertices", one[:0], face[:0], front),
        MeshCase("without area, and not finite", broken, torch.arange(12).view(-1, 3), front, clean=False),
        # Vertices and diagonals lie exactly on pixel centres.
        MeshCase("tiles on the pixel grid", flat + torch.tensor([0.0, 0.0, 1.0]), tiles,
                 Camera(torch.eye(4), 16.0, 12.0, 4.5, 3.5, 24, 19)),
    ]  # fmt: skip


def _moved(mesh: Mesh, by: Tensor) -> tuple[Tensor, Tensor]:
    return mesh.vertices + by, mesh.faces


def check_mesh_backend(rasterizer: MeshRasterizer) -> None:
    """Every case: fragments, then silhouettes, then peeling where claimed."""
    for case in cases():
        check_fragments(rasterizer, case)
        if case.clean:
            check_antialias(rasterizer, case)
        if rasterizer.capabilities.peeling:
            check_peeling(rasterizer, case)


def check_fragments(rasterizer: MeshRasterizer, case: MeshCase) -> None:
    """Faces, barycentrics, depth, derivatives, and gradients in vertices and pose."""
    device = rasterizer.capabilities.device
    exact = rasterizer.capabilities.exact_coverage
    found, vertices, twist = _rasterized(rasterizer, case, torch.float32, device)
    expected, twin_vertices, twin_twist = _rasterized(ReferenceMeshRasterizer(), case, torch.float64, "cpu")
    face = found.face.cpu()
    differs = face != expected.face
    if float(differs.double().mean()) > (0.0 if exact else OUTLIERS):
        raise AssertionError(f"{case.name}: {int(differs.sum())} of {face.numel()} pixels show another face")
    same = ~differs & expected.mask
    for name in ("barycentrics", "depth", "barycentrics_dx", "barycentrics_dy"):
        a, b = getattr(found, name).detach().cpu().double(), getattr(expected, name).detach()
        if not bool(a.isfinite().all()):
            raise AssertionError(f"{case.name}: {name} is not finite")
        if bool((a[~found.mask.cpu()] != 0).any()):
            raise AssertionError(f"{case.name}: {name} is not 0 where there is no face")
        if bool(same.any()) and float((a - b)[same].abs().max()) > 1e-5 * max(1.0, float(b[same].abs().max())):
            raise AssertionError(f"{case.name}: {name} is off by {float((a - b)[same].abs().max()):.3g}")
    if not exact and bool(differs.any()):
        return
    _random_loss(found, device).backward()
    _random_loss(expected, "cpu").backward()
    _compare(vertices, twin_vertices, f"{case.name}: gradient in vertices")
    if rasterizer.capabilities.camera_gradient:
        _compare(twist, twin_twist, f"{case.name}: gradient in the camera's twist")


def check_antialias(rasterizer: MeshRasterizer, case: MeshCase) -> None:
    """Blended pictures, and gradients in vertices and colour."""
    results = []
    for backend, dtype in ((rasterizer, torch.float32), (ReferenceMeshRasterizer(), torch.float64)):
        device = backend.capabilities.device
        found, vertices, _ = _rasterized(backend, case, dtype, device)
        faces, camera = case.faces.to(device), case.camera.to(device)
        generator = torch.Generator().manual_seed(5)
        color = torch.rand(*found.face.shape, 3, generator=generator).to(device, dtype).requires_grad_()
        weights = torch.randn(*found.face.shape, 3, generator=generator).to(device, dtype)
        blended = backend.antialias(color, found, vertices, faces, camera)
        (blended * weights).sum().backward()
        results.append((blended.detach().cpu().double(), vertices, color))
    (a, vertices, color), (b, twin_vertices, twin_color) = results
    if float((a - b).abs().max()) > 1e-4:
        raise AssertionError(f"{case.name}: antialiased colours are off by {float((a - b).abs().max()):.3g}")
    _compare(vertices, twin_vertices, f"{case.name}: silhouette gradient in vertices")
    _compare(color, twin_color, f"{case.name}: silhouette gradient in colour")


def check_peeling(rasterizer: MeshRasterizer, case: MeshCase) -> None:
    """The second layer is the reference's, and behind the first."""
    device = rasterizer.capabilities.device
    first, vertices, _ = _rasterized(rasterizer, case, torch.float32, device)
    behind = torch.where(first.mask, first.depth.detach(), torch.inf)
    faces, camera = case.faces.to(device), case.camera.to(device)
    second = rasterizer.rasterize(vertices.detach(), faces, camera, near=case.near, behind=behind)
    twin = ReferenceMeshRasterizer().rasterize(
        vertices.detach().cpu().double(), case.faces, case.camera, near=case.near, behind=behind.cpu()
    )
    if bool((second.face.cpu() != twin.face).any()):
        raise AssertionError(f"{case.name}: the second layer shows other faces")
    if bool((second.mask & ~(second.depth > first.depth)).any()):
        raise AssertionError(f"{case.name}: the second layer is not behind the first")


def _rasterized(rasterizer: MeshRasterizer, case: MeshCase, dtype: torch.dtype, device: str):
    vertices = case.vertices.clone().to(device, dtype).requires_grad_()
    twist = torch.zeros(6, dtype=dtype, device=device, requires_grad=True)
    pose = case.camera.world_from_camera.to(device, dtype) @ rigid_from_twist(twist)
    camera = replace(case.camera, world_from_camera=pose)
    return rasterizer.rasterize(vertices, case.faces.to(device), camera, near=case.near), vertices, twist


def _random_loss(fragments, device: str) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    total = fragments.depth.new_zeros(())
    for value in (fragments.barycentrics, fragments.depth):
        weights = torch.randn(value.shape, generator=generator).to(device, value.dtype)
        total = total + (value * weights).sum()
    return total


def _compare(found: Tensor, expected: Tensor, name: str) -> None:
    """Vertices that are not finite have no gradient."""
    a = torch.zeros_like(found) if found.grad is None else found.grad
    b = torch.zeros_like(expected) if expected.grad is None else expected.grad
    if expected.ndim > 1:
        finite = expected.detach().flatten(1).isfinite().all(1)
        a, b = a.cpu()[finite], b[finite]
    assert_gradients_close(a.cpu(), b, name=name, relative_l2=1e-3, bias=1e-3)
