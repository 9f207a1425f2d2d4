"""Textured meshes in the viewer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from meshed_ball import BLUE, RED, ball_mesh, photographed_ball, with_splat

from relight.geometry.camera import Camera
from relight.geometry.mesh import Mesh, merge
from relight.geometry.transforms import look_at
from relight.scene import Frame, Scene
from relight.shading.color import linear_to_srgb
from relight.viewer.display import ESTIMATED, STUDIO, Display, Lamp, Lighting
from relight.viewer.lights import Lamps, Library
from relight.viewer.mesh_painter import TEXTURES, MeshPainter
from relight.viewer.painter import Superseded
from relight.viewer.splat_painter import SplatPainter
from relight.viewer.split import Beside

FRONT = Camera.from_fov(
    look_at(torch.tensor([0.0, -4.0, 0.0]), torch.zeros(3), torch.tensor([0.0, 0.0, 1.0])), 0.8, 48, 40
)
"""Red right, blue left."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Scene:
    return replace(with_splat(photographed_ball(tmp_path_factory.mktemp("ball"))), asset=ball_mesh())


@pytest.fixture
def painter(scene):
    return MeshPainter(scene, Lamps(Library(None, scene.frame.up)))


def test_textures_are_shown_as_they_are(painter):
    colors = painter.paint(FRONT, Display("base_color"))
    for column, expected in ((18, BLUE), (30, RED)):
        assert torch.allclose(colors[20, column], linear_to_srgb(expected), atol=0.02)
    assert float(painter.paint(FRONT, Display("roughness"))[20, 18, 1]) == pytest.approx(0.5, abs=0.01)
    assert float(painter.paint(FRONT, Display("metallic")).max()) < 0.01
    towards_eye = painter.paint(FRONT, Display("normal"))[20, 24]
    assert torch.allclose(towards_eye, torch.tensor([0.5, 0.0, 0.5]), atol=0.08)
    assert float(painter.paint(FRONT, Display("base_color", background="white"))[0, 0].min()) == 1


def test_every_mode_shows_something_of_its_own(painter):
    modes = painter.modes()
    assert set(modes) == {"final", *TEXTURES, "depth", "specular", "diffuse", "photo", "error"}
    camera = painter.scene.views.camera(3)
    pictures = {m: painter.paint(camera, Display(m, lighting=Lighting(STUDIO))) for m in modes if m != "metallic"}
    for one, picture in pictures.items():
        assert picture.shape == (64, 64, 3) and bool(((picture >= 0) & (picture <= 1)).all()), one
        for other in pictures:
            assert one == other or float((picture - pictures[other]).abs().mean()) > 0.002, (one, other)
    unknown = painter.paint(camera, Display("ellipsoids", lighting=Lighting(STUDIO)))
    assert torch.equal(unknown, pictures["final"]), "of splats, and chosen before"


def test_it_looks_as_photographed(painter):
    camera = painter.scene.views.camera(3)
    photo = painter.scene.views.photo(3)
    shown = painter.paint(camera, Display())
    assert float((shown - photo.rgb * photo.alpha[..., None]).abs().mean()) < 0.02
    assert float(painter.paint(camera, Display("error")).mean()) < 0.08
    away = painter.paint(FRONT, Display("photo"))
    assert torch.equal(away, painter.paint(FRONT, Display())), "from elsewhere: what is drawn"


def test_light_changes_the_picture(painter):
    def picture(**values):
        return painter.paint(FRONT, Display(lighting=Lighting(**values)))

    sun = Lamp("sun", (3.0, -3.0, 3.0))
    pictures = [
        picture(environment=ESTIMATED), picture(environment=STUDIO), picture(environment=STUDIO, rotation=90.0),
        picture(environment=STUDIO, exposure=1.0), picture(environment=STUDIO, curve="aces"),
        picture(environment="", lamps=(sun,)), picture(environment="", lamps=(replace(sun, color=(1.0, 0.0, 0.0)),)),
    ]  # fmt: skip
    for i, one in enumerate(pictures):
        for other in pictures[:i]:
            assert float((one - other).abs().max()) > 0.02
    assert float(picture(environment="").max()) == 0


def test_shadows_come_with_refinement(painter, scene):
    pytest.importorskip("open3d")
    roof = torch.tensor([[-2.0, -2, 1.5], [2, -2, 1.5], [2, 2, 1.5], [-2, 2, 1.5]])
    covered = merge([ball_mesh(), Mesh(roof, torch.tensor([[0, 1, 2], [0, 2, 3]]))])
    shaded = MeshPainter(replace(scene, asset=covered), painter.lamps)
    below = Camera.from_fov(
        look_at(torch.tensor([0.0, -4.0, -1.0]), torch.zeros(3), torch.tensor([0.0, 0.0, 1.0])), 0.5, 32, 32
    )
    from_above = Lighting("", lamps=(Lamp("sun", (0.0, -0.5, 9.0)),))
    *_, last = shaded.refined(below, Display(lighting=from_above), lambda: False)
    free = painter.paint(below, Display(lighting=from_above))
    assert float(last[8:].max()) < 0.05 < float(free[8:].max())
    without = replace(from_above, shadows=False)
    assert list(shaded.refined(below, Display(lighting=without), lambda: False)) == []
    assert float(shaded.paint(below, Display(lighting=without))[8:].max()) > 0.3
    for lighting in (Lighting(), Lighting(ESTIMATED)):
        *_, last = painter.refined(FRONT, Display(lighting=lighting), lambda: False)
        *_, again = painter.refined(FRONT, Display(lighting=lighting), lambda: False)
        quick = painter.paint(FRONT, Display(lighting=lighting))
        assert torch.equal(last, again) and float((last - quick).abs().mean()) < 0.03
    assert list(painter.refined(FRONT, Display("normal"), lambda: False)) == []
    with pytest.raises(Superseded):
        next(painter.refined(FRONT, Display(), lambda: True))


def test_a_model_without_photographs_stands_in_the_studio():
    painter = MeshPainter(Scene(Frame(radius=1.0), asset=ball_mesh()), Lamps(Library()))
    assert not {"photo", "error"} & set(painter.modes())
    assert torch.equal(painter.paint(FRONT, Display()), painter.paint(FRONT, Display(lighting=Lighting(STUDIO))))


def test_splat_and_mesh_beside_each_other(painter, scene):
    splat = SplatPainter(scene, painter.lamps, rays=False)
    both = Beside(splat, painter).paint(FRONT, Display("base_color"))
    assert float((both[:, :22] - splat.paint(FRONT, Display("base_color"))[:, :22]).abs().max()) < 0.02
    assert float((both[:, 26:] - painter.paint(FRONT, Display("base_color"))[:, 26:]).abs().max()) < 0.02
    assert float((both[20, 18] - both[20, 30]).abs().max()) > 0.3
