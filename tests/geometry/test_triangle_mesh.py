"""Meshes: normals, tangents, neighbours, transforms."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from relight.errors import ShapeError
from relight.geometry.material import Material
from relight.geometry.mesh import Mesh, merge, opposite_corners
from relight.testing.mesh_conformance import sphere, tiling


def test_smooth_normals_of_a_sphere_point_outwards_and_ignore_seams():
    ball = sphere(48, 32)
    smooth = replace(ball, normals=None).with_smooth_normals()
    assert smooth.normals is not None
    assert float((smooth.normals * ball.vertices).sum(-1).min()) > 0.999
    split = Mesh(
        ball.vertices[ball.faces.flatten()], torch.arange(3 * len(ball.faces)).view(-1, 3)
    ).with_smooth_normals()
    assert split.normals is not None
    torch.testing.assert_close(split.normals, smooth.normals[ball.faces.flatten()], rtol=0, atol=1e-5)


def test_angles_not_areas_weigh_normals():
    """A cube's corner: whichever way its sides are cut into triangles, the normal is the diagonal."""
    corner = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
    # The side z = 0 is cut through the corner, the others are not.
    mesh = Mesh(corner, torch.tensor([[0, 4, 1], [0, 2, 4], [0, 1, 3], [0, 3, 2]])).with_smooth_normals()
    assert mesh.normals is not None
    torch.testing.assert_close(mesh.normals[0], torch.full((3,), -1 / math.sqrt(3)))


def test_smooth_normals_are_differentiable():
    ball = sphere(5, 4)
    vertices = ball.vertices.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: replace(ball, vertices=v).with_smooth_normals().normals, (vertices,))  # type: ignore[arg-type]


def test_every_edge_of_a_closed_mesh_has_a_neighbour_and_it_is_mutual():
    ball = sphere(7, 5)
    table = opposite_corners(ball.vertices, ball.faces)
    assert (table >= 0).all()
    flat = table.flatten().long()
    assert torch.equal(flat[flat], torch.arange(len(flat)))
    for f in range(len(ball.faces)):
        for i in range(3):
            g, k = divmod(int(table[f, i]), 3)
            assert g != f
            mine = {int(ball.faces[f, (i + 1) % 3]), int(ball.faces[f, (i + 2) % 3])}
            assert mine == {int(ball.faces[g, (k + 1) % 3]), int(ball.faces[g, (k + 2) % 3])}


