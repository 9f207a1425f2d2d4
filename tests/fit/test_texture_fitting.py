"""What the stage materials is made of: learned textures, pixels of photographs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from meshed_ball import ball_mesh, photographed_ball

from relight.errors import MissingPartError
from relight.fit import textures
from relight.fit.textures import LearnableTextures, Pixels, photographed, to_vertices
from relight.render.atlas import Texels
from relight.render.meshes import create_mesh_rasterizer, surface


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return photographed_ball(tmp_path_factory.mktemp("ball"), count=6, size=32)


def test_pixels_agree_with_the_renderer(scene, monkeypatch):
    mesh, rasterizer, views = ball_mesh(), create_mesh_rasterizer(), scene.views
    pixels = Pixels.of(mesh, views, rasterizer)
    texture = mesh.materials[0].base_color_texture
    assert texture is not None
    learned = LearnableTextures(
        torch.cat([texture.image, torch.full((16, 32, 2), 0.5)], 2), torch.full((16, 32, 3), 0.25), 0.7, texture.wrap
    )
    found, progress, look = learned.at(pixels)
    assert progress.min() > 0.69 and progress.max() < 0.71
    torch.testing.assert_close(look, torch.full_like(look, 0.25), atol=1e-5, rtol=0)
    camera, photo = views.camera(0), views.photo(0)
    seen = surface(mesh, camera, rasterizer, cull=False)
    kept = (photo.alpha > 0.99)[seen.mask]
    first = slice(0, int(kept.sum()))
    assert torch.equal(found.position[first], seen.surface.position[kept])
    # Its mips are no sharper than a third of a level.
    assert (found.base_color[first] - seen.surface.base_color[kept]).abs().mean() < 0.03
    torch.testing.assert_close(pixels.color[first], photo.rgb[seen.mask][kept])
    monkeypatch.setattr(textures, "MOST_PIXELS", 60)
    assert len(Pixels.of(mesh, views, rasterizer)) == 60
    with pytest.raises(MissingPartError, match="no photograph shows the mesh"):
        Pixels.of(replace(mesh, vertices=mesh.vertices + 50), views, rasterizer)


def test_photographs_are_averaged_on_the_surface(scene):
    mesh, rasterizer = ball_mesh(), create_mesh_rasterizer()
    texels = Texels.of(mesh, 16, 32, rasterizer)
    seen = photographed(mesh, texels, scene.views, rasterizer)
    places, sure = texels.at(mesh, "vertices"), seen.confidence > 0.5
    red, blue = (seen.radiance[sure & side].mean(0) for side in (places[:, 0] > 0.2, places[:, 0] < -0.2))
    assert red[0] > 3 * red[2] and blue[2] > 3 * blue[0]
    assert seen.spread[sure].median() < 0.05, "a rough ball looks the same from all sides"
    at_vertices = to_vertices(mesh, texels, seen.radiance, seen.confidence)
    known = (at_vertices.sum(1) > 0) & (mesh.vertices[:, 0] > 0.3)
    assert (at_vertices[known][:, 0] > 2 * at_vertices[known][:, 2]).all()


def test_even_textures_are_even():
    def of(picture: torch.Tensor) -> float:
        learned = LearnableTextures(picture, torch.full((8, 8, 3), 0.5), 0.5, ("clamp", "clamp"))
        return float(learned.unevenness(torch.ones(8, 8, dtype=torch.bool)).detach())

    assert of(torch.full((8, 8, 5), 0.3)) < 1e-6 < 0.05 < of(torch.rand(8, 8, 5))
