"""Stages mesh and materials end to end on a ball, 40 pixels wide."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from meshed_ball import BLUE, RED, ball_mesh, ball_splat, cameras, photographed_ball, sky, welded, with_splat

from relight.errors import BackendUnavailableError, MissingPartError
from relight.fit.outline import fit_outlines
from relight.geometry.material import Material, Texture
from relight.geometry.mesh import Mesh, merge
from relight.render import tracing
from relight.render.meshes import create_mesh_rasterizer, surface
from relight.render.proxy import NoSurfaceError
from relight.render.relit_mesh import RelitMesh
from relight.scene import Scene
from relight.scene_io import load_scene, read_manifest, save_scene
from relight.shading.lighting import Lighting
from relight.shading.shade import SplitSum
from relight.stages.base import Interrupted
from relight.stages.materials import MeshMaterials, prepared
from relight.stages.mesh import MeshAsset
from relight.testing.job import MemoryJob

pytestmark = pytest.mark.skipif(tracing.unavailable() is not None, reason=f"no rays: {tracing.unavailable()}")
pytest.importorskip("xatlas")
SMALL: dict[str, Any] = {"triangles": 800, "outline_steps": 20, "occlusion_rays": 8, "max_texture": 64}


@pytest.fixture(scope="module")
def capture(tmp_path_factory) -> Scene:
    return photographed_ball(tmp_path_factory.mktemp("ball"))


@pytest.fixture(scope="module")
def meshed(capture, tmp_path_factory) -> Scene:
    return MeshAsset(**SMALL).run(with_splat(capture), MemoryJob(tmp_path_factory.mktemp("mesh")))


def sides(mesh: Mesh) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean base colour that a camera sees of either side."""
    seen = [surface(mesh, c, create_mesh_rasterizer()).surface for c in cameras(4, 40)]
    position, color = (torch.cat([getattr(s, n) for s in seen]) for n in ("position", "base_color"))
    return color[position[:, 0] > 0.2].mean(0), color[position[:, 0] < -0.2].mean(0)


def test_a_splat_becomes_a_textured_mesh(meshed):
    asset = meshed.asset
    assert len(asset.faces) <= 800 and asset.vertices.norm(dim=1).median() == pytest.approx(1, abs=0.06)
    red, blue = sides(asset)
    assert (red - RED).abs().max() < 0.03 and (blue - BLUE).abs().max() < 0.03
    (material,) = asset.materials
    assert material.occlusion_texture is material.metallic_roughness_texture
    assert material.metallic_roughness_texture.image[..., 1].mean() == pytest.approx(0.5, abs=0.02)
    assert material.base_color_texture.confidence.max() > 0.8
    assert material.normal_texture is not None
    assert material.double_sided == bool((asset.opposite_corners < 0).any())
    assert meshed.mesh is None, "the mesh for rays is another part"


def test_outlines_become_those_of_the_photographs(capture):
    """Of a ball that is too small, except for one side that is too large."""
    views, small = capture.views.train, welded(ball_mesh(12))
    size = 0.93 + 0.12 * (small.vertices[:, :1] > 0.5)
    start = replace(small, vertices=small.vertices * size)
    found = fit_outlines(start, views, create_mesh_rasterizer(), steps=100, rate=0.1)
    before, after = ((m.vertices.norm(dim=1) - 1).abs().mean() for m in (start, found))
    assert after < 0.45 * before and torch.equal(found.faces, start.faces)
    assert fit_outlines(start, views, create_mesh_rasterizer(), steps=0) is start


def test_a_captured_look_is_enough(capture, tmp_path):
    bare = replace(capture, gaussians=replace(ball_splat(), channels={}))
    asset = MeshAsset(**SMALL, normal_map=False, surface="poisson").run(bare, MemoryJob(tmp_path)).asset
    assert asset is not None and asset.materials[0].normal_texture is None
    red, blue = sides(asset)
    assert (red - RED).abs().max() < 0.05 and (blue - BLUE).abs().max() < 0.05


def test_assets_are_kept_in_the_scene_folder(meshed, tmp_path):
    save_scene(meshed, tmp_path, key="k")
    found = load_scene(tmp_path).asset
    assert found is not None and read_manifest(tmp_path)["schema"] == 2
    assert found.tensors().keys() == meshed.asset.tensors().keys() and found.flags == meshed.asset.flags
    for name, tensor in meshed.asset.tensors().items():
        assert torch.equal(tensor, found.tensors()[name]), name
    m = found.materials[0]
    assert m.occlusion_texture is not None and m.metallic_roughness_texture is not None
    assert m.occlusion_texture.image is m.metallic_roughness_texture.image, "stored once, read once"
    (tmp_path / "older").mkdir()
    save_scene(replace(meshed, asset=None), tmp_path / "older", key="k")
    assert read_manifest(tmp_path / "older")["schema"] == 1, "readable by versions without assets"


