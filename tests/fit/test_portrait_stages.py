"""Stages `panorama` and `portrait`: what light photographs show, and people in another."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from head_picture import SIZE, pictured, shot
from torch import Tensor

from relight.diffusion.portrait.matting import NobodyError
from relight.diffusion.surroundings.framing import Frame
from relight.errors import MissingPartError, RelightError
from relight.export.images import write_exr, write_image
from relight.geometry.camera import Camera
from relight.geometry.transforms import look_at
from relight.images import read_image
from relight.scene import Frame as World
from relight.scene import Scene
from relight.shading.environment import Environment
from relight.shading.lighting import Lighting
from relight.stages.base import Interrupted
from relight.stages.panorama import Panorama, framed, merged
from relight.stages.portrait import Portrait
from relight.testing.job import MemoryJob
from relight.vectors import unit
from relight.views import View, Views


def camera(position: Tensor, target: Tensor, up: Tensor, size: tuple[int, int] = (48, 64), roll: float = 0.0) -> Camera:
    """A camera 70 degrees wide, turned about its axis."""
    height, width = size
    pose = look_at(position, target, up)
    c, s = math.cos(roll), math.sin(roll)
    pose[:3, :3] = pose[:3, :3] @ torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    focal = width / 2 / math.tan(math.radians(35))
    return Camera(pose, focal, focal, width / 2, height / 2, width, height)


UP = torch.tensor([0.0, 0.0, 1.0])


@pytest.mark.parametrize(("pitch", "roll"), [(0.0, 0.0), (0.4, 0.0), (-0.3, 0.5), (0.2, -1.0)])
def test_a_camera_looks_out_of_its_map_as_it_stands_in_the_world(pitch, roll):
    eye = torch.zeros(3)
    ahead = torch.tensor([math.cos(1.1) * math.cos(pitch), math.sin(1.1) * math.cos(pitch), math.sin(pitch)])
    taken = camera(eye, ahead, UP, roll=roll)
    frame, turn = framed(taken, Environment(torch.zeros(1, 2, 3)).upright((0.0, 0.0, 1.0)).rotation)
    torch.testing.assert_close(frame.env_from_camera[0], turn @ taken.world_from_camera[:3, :3], atol=1e-4, rtol=0)
    rays = frame.rays(48, 64)[0]
    torch.testing.assert_close(rays, taken.ray_directions() @ turn.mT, atol=1e-4, rtol=0)


class Dark:
    """Makes nothing up."""

    def estimate(self, photo: Tensor, frame: Frame, rows: int = 64) -> Tensor:
        from relight.diffusion.surroundings.panorama import laid

        return laid(photo, frame, rows)[0][0, ..., :3]


def world() -> Environment:
    """Red towards +x, green towards +y, +z up."""
    radiance = torch.full((32, 64, 3), 0.1)
    light = Environment(radiance).upright((0.0, 0.0, 1.0))
    from relight.diffusion.surroundings.framing import map_directions

    toward = map_directions(32) @ light.rotation
    radiance[..., 0] += 0.8 * toward[..., 0].clamp_min(0)
    radiance[..., 1] += 0.8 * toward[..., 1].clamp_min(0)
    return light


def taken(light: Environment, view: Camera) -> Tensor:
    """(H, W, 3) linear photograph of surroundings."""
    return light.eval(view.ray_directions())


def test_photographs_that_look_around_make_one_map():
    light = world()
    views = [camera(torch.zeros(3), torch.tensor([math.cos(a), math.sin(a), 0.1]), UP) for a in (0.0, 1.0, 2.0)]
    found = merged(Dark(), [(taken(light, v), v) for v in views], light.rotation, 32)
    for view in views:
        ray = view.ray_directions()[24, 32]
        torch.testing.assert_close(Environment(found, light.rotation).eval(ray), light.eval(ray), atol=0.05, rtol=0)
    # Behind them all nothing is known.
    assert float(Environment(found, light.rotation).eval(torch.tensor([0.0, -1.0, 0.0])).max()) < 0.1


def scene_of(folder: Path, pictures: list[Tensor], cameras: list[Camera]) -> Scene:
    views = []
    for k, (picture, one) in enumerate(zip(pictures, cameras, strict=True)):
        write_image(folder / f"{k}.png", picture)
        views.append(View(f"{k}.png", folder / f"{k}.png", one))
    return Scene(frame=World(up=(0.0, 0.0, 1.0)), views=Views(tuple(views)))


@pytest.fixture(scope="module")
def prior(tmp_path_factory) -> str:
    """A prior of panoramas without training."""
    from relight.diffusion.own.network import Config, Network
    from relight.diffusion.own.prior import Prior

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("prior") / "panorama.safetensors"
    config = Config("panorama", 6, 5, size=(32, 64), widths=(32, 32), detail=8, token=32, around=True)
    Prior(Network(config)).save(path)
    return str(path)


def test_panorama_gives_the_scene_its_light(tmp_path, prior):
    from relight.shading.color import linear_to_srgb

    light = world()
    cameras = [camera(torch.zeros(3), torch.tensor([math.cos(a), math.sin(a), 0.0]), UP) for a in (0.0, 1.5)]
    scene = scene_of(tmp_path, [linear_to_srgb(taken(light, c)) for c in cameras], cameras)
    found = Panorama(prior=prior, rows=32).run(scene, MemoryJob(tmp_path)).light
    assert found is not None and found.of_world is not None and not found.measured
    for ahead in (torch.tensor([1.0, 0.0, 0.0]), unit(torch.tensor([0.07, 1.0, 0.0]))):
        torch.testing.assert_close(found.of_world.eval(ahead), light.eval(ahead), atol=0.08, rtol=0)
    with pytest.raises(RelightError, match="leave this stage out"):
        Panorama(prior=prior).run(replace(scene, light=Lighting({"": light}, measured=True)), MemoryJob(tmp_path))
    with pytest.raises(MissingPartError, match="name a picture"):
        Panorama(prior=prior).run(replace(scene, views=None), MemoryJob(tmp_path))
    from_picture = Panorama(prior=prior, picture=str(tmp_path / "0.png"), fov=70).run(scene, MemoryJob(tmp_path)).light
    assert from_picture is not None and from_picture.main is not None and from_picture.main.radiance.shape[0] == 64


def test_cut_outs_show_no_surroundings(tmp_path, prior):
    cut = torch.zeros(48, 64, 4)
    cut[10:30, 10:30] = 1
    scene = scene_of(tmp_path, [cut], [camera(torch.zeros(3), torch.tensor([1.0, 0, 0]), UP)])
    with pytest.raises(RelightError, match="have no background"):
        Panorama(prior=prior).run(scene, MemoryJob(tmp_path))


def people(folder: Path) -> Scene:
    """Two photographs of a head, of cameras that look along -z, and one of a wall."""
    one = shot().geometry.camera
    wall = torch.full((SIZE, SIZE, 3), 0.6)
    return replace(scene_of(folder, [pictured(), pictured(), wall], [one] * 3), frame=World(up=(0.0, 1.0, 0.0)))


def test_portraits_are_saved_beside_the_scene_and_resume(tmp_path):
    scene = people(tmp_path)
    light = torch.full((8, 16, 3), 0.02)
    write_exr(tmp_path / "even.exr", {"RGB": light})
    # Light from the world's +x, which is the right of these cameras.
    light[3:5, 7:9] = 20.0
    lit = replace(scene, light=Lighting.everywhere(Environment(light)))
    options, work = Portrait(count=0, cut_out=True), tmp_path / "work"
    job = MemoryJob(work, stop_at=1)
    with pytest.raises(Interrupted):
        options.run(lit, job)
    assert sorted(p.name for p in (work / "portraits").iterdir()) == ["0.png"]
    after = MemoryJob(work, restored=job.saved)
    assert options.run(lit, after) is lit
    assert sorted(p.name for p in (work / "portraits").iterdir()) == ["0.png", "1.png"]
    assert after.reports[-1] == (3, 3, {"relit": 2.0, "faces": 2.0})
    made = read_image(work / "portraits" / "1.png")
    face = made.rgb[45:100, 50:110].mean(-1)
    assert made.alpha is not None and float(face[:, 30:].mean()) > 1.2 * float(face[:, :30].mean())


def test_portrait_says_what_it_lacks(tmp_path):
    scene = people(tmp_path)
    with pytest.raises(MissingPartError, match="put panorama before it"):
        Portrait().run(scene, MemoryJob(tmp_path))
    with pytest.raises(NobodyError, match="nobody was found"):
        Portrait(text="direction=left", views="2.png").run(scene, MemoryJob(tmp_path))
    with pytest.raises(RelightError, match=r"no photograph is named '9\.png'"):
        Portrait(text="direction=left", views="9.png").run(scene, MemoryJob(tmp_path))
    with pytest.raises(ValueError, match="both say what the light is"):
        Portrait(text="direction=left", env="a.hdr")
    with pytest.raises(ValueError, match="unknown word"):
        Portrait(text="purplish")
