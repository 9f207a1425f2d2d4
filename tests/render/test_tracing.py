"""Rays through every tracer against the rasteriser and closed forms."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from relight.errors import BackendUnavailableError, ShapeError
from relight.geometry.camera import Camera
from relight.geometry.material import Material, Texture
from relight.geometry.mesh import Mesh, merge
from relight.geometry.transforms import look_at
from relight.render import tracing
from relight.render.backends.mesh_cpu import MeshCpu
from relight.render.meshes import surface
from relight.render.monte_carlo import FastMonteCarlo
from relight.render.tracing import TRACERS, EmbreeTracer, Glowing, TracerBackend, available_tracers, create_tracer
from relight.shading.environment import Environment
from relight.shading.shade import MonteCarlo, shade
from relight.shading.tracing import RadianceTracer, Tracer
from relight.testing.mesh_conformance import sphere

INFINITE = float("inf")


@pytest.fixture(params=[t.name for t in TRACERS])
def trace_with(request):
    """Makes a tracer; each test that takes it runs with every one."""
    reason = available_tracers()[request.param]
    if reason is not None:
        pytest.skip(f"{request.param}: {reason}")
    return lambda mesh: create_tracer(mesh, request.param)


def scene() -> Mesh:
    """A textured globe of radius 1 over a floor at z = -1."""
    g = torch.Generator().manual_seed(0)
    ball = sphere(24, 16)
    uv = torch.stack([ball.vertices[:, 0], ball.vertices[:, 1]], 1) * 0.5 + 0.5
    picture = Material(base_color_texture=Texture(torch.rand(4, 4, 3, generator=g)), double_sided=True)
    floor = torch.tensor([[-4.0, -4.0, -1.2], [4.0, -4.0, -1.2], [4.0, 4.0, -1.2], [-4.0, 4.0, -1.2]])
    up = torch.tensor([0.0, 0.0, 1.0]).expand(4, 3)
    grey = Material(base_color=torch.tensor([0.3, 0.4, 0.5, 1.0]))
    return merge(
        [
            replace(ball, uv=uv, materials=(picture,)),
            Mesh(floor, torch.tensor([[0, 1, 2], [0, 2, 3]]), normals=up, materials=(grey,)),
        ]
    )


def _camera() -> Camera:
    return Camera.from_fov(
        look_at(torch.tensor([3.0, 2.0, 1.5]), torch.zeros(3), torch.tensor([0.0, 0.0, 1.0])), 0.9, 40, 30
    )


def test_it_is_a_tracer(trace_with):
    assert isinstance(trace_with(scene()), Tracer)


def test_primary_rays_see_what_the_rasteriser_sees(trace_with):
    mesh, camera = scene(), _camera()
    seen = surface(mesh, camera, MeshCpu(), cull=False)
    directions = camera.ray_directions().reshape(-1, 3)
    hits, found = trace_with(mesh).trace(camera.position.expand_as(directions), directions)
    assert (hits != seen.mask.flatten()).sum() <= 2
    both = hits & seen.mask.flatten()
    points = seen.spread(torch.cat([seen.surface.position, seen.surface.normal], 1)).view(-1, 6)
    colors = seen.spread(surface(mesh, camera, MeshCpu(), cull=False).surface.view).view(-1, 3)
    close = (found.position - points[:, :3]).norm(dim=-1)[both] < 1e-4
    assert close.float().mean() > 0.99
    assert ((found.normal * points[:, 3:]).sum(-1)[both] > 0.999).float().mean() > 0.99
    torch.testing.assert_close(found.view[both], colors[both], rtol=0, atol=1e-3)
    assert all(bool(t.isfinite().all()) for t in (found.position, found.normal, found.base_color, found.roughness))


def test_hits_carry_the_material(trace_with):
    mesh = scene()
    down = torch.tensor([[3.0, 3.0, 5.0], [0.1, 0.2, 5.0], [9.0, 9.0, 5.0]])
    hits, found = trace_with(mesh).trace(down, torch.tensor([0.0, 0.0, -1.0]).expand(3, 3))
    assert hits.tolist() == [True, True, False]
    torch.testing.assert_close(found.base_color[0], torch.tensor([0.3, 0.4, 0.5]))
    texture = mesh.materials[0].base_color_texture
    assert texture is not None and found.base_color[1].std() > 0
    assert found.base_color[1].max() <= texture.image.max()
    torch.testing.assert_close(found.geometric_normal[0], torch.tensor([0.0, 0.0, 1.0]))  # type: ignore[index]


def test_points_on_a_convex_surface_see_out_and_not_in(trace_with):
    """No ray hits the face that it leaves, at any angle; those that go inwards are blocked, but for some that
    leave again by the next face, nearer than the offset."""
    g = torch.Generator().manual_seed(1)
    ball = sphere(24, 16, radius=100.0)
    tracer = trace_with(ball)
    weights = torch.rand(4000, 3, generator=g)
    weights = weights / weights.sum(1, keepdim=True)
    face = torch.randint(0, len(ball.faces), (4000,), generator=g)
    points = (ball.corner_positions()[face] * weights[..., None]).sum(1)
    normal = ball.face_normals()[face]
    d = torch.nn.functional.normalize(torch.randn(4000, 3, generator=g), dim=-1)
    cosine = (d * normal).sum(-1)
    blocked = tracer.occluded(points, d, torch.full((4000,), INFINITE))
    assert not blocked[cosine > 0.02].any()
    assert blocked[cosine < -0.02].float().mean() > 0.998


def test_rays_end_where_they_are_told(trace_with):
    tracer = trace_with(scene())
    origin = torch.tensor([[0.0, 0.0, 5.0]]).expand(4, 3)
    down = torch.tensor([[0.0, 0.0, -1.0]]).expand(4, 3)
    # The globe's top is 4 away; a light that lies on it is not hidden by itself.
    far = torch.tensor([3.9, 4.0, 4.1, INFINITE])
    assert tracer.occluded(origin, down, far).tolist() == [False, False, True, True]
    away = tracer.occluded(origin, -down, torch.full((4,), INFINITE))
    assert not away.any()
    assert tracer.occluded(origin[:0], down[:0], far[:0]).shape == (0,)


def test_rays_do_not_slip_between_faces(trace_with):
    """From inside a closed globe: anywhere, and straight at edges and vertices, where Warp's boxes lose a few."""
    ball = sphere(24, 16)
    tracer = trace_with(ball)
    anywhere = torch.nn.functional.normalize(torch.randn(100_000, 3, generator=torch.Generator().manual_seed(2)), dim=1)
    assert tracer.occluded(anywhere * 0.1, anywhere.roll(1, 0), torch.full((100_000,), INFINITE)).all()
    corners = ball.corner_positions()
    targets = torch.cat([ball.vertices, (corners[:, 0] + corners[:, 1]) / 2, (corners[:, 1] + corners[:, 2]) / 2])
    directions = torch.nn.functional.normalize(targets, dim=-1)
    hits, _ = tracer.trace(torch.zeros_like(directions), directions)
    assert (~hits).float().mean() <= (0.0 if isinstance(tracer, EmbreeTracer) else 0.005)


