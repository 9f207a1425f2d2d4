"""Surfaces from splats, repairs, atlases and baking, on a ball whose every answer is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from meshed_ball import BLUE, RED, ball_mesh, ball_splat, cameras, welded

from relight.errors import RelightError, ShapeError
from relight.geometry.camera import Camera
from relight.geometry.mesh import Mesh
from relight.geometry.transforms import look_at
from relight.render import atlas
from relight.render.atlas import Texels, filled, texture_size, unwrap
from relight.render.baking import bake_normals, bake_occlusion, bake_splat, completed
from relight.render.meshes import create_mesh_rasterizer
from relight.render.meshing import decimated, evened, poisson, repaired
from relight.render.proxy import NoSurfaceError, fuse
from relight.render.splats import create_rasterizer
from relight.render.tracing import unavailable

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=f"no Open3D: {unavailable()}")
xatlas = pytest.importorskip("xatlas")


@pytest.fixture(scope="module")
def fused() -> Mesh:
    return fuse(create_rasterizer(), ball_splat(), cameras(20, 48))


def test_poisson_is_round_and_closed(fused):
    smooth = poisson(create_rasterizer(), ball_splat(), cameras(20, 48), holes=0.5)
    for mesh in (fused, smooth):
        assert mesh.normals is not None
        assert mesh.vertices.norm(dim=1).median() == pytest.approx(1, abs=0.05)
        assert ((mesh.normals * mesh.vertices).sum(1) > 0).float().mean() > 0.97, "normals look outwards"
    assert (smooth.vertices.norm(dim=1) - 1).std() < 0.05
    assert (smooth.opposite_corners >= 0).all(), "no boundary"


def test_no_surface_is_told():
    with pytest.raises(NoSurfaceError, match="empty or transparent"):
        poisson(create_rasterizer(), replace(ball_splat(20), logit_opacity=torch.full((20,), -9.0)), cameras(3, 16))


def test_faults_are_repaired():
    ball = welded(ball_mesh(12))
    shell = ball.vertices * 0.5
    speck = torch.tensor([[3.0, 0, 0], [3.1, 0, 0], [3.0, 0.1, 0]])
    nan = torch.full((1, 3), torch.nan)
    n = len(ball.vertices)
    vertices = torch.cat([ball.vertices, shell, speck, nan, torch.tensor([[0.0, 0, 2]])])
    holed = ball.faces[20:]  # a hole around one pole is left where faces go
    extra = torch.tensor([[0, 0, 1], [2 * n, 2 * n + 1, 2 * n + 2], [5, 6, 2 * n + 3], [1, 2, 2 * n + 4]])
    twice = ball.faces[100:104]
    broken = Mesh(vertices, torch.cat([holed, ball.faces + n, extra, twice]).int())
    found = repaired(broken, holes=1.0, cameras=cameras(12, 48), rasterizer=create_mesh_rasterizer())
    assert found.vertices.isfinite().all()
    radius = found.vertices.norm(dim=1)
    assert radius.min() > 0.9 and radius.max() < 1.1, "neither shell nor speck nor spike is left"
    assert (found.opposite_corners >= 0).all(), "the hole is closed"
    outwards = (found.face_normals() * found.corner_positions().mean(1)).sum(1)
    assert (outwards > 0).all()
    kept = repaired(broken, holes=0.0)
    assert kept.vertices.norm(dim=1).min() < 0.6, "what is hidden stays if nobody looks"
    assert not (kept.opposite_corners >= 0).all()


def test_a_ragged_rim_becomes_even_and_keeps_its_size():
    angle = torch.arange(240) * 2 * torch.pi / 240
    around = torch.stack([angle.cos(), angle.sin(), torch.zeros(240)], 1)
    teeth = 1 + 0.03 * (-1.0) ** torch.arange(240)[:, None]
    here, next_ = torch.arange(240), torch.arange(240).roll(-1)
    ring = [torch.stack([here, here + 240, next_], 1), torch.stack([next_, here + 240, next_ + 240], 1)]
    hub = torch.stack([torch.full((240,), 480), here, next_], 1)
    disc = Mesh(torch.cat([0.8 * around, teeth * around, torch.zeros(1, 3)]), torch.cat([*ring, hub]).int())
    found = evened(disc)
    assert torch.equal(found.faces, disc.faces)
    assert torch.equal(found.vertices[:240], disc.vertices[:240]) and torch.equal(
        found.vertices[480], disc.vertices[480]
    )
    radius = found.vertices[240:480].norm(dim=1)
    assert radius.std() < 1e-3 and radius.mean() == pytest.approx(1, abs=1e-3)
    closed = welded(ball_mesh(12))
    assert torch.equal(evened(closed).vertices, closed.vertices)


def test_nothing_left_is_told():
    with pytest.raises(NoSurfaceError, match="after cleaning"):
        repaired(Mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 2]])))


def test_decimation_keeps_the_budget_and_the_shape():
    ball = welded(ball_mesh(24))
    few = decimated(ball, 400)
    assert len(few.faces) <= 400 < len(ball.faces)
    assert few.vertices.norm(dim=1).min() > 0.95
    assert decimated(few, 400) is few


@pytest.fixture(scope="module")
def unwrapped() -> Mesh:
    return unwrap(welded(ball_mesh(12)), 128).with_smooth_normals().with_tangents()


def test_atlas_uses_every_place_once(unwrapped):
    uv = unwrapped.uv
    assert uv is not None and uv.min() >= 0 and uv.max() <= 1
    texels = Texels.of(unwrapped, 128, 128, create_mesh_rasterizer())
    corners = uv[unwrapped.faces.long()] * 128
    edges = corners[:, 1:] - corners[:, :1]
    area = (edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]).abs().sum() / 2
    assert len(texels.index) == pytest.approx(float(area), rel=0.03), "charts don't overlap"
    assert 0.3 < len(texels.index) / 128**2 < 0.95
    places = texels.at(unwrapped, "vertices")
    assert places.norm(dim=1).min() > 0.95
    # Stretch: texels stand for about the same area everywhere.
    a, b, c = unwrapped.corner_positions().unbind(1)
    world = torch.linalg.cross(b - a, c - a).norm(dim=1) / 2
    flat = (edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]).abs() / 2
    density = flat / world
    assert density.quantile(0.95) / density.quantile(0.05) < 3


def test_too_many_triangles_are_refused(monkeypatch):
    monkeypatch.setattr(atlas, "MOST_UNWRAPPED", 100)
    with pytest.raises(RelightError, match=r"triangles to unwrap, expected 1 to 100; decimate it first"):
        unwrap(ball_mesh(12), 64)
    with pytest.raises(RelightError, match="0 triangles to unwrap"):
        unwrap(Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int32)), 64)
    with pytest.raises(ShapeError, match="no texture coordinates"):
        Texels.of(welded(ball_mesh(4)), 8, 8, create_mesh_rasterizer())


def test_texture_size_follows_the_photographs(unwrapped):
    near, far = (texture_size(unwrapped, cameras(4, size), most=4096) for size in (200, 50))
    assert near == 4 * far, "four times the pixels along a side"
    assert texture_size(unwrapped, cameras(4, 200), most=100) == 64
    # Area 4 pi at a pixel's side of 3 / f, from the nearest side a little less.
    f = cameras(4, 200)[0].fx
    assert near**2 >= 12.57 * (f / 3) ** 2


def test_gaps_are_filled_from_their_surroundings():
    picture = torch.zeros(21, 34, 1)
    mask = torch.zeros(21, 34, dtype=torch.bool)
    mask[3:6, 3:6], mask[15:18, 28:31] = True, True
    picture[3:6, 3:6], picture[15:18, 28:31] = 0.25, 1.0
    found = filled(picture, mask)
    assert torch.equal(found[mask], picture[mask])
    assert found.min() > 0.2499 and found.max() < 1.0001
    assert found[2, 4, 0] < 0.4 and found[19, 30, 0] > 0.85, "next to a chart it looks like the chart"
    assert torch.equal(filled(picture, torch.zeros_like(mask)), picture)


def test_materials_of_a_splat_reach_the_texels(unwrapped):
    rasterizer = create_mesh_rasterizer()
    texels = Texels.of(unwrapped, 128, 128, rasterizer)
    values, confidence = bake_splat(create_rasterizer(), ball_splat(), unwrapped, texels, cameras(20, 48), rasterizer)
    places = texels.at(unwrapped, "vertices")
    sure = confidence > 0.5
    assert sure.float().mean() > 0.8
    for side, color in ((places[:, 0] > 0.15, RED), (places[:, 0] < -0.15, BLUE)):
        assert (values[sure & side][:, :3] - color).abs().mean() < 0.02
    assert (values[sure][:, 3] - 0.5).abs().mean() < 0.01
    # One camera sees one side; the other is guessed from it.
    pose = look_at(torch.tensor([3.0, 0.0, 0.0]), torch.zeros(3), torch.tensor([0.0, 0.0, 1.0]))
    from_the_red_side = Camera.from_fov(pose, 0.85, 48, 48)
    values, confidence = bake_splat(
        create_rasterizer(), ball_splat(), unwrapped, texels, [from_the_red_side], rasterizer
    )
    towards = places[:, 0] > 0.6
    assert confidence[places[:, 0] < -0.2].max() == 0 and confidence[towards].min() > 0.1
    whole = completed(unwrapped, texels, values, confidence)
    assert (whole[places[:, 0] < -0.2][:, :3] - RED).abs().mean() < 0.1
    assert (whole[towards] - values[towards]).abs().max() < 0.05


def test_normals_of_the_finer_mesh_come_back(unwrapped):
    texels = Texels.of(unwrapped, 128, 128, create_mesh_rasterizer())
    fine = welded(ball_mesh(48)).with_smooth_normals()
    local = 2 * bake_normals(unwrapped, texels, fine) - 1
    n, t = (texels.at(unwrapped, name) for name in ("normals", "tangents"))
    b = torch.linalg.cross(n, t[:, :3]) * t[:, 3:].sign()
    world = torch.nn.functional.normalize(local[:, :1] * t[:, :3] + local[:, 1:2] * b + local[:, 2:] * n, dim=1)
    truth = torch.nn.functional.normalize(texels.at(unwrapped, "vertices"), dim=1)
    flat = texels.normals(unwrapped)
    found, before = (torch.rad2deg(torch.acos((x * truth).sum(1).clamp(-1, 1))).mean() for x in (world, flat))
    assert found < 0.5 and found < before


def test_occlusion_is_the_share_of_the_sky(unwrapped):
    texels = Texels.of(unwrapped, 128, 128, create_mesh_rasterizer())
    assert bake_occlusion(unwrapped, texels, rays=16).min() > 0.99, "nothing stands above a ball"
    # The floor of a pit whose rim is 45 degrees up all around sees half of the sky, by the cosine.
    inside = replace(unwrapped, faces=unwrapped.faces[unwrapped.corner_positions().mean(1)[:, 2] < 0][:, [0, 2, 1]])
    assert inside.normals is not None
    inside = replace(inside, normals=-inside.normals)
    texels = Texels.of(inside, 128, 128, create_mesh_rasterizer())
    open_share = bake_occlusion(inside, texels, rays=64)
    bottom = texels.at(inside, "vertices")[:, 2] < -0.95
    assert open_share[bottom].mean() == pytest.approx(0.5, abs=0.05)
