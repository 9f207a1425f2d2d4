"""Measuring light: what is planted has to be found."""

from __future__ import annotations

import math

import pytest
import torch

from relight.diffusion.light_words import LightDescription
from relight.diffusion.pictures.geometry import flow, looked_up
from relight.diffusion.pictures.lumos.light_fit import light_of
from relight.diffusion.pictures.lumos.scores import (
    SIDES,
    Plan,
    Truth,
    angle,
    attributes,
    brightness,
    likeness,
    lit_by,
    measured,
    normals_error,
    temporal,
)
from relight.diffusion.pictures.lumos.shots import Shot, Stage
from relight.diffusion.pictures.relighters import Unchanged
from relight.diffusion.video.motion import ExactMotion
from relight.diffusion.video.scores import unsteadiness

SIZE = 56


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage.of(2, SIZE)


@pytest.fixture(scope="module")
def shot(stage) -> Shot:
    return stage.shot()


def drawn(words: str, shot: Shot, exposure: float = 0.6) -> tuple[LightDescription, torch.Tensor]:
    said = LightDescription.parse(words)
    return said, shot.drawn(lit_by(said, shot, exposure).lights, exposure)


@pytest.mark.parametrize("words", ["direction=-50,30 soft", "direction=60,20 medium warm", "direction=10,55 hard cool"])
def test_light_that_is_there_is_found(shot, words):
    said, picture = drawn(words, shot)
    found = light_of(picture, shot, 0.6)
    assert said.direction is not None
    assert angle(found.direction, said.direction) < 8
    assert found.source == "far"
    assert abs(1e6 / found.temperature - 1e6 / said.temperature) < 25
    assert found.intensity == pytest.approx(said.intensity, rel=0.3)


def test_light_from_all_around_has_no_direction(shot):
    _, picture = drawn("overcast", shot)
    assert light_of(picture, shot, 0.6).source == "sky"


def test_light_that_is_30_degrees_off_is_30_degrees_off(shot):
    said, truth = drawn("direction=-20,30 soft", shot)
    _, wrong = drawn("direction=14.9,29 soft", shot)
    right = attributes(truth, truth, shot, 0.6, said)
    off = attributes(wrong, truth, shot, 0.6, said)
    assert right["direction, degrees"] < 6
    assert off["direction, degrees"] == pytest.approx(30, abs=6)
    assert right["intensity, stops"] == right["hardness, error"] == 0
    assert all(value == 1 for name, value in right.items() if name.endswith("class"))


def test_planted_intensity_temperature_and_width(shot):
    said, truth = drawn("direction=-30,30 hardness=0.2", shot)
    _, dim = drawn("direction=-30,30 hardness=0.2 intensity=0.5", shot)
    _, warm = drawn("direction=-30,30 hardness=0.2 temperature=3200", shot)
    _, hard = drawn("direction=-30,30 hardness=0.9", shot)
    assert attributes(dim, truth, shot, 0.6, said)["intensity, stops"] == pytest.approx(1, abs=0.15)
    found = attributes(warm, truth, shot, 0.6, said)
    assert found["temperature, mireds"] == pytest.approx(1e6 / 3200 - 1e6 / 6500, abs=25)
    assert found["temperature class"] == 0
    assert attributes(hard, truth, shot, 0.6, said)["hardness, error"] > 0.3


def test_clips_are_told_apart(shot):
    def course(variation: str) -> str:
        said = LightDescription.parse(f"direction=-40,25 hardness=0.4 variation={variation}")
        pictures = [shot.drawn(lit_by(said.at(t), shot, 0.5).lights, 0.5) for t in (0.0, 0.5, 1.0)]
        return temporal([light_of(p, shot, 0.5) for p in pictures], [shot] * 3)

    assert [course(v) for v in ("static", "flickering", "moving")] == ["static", "changing", "moving"]


def test_flow_is_exact(stage):
    one, two = stage.shot(), stage.shot(0.05)
    place, both = flow(one.geometry, two.geometry)
    assert float(both.float().sum() / one.geometry.mask.float().sum()) > 0.6
    found = looked_up(torch.where(two.geometry.mask[..., None], two.geometry.position, 0.0), place)
    off = (found - one.geometry.position)[both].norm(dim=1)
    assert float(off.median()) < 0.01


def test_warp_and_flicker_notice_what_jumps(stage):
    shots = [stage.shot(0.04 * i) for i in range(4)]
    said = LightDescription.parse("left soft")
    steady = [s.drawn(said.lights(s.geometry.world_from_viewer, s.geometry.middle, 1.0), 0.5) for s in shots]
    jumpy = [p * (1.0 if i % 2 else 0.8) for i, p in enumerate(steady)]
    motion = ExactMotion([s.geometry for s in shots], tolerance=0.01)
    calm, wild = unsteadiness(steady, motion), unsteadiness(jumpy, motion)
    assert wild["warp"] > 1.5 * calm["warp"] and wild["flicker"] > 2 * calm["flicker"]
    assert brightness(steady, steady, shots)["flicker of the mean, %"] == 0
    assert brightness(jumpy, steady, shots)["flicker of the mean, %"] > 10


def test_normals_come_back_from_true_pictures_only(shot):
    made, flat = [], []
    for x, y in SIDES:
        said = LightDescription(direction=(x, y, math.sqrt(1 - x * x - y * y)), hardness=0.15)
        picture = shot.drawn(lit_by(said, shot, 0.4).lights, 0.4)
        made.append((said, picture))
        flat.append((said, made[0][1]))
    assert normals_error(made, shot) < 15
    assert normals_error(flat, shot) > 1.5 * normals_error(made, shot)


def test_likeness_of_equals_and_others(shot):
    _, picture = drawn("left", shot)
    same, other = (likeness(p, picture, shot.geometry.mask) for p in (picture, picture * 0.5))
    assert same["SSIM"] == pytest.approx(1, abs=1e-5) and same["fMSE"] == 0
    assert other["PSNR, dB"] < same["PSNR, dB"]


@pytest.mark.slow
def test_truth_is_perfect_and_doing_nothing_is_not():
    plan = Plan(scenes=1, clips=1, size=40, frames=3, seed=2)
    truth = measured(Truth, plan)
    assert truth["score"] == 1.0, truth
    nothing = measured(lambda shot: Unchanged(), plan)
    assert nothing["score"] < 0.9
    assert nothing["stills"]["PSNR, dB"] < truth["stills"]["PSNR, dB"] - 20
