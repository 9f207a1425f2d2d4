"""Stage distill end to end on renders of known materials under a known light, 40 pixels wide."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from relight.errors import BackendUnavailableError, MissingPartError
from relight.export.images import write_image
from relight.geometry import sh
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.geometry.transforms import look_at
from relight.render import tracing
from relight.render.deferred import blend, displayed, gbuffer
from relight.render.splats import create_rasterizer
from relight.scene import Frame, Scene
from relight.scene_io import load_scene, save_scene
from relight.shading.environment import Environment
from relight.shading.lighting import Lighting
from relight.shading.shade import SplitSum, shade
from relight.stages.base import Interrupted
from relight.stages.distill import Diffuse, Distill, Joint, Phase, Refine, Specular
from relight.testing.job import MemoryJob
from relight.views import View, Views

SIZE = 40
# Short, so in large steps.
FAST: dict[str, Any] = {"material_rate": 0.1, "metallic_rate": 0.1, "progress_rate": 0.1, "light_rate": 0.06}
QUICK: dict[str, Any] = {
    "specular": Specular(iterations=20, **{**FAST, "metallic_rate": 0.0}),
    "diffuse": Diffuse(iterations=125, **FAST),
    "joint": Joint(iterations=60),
    "refine": Refine(iterations=0),
    "light_size": 8,
    "shadows": False,  # the photographs have none
}


def ball() -> Gaussians:
    """Surfels on a unit sphere; red where x > 0, blue where not."""
    n = 600
    i = torch.arange(n) + 0.5
    z, phi = 1 - 2 * i / n, i * math.pi * (1 + math.sqrt(5))
    r = (1 - z * z).sqrt()
    means = torch.stack([r * phi.cos(), r * phi.sin(), z], 1)
    # The turn that takes +z to the normal.
    quats = torch.stack([1 + z, -means[:, 1], means[:, 0], torch.zeros(n)], 1)
    red = (means[:, :1] > 0).float()
    return Gaussians(
        means=means,
        quats_wxyz=quats,
        log_scales=torch.full((n, 3), math.log(0.06)),
        logit_opacity=torch.full((n,), 4.0),
        sh=torch.cat([sh.from_constant(torch.full((n, 3), 0.5))[:, None], torch.zeros(n, 3, 3)], 1),
        channels={
            "base_color": red * torch.tensor([0.7, 0.1, 0.1]) + (1 - red) * torch.tensor([0.1, 0.1, 0.6]),
            "roughness": torch.full((n,), 0.5),
            "metallic": torch.zeros(n),
            "progress": torch.ones(n),
        },
        surfels=True,
    )


def sky() -> Environment:
    """Bright from one side."""
    light = torch.full((8, 16, 3), 0.4)
    light[1:4, 3:7] = 3.0
    return Environment(light)


def photographed(folder: Path, lighting: Lighting) -> Scene:
    """Twelve photographs of the ball, whose lights take turns, and its shape without materials."""
    views, names = [], list(lighting.maps)
    for i in range(12):
        eye = torch.tensor([3 * math.cos(0.55 * i), 1.5 * math.sin(2 * i), 3 * math.sin(0.55 * i)])
        pose = look_at(eye, torch.zeros(3), torch.tensor([0.0, 1.0, 0.0]))
        camera = Camera(pose, 50.0, 50.0, SIZE / 2, SIZE / 2, SIZE, SIZE)
        name = names[i % len(names)]
        light = lighting.of(name, camera.camera_from_world)
        assert light is not None
        with torch.no_grad():
            buffer = gbuffer(create_rasterizer(), ball(), camera)
            picture = displayed(buffer, shade(buffer.surface, light, SplitSum()))
        alpha = buffer.splat.alpha[..., None]
        write_image(folder / f"{i:02d}.png", torch.cat([picture / alpha.clamp_min(1e-4), alpha], -1).clamp(0, 1))
        views.append(View(f"{i:02d}", folder / f"{i:02d}.png", camera, "train", light=name))
    return Scene(Frame(radius=1.0), Views(tuple(views)), gaussians=replace(ball(), channels={}))


@pytest.fixture(scope="module")
def capture(tmp_path_factory) -> Scene:
    return photographed(tmp_path_factory.mktemp("capture"), Lighting.everywhere(sky()))


def distilled(scene: Scene, folder: Path, **options: Any) -> tuple[Scene, MemoryJob]:
    job = MemoryJob(folder)
    return Distill(**QUICK | options).run(scene, job), job


def test_materials_and_light_are_found(capture, tmp_path):
    result, job = distilled(capture, tmp_path)
    assert result.gaussians is not None and result.light is not None
    assert job.metrics["train_psnr"] > 27 and job.metrics["progress"] > 0.5
    channels, truth = result.gaussians.channels, ball().channels
    # Light and base colour share a factor for each channel, which no photograph tells.
    found = channels["base_color"]
    scale = (truth["base_color"] * found).sum(0) / found.square().sum(0)
    assert (found * scale - truth["base_color"]).abs().mean() < 0.06
    assert channels["metallic"].mean() < 0.35
    # The bright side is where it was.
    assert result.light.main is not None
    bright = result.light.main.radiance.mean(-1)
    assert bright[1:4, 3:7].mean() > 1.5 * bright.mean()
    # Under another light it looks as it should.
    pictures = []
    for gaussians in (ball(), result.gaussians):
        buffer = gbuffer(create_rasterizer(), gaussians, capture.views.train.camera(0))  # type: ignore[union-attr]
        with torch.no_grad():
            pictures.append(displayed(buffer, shade(buffer.surface, sky().turned(2.0), SplitSum())))
    factor = (pictures[0] * pictures[1]).sum((0, 1)) / pictures[1].square().sum((0, 1))
    assert (pictures[1] * factor - pictures[0]).abs().mean() < 0.03
    assert capture.gaussians is not None and not capture.gaussians.channels, "the scene that went in is unchanged"


def test_frozen_means_frozen(capture, tmp_path):
    still = dict.fromkeys(("geometry_rate", "look_rate", "metallic_rate", "progress_rate", "light_rate"), 0.0)
    only = Specular(iterations=5, **still)
    result, _ = distilled(capture, tmp_path, specular=only, diffuse=Diffuse(iterations=0), joint=Joint(iterations=0))
    assert result.gaussians is not None and capture.gaussians is not None
    assert result.light is not None and result.light.main is not None
    for name in ("means", "quats_wxyz", "log_scales", "logit_opacity", "sh"):
        assert torch.equal(getattr(result.gaussians, name), getattr(capture.gaussians, name)), name
    assert torch.allclose(result.gaussians.channels["progress"], torch.tensor(0.01))
    assert (result.gaussians.channels["base_color"] != result.gaussians.channels["base_color"][0, 0]).any()
    assert torch.allclose(result.light.main.radiance, torch.tensor(1.0))


SHORT: dict[str, Any] = {
    "specular": Specular(iterations=4), "diffuse": Diffuse(iterations=8),
    "joint": Joint(iterations=4), "refine": Refine(iterations=6, samples=4), "light_size": 8, "shadows": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(capture, tmp_path_factory) -> Scene:
    return Distill(**SHORT).run(capture, MemoryJob(tmp_path_factory.mktemp("whole")))


@pytest.mark.parametrize("stop", [*(pytest.param(n, marks=pytest.mark.slow) for n in (2, 12)), 19])
def test_interrupted_and_continued_gives_the_same_bits(capture, uninterrupted, tmp_path, stop):
    whole, job = uninterrupted, MemoryJob(tmp_path, stop_at=stop)
    with pytest.raises(Interrupted):
        Distill(**SHORT).run(capture, job)
    again = Distill(**SHORT).run(capture, MemoryJob(tmp_path, restored=job.saved))
    assert whole.gaussians is not None and again.gaussians is not None
    assert whole.light is not None and again.light is not None and whole.light.main and again.light.main
    for name, tensor in whole.gaussians.tensors().items():
        assert torch.equal(tensor, again.gaussians.tensors()[name]), name
    assert torch.equal(whole.light.main.radiance, again.light.main.radiance)


@pytest.mark.parametrize("step", [10, 55])
def test_ended_early_it_gives_what_it_has(capture, tmp_path, step):
    longer = {**QUICK, "specular": Specular(iterations=50), "diffuse": Diffuse(iterations=500)}
    job = MemoryJob(tmp_path, enough_at=step)
    early = Distill(**longer).run(capture, job)
    assert job.reports[-1][0] == step
    assert early.light is not None and early.gaussians is not None
    assert early.gaussians.channels["roughness"].isfinite().all()


def other_sky() -> Environment:
    return sky().turned(2.2)


SEVERAL = Lighting({"a": sky(), "b": other_sky()})


@pytest.mark.parametrize(
    "lighting",
    [SEVERAL, Lighting({"lamp": sky()}, follows_camera=True), Lighting({}, follows_camera=True)],
    ids=["several lights", "turntable", "turntable, no light"],
)
def test_light_is_kept_in_the_scene_folder(capture, tmp_path, lighting):
    save_scene(replace(capture, light=lighting, views=None), tmp_path, key="k")
    found = load_scene(tmp_path).light
    assert found is not None and found.follows_camera == lighting.follows_camera
    assert list(found.maps) == list(lighting.maps)
    for name, light in lighting.maps.items():
        assert torch.equal(found.maps[name].radiance, light.radiance)
        assert torch.equal(found.maps[name].rotation, light.rotation)


def color_error(result: Scene, *, scaled: bool) -> float:
    """Mean error of base colour, after the factor a channel that photographs can't tell, if `scaled`."""
    assert result.gaussians is not None
    found, truth = result.gaussians.channels["base_color"], ball().channels["base_color"]
    scale = (truth * found).sum(0) / found.square().sum(0) if scaled else 1.0
    return float((found * scale - truth).abs().mean())