def test_gradients_reach_the_material_of_hits(trace_with):
    image = torch.rand(4, 4, 3, requires_grad=True)
    mesh = scene()
    mesh = replace(mesh, materials=(replace(mesh.materials[0], base_color_texture=Texture(image)), mesh.materials[1]))
    hits, found = trace_with(mesh).trace(torch.tensor([[0.1, 0.2, 5.0]]), torch.tensor([[0.0, 0.0, -1.0]]))
    found.base_color[hits].sum().backward()
    assert image.grad is not None and float(image.grad.sum()) == pytest.approx(3.0, rel=1e-5)


def test_a_mesh_without_faces_is_refused(trace_with):
    with pytest.raises(ShapeError, match="faces"):
        trace_with(replace(sphere(4, 3), faces=torch.zeros(0, 3, dtype=torch.int64)))


def test_tracers_agree():
    """Rays that graze, that start inside and outside, that end before and behind what they would hit."""
    usable = [name for name, reason in available_tracers().items() if reason is None]
    if len(usable) < 2:
        pytest.skip(f"fewer than two tracers: {available_tracers()}")
    g = torch.Generator().manual_seed(4)
    mesh = scene()
    origins = torch.randn(5000, 3, generator=g) * 1.5
    directions = torch.nn.functional.normalize(torch.randn(5000, 3, generator=g), dim=-1)
    far = torch.rand(5000, generator=g) * 4
    first, second = (create_tracer(mesh, name) for name in usable[:2])
    blocked = first.occluded(origins, directions, far)
    assert 0.1 < blocked.float().mean() < 0.9
    assert (blocked != second.occluded(origins, directions, far)).sum() <= 2
    (hits, found), (other_hits, other) = (t.trace(origins, directions) for t in (first, second))
    both = hits & other_hits
    assert (hits != other_hits).sum() <= 2 and both.sum() > 1000
    near = (found.position - other.position).norm(dim=-1)[both] < 1e-4
    assert (~near).sum() <= 2
    close = (found.base_color - other.base_color).abs().amax(-1)[both][near] < 1e-3
    assert (~close).sum() <= 2


