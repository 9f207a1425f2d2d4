"""Textures of a mesh under a diffusion prior, and the stages that use it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from meshed_ball import ball_mesh, photographed_ball
from torch import Tensor

from relight.diffusion.own.network import Config, Network, PriorError
from relight.diffusion.own.prior import Prior
from relight.diffusion.own.procedural.textures import WORDS
from relight.diffusion.own.tasks import MAPS
from relight.diffusion.protocol import NOTHING, Condition
from relight.diffusion.score.options import ScoreOptions
from relight.errors import DataError, MissingPartError
from relight.export.images import write_image
from relight.fit.guide import MaterialGuide, PatchGuide, ShadedGuide, around, looked, material_picture, photographs
from relight.fit.textures import LearnableTextures, Shading
from relight.render.meshes import create_mesh_rasterizer
from relight.scene import Frame, Scene
from relight.shading.color import linear_to_srgb
from relight.shading.environment import Environment
from relight.stages.base import Interrupted
from relight.stages.materials import MeshMaterials
from relight.stages.paint import Paint
from relight.testing.job import MemoryJob

pytest.importorskip("diffusers", reason="networks need diffusers")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Wanting:
    """A prior that always expects one material, and remembers what it was told."""

    def __init__(self, values: Tensor):
        self.values, self.channels, self.told = values.view(1, -1, 1, 1), len(values), NOTHING

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t

    def clean(self, noisy: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        self.told = condition
        return self.values.expand_as(noisy)


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Scene:
    return photographed_ball(tmp_path_factory.mktemp("ball"), count=4, size=48)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("prior") / "tiny.safetensors"
    Prior(Network(Config("material", 5, MAPS, WORDS, (32, 32), 4, (16, 16), 8, 16))).save(path)
    return path


def grey(size: int = 32) -> LearnableTextures:
    half = torch.full((size, size, 5), 0.5)
    return LearnableTextures(half, half[..., :3], 0.9, ("repeat", "repeat"))


OPTIONS = ScoreOptions(guidance="x0", steps=1, scale=1.0, average="pixels")


def test_materials_go_where_the_prior_wants_them() -> None:
    wanted = torch.tensor([0.6, 0.2, 0.0, 0.4, -0.6])
    prior, mesh, textures = Wanting(wanted), ball_mesh(), grey()
    guide = MaterialGuide(prior, OPTIONS, mesh, create_mesh_rasterizer(), around(mesh, 32), generator())  # type: ignore[arg-type]
    adam = torch.optim.Adam([textures.materials], lr=0.1)
    for step in range(50):
        guide.loss(textures, None, Shading(mesh), step / 50).loss.backward()
        adam.step()
        adam.zero_grad()
    values = textures.materials.detach().sigmoid().flatten(0, 1).median(0).values
    values = 2 * torch.cat([linear_to_srgb(values[:3]), values[3:]]) - 1
    torch.testing.assert_close(values, wanted, atol=0.1, rtol=0)


def test_the_prior_is_told_shape_photograph_and_light(scene: Scene) -> None:
    prior, mesh, textures = Wanting(torch.zeros(5)), ball_mesh(), grey()
    assert scene.views is not None
    sides = photographs(mesh, scene.views, 32)
    guide = MaterialGuide(prior, OPTIONS, mesh, create_mesh_rasterizer(), sides, generator())  # type: ignore[arg-type]
    guide.loss(textures, Environment(torch.ones(8, 16, 3)), Shading(mesh), 0.5)
    maps = prior.told.maps
    assert maps is not None and maps.shape == (1, MAPS, 32, 32) and maps[0, -3:, 0, 0].tolist() == [1, 1, 1]
    mask = maps[0, 3] > 0
    # In a light that is 1 everywhere a white surface is 1: half in Reinhard's curve, 0.735 in sRGB.
    matte = (maps[0, 8:11, mask] + 1) / 2
    assert float((matte - 0.735).abs().max()) < 0.01
    facing = maps[0, 6][mask]
    assert float((facing < 0.1).float().mean()) == 1, "normals look back at the camera"
    photo = (maps[0, :3] + 1) / 2
    red_or_blue = (photo[0] - photo[2]).abs()
    assert float(red_or_blue[mask].mean()) > 5 * float(red_or_blue[~mask].mean() if (~mask).any() else 0)


def test_photographs_are_cut_where_the_mesh_is(scene: Scene) -> None:
    mesh, rasterizer = ball_mesh(), create_mesh_rasterizer()
    assert scene.views is not None
    sides = photographs(mesh, scene.views, 32)
    for seed in range(8):
        side = sides(generator(seed))
        assert side.photo is not None and side.photo.shape == (3, 32, 32)
        look = looked(mesh, side.camera, rasterizer, grey())
        lit = side.photo.amax(0) > 0.02
        agree = (lit == (look.mask[0, 0] > 0)).float().mean()
        assert float(agree) > 0.9, seed


def test_random_sides_show_the_mesh() -> None:
    mesh, rasterizer = ball_mesh(), create_mesh_rasterizer()
    for seed in range(8):
        side = around(mesh, 24)(generator(seed))
        look = looked(mesh, side.camera, rasterizer, grey())
        assert float(look.mask.mean()) > 0.12 and material_picture(look).shape == (1, 5, 24, 24)


def test_light_that_is_told_stays_out_of_materials() -> None:
    """A prior that multiplies the hints by a grey finds that grey; one that is told nothing pulls materials about."""

    class Lit(Wanting):
        def clean(self, noisy: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
            assert condition.maps is not None
            given = condition.maps[:, -1:, :1, :1] > 0
            hint = (condition.maps[:, 8:11] + 1) / 2
            linear = ((hint.clamp(0, 0.99) + 0.055) / 1.055) ** 2.4
            expected = linear_to_srgb((0.4 * linear / (1 - linear)).clamp(0, 1))
            return torch.where(given, 2 * expected - 1, 2 * torch.ones_like(noisy) - 1)

    found = {}
    for tells in (True, False):
        mesh, textures = ball_mesh(), grey()
        with torch.no_grad():
            textures.materials[..., 3:] = torch.tensor([0.98, 0.02]).logit()
        guide = ShadedGuide(
            Lit(torch.zeros(3)), OPTIONS, mesh, create_mesh_rasterizer(), around(mesh, 32), generator(),  # type: ignore[arg-type]
            lambda g: Environment(torch.rand(8, 16, 3, generator=g) + 0.2), tells=tells,
        )  # fmt: skip
        adam = torch.optim.Adam([textures.materials], lr=0.1)
        for step in range(40):
            guide.loss(textures, Shading(mesh), step / 40).loss.backward()
            adam.step()
            adam.zero_grad()
        found[tells] = float(textures.materials.detach().sigmoid()[..., :3].median())
    assert found[True] == pytest.approx(0.4, abs=0.08) and found[False] > 0.7


def test_painting_is_reproducible_and_resumes(tiny: Path, tmp_path: Path) -> None:
    scene = Scene(frame=Frame(radius=1.0), asset=ball_mesh())
    options = Paint(prior=str(tiny), prompt="red matte", iterations=6, size=32, texture=32, occlusion_rays=0)
    whole = options.run(scene, MemoryJob(tmp_path)).asset
    job = MemoryJob(tmp_path, stop_at=3)
    with pytest.raises(Interrupted):
        options.run(scene, job)
    rest = options.run(scene, MemoryJob(tmp_path, restored=job.saved)).asset
    assert whole is not None and rest is not None
    for name in ("base_color_texture", "metallic_roughness_texture"):
        a, b = (getattr(m.materials[0], name).image for m in (whole, rest))
        torch.testing.assert_close(a, b)
    assert whole.materials[0].base_color_texture.image.std() > 0  # type: ignore[union-attr]


def test_textures_take_the_patches_of_an_example() -> None:
    """Bars of two colours and one roughness: the texture gets both colours, apart, and that roughness on the mean."""
    bars = (torch.arange(32) % 8 < 4).float().expand(32, 32)
    fixed = [torch.full_like(bars, v) for v in (0.2, 0.7, 0.0)]
    example = torch.stack([0.2 + 0.6 * bars, 0.8 - 0.6 * bars, *fixed])[None]
    mesh, textures, rasterizer = ball_mesh(), grey(), create_mesh_rasterizer()
    guide = PatchGuide(example, mesh, rasterizer, around(mesh, 48), generator())
    adam = torch.optim.Adam([textures.materials], lr=0.1)
    first = float(guide.loss(textures).detach())
    for _ in range(120):
        loss = guide.loss(textures)
        adam.zero_grad()
        loss.backward()
        adam.step()
    look = looked(mesh, around(mesh, 48)(generator(5)).camera, rasterizer, textures)
    picture = material_picture(look).detach()[0][:, look.seen.mask] * 0.5 + 0.5
    assert float(guide.loss(textures).detach()) < 0.4 * first
    assert picture[0].std() > 0.15 and picture[1].std() > 0.15
    # Red where green is not: as in the example.
    assert float(torch.corrcoef(picture[:2])[0, 1]) < -0.4
    assert float(picture[3].mean()) == pytest.approx(0.7, abs=0.05)


def test_a_reference_picture_joins_the_fit(tiny: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "wall.png", torch.rand(24, 40, 3, generator=generator()))
    scene = Scene(frame=Frame(radius=1.0), asset=ball_mesh())
    options = Paint(
        prior=str(tiny), iterations=4, size=32, texture=32, occlusion_rays=0, reference=str(tmp_path / "wall.png")
    )
    job = MemoryJob(tmp_path)
    assert options.run(scene, job).asset is not None
    assert job.reports[-1][2]["reference loss"] > 0
    with pytest.raises(DataError, match=r"missing\.png"):
        replace(options, reference=str(tmp_path / "missing.png")).run(scene, MemoryJob(tmp_path))


def test_a_reference_alone_resumes_as_if_never_stopped(tiny: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "wall.png", torch.rand(24, 40, 3, generator=generator()))
    scene = Scene(frame=Frame(radius=1.0), asset=ball_mesh())
    options = Paint(
        prior=str(tiny), iterations=4, size=32, texture=32, occlusion_rays=0, material_weight=0,
        reference=str(tmp_path / "wall.png"),
    )  # fmt: skip
    whole = options.run(scene, MemoryJob(tmp_path)).asset
    job = MemoryJob(tmp_path, stop_at=2)
    with pytest.raises(Interrupted):
        options.run(scene, job)
    rest = options.run(scene, MemoryJob(tmp_path, restored=job.saved)).asset
    images = [m.materials[0].base_color_texture.image for m in (whole, rest)]  # type: ignore[union-attr]
    torch.testing.assert_close(*images, rtol=0, atol=0)


def test_painting_says_what_it_lacks(tiny: Path, tmp_path: Path) -> None:
    scene = Scene(frame=Frame(radius=1.0), asset=ball_mesh())
    with pytest.raises(PriorError, match="'velvet'; it knows plain"):
        Paint(prior=str(tiny), prompt="velvet", texture=32).run(scene, MemoryJob(tmp_path))
    with pytest.raises(MissingPartError, match="has no mesh"):
        Paint().run(replace(scene, asset=None), MemoryJob(tmp_path))
    with pytest.raises(ValueError, match="iterations"):
        Paint(iterations=0)


def test_photographs_with_a_prior_resume_as_if_never_stopped(scene: Scene, tiny: Path, tmp_path: Path) -> None:
    bare = replace(scene, asset=replace(ball_mesh(), materials=()))
    options = MeshMaterials(
        iterations=4,
        sampled_iterations=0,
        pixels=256,
        prior=str(tiny),
        prior_size=32,
        max_texture=32,
        occlusion_rays=0,
        shadows=False,
        start="textures",
        prior_weight=20,
    )
    whole = options.run(bare, MemoryJob(tmp_path)).asset
    without = replace(options, prior="").run(bare, MemoryJob(tmp_path)).asset
    job = MemoryJob(tmp_path, stop_at=2)
    with pytest.raises(Interrupted):
        options.run(bare, job)
    rest = options.run(bare, MemoryJob(tmp_path, restored=job.saved)).asset
    images = [m.materials[0].base_color_texture.image for m in (whole, rest, without)]  # type: ignore[union-attr]
    torch.testing.assert_close(images[0], images[1])
    assert float((images[0] - images[2]).abs().max()) > 1e-4