def test_a_light_that_is_given_stays_and_tells_the_scale_of_base_colour(capture, tmp_path):
    given = replace(capture, light=Lighting({"": sky()}, measured=True))
    result, _ = distilled(given, tmp_path)
    assert result.light is not None and result.light.main is not None
    assert torch.equal(result.light.main.radiance, sky().radiance)
    assert color_error(result, scaled=False) < 0.06


@pytest.mark.parametrize("shadows", [pytest.param(False, marks=pytest.mark.slow), True])
def test_photographs_under_several_lights_give_a_map_each(tmp_path, shadows):
    result, job = distilled(photographed(tmp_path, SEVERAL), tmp_path, shadows=shadows)
    assert result.light is not None and set(result.light.maps) == {"a", "b"}
    # The proxy of twelve small pictures is a rough one.
    assert color_error(result, scaled=True) < (0.09 if shadows else 0.06)
    for name, truth in SEVERAL.maps.items():
        d = truth.directions(torch.tensor([[0.3, 0.3], [0.8, 0.3]]))  # the bright side of sky(), and its opposite
        brighter = result.light.maps[name].eval(d).mean(-1)
        expected = truth.eval(d).mean(-1)
        assert (brighter[0] > brighter[1]) == (expected[0] > expected[1])
    assert result.gaussians is not None and (result.gaussians.channels["progress"] > 0.99).all()
    assert job.metrics["train_psnr"] > 24


