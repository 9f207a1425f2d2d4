"""Meshes written for other programs: read back the same, and valid to the programs' own checks."""

from __future__ import annotations

# pyright: reportAttributeAccessIssue=false
# pxr has no stubs that know its classes.
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from meshed_ball import ball_mesh, cameras, sky

from relight.cli import main
from relight.data.models import load_model
from relight.errors import MissingPartError, RelightError, ShapeError
from relight.export import export
from relight.export.gltf import write_glb
from relight.export.runs import last_asset
from relight.geometry.material import Material, Texture
from relight.geometry.mesh import Mesh, merge
from relight.images import read_image
from relight.render.meshes import create_mesh_rasterizer, surface
from relight.scene import Frame, Scene
from relight.scene_io import save_scene
from relight.shading.lighting import Lighting

REAL = Path(os.environ.get("RELIGHT_DATA", "missing")) / "pbr"
VALIDATE = """
const validator = require(process.argv[1] + '/gltf-validator');
validator.validateBytes(new Uint8Array(require('fs').readFileSync(process.argv[2])))
  .then(r => console.log(JSON.stringify(r.issues)));
"""


def tangled() -> Mesh:
    """A ball with a normal map and tangents, and a second one with everything else a material can have."""
    wave = torch.linspace(0, 6.28, 24).sin()[None, :, None].expand(13, -1, -1)
    normal = torch.cat([0.5 + 0.2 * wave, torch.full_like(wave, 0.5), torch.full_like(wave, 0.9)], 2)
    packed = torch.rand(16, 32, 3, generator=torch.Generator().manual_seed(0))
    both = Texture(packed, ("repeat", "clamp"))
    first = replace(
        ball_mesh().materials[0], name="mapped", normal_texture=Texture(normal, ("mirror", "repeat")), normal_scale=0.7,
        occlusion_texture=both, metallic_roughness_texture=both, occlusion_strength=0.8, double_sided=True,
    )  # fmt: skip
    moved = ((0.8, 0.3, 0.1), (-0.4, 0.6, 0.2))  # a turn and a scale
    angle = torch.tensor(0.5)
    c, s = float(angle.cos()), float(angle.sin())
    moved = ((2 * c, 3 * s, 0.1), (-2 * s, 3 * c, 0.2))
    second = Material(
        name="é", base_color=torch.tensor([0.5, 0.6, 0.7, 0.4]), metallic=torch.tensor(0.3),
        roughness=torch.tensor(0.2), emissive=torch.tensor([4.0, 1.0, 0.0]), alpha_mode="mask", alpha_cutoff=0.3,
        ior=1.33, specular=torch.tensor(0.5), specular_color=torch.tensor([1.0, 0.5, 2.0]),
        base_color_texture=Texture(torch.rand(5, 7, 4), nearest=True, transform=moved),
    )  # fmt: skip
    a = replace(ball_mesh(8), materials=(first,)).with_tangents()
    b = replace(ball_mesh(6), vertices=0.5 * ball_mesh(6).vertices, materials=(second,))
    return merge([a, b])


def assert_same_look(found: Mesh, expected: Mesh, tolerance: float = 0.006) -> None:
    """Materials and normals that cameras see; pictures have 8 bits."""
    rasterizer = create_mesh_rasterizer()
    for camera in cameras(4, 32):
        a, b = (surface(mesh, camera, rasterizer) for mesh in (found, expected))
        both = (a.fragments.face >= 0) & (b.fragments.face >= 0)
        assert (a.mask != b.mask).float().mean() < 0.002
        for name in ("base_color", "roughness", "metallic", "normal", "occlusion", "emission"):
            x, y = getattr(a.surface, name), getattr(b.surface, name)
            x, y = (t if t.ndim == 2 else t[:, None] for t in (x, y))
            off = (a.spread(x) - b.spread(y))[both].abs().amax(-1)
            assert off.quantile(0.98) < tolerance * (4 if name in ("normal", "emission") else 1), name


