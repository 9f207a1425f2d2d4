from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from relight.data import load
from relight.testing.capture import write_capture
from relight.viewer.display import ESTIMATED, MODES, NEED_FEATURES, STUDIO, Display, Lamp, Lighting
from relight.viewer.lights import Lamps, Library
from relight.viewer.photos import view_at
from relight.viewer.splat_painter import SplatPainter
from relight.viewer.split import Beside


@pytest.fixture
def painter(scene):
    return SplatPainter(scene, Lamps(Library(None, scene.frame.up)))


def test_every_mode_shows_something_of_its_own(painter, camera):
    modes = painter.modes()
    assert set(modes) == set(MODES) - {"visibility", "error", "photo", *NEED_FEATURES}
    pictures = {mode: painter.paint(camera, Display(mode, lighting=Lighting(STUDIO))) for mode in modes}
    for mode, picture in pictures.items():
        assert picture.shape == (48, 64, 3) and bool(torch.isfinite(picture).all()), mode
        assert float(picture.max()) > 0.05, mode
        same = [m for m in modes if m != mode and torch.equal(pictures[m], picture)]
        assert same == [], mode


def test_modes_of_a_splat_without_materials(plain, camera):
    painter = SplatPainter(plain, Lamps(Library()))
    assert painter.modes() == ["final", "normal", "depth", "radiance", "points", "ellipsoids"]
    final, look = (painter.paint(camera, Display(mode)) for mode in ("final", "radiance"))
    assert torch.equal(final, look)
    # Beside a stage that has them: the captured look.
    assert torch.equal(painter.paint(camera, Display("similarity")), look)


def test_features_are_compared_with_those_of_the_selection(scene, camera):
    left = torch.arange(400) < 200
    noise = 0.05 * torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    feature = torch.where(left[:, None], torch.eye(8)[2], torch.eye(8)[5]) + noise
    gaussians = replace(scene.gaussians, channels={**scene.gaussians.channels, "feature": feature})
    painter = SplatPainter(replace(scene, gaussians=gaussians), Lamps(Library()))
    assert {"feature", "similarity"} <= set(painter.modes())
    components = painter.paint(camera, Display("feature"))
    one, two = components[24, 19], components[24, 45]
    assert float((one - two).abs().max()) > 0.5, "two things, two colours"
    nothing = painter.paint(camera, Display("similarity"))
    some = painter.edited(gaussians, left & (torch.arange(400) % 50 == 0)).paint(camera, Display("similarity"))
    changed = (some - nothing).abs().sum(-1)
    assert float(changed[:, :30].max()) > 0.5 and float(changed[:, 34:].max()) < 0.05, "the ball of the selection alone"


def test_coat_and_what_is_under_it_make_the_whole(painter, camera):
    lighting = Lighting(STUDIO, exposure=-2.0)

    def linear(mode):
        buffer, lights, _ = painter._lit_buffer(camera, lighting)
        from relight.shading.shade import SplitSum, shade
        from relight.viewer.painter import lobe

        # Blended materials between plastic and metal are only close, so pure ones are compared.
        surface = replace(buffer.surface, metallic=buffer.surface.metallic.round())
        return shade(lobe(surface, mode), lights, SplitSum())

    whole, coat, under = (linear(mode) for mode in ("final", "specular", "diffuse"))
    assert float((coat + under - whole).abs().max()) < 1e-4
    assert float(coat.mean()) > 0.01 and float(under.mean()) > 0.01


def test_light_changes_the_picture(painter, camera):
    def picture(**values):
        return painter.paint(camera, Display(lighting=Lighting(**values)))

    sun = Lamp("sun", (3.0, 3.0, 3.0))
    pictures = [
        picture(), picture(environment=ESTIMATED), picture(environment=STUDIO),
        picture(environment=STUDIO, rotation=90.0), picture(environment=STUDIO, exposure=1.0),
        picture(environment=STUDIO, curve="aces"), picture(environment="", lamps=(sun,)),
        picture(environment="", lamps=(replace(sun, color=(1.0, 0.0, 0.0)),)),
        picture(environment="", lamps=(Lamp("point", (0.0, 0.0, 2.0)),)),
    ]  # fmt: skip
    for i, one in enumerate(pictures):
        for other in pictures[:i]:
            assert float((one - other).abs().max()) > 0.02
    assert float(picture(environment="").max()) == 0


