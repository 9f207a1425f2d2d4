"""Kinds of material are told from photographs of balls: metal from dielectric, rough from smooth."""

from __future__ import annotations

import pytest
import torch
from lit_ball import photographs, places_of_ball, sky
from meshed_ball import ball_splat

from relight.fit.judge import POSSIBLE, TURNED, Trials, Verdict, judge, repainted, roughness_of
from relight.fit.lighting import FittedLighting
from relight.fit.places import FEWEST, LEVELS
from relight.shading.lighting import Lighting
from relight.views import Views


def sightings(views: Views):
    """Of the places of the splat, in the light that is known."""
    known = Lighting({"": sky()}, measured=True)
    light = FittedLighting(views, known, size=8, brightness=1.0, device=torch.device("cpu"))
    return places_of_ball().in_views(views, light)


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


def test_kinds_that_are_not_told_stay_and_the_others_can_still_change():
    nothing = float("nan")
    verdict = Verdict(torch.tensor([0.0, nothing, 1.0]), torch.tensor([0.4, 0.5, nothing]), torch.empty(0, 3), 1.0)
    metallic, roughness = verdict.kinds(torch.tensor([0.5, 0.6, 0.7]), 0.2)
    torch.testing.assert_close(metallic, torch.tensor([POSSIBLE[0], 0.6, POSSIBLE[1]]))
    torch.testing.assert_close(roughness, torch.tensor([0.4, 0.5, 0.2]))


def test_what_turned_to_metal_gets_the_base_color_that_was_found_for_it():
    color, found = torch.full((3, 3), 0.2), torch.full((3, 3), 0.8)
    found[2] = float("nan")
    before = torch.full((3,), 0.1)
    after = before + torch.tensor([TURNED - 0.01, TURNED + 0.01, TURNED + 0.01])
    assert repainted(color, found, before, after)[:, 0].tolist() == pytest.approx([0.2, 0.8, 0.2])