def test_a_glowing_surface_is_seen_as_bright_as_it_is(trace_with):
    """Radiance that is linear in place, so that it can be worked out at hits; rays end where they are told."""
    mesh, g = scene(), torch.Generator().manual_seed(5)
    tracer = trace_with(mesh)
    glowing = Glowing(tracer, mesh.vertices + 2)
    assert isinstance(glowing, RadianceTracer) and not isinstance(tracer, RadianceTracer)
    origins = torch.tensor([0.0, 0.0, 3.0]) + torch.rand(2000, 3, generator=g)
    directions = torch.nn.functional.normalize(torch.randn(2000, 3, generator=g) - torch.tensor([0.0, 0, 2]), dim=1)
    far = torch.where(torch.rand(2000, generator=g) < 0.5, 3.0, INFINITE)
    blocked, radiance = glowing.incoming(origins, directions, far)
    assert torch.equal(blocked, tracer.occluded(origins, directions, far)) and 0.2 < blocked.float().mean() < 0.8
    hits, found = glowing.trace(origins, directions)
    assert (hits & ~blocked).any() and not radiance[~blocked].any()
    torch.testing.assert_close(radiance[blocked], found.position[blocked] + 2, rtol=1e-4, atol=1e-4)
    with pytest.raises(ShapeError, match="radiance"):
        Glowing(tracer, mesh.vertices[1:])


def test_kernels_cast_the_twins_rays(trace_with):
    """On a real mesh, with shadows, and with light from what casts them."""
    mesh, camera = scene(), _camera()
    points = surface(mesh, camera, MeshCpu()).surface
    light = Environment(torch.rand(8, 16, 3, generator=torch.Generator().manual_seed(6)))
    tracer = trace_with(mesh)
    glowing = Glowing(tracer, torch.full_like(mesh.vertices, 0.5))
    for some in (tracer, glowing):
        found, expected = (shade(points, light, e, tracer=some) for e in (FastMonteCarlo(16), MonteCarlo(16)))
        error = (found - expected).abs().amax(-1) / expected.amax(-1)
        assert (error > 1e-3).float().mean() < 0.01 and error.max() < 0.1
    assert (shade(points, light, FastMonteCarlo(16), tracer=tracer) < found - 1e-3).any()


def test_auto_takes_the_first_that_works(monkeypatch):
    made = []

    def tracer(name: str, devices: tuple[str, ...], reason: str | None) -> TracerBackend:
        return TracerBackend(name, devices, lambda: reason, lambda mesh: made.append(name))  # type: ignore[arg-type]

    monkeypatch.setattr(
        tracing, "TRACERS", (tracer("a", ("cuda",), None), tracer("b", ("cpu",), "is ill"), tracer("c", ("cpu",), None))
    )
    create_tracer(scene())
    create_tracer(scene(), "a")
    assert made == ["c", "a"]
    with pytest.raises(BackendUnavailableError, match=r"b: is ill.*relight doctor"):
        create_tracer(scene(), "b")
    with pytest.raises(BackendUnavailableError, match=r"'d'.*known: a, b, c"):
        create_tracer(scene(), "d")


def test_without_its_library_a_tracer_is_not_made(monkeypatch):
    """Importing a name that sys.modules holds None for fails."""
    for name, module in (("embree", "open3d"), ("warp", "warp")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(BackendUnavailableError, match=rf"{name}: {module} cannot be imported.*pip install"):
            create_tracer(scene(), name)
    with pytest.raises(BackendUnavailableError, match=r"embree: .*warp: "):
        create_tracer(scene())