def test_the_divider_divides(painter, camera):
    left, right = (painter.paint(camera, Display(mode)) for mode in ("radiance", "normal"))
    two = Beside(painter, painter)
    both = two.paint(camera, Display("radiance", "normal", 0.25))
    assert float((both[:, :16] - left[:, :16]).abs().max()) < 2e-3
    assert float((both[:, 16:] - right[:, 16:]).abs().max()) < 2e-3
    assert torch.equal(two.paint(camera, Display("radiance", "normal", 1.0)), left)
    assert torch.equal(two.paint(camera, Display("radiance", "normal", 0.0)), right)


def test_two_scenes_beside_each_other(painter, plain, camera):
    other = SplatPainter(replace(plain, gaussians=plain.gaussians[:200]), painter.lamps)
    both = Beside(painter, other).paint(camera, Display("radiance", divider=0.5))
    assert float((both[:, :32] - painter.paint(camera, Display("radiance"))[:, :32]).abs().max()) < 2e-3
    assert float(both[:, 33:].max()) == 0, "the second scene has no right ball"
    assert list(Beside(painter, other).refined(camera, Display(), lambda: False)) == []


def test_what_is_selected_is_tinted(painter, camera):
    chosen = torch.arange(400) < 200
    before = painter.paint(camera, Display("radiance"))
    after = painter.edited(painter.gaussians, chosen).paint(camera, Display("radiance"))
    assert float((before - after)[:, :32].abs().max()) > 0.2
    assert float((before - after)[:, 33:].abs().max()) < 0.02


def test_photographs_and_errors(plain, tmp_path):
    views = load(write_capture(tmp_path, size=32)).views
    assert views is not None
    painter = SplatPainter(replace(plain, views=views), Lamps(Library()))
    camera = views.camera(2)
    photo = views.photo(2)
    assert view_at(painter.scene, camera) == 2
    assert view_at(painter.scene, replace(camera, world_from_camera=plain_pose(camera))) is None
    shown = painter.paint(camera, Display("photo"))
    assert photo.alpha is not None
    assert float((shown - photo.rgb * photo.alpha[..., None]).abs().max()) < 1e-4
    error = painter.paint(camera, Display("error"))
    expected = (4 * (painter.paint(camera, Display("radiance")) - shown).abs()).clamp(0, 1)
    assert float((error - expected).abs().max()) < 1e-4
    wide = painter.paint(camera.resized(32, 32), Display("photo"))
    assert torch.equal(wide, shown)


def plain_pose(camera):
    moved = camera.world_from_camera.clone()
    moved[0, 3] += 0.5
    return moved


def test_shadows_come_with_refinement(painter, scene, camera):
    pytest.importorskip("open3d")
    from relight.geometry.mesh import Mesh

    # A roof above the left ball keeps a sun from above away from it.
    roof = Mesh(
        vertices=torch.tensor([[-2.0, 1, -1], [0, 1, -1], [0, 1, 1], [-2, 1, 1]]),
        faces=torch.tensor([[0, 2, 1], [0, 3, 2]]).int(),
        normals=torch.tensor([[0.0, 1, 0]]).repeat(4, 1), colors=torch.ones(4, 4),
    )  # fmt: skip
    shaded = SplatPainter(replace(scene, mesh=roof), painter.lamps)
    shaded.relit.proxy.above = lambda surface: surface  # the roof is not the balls' surface
    lighting = Lighting("", lamps=(Lamp("sun", (0.0, 9.0, 0.0)),))
    assert list(shaded.refined(camera, Display(lighting=lighting), lambda: False)) == [], "not prepared yet"
    shaded.prepare()
    *_, last = shaded.refined(camera, Display(lighting=lighting), lambda: False)
    free = painter.paint(camera, Display(lighting=lighting))
    assert float(last[:, :30].max()) < 0.05 < float(free[:, :30].max())
    assert float((last - free)[:, 34:].abs().max()) < 0.15
    with_none = replace(lighting, shadows=False)
    assert float((shaded.paint(camera, Display(lighting=with_none)) - free).abs().max()) < 1e-5