def test_boundaries_and_edges_of_many_faces():
    vertices, faces = tiling(3, 2)
    table = opposite_corners(vertices, faces)
    assert int((table < 0).sum()) == 2 * (3 + 2)
    fan = torch.tensor([[0.0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [-1, 0, 0]])
    book = opposite_corners(fan, torch.tensor([[0, 1, 2], [0, 1, 3], [0, 1, 4]]))
    # First and second are neighbours, the third has none.
    assert book[:, 2].tolist() == [5, 2, -1]
    assert opposite_corners(fan, torch.zeros(0, 3, dtype=torch.int64)).shape == (0, 3)


def test_bending_keeps_the_neighbours():
    ball = sphere(6, 4)
    table = ball.opposite_corners
    assert ball.with_vertices(ball.vertices * 2).opposite_corners is table


def test_tangents_of_a_plane_follow_u():
    vertices, faces = tiling(3, 3, torch.Generator().manual_seed(0))
    faces = faces.flip(1)
    turn = torch.tensor([[0.6, 0.8], [0.8, -0.6]])  # upright with v downwards: u and v turn like x and -y
    uv = vertices[:, :2] @ turn.mT
    mesh = Mesh(vertices, faces, normals=torch.tensor([0.0, 0.0, -1.0]).expand(len(vertices), 3), uv=uv)
    assert (mesh.face_normals()[:, 2] < 0).all()
    tangents = mesh.with_tangents().tangents
    assert tangents is not None
    torch.testing.assert_close(tangents[:, :3], torch.tensor([0.6, 0.8, 0.0]).expand(len(vertices), 3))
    # bitangent = w (n x t) must be the direction of falling v.
    bitangent = tangents[:, 3:] * torch.linalg.cross(mesh.normals, tangents[:, :3])  # type: ignore[arg-type]
    torch.testing.assert_close(bitangent, torch.tensor([-0.8, 0.6, 0.0]).expand(len(vertices), 3))


def test_vertices_where_a_mirrored_picture_meets_itself_are_split():
    vertices, faces = tiling(2, 1)
    uv = torch.stack([(vertices[:, 0] - 0.5).abs(), vertices[:, 1]], 1)
    mesh = Mesh(vertices, faces, normals=torch.tensor([0.0, 0.0, 1.0]).expand(6, 3), uv=uv).with_tangents()
    assert mesh.tangents is not None
    assert len(mesh.vertices) == 8
    left = mesh.corner_positions().mean(1)[:, 0] < 0.5
    per_face = mesh.tangents[mesh.faces]
    assert (per_face[left][..., 0] < -0.99).all() and (per_face[~left][..., 0] > 0.99).all()
    assert (per_face[..., 3] == per_face[:, :1, 3]).all()
    assert (per_face[left][..., 3] != per_face[~left][..., 3]).all()


def test_tangents_without_area_in_the_picture_are_still_a_frame():
    ball = replace(sphere(6, 4), uv=torch.zeros(len(sphere(6, 4).vertices), 2)).with_tangents()
    assert ball.tangents is not None and ball.normals is not None
    torch.testing.assert_close(ball.tangents[:, :3].norm(dim=-1), torch.ones(len(ball.vertices)))
    assert float((ball.tangents[:, :3] * ball.normals).sum(-1).abs().max()) < 1e-5
    with pytest.raises(ShapeError, match="texture coordinates"):
        sphere(6, 4).with_tangents()


@pytest.mark.parametrize("mirror", [1.0, -1.0])
def test_transforms_keep_normals_across_and_outside_out(mirror):
    ball = sphere(12, 8)
    assert ball.normals is not None
    ball = replace(ball, uv=torch.stack([torch.atan2(ball.normals[:, 1], ball.normals[:, 0]), -ball.normals[:, 2]], 1))
    matrix = torch.eye(4)
    matrix[:3, :3] = torch.tensor([[2.0 * mirror, 0.3, 0.0], [0.0, 1.0, -0.4], [0.1, 0.0, 0.5]])
    matrix[:3, 3] = torch.tensor([5.0, 6.0, 7.0])
    moved = ball.with_tangents().transformed(matrix)
    outward = moved.corner_positions().mean(1) - matrix[:3, 3]
    assert ((outward * moved.face_normals()).sum(-1) > 0).all()
    assert moved.normals is not None and moved.tangents is not None
    smooth = replace(moved, normals=None).with_smooth_normals().normals
    assert smooth is not None and float((moved.normals * smooth).sum(-1).min()) > 0.85
    again = replace(moved, tangents=None).with_tangents()
    corners = [m.tangents[m.faces.flatten()] for m in (moved, again)]  # type: ignore[index]
    assert torch.equal(corners[0][:, 3].sign(), corners[1][:, 3].sign())


def test_merging_fills_what_is_missing_and_keeps_materials_apart():
    a = Mesh(torch.rand(3, 3), torch.tensor([[0, 1, 2]]), materials=(Material("a"),))
    b = replace(sphere(4, 3), colors=torch.rand(len(sphere(4, 3).vertices), 4))
    both = merge([a, b])
    assert [m.name for m in both.materials] == ["a", ""]
    assert both.material_ids is not None and both.material_ids.tolist() == [0] + [1] * len(b.faces)
    torch.testing.assert_close(both.normals[:3], a.face_normals().expand(3, 3))  # type: ignore[index]
    assert (both.colors[:3] == 1).all()  # type: ignore[index]
    assert torch.equal(both.faces[1:], b.faces + 3)
    with pytest.raises(ShapeError, match="none"):
        merge([])


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"normals": torch.zeros(2, 3)}, "normals"),
        ({"uv": torch.zeros(3, 3)}, "uv"),
        ({"material_ids": torch.zeros(2, dtype=torch.int64)}, "material_ids"),
        ({"faces": torch.zeros(1, 3)}, "faces"),
        ({"vertices": torch.zeros(3)}, "vertices"),
    ],
)
def test_shapes_that_do_not_fit_are_told(attributes, message):
    with pytest.raises(ShapeError, match=message):
        Mesh(**({"vertices": torch.zeros(3, 3), "faces": torch.tensor([[0, 1, 2]])} | attributes))


def test_indices_out_of_range_are_told():
    with pytest.raises(ShapeError, match="0 to 2"):
        Mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 3]])).check_indices()