def test_glb_is_read_back_the_same(tmp_path):
    mesh = tangled()
    write_glb(tmp_path / "a.glb", mesh)
    found = load_model(tmp_path / "a.glb")
    assert_same_look(found, mesh)
    by_name = {m.name: m for m in found.materials}
    for material in mesh.materials:
        again = by_name[material.name]
        for name in ("alpha_mode", "double_sided", "unlit", "nearest"):
            assert getattr(again, name, None) == getattr(material, name, None)
        for name in ("ior", "normal_scale", "occlusion_strength"):
            assert getattr(again, name) == pytest.approx(getattr(material, name))
        for name in ("base_color", "metallic", "roughness", "emissive", "specular", "specular_color"):
            torch.testing.assert_close(getattr(again, name), getattr(material, name))
        for name, texture in material.textures.items():
            read = again.textures[name]
            assert read.wrap == texture.wrap and read.nearest == texture.nearest
            assert read.image.shape[:2] == texture.image.shape[:2], "odd sizes stay"
            if texture.transform is not None:
                torch.testing.assert_close(torch.tensor(read.transform), torch.tensor(texture.transform))
    assert found.tangents is not None
    turn = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    write_glb(tmp_path / "b.glb", mesh, turn=turn)
    turned = load_model(tmp_path / "b.glb")
    assert (turned.vertices[:, 1].max() - mesh.vertices[:, 2].max()).abs() < 1e-5, "+z became +y"


def modules() -> Path | None:
    """Where npm put gltf-validator: in GLTF_VALIDATOR, or among the global packages."""
    named = os.environ.get("GLTF_VALIDATOR")
    if named is None and shutil.which("npm"):
        asked = subprocess.run(["npm", "root", "-g"], capture_output=True, text=True, check=False)
        named = asked.stdout.strip()
    return Path(named) if named and (Path(named) / "gltf-validator").is_dir() and shutil.which("node") else None


@pytest.fixture(scope="module")
def issues():
    place = modules()
    if place is None:
        pytest.skip("no gltf-validator: npm install gltf-validator, and name its node_modules in GLTF_VALIDATOR")

    def check(path: Path) -> dict:
        command = ["node", "-e", VALIDATE, str(place), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        return json.loads(done.stdout)

    return check


def test_khronos_validator_has_nothing_to_say(issues, tmp_path):
    write_glb(tmp_path / "a.glb", tangled(), turn=torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]))
    bad = replace(ball_mesh(4), normals=torch.zeros(len(ball_mesh(4).vertices), 3))
    write_glb(tmp_path / "b.glb", bad)
    for name in ("a", "b"):
        found = issues(tmp_path / f"{name}.glb")
        assert found["numErrors"] == found["numWarnings"] == 0, found["messages"]
    broken = (tmp_path / "a.glb").read_bytes().replace(b'"VEC4"', b'"VEC2"')
    (tmp_path / "c.glb").write_bytes(broken)
    assert issues(tmp_path / "c.glb")["numErrors"] > 0, "the validator notices"


@pytest.mark.parametrize("name", ["WaterBottle/WaterBottle.gltf", "SpecularTest/SpecularTest.glb", "Duck/Duck.glb"])
def test_real_models_are_written_valid(issues, tmp_path, name):
    if not (REAL / name).is_file():
        pytest.skip("no models: set RELIGHT_DATA")
    model = load_model(REAL / name)
    write_glb(tmp_path / "a.glb", model)
    found = issues(tmp_path / "a.glb")
    assert found["numErrors"] == found["numWarnings"] == 0, found["messages"]


@pytest.fixture
def run(tmp_path) -> Path:
    """A stage folder with an asset, in a world with +z up, and a light."""
    folder = tmp_path / "01-mesh"
    folder.mkdir()
    ball = ball_mesh(8)
    base = ball.materials[0].base_color_texture
    assert base is not None
    seen = replace(base, confidence=torch.linspace(0, 1, 16)[:, None].expand(16, 32).contiguous())
    asset = replace(ball, materials=(replace(ball.materials[0], base_color_texture=seen),))
    save_scene(
        Scene(Frame(radius=3.0, up=(0.0, 0.0, 1.0)), asset=asset, light=Lighting.everywhere(sky())), folder, key="k"
    )
    return folder


