"""From meshes with glTF materials to surfaces and pictures."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from relight.geometry.camera import Camera
from relight.geometry.material import Material, Texture
from relight.geometry.mesh import Mesh, merge
from relight.render.backends.mesh_cpu import MeshCpu
from relight.render.meshes import render, surface
from relight.testing.gradients import central_differences
from relight.testing.mesh_conformance import sphere

CAMERA = Camera(torch.eye(4), 24.0, 24.0, 12.0, 12.0, 24, 24)


def quad(depth: float = 1.0, size: float = 0.4, **attributes) -> Mesh:
    """A square facing the camera, picture upright, front towards it (camera looks along +z, +y down)."""
    corners = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
    vertices = torch.cat([corners * size * depth, torch.full((4, 1), depth)], 1)
    defaults = {"uv": corners / 2 + 0.5, "normals": torch.tensor([0.0, 0.0, -1.0]).expand(4, 3)}
    return Mesh(vertices, torch.tensor([[0, 1, 2], [0, 2, 3]]), **(defaults | attributes))  # type: ignore[arg-type]


def test_the_quad_faces_the_camera():
    seen = surface(quad(), CAMERA, MeshCpu())
    assert seen.mask.any()
    torch.testing.assert_close(seen.surface.normal, torch.tensor([0.0, 0.0, -1.0]).expand_as(seen.surface.normal))
    torch.testing.assert_close(seen.surface.normal, seen.surface.geometric_normal)
    assert ((seen.surface.view * seen.surface.normal).sum(-1) > 0).all()
    torch.testing.assert_close(seen.surface.position[:, 2], torch.ones(len(seen.alpha)))


def test_factors_and_textures_multiply():
    def flat(*values):
        return Texture(torch.tensor(values).expand(4, 4, -1).clone())

    material = Material(
        base_color=torch.tensor([0.5, 1.0, 0.25, 1.0]), base_color_texture=flat(0.5, 0.25, 1.0),
        metallic=torch.tensor(0.5), roughness=torch.tensor(0.8), metallic_roughness_texture=flat(0.9, 0.5, 0.4),
        occlusion_texture=flat(0.25, 0.9, 0.9), occlusion_strength=0.5,
        emissive=torch.tensor([2.0, 0.0, 1.0]), emissive_texture=flat(0.5, 0.5, 0.5),
    )  # fmt: skip
    s = surface(quad(materials=(material,)), CAMERA, MeshCpu()).surface
    for found, expected in (
        (s.base_color, [0.25, 0.25, 0.25]),
        (s.roughness, 0.4),
        (s.metallic, 0.2),
        (s.occlusion, 0.625),
        (s.emission, [1.0, 0.0, 0.5]),
    ):
        assert found is not None
        torch.testing.assert_close(found, torch.tensor(expected).expand_as(found))
    assert s.ior is None and s.specular is None


def test_vertex_colors_and_material_ids():
    two = merge(
        [
            quad(1.0, 0.4, materials=(Material(base_color=torch.tensor([1.0, 0.0, 0.0, 1.0])),)),
            quad(2.0, 0.6, materials=(Material(),), colors=torch.tensor([0.0, 1.0, 0.5, 1.0]).expand(4, 4)),
        ]
    )
    picture = surface(two, CAMERA, MeshCpu())
    color = picture.spread(picture.surface.base_color)
    torch.testing.assert_close(color[12, 12], torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(color[12, 0], torch.tensor([0.0, 1.0, 0.5]))
    assert not surface(quad(), CAMERA, MeshCpu()).mask[0].any()


@pytest.mark.parametrize(("texel", "tilt"), [((1.0, 0.5), (1, 0)), ((0.0, 0.5), (-1, 0)), ((0.5, 1.0), (0, -1))])
def test_normal_maps_tilt_as_gltf_says(texel, tilt):
    """Red leans to growing u (right), green up in the picture, which is -y of the camera."""
    image = torch.tensor([*texel, 1.0]).expand(2, 2, 3).clone()
    mesh = quad(materials=(Material(normal_texture=Texture(image)),)).with_tangents()
    normal = surface(mesh, CAMERA, MeshCpu()).surface.normal
    expected = torch.tensor([tilt[0], tilt[1], -1.0]) / math.sqrt(2)
    torch.testing.assert_close(normal, expected.expand_as(normal))
    flatter = replace(mesh, materials=(replace(mesh.materials[0], normal_scale=0.0),))
    assert (surface(flatter, CAMERA, MeshCpu()).surface.normal[:, 2] < -0.999).all()


def test_a_mirrored_picture_has_its_normals_mirrored():
    image = torch.tensor([1.0, 0.5, 1.0]).expand(2, 2, 3).clone()
    mesh = quad(materials=(Material(normal_texture=Texture(image)),))
    assert mesh.uv is not None
    mirrored = replace(mesh, uv=mesh.uv * torch.tensor([-1.0, 1.0])).with_tangents()
    assert mirrored.tangents is not None and (mirrored.tangents[:, 3] == -1).all()
    assert (mesh.with_tangents().tangents[:, 3] == 1).all()  # type: ignore[index]
    assert (surface(mirrored, CAMERA, MeshCpu()).surface.normal[:, 0] < -0.7).all()


def test_backs_are_culled_or_turned():
    back = replace(quad(), faces=quad().faces.flip(1))
    assert not surface(back, CAMERA, MeshCpu()).mask.any()
    seen = surface(back, CAMERA, MeshCpu(), cull=False)
    assert ((seen.surface.geometric_normal * seen.surface.view).sum(-1) > 0).all()  # type: ignore[operator]
    both = replace(back, materials=(Material(double_sided=True),))
    assert surface(both, CAMERA, MeshCpu()).mask.any()


def test_culling_keeps_the_numbers_of_faces():
    ball = sphere(12, 8)
    ball = replace(ball, vertices=ball.vertices + torch.tensor([0.0, 0.0, 3.0]))
    culled = surface(ball, CAMERA, MeshCpu())
    whole = surface(ball, CAMERA, MeshCpu(), cull=False)
    assert torch.equal(culled.fragments.face, whole.fragments.face)


def test_masked_alpha_is_looked_through():
    image = torch.ones(2, 2, 4)
    image[:, 0, 3] = 0.0
    holes = Material(base_color_texture=Texture(image, nearest=True), alpha_mode="mask")
    behind = Material(base_color=torch.tensor([0.0, 1.0, 0.0, 1.0]))
    mesh = merge([quad(1.0, materials=(holes,)), quad(2.0, materials=(behind,))])
    seen = surface(mesh, CAMERA, MeshCpu())
    color = seen.spread(seen.surface.base_color)
    torch.testing.assert_close(color[12, 6], torch.tensor([0.0, 1.0, 0.0]))
    torch.testing.assert_close(color[12, 18], torch.ones(3))
    alone = surface(quad(materials=(holes,)), CAMERA, MeshCpu())
    assert not alone.mask[:, :12].any() and alone.mask[12, 12:18].all()


def test_blended_layers_are_composited_front_to_back():
    glass = Material(base_color=torch.tensor([1.0, 0.0, 0.0, 0.25]), alpha_mode="blend")
    wall = Material(base_color=torch.tensor([0.0, 0.0, 1.0, 1.0]))
    mesh = merge([quad(1.0, materials=(glass,)), quad(1.5, materials=(glass,)), quad(2.0, materials=(wall,))])
    picture = render(mesh, CAMERA, MeshCpu(), lambda s: s.base_color)
    torch.testing.assert_close(picture[12, 12], torch.tensor([0.25 + 0.75 * 0.25, 0.0, 0.75 * 0.75, 1.0]))


def test_unlit_emits_and_extensions_reach_the_surface():
    unlit = surface(quad(materials=(Material(unlit=True),)), CAMERA, MeshCpu()).surface
    assert unlit.emission is not None and (unlit.emission == 1).all() and (unlit.base_color == 0).all()
    assert (unlit.f0 == 0).all()
    glass = Material(ior=2.0, specular=torch.tensor(0.5), metallic=torch.tensor(0.0))
    s = surface(quad(materials=(glass,)), CAMERA, MeshCpu()).surface
    torch.testing.assert_close(s.f0, torch.full_like(s.f0, 0.5 / 9))


def test_gradients_reach_textures_factors_and_vertices():
    g = torch.Generator().manual_seed(0)
    image = torch.rand(4, 4, 3, generator=g).requires_grad_()
    roughness = torch.tensor(0.5, requires_grad=True)
    base = quad()
    weights = torch.rand(24, 24, 3, generator=g)

    def loss(vertices, image, roughness):
        material = Material(base_color_texture=Texture(image), roughness=roughness)
        mesh = replace(base, vertices=vertices, materials=(material,))
        seen = surface(mesh, CAMERA, MeshCpu())
        return (seen.spread(seen.surface.base_color * seen.surface.roughness[:, None]) * weights)[6:18, 6:18].sum()

    vertices = base.vertices.clone().requires_grad_()
    loss(vertices, image, roughness).backward()
    assert image.grad is not None and roughness.grad is not None and vertices.grad is not None
    for leaf, index, step in ((image, 0, 1e-2), (roughness, 1, 1e-2)):
        arguments = [vertices.detach(), image.detach(), roughness.detach()]

        def moved(x, arguments=arguments, index=index):
            v, i, r = (x if k == index + 1 else a for k, a in enumerate(arguments))
            return loss(v, i, r)

        expected = central_differences(moved, leaf.detach(), step)
        torch.testing.assert_close(leaf.grad, expected, rtol=2e-2, atol=2e-2)
    expected = central_differences(lambda v: loss(v, image.detach(), roughness.detach()), base.vertices, 2e-4)
    torch.testing.assert_close(vertices.grad, expected, rtol=0.1, atol=0.1 * float(expected.abs().max()))


def test_supersampling_approaches_the_covered_area():
    ball = sphere(40, 20)
    ball = replace(ball, vertices=ball.vertices + torch.tensor([0.0, 0.0, 3.0]))
    picture = render(ball, CAMERA, MeshCpu(), lambda s: torch.ones_like(s.normal), supersample=3)
    assert picture.shape == (24, 24, 4)
    radius = 24 / math.sqrt(3**2 - 1)
    assert float(picture[..., 3].sum()) == pytest.approx(math.pi * radius**2, rel=0.01)
    torch.testing.assert_close(picture[..., 0], picture[..., 3])


def test_nothing_to_see_is_an_empty_surface():
    away = replace(quad(), vertices=quad().vertices * torch.tensor([1.0, 1.0, -1.0]))
    seen = surface(away, CAMERA, MeshCpu(), cull=False)
    assert seen.surface.shape == (0,)
    assert render(away, CAMERA, MeshCpu(), lambda s: s.base_color).abs().max() == 0