def test_materials_with_every_property_survive():
    texture = Texture(torch.rand(3, 5, 4), ("mirror", "clamp"), True, 1, ((1.0, 0.5, 0.25), (0.0, 2.0, 0.0)))
    odd = Material(
        "é", base_color_texture=texture, normal_scale=0.3, alpha_mode="mask", alpha_cutoff=0.7, ior=1.3,
        specular_color=torch.tensor([2.0, 0.5, 0.1]), emissive=torch.tensor([7.0, 0, 0]),
    )  # fmt: skip
    mesh = replace(ball_mesh(4), materials=(odd, Material()), material_ids=None)
    found = Mesh.from_tensors(mesh.tensors(), **mesh.flags)
    assert found.flags == mesh.flags and len(found.materials) == 2
    again = found.materials[0].base_color_texture
    assert again is not None and torch.equal(again.image, texture.image) and again.transform == texture.transform
    assert again.wrap == texture.wrap and again.nearest and again.uv_set == 1


FAST: dict[str, Any] = {"iterations": 80, "sampled_iterations": 10, "pixels": 3000, "sampled_pixels": 500, "samples": 4,
        "material_rate": 0.08, "light_rate": 0.05, "light_size": 8, "texels_per_pixel": 0.5, "max_texture": 32,
        "occlusion_rays": 4}  # fmt: skip


def found_colors(capture: Scene, folder: Path, **options: Any) -> tuple[float, Scene, dict[str, float]]:
    """Largest error of colour, after the factor for each channel that photographs can't tell."""
    grey = Material(
        base_color=torch.tensor([0.5, 0.5, 0.5, 1.0]), metallic=torch.tensor(0.05), roughness=torch.tensor(0.6)
    )
    model, job = replace(ball_mesh(), materials=(grey,)), MemoryJob(folder)
    found = MeshMaterials(**FAST | options).run(replace(capture, asset=model), job)
    assert found.asset is not None and found.asset.uv is not None
    assert torch.equal(found.asset.vertices, model.vertices), "shape and coordinates are kept"
    red, blue = sides(found.asset)
    scale = (red * RED + blue * BLUE) / (red * red + blue * blue)
    off = max(float((red * scale - RED).abs().max()), float((blue * scale - BLUE).abs().max()))
    return off, found, job.metrics


def test_textures_and_light_are_found_from_photographs(capture, tmp_path):
    """Of a model whose materials and light are not known."""
    off, found, metrics = found_colors(capture, tmp_path, iterations=120, sampled_iterations=20, start="textures")
    assert off < 0.15 and metrics["train_psnr"] > 22 and found.light is not None and found.light.main
    towards = torch.nn.functional.normalize(sky().directions(torch.tensor([[0.3, 0.3]])), dim=-1)
    assert float(found.light.main.eval(towards).mean()) > 1.3 * float(found.light.main.radiance.mean())


@pytest.mark.slow
def test_the_closed_form_guess_is_a_start_too(capture, tmp_path):
    off, _, metrics = found_colors(capture, tmp_path, iterations=250, sampled_iterations=60, start="guess")
    assert off < 0.15 and metrics["train_psnr"] > 23


TWO, TURNED = Lighting({"a": sky(), "b": sky().turned(2.2)}), Lighting({"": sky()}, follows_camera=True)


@pytest.mark.parametrize(
    ("lighting", "measured"),
    [
        pytest.param(TWO, False, id="two lights"),
        pytest.param(TURNED, True, id="turntable, measured"),
        pytest.param(TWO, True, id="two lights, measured", marks=pytest.mark.slow),
        pytest.param(TURNED, False, id="turntable", marks=pytest.mark.slow),
    ],
)
def test_photographs_under_several_lights(tmp_path, lighting, measured):
    scene = photographed_ball(tmp_path, size=40, lighting=lighting)
    given = replace(lighting, measured=True) if measured else Lighting(follows_camera=lighting.follows_camera)
    off, found, _ = found_colors(replace(scene, light=given), tmp_path, iterations=120, start="guess")
    assert found.light is not None and off < (0.15 if measured else 0.2)
    assert found.light.follows_camera == lighting.follows_camera and list(found.light.maps) == list(lighting.maps)
    for name, truth in lighting.maps.items():
        if measured:
            assert torch.equal(found.light.maps[name].radiance, truth.radiance)
        else:
            bright = truth.directions(torch.tensor([[0.3, 0.3], [0.8, 0.3]]))
            one, other = found.light.maps[name].eval(bright).mean(-1)
            assert one > other