def test_runs_are_exported(run, tmp_path):
    expected = ball_mesh(8)
    for name in ("a.glb", "a.obj"):
        assert main(["export", str(run), "-o", str(tmp_path / name)]) == 0
        found = load_model(tmp_path / name)
        assert found.vertices[:, 1].max() == pytest.approx(1, abs=1e-5)
        turn = torch.eye(4)
        turn[:3, :3] = last_asset(run).y_up.T
        back = found.transformed(turn)
        if name == "a.glb":
            assert_same_look(back, expected)
        else:
            # trimesh reads colour of an .obj, not roughness.
            camera = cameras(4, 32)[1]
            pictures = [surface(m, camera, create_mesh_rasterizer()) for m in (back, expected)]
            shown = [p.spread(p.surface.base_color) for p in pictures]
            assert (shown[0] - shown[1]).abs().mean() < 0.01
    text = (tmp_path / "a.mtl").read_text()
    assert "map_Kd a_base_color.png" in text and "map_Pr a_roughness.png" in text
    export(run, tmp_path / "maps", "textures")
    names = {p.name for p in (tmp_path / "maps").iterdir()}
    assert {"base_color.png", "base_color.exr", "roughness.png", "metallic.png", "confidence.png",
            "occlusion_roughness_metallic.png", "environment.exr"} == names  # fmt: skip
    assert read_image(tmp_path / "maps" / "roughness.png").rgb.mean() == pytest.approx(0.5, abs=0.01)
    # The light stands upright: what shines from above in the world is in the upper rows.
    light = last_asset(run).light
    stored = read_image(tmp_path / "maps" / "environment.exr").rgb
    assert light is not None and torch.allclose(stored, light.radiance, atol=1e-4)
    torch.testing.assert_close(light.radiance, sky().radiance, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("suffix", [".usdz", ".usda", ".usdc"])
def test_usd_holds_geometry_and_materials(run, tmp_path, suffix):
    pxr = pytest.importorskip("pxr")
    from pxr import Usd, UsdGeom, UsdShade

    assert pxr is not None
    output = tmp_path / "out" / f"a{suffix}"
    export(run, output)
    stage = Usd.Stage.Open(str(output))
    shape = UsdGeom.Mesh(stage.GetPrimAtPath("/asset/mesh"))
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and stage.GetDefaultPrim().GetName() == "asset"
    assert len(shape.GetPointsAttr().Get()) == len(ball_mesh(8).vertices)
    assert max(p[1] for p in shape.GetPointsAttr().Get()) == pytest.approx(1, abs=1e-5)
    material, _ = UsdShade.MaterialBindingAPI(shape.GetPrim()).ComputeBoundMaterial()
    shader = UsdShade.Shader(stage.GetPrimAtPath(f"{material.GetPath()}/surface"))
    assert shader.GetIdAttr().Get() == "UsdPreviewSurface"
    for name in ("diffuseColor", "roughness", "metallic"):
        source = shader.GetInput(name).GetConnectedSources()[0][0].source.GetPrim()
        file = UsdShade.Shader(source).GetInput("file").Get()
        assert file.resolvedPath, f"{name}: {file.path} is where the file says"
    st = UsdGeom.PrimvarsAPI(shape).GetPrimvar("st").Get()
    torch.testing.assert_close(torch.tensor([list(x) for x in st])[:, 1], 1 - ball_mesh(8).uv[:, 1])  # type: ignore[index]


def test_mistakes_are_told_and_nothing_is_written(run, tmp_path, capsys):
    bare = tmp_path / "02-bare"
    bare.mkdir()
    save_scene(Scene(Frame()), bare, key="k")
    for name in ("x.glb", "x.obj", "x.usdz", "x.usda"):
        with pytest.raises(MissingPartError, match="add the stage mesh"):
            export(bare, tmp_path / name)
        assert not list(tmp_path.glob("x*"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RelightError, match="name a folder"):
        export(run, tmp_path / "file", "textures")
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(ShapeError, match="finite positions"):
        write_glb(tmp_path / "x.glb", replace(ball_mesh(4), vertices=ball_mesh(4).vertices * torch.nan))
    with pytest.raises(ShapeError, match="found 0 faces"):
        write_glb(tmp_path / "x.glb", Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int32)))
    assert not (tmp_path / "x.glb").exists()


def test_materials_as_numbers_are_kept(tmp_path):
    write_glb(tmp_path / "a.glb", replace(ball_mesh(4), materials=(), uv=None))
    assert not load_model(tmp_path / "a.glb").materials[0].textures