@pytest.mark.parametrize("known", [pytest.param(True, marks=pytest.mark.slow), False])
def test_light_of_a_turntable_follows_the_camera(tmp_path, known):
    lighting = Lighting({"": sky()}, follows_camera=True)
    scene = photographed(tmp_path, lighting)
    scene = replace(scene, light=replace(lighting, measured=True) if known else Lighting(follows_camera=True))
    result, job = distilled(scene, tmp_path, shadows=not known)
    assert result.light is not None and result.light.follows_camera and result.light.main is not None
    assert color_error(result, scaled=not known) < 0.06
    bright = result.light.main.radiance.mean(-1)
    assert bright[1:4, 3:7].mean() > 1.5 * bright.mean()
    assert job.metrics["train_psnr"] > 24


def test_progress_decides_between_look_and_materials(capture):
    camera = capture.views.train.camera(0)  # type: ignore[union-attr]
    for progress in (0.0, 1.0):
        gaussians = ball()
        channels = {**gaussians.channels, "progress": torch.full((len(gaussians),), progress)}
        buffer = gbuffer(create_rasterizer(), replace(gaussians, channels=channels), camera)
        shaded = shade(buffer.surface, sky(), SplitSum())
        expected = displayed(buffer, shaded) if progress else buffer.splat.color
        inside = buffer.mask
        torch.testing.assert_close(blend(buffer, shaded)[inside], expected[inside], atol=1e-5, rtol=0)


def test_missing_rays_are_told_before_any_work(capture, tmp_path, monkeypatch):
    monkeypatch.setattr(tracing, "unavailable", lambda: "no rays today")
    job = MemoryJob(tmp_path)
    with pytest.raises(BackendUnavailableError, match=r"no rays today; or set distill\.shadows=false"):
        Distill().run(capture, job)
    assert not job.reports


def test_mistakes_are_named(capture, tmp_path):
    job = MemoryJob(tmp_path)
    with pytest.raises(MissingPartError, match="no splat"):
        Distill().run(replace(capture, gaussians=None), job)
    with pytest.raises(MissingPartError, match="no training views"):
        Distill().run(replace(capture, views=None), job)
    with pytest.raises(ValueError, match=r"metallic_start: expected 0\.001 to 0\.999"):
        Distill(metallic_start=2.0)
    with pytest.raises(ValueError, match="light_rate: expected 0 or more"):
        Phase(light_rate=-1.0)