def test_fits_continue_with_what_the_asset_holds(meshed, tmp_path):
    before = sides(meshed.asset)
    found = MeshMaterials(**FAST | {"iterations": 10, "sampled_iterations": 0, "shadows": False}).run(
        meshed, MemoryJob(tmp_path)
    )
    after = sides(found.asset)  # type: ignore[arg-type]
    assert all((a - b).abs().max() < 0.15 for a, b in zip(after, before, strict=True))
    assert found.asset.materials[0].normal_texture is meshed.asset.materials[0].normal_texture  # type: ignore[union-attr]


@pytest.mark.parametrize("stop", [2, 5])
def test_interrupted_and_continued_gives_the_same_bits(capture, tmp_path, stop):
    short = MeshMaterials(**FAST | {"iterations": 4, "sampled_iterations": 4, "occlusion_rays": 0, "start": "textures"})
    scene = replace(capture, asset=ball_mesh(8))
    whole = short.run(scene, MemoryJob(tmp_path))
    job = MemoryJob(tmp_path, stop_at=stop)
    with pytest.raises(Interrupted):
        short.run(scene, job)
    again = short.run(scene, MemoryJob(tmp_path, restored=job.saved))
    assert whole.asset is not None and again.asset is not None and whole.light is not None and again.light is not None
    for name, tensor in whole.asset.tensors().items():
        assert torch.equal(tensor, again.asset.tensors()[name]), name
    assert whole.light.main and again.light.main
    assert torch.equal(whole.light.main.radiance, again.light.main.radiance)


def test_ended_early_it_gives_what_it_has(capture, tmp_path):
    options = FAST | {"iterations": 500, "occlusion_rays": 0, "start": "textures"}
    job = MemoryJob(tmp_path, enough_at=3)
    early = MeshMaterials(**options).run(replace(capture, asset=ball_mesh(8)), job)
    assert job.reports[-1][0] == 3 and early.light is not None and early.asset is not None
    assert early.asset.materials[0].base_color_texture is not None


def test_models_are_prepared(capture):
    views, options = capture.views.train, MeshMaterials(max_texture=64)  # type: ignore[union-attr]
    model = ball_mesh(6)
    assert prepared(model, views, options)[0].uv is model.uv
    for bad in (replace(model, uv=None), replace(model, uv=model.uv * torch.nan)):  # type: ignore[operator]
        found, size = prepared(bad, views, options)
        assert found.uv is not None and found.uv.isfinite().all() and size <= 64
    two = merge([model, replace(model, vertices=model.vertices * 0.5, materials=(Material("other"),))])
    found, _ = prepared(two, views, options)
    assert found.uv is not None and len(found.uv) != len(two.vertices), "materials that share a picture's space"
    odd = replace(model, materials=(Material(base_color_texture=Texture(torch.rand(13, 37, 3))),), normals=None)
    found, size = prepared(odd, views, options)
    assert size == 37 and found.normals is not None


def test_mistakes_are_named(capture, meshed, tmp_path, monkeypatch):
    job = MemoryJob(tmp_path)
    with pytest.raises(MissingPartError, match="no splat"):
        MeshAsset().run(capture, job)
    with pytest.raises(MissingPartError, match=r"name a model in data\.mesh"):
        MeshMaterials().run(capture, job)
    with pytest.raises(NoSurfaceError):
        clear = replace(ball_splat(), logit_opacity=torch.full((1200,), -9.0))
        MeshAsset().run(replace(capture, gaussians=clear), job)
    away = replace(ball_mesh(), vertices=ball_mesh().vertices + 100)
    with pytest.raises(MissingPartError, match="in their frame"):
        MeshMaterials(**FAST).run(replace(capture, asset=away), job)
    with pytest.raises(ValueError, match="triangles: expected 100 to"):
        MeshAsset(triangles=5)
    monkeypatch.setattr(tracing, "unavailable", lambda: "no rays today")
    with pytest.raises(BackendUnavailableError, match="mesh: no rays today"):
        MeshAsset().run(with_splat(capture), job)
    assert not job.reports


def test_the_mesh_renderer_draws_assets(capture, meshed):
    relit = RelitMesh(meshed.asset, Lighting.everywhere(sky()))
    camera = capture.views.camera(0)
    color, alpha = relit.photographed(camera)
    photo = capture.views.photo(0)
    assert alpha.shape == photo.alpha.shape and ((alpha - photo.alpha).abs() > 0.5).float().mean() < 0.03
    both = (alpha > 0.99) & (photo.alpha > 0.99)
    assert (color - photo.rgb)[both].abs().mean() < 0.08
    dark = relit.under(camera, sky(), SplitSum(), scale=torch.zeros(3))
    assert dark[..., :3].mean() < 0.5 * relit.under(camera, sky(), SplitSum())[..., :3].mean()
    with pytest.raises(MissingPartError, match="run the stage mesh first"):
        RelitMesh(None)
    with pytest.raises(MissingPartError, match="no light"):
        RelitMesh(meshed.asset).photographed(camera)
