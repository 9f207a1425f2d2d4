"""Kinds of material are told from photographs of balls: metal from dielectric, rough from smooth."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from meshed_ball import ball_mesh, ball_splat

from relight.export.images import write_image
from relight.fit.judge import Trials, judge, roughness_of
from relight.fit.lighting import FittedLighting
from relight.fit.places import FEWEST, LEVELS, Places
from relight.fit.textures import glowing
from relight.geometry.camera import Camera
from relight.geometry.transforms import look_at
from relight.render.deferred import displayed, gbuffer
from relight.render.proxy import Proxy
from relight.render.splats import create_rasterizer, render
from relight.render.transfer import bake
from relight.shading.environment import Environment
from relight.shading.lighting import Lighting
from relight.shading.shade import SplitSum, shade
from relight.vectors import unit
from relight.views import View, Views

SIZE = 48


def sky() -> Environment:
    """Bright spots of two sizes in the dark, so that how sharp they are mirrored tells."""
    light = torch.full((32, 64, 3), 0.25)
    light[6:10, 10:16], light[12:14, 40:42], light[20:24, 50:60] = 6.0, 20.0, 3.0
    return Environment(light)


def photographs(folder: Path, metallic: torch.Tensor, roughness: torch.Tensor, count: int) -> Views:
    """Of `ball_splat` with these materials."""
    splat, views = ball_splat(), []
    splat.channels["metallic"][:], splat.channels["roughness"][:] = metallic, roughness
    for i in range(count):
        angle = torch.tensor(2.4 * i)
        eye = torch.stack([3 * angle.cos(), torch.tensor(1.8 * ((i * 0.618) % 1) - 0.9), 3 * angle.sin()])
        pose = look_at(eye, torch.zeros(3), torch.tensor([0.0, 1.0, 0.0]))
        camera = Camera(pose, 60.0, 60.0, SIZE / 2, SIZE / 2, SIZE, SIZE)
        with torch.no_grad():
            buffer = gbuffer(create_rasterizer(), splat, camera)
            picture = displayed(buffer, shade(buffer.surface, sky(), SplitSum()))
        alpha = buffer.splat.alpha[..., None]
        write_image(folder / f"{i}.png", torch.cat([picture / alpha.clamp_min(1e-4), alpha], -1).clamp(0, 1))
        views.append(View(f"{i}", folder / f"{i}.png", camera, "train"))
    return Views(tuple(views))


def sightings(views: Views):
    """Of the places of the splat, in the light that is known."""
    splat, rasterizer = ball_splat(), create_rasterizer()
    mesh = ball_mesh()
    proxy = Proxy(glowing(mesh, torch.full_like(mesh.vertices, 0.2)))
    normals = unit(splat.means)
    points = splat.means + proxy.lift * normals
    places = Places(
        points, normals, proxy, bake(proxy, points, normals, torch.eye(3)),
        lambda camera: render(rasterizer, splat, camera).median_depth,
    )  # fmt: skip
    known = Lighting({"": sky()}, measured=True)
    return places.in_views(views, FittedLighting(views, known, size=8, brightness=1.0, device=torch.device("cpu")))


@pytest.mark.parametrize(("metallic", "roughness"), [(0.0, 0.3), (0.0, 0.6), (1.0, 0.3), (1.0, 0.6)])
def test_what_a_ball_is_made_of(tmp_path, metallic, roughness):
    splat = ball_splat()
    red = (splat.means[:, 0] > 0).float()
    shares = torch.stack([red, 1 - red], 1)
    # The other half is rough and no metal in all cases.
    views = photographs(tmp_path, metallic * red, roughness * red + 0.7 * (1 - red), 24)
    verdict = judge(Trials.of(sightings(views)), shares)
    assert abs(float(verdict.metallic[0]) - metallic) < 0.15 and verdict.metallic[1] < 0.15
    assert abs(float(verdict.roughness[0]) - roughness) < 0.2  # pixels are as wide as the highlight
    inside = splat.means[:, 0].abs() > 0.3
    found, truth = verdict.base_color[inside], splat.channels["base_color"][inside]
    assert (found - truth).abs().nanmean() < 0.06


def test_too_few_photographs_tell_nothing(tmp_path):
    shares = torch.ones(1200, 1)
    views = photographs(tmp_path, torch.zeros(1200), torch.full((1200,), 0.5), FEWEST - 1)
    verdict = judge(Trials.of(sightings(views)), shares)
    assert verdict.metallic.isnan().all() and verdict.roughness.isnan().all() and verdict.base_color.isnan().all()


def test_roughness_is_found_between_levels_and_at_both_ends():
    levels = torch.tensor(LEVELS)
    for wanted in (0.05, 0.1, 0.27, 0.5, 0.8, 1.0):
        found = roughness_of((levels - wanted)[:, None].square())
        assert abs(float(found) - max(wanted, LEVELS[0])) < 0.04
