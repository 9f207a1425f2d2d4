"""Scores of light on three spheres: exact cases, invariances, and planted faults."""

from __future__ import annotations

import math

import pytest
import torch

from relight.diffusion.own.procedural.environments import environment
from relight.diffusion.surroundings.framing import Frame, map_directions, photographed
from relight.diffusion.surroundings.light_edit import drawn
from relight.diffusion.surroundings.sphere_metrics import (
    SPHERES,
    ConstantMean,
    MirroredCrop,
    peak,
    sphere_scores,
    spheres,
)


@pytest.fixture(scope="module")
def light() -> torch.Tensor:
    return environment(torch.Generator().manual_seed(2), rows=64, kind="room")


def test_a_truth_scores_nothing_and_scale_is_forgiven_where_it_says_so(light):
    same, brighter = sphere_scores(light, light), sphere_scores(light * 1.3, light)
    for name in SPHERES:
        assert max(same[name].values()) < 1e-4 or same[name]["angular"] < 0.05
        assert brighter[name]["rmse"] > 0.03
        assert brighter[name]["si_rmse"] < 0.6 * brighter[name]["rmse"]
        assert brighter[name]["angular"] < 0.05
    assert same["peak"]["degrees"] < 0.1


def test_spheres_under_even_light_are_even():
    for name, picture in spheres(torch.full((32, 64, 3), 2.0), 16).items():
        assert torch.allclose(picture, torch.tensor(2.0), rtol=0.01), name


def test_the_mirror_shows_what_is_behind_the_camera_in_its_middle_and_left_at_the_left():
    d = map_directions(64)
    # +x is ahead, +z to the right, +y up.
    red, green, blue = (-d[..., 0]).clamp_min(0), d[..., 1].clamp_min(0), d[..., 2].clamp_min(0)
    size = 33
    picture = spheres(torch.stack([red, green, blue], -1), size)["mirror"]
    x, y = torch.meshgrid(*[(torch.arange(size) + 0.5) * (2 / size) - 1] * 2, indexing="xy")
    inside = x * x + y * y < 1
    x, y = x[inside], y[inside]
    middle = x**2 + y**2 < 0.02
    assert float(picture[middle][:, 0].min()) > 0.9
    at_right, on_top = (x - 0.707) ** 2 + y**2 < 0.01, x**2 + (y + 0.707) ** 2 < 0.01
    assert float(picture[at_right][:, 2].min()) > 0.8 and float(picture[on_top][:, 1].min()) > 0.8


def test_wrong_colours_turns_and_lights_cost_what_they_should(light):
    tinted = sphere_scores(light * torch.tensor([1.0, 0.8, 0.6]), light)
    grey = torch.ones(3)
    wanted = math.degrees(math.acos(float(grey @ torch.tensor([1.0, 0.8, 0.6]) / (math.sqrt(3) * math.sqrt(2.0)))))
    assert tinted["diffuse"]["angular"] == pytest.approx(wanted, rel=0.15)
    turned = sphere_scores(light.roll(64, 1), light)
    assert all(turned[name]["si_rmse"] > 0.02 for name in SPHERES)
    lamp = light + drawn(torch.tensor([0.0, 1.0, 0.0]), 200, torch.full((3,), 5 * float(light.mean())), 64)
    assert sphere_scores(lamp, light)["diffuse"]["si_rmse"] > 0.02


@pytest.mark.parametrize(("right", "up"), [(0, 0), (179, -10), (-100, 40), (20, 88)])
def test_peaks_are_where_light_is(right, up):
    a, b = math.radians(right), math.radians(up)
    axis = torch.tensor([math.cos(b) * math.cos(a), math.sin(b), math.cos(b) * math.sin(a)])
    found = peak(0.5 + drawn(axis, 300, torch.ones(3), 64))
    assert math.degrees(math.acos(min(1.0, float(found @ axis)))) < 1.5


def test_baselines_show_the_photograph_and_its_mean(light):
    frame = Frame.of(70, 1.2, pitch=10)
    photo = photographed(light, frame, 50, 60)[0].clamp(0, 1)
    mean = ConstantMean().estimate(photo, frame, 32)
    assert torch.allclose(mean, photo.mean((0, 1)).expand_as(mean))
    folded = MirroredCrop().estimate(photo, frame, 32)
    again = photographed(folded, frame, 50, 60)[0]
    assert float((again - photo).abs().mean()) < 0.05
    # Nothing but what is in the photograph.
    assert float(folded.max()) <= float(photo.max()) + 1e-5 and float(folded.min()) >= float(photo.min()) - 1e-5
    # One width of the view to the right it is mirrored: across that edge nothing jumps.
    row = folded[14]
    assert float((row[1:] - row[:-1]).abs().max()) <= float(photo.max() - photo.min()) + 1e-5
