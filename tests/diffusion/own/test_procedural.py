"""Procedural scenes: the same for the same seed, and what is said of them is true."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch

from relight.diffusion.own.procedural import frames as drawn
from relight.diffusion.own.procedural import textures
from relight.diffusion.own.procedural.draw import Draw
from relight.diffusion.own.procedural.frames import Seen, frames, pool, surface_of
from relight.diffusion.own.procedural.shapes import solids
from relight.diffusion.own.procedural.views import DIRECTIONS, MOST_WORDS, Views, draw, sky, view
from relight.render import tracing
from relight.shading.color import srgb_to_linear
from relight.shading.environment import Environment
from relight.shading.shade import SplitSum, shade

pytestmark = pytest.mark.skipif(tracing.unavailable() is not None, reason="rays need Open3D")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def views() -> Views:
    return draw(6, 32, 3)


def uniform(value: float = 1.0) -> Environment:
    return Environment(torch.full((16, 32, 3), value))


def test_the_same_seed_draws_the_same_views_however_they_are_split(views: Views) -> None:
    again = Views.joined([view(3 * 1_000_003 + i, 32) for i in range(6)])
    for f in fields(Views):
        assert torch.equal(getattr(views, f.name), getattr(again, f.name)), f.name
    assert not torch.equal(views.base_color, draw(6, 32, 4).base_color)


def test_views_survive_a_file_and_thinning(views: Views, tmp_path) -> None:
    views.save(tmp_path / "views.safetensors")
    back = Views.load(tmp_path / "views.safetensors")
    assert all(torch.equal(getattr(views, f.name), getattr(back, f.name)) for f in fields(Views))
    thin = views.thinned(2)
    assert thin.depth.shape == (6, 16, 16) and torch.equal(thin.focal * 2, views.focal)
    assert torch.equal(thin.normal, views.normal[:, ::2, ::2])


def test_solids_are_closed_and_their_normals_agree_with_their_faces() -> None:
    for seed in range(6):
        scene = solids(Draw(generator(seed)))
        assert len(scene.part) == len(scene.mesh.faces) and len(scene.local) == len(scene.mesh.vertices)
        assert scene.mesh.normals is not None and bool(scene.mesh.vertices.isfinite().all())
        smooth = scene.mesh.normals[scene.mesh.faces.long()].mean(1)
        large = scene.mesh.face_areas() > 1e-6
        agreement = (smooth * scene.mesh.face_normals()).sum(1)[large]
        assert float((agreement > 0).float().mean()) > 0.97


def test_normals_face_the_eye_and_materials_are_in_range(views: Views) -> None:
    for i in range(len(views)):
        surface, visible, mask = surface_of(views[i : i + 1])
        assert mask.any() and visible.shape == (int(mask.sum()), DIRECTIONS)
        assert float(((surface.normal * surface.view).sum(1) > -0.05).float().mean()) > 0.99
        assert float(surface.normal.norm(dim=1).sub(1).abs().max()) < 1e-5
        # A pixel's open sky lies on its own side of the surface.
        under = (surface.normal @ sky().mT) < -0.5
        assert float(visible[under].mean() if under.any() else 0.0) < 0.02


def test_without_obstruction_light_is_what_shading_says() -> None:
    light = Environment(torch.rand(16, 32, 3, generator=generator()) ** 3)
    normals = torch.nn.functional.normalize(torch.randn(50, 3, generator=generator(1)), dim=1)
    open_sky = Seen(light, torch.ones(50, DIRECTIONS))
    torch.testing.assert_close(open_sky.irradiance(normals), light.irradiance(normals))
    rough = torch.rand(50, generator=generator(2))
    torch.testing.assert_close(open_sky.reflection(normals, rough), light.reflection(normals, rough))
    closed = Seen(light, torch.zeros(50, DIRECTIONS), bounce=0.0)
    assert float(closed.irradiance(normals).abs().max()) < 1e-6
    assert float(closed.reflection(normals, rough).abs().max()) < 1e-6


def test_half_the_sky_gives_half_the_light() -> None:
    up = torch.tensor([[0.0, 1.0, 0.0]])
    half = Seen(uniform(2.0), (sky()[:, 0] > 0).float()[None], bounce=0.0)
    assert float(half.irradiance(up)[0, 0]) == pytest.approx(1.0, abs=0.1)


def test_photographs_are_the_shading_of_what_is_said(views: Views, monkeypatch) -> None:
    monkeypatch.setattr(Draw, "number", lambda self, low, high: low)  # no noise, one key
    monkeypatch.setattr(Draw, "chance", lambda self, probability: False)
    monkeypatch.setattr(Draw, "pick", lambda self, choices: choices[0])
    (shown,) = frames(views[:1], lambda g: uniform(), generator())
    surface, visible, mask = surface_of(views[:1])
    expected = shade(surface, [Seen(uniform(), visible)], SplitSum())
    photo = shown.photo[0].permute(1, 2, 0)[mask]
    ratio = (srgb_to_linear(photo) / expected.clamp_min(1e-4))[(photo < 0.99).all(1) & (expected > 0.05).all(1)]
    assert float(ratio.std() / ratio.mean()) < 1e-3


def test_a_mirrored_view_is_the_mirrored_picture_of_the_same_world(views: Views) -> None:
    one = next(views[i : i + 1] for i in range(6) if 0.1 < float((views[i : i + 1].depth > 0).float().mean()) < 1)
    light = Environment(torch.rand(16, 32, 3, generator=generator()) ** 3)
    plain, mirrored = (surface_of(v) for v in (one, drawn._mirrored(one)))
    pictures = []
    for surface, visible, mask in (plain, mirrored):
        picture = torch.zeros(*mask.shape, 3)
        picture[mask] = shade(surface, [Seen(light, visible)], SplitSum())
        pictures.append(picture)
    torch.testing.assert_close(pictures[1].flip(1), pictures[0], atol=1e-4, rtol=1e-3)


def test_relit_views_differ_in_light_alone(views: Views) -> None:
    lights = [Environment(torch.rand(16, 32, 3, generator=generator(i)) ** 4) for i in range(4)]
    before, after = frames(views, pool(lights), generator(), relit=True)
    for name in ("base_color", "roughness", "metallic", "normal", "depth", "mask"):
        assert torch.equal(getattr(before, name), getattr(after, name)), name
    assert not torch.equal(before.photo, after.photo)
    assert before.hints.shape == (6, 12, 32, 32) and 0 <= float(before.hints.min()) <= float(before.hints.max()) <= 1


@pytest.mark.parametrize("name", list(textures.PATTERNS))
def test_patterns_stay_between_nothing_and_all(name: str) -> None:
    places = torch.rand(400, 3, generator=generator()) * 2 - 1
    values = textures.PATTERNS[name](places, Draw(generator(1)))
    assert values.shape == (400,) and float(values.min()) >= 0 and float(values.max()) <= 1
    if name != "plain":
        assert float(values.std()) > 0.05


def test_words_say_what_a_material_is() -> None:
    places = torch.rand(300, 3, generator=generator()) * 2 - 1
    metals = 0
    for seed in range(60):
        made = textures.material(places, Draw(generator(seed)))
        assert set(made.words) <= set(textures.WORDS) and len(made.words) <= 8
        assert made.words, "every material has a name"
        if "plain" in made.words:
            metals += "metal" in made.words
            assert float(made.metallic.mean()) == float("metal" in made.words)
            finish = next(w for w in made.words if w in textures.FINISHES)
            low, high = textures.FINISHES[finish]
            assert low - 0.08 <= float(made.roughness.mean()) <= high + 0.08
        assert bool(((made.base_color > 0) & (made.base_color <= 1)).all())
    assert metals > 0


def test_noise_is_smooth_and_fills_its_range() -> None:
    line = torch.zeros(2000, 3)
    line[:, 0] = torch.linspace(-8, 8, 2000)
    values = textures.fbm(line, Draw(generator()), octaves=1)
    assert float(values.diff().abs().max()) < 0.05 and float(values.max() - values.min()) > 0.5
    assert bool(((values >= 0) & (values <= 1)).all())


def test_swatches_fill_the_picture() -> None:
    swatch = next(v for v in (view(s, 32) for s in range(40)) if float(v.depth.float().std()) == 0)
    assert float((swatch.depth > 0).float().mean()) == 1 and int((swatch.words >= 0).sum()) >= 2
    assert swatch.words.shape == (1, MOST_WORDS) and math.isclose(float(swatch.focal), 96)
    assert replace(swatch).open.unique().numel() == 1
