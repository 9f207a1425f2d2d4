"""Lights of a panorama: found where they are, edits do what they say, and what isn't edited stays."""

from __future__ import annotations

import math

import pytest
import torch

from relight.diffusion.surroundings.framing import map_directions
from relight.diffusion.surroundings.light_edit import (
    EditableLights,
    LightEdit,
    drawn,
    filled,
    find_lights,
    solid_angles,
)
from relight.diffusion.surroundings.sphere_metrics import peak
from relight.errors import RelightError, ShapeError
from relight.shading.color import luminance
from relight.shading.environment import Environment

ROWS = 64


def direction(right: float, up: float) -> torch.Tensor:
    a, b = math.radians(right), math.radians(up)
    return torch.tensor([math.cos(b) * math.cos(a), math.sin(b), math.cos(b) * math.sin(a)])


def between(a: torch.Tensor, b: torch.Tensor) -> float:
    return math.degrees(math.acos(max(-1.0, min(1.0, float(a @ b)))))


def room(*lights: tuple[float, float, float, float]) -> torch.Tensor:
    """A room with a gradient and lights: right, up, sharpness, irradiance."""
    d = map_directions(ROWS)
    out = 0.3 + 0.1 * d[..., 1:2] + 0.05 * d[..., :1].expand(-1, -1, 3)
    for right, up, sharpness, irradiance in lights:
        out = out + drawn(direction(right, up), sharpness, irradiance * torch.tensor([1.0, 0.8, 0.6]), ROWS)
    return out


@pytest.fixture(scope="module")
def two() -> EditableLights:
    return find_lights(room((40, 30, 150, 5.0), (-170, 10, 300, 2.0)))


def test_lights_are_found_with_their_power_and_width(two):
    assert len(two) == 2
    for (right, up), (wanted_right, wanted_up) in zip(two.angles, ((40, 30), (-170, 10)), strict=True):
        assert between(direction(right, up), direction(wanted_right, wanted_up)) < 1.5
    assert torch.allclose(two.irradiance[:, 0], torch.tensor([5.0, 2.0]), rtol=0.15)
    assert torch.allclose(two.irradiance[:, 2] / two.irradiance[:, 0], torch.tensor(0.6), rtol=0.05)
    for width, sharpness in zip(two.widths, (150, 300), strict=True):
        assert width == pytest.approx(2 * math.degrees(math.acos(1 - math.log(2) / sharpness)), rel=0.25)


def test_a_light_across_the_seam_is_one():
    assert len(find_lights(room((180, 20, 100, 4.0)))) == 1


def test_no_edit_changes_nothing_and_removed_lights_leave_their_surroundings(two):
    assert torch.equal(two.edited([]), two.radiance)
    dark = two.edited([LightEdit(0, remove=True), LightEdit(1, remove=True)])
    assert float((dark - room()).abs().max()) < 0.12
    # Pixels of the other light are the same to the bit.
    one = two.edited([LightEdit(0, remove=True)])
    assert torch.equal(one[two.owner == 1], two.radiance[two.owner == 1])


@pytest.mark.parametrize(("right", "up"), [(30.0, 0.0), (-30.0, 0.0), (0.0, 30.0), (120.0, -20.0)])
def test_a_light_moves_by_what_is_said_and_shading_follows(two, right, up):
    before, after = two.radiance, two.edited([LightEdit(0, right=right, up=up)])
    goal = direction(40 + right, 30 + up)
    assert between(peak(after), goal) < 3
    # The surface that is lit most turns with it.
    normals = map_directions(24).reshape(-1, 3)
    assert torch.allclose(power(after - two.background), power(before - two.background), rtol=0.03)
    alone = [two.edited([LightEdit(1, remove=True)]), two.edited([LightEdit(1, remove=True), LightEdit(0, right, up)])]
    lit = [luminance(Environment((x - two.background).clamp_min(0)).irradiance(normals)) for x in alone]
    assert between(normals[lit[0].argmax()], direction(40, 30)) < 6
    assert between(normals[lit[1].argmax()], goal) < 6


def power(picture: torch.Tensor) -> torch.Tensor:
    return (picture * solid_angles(ROWS)[..., None]).sum((0, 1))


def test_intensity_colour_and_size_are_what_they_are_said_to_be(two):
    rest = power(two.edited([LightEdit(0, remove=True)]))
    plain = power(two.radiance) - rest
    assert torch.allclose(power(two.edited([LightEdit(0, intensity=3.0)])) - rest, 3 * plain, rtol=0.02)
    blue = power(two.edited([LightEdit(0, color=(0.1, 0.2, 1.0))])) - rest
    assert float(luminance(blue)) == pytest.approx(float(luminance(plain)), rel=0.02)
    assert float(blue[2] / blue[0]) == pytest.approx(10, rel=0.02)
    assert torch.allclose(power(two.edited([LightEdit(0, size=2.0)])) - rest, plain, rtol=0.02)
    wide = two.edited([LightEdit(0, size=2.0), LightEdit(1, remove=True)])
    high = [(x - two.background).clamp_min(0)[..., 0] for x in (two.edited([LightEdit(1, remove=True)]), wide)]
    assert float(high[0].max() / high[1].max()) == pytest.approx(4, rel=0.2)


def test_edits_add_up_and_new_lights_are_as_they_are_asked_for(two):
    once = two.edited([LightEdit(0, right=20, intensity=2), LightEdit(0, right=10, intensity=0.5)])
    assert torch.allclose(once, two.edited([LightEdit(0, right=30)]), atol=1e-4)
    more = two.edited([LightEdit(None, right=-60, up=50, intensity=4.0, size=10, color=(1.0, 0.5, 0.5))]) - two.radiance
    assert between(peak(more), direction(-60, 50)) < 1
    assert float(luminance(power(more))) == pytest.approx(4, rel=0.01)
    half = more[..., 0] > 0.5 * more[..., 0].max()
    assert float((half * solid_angles(ROWS)).sum()) == pytest.approx(
        2 * math.pi * (1 - math.cos(math.radians(5))), rel=0.2
    )


def test_small_lights_keep_their_power_on_coarse_maps():
    for rows in (16, 64):
        lamp = drawn(direction(33, 44), 1e6, torch.tensor([2.0, 1.0, 0.5]), rows)
        assert torch.allclose(
            (lamp * solid_angles(rows)[..., None]).sum((0, 1)), torch.tensor([2.0, 1.0, 0.5]), rtol=1e-4
        )


def test_what_is_drawn_in_is_smooth_and_goes_around():
    d = map_directions(32)
    picture = 1 + 0.5 * d
    known = torch.ones(32, 64, dtype=torch.bool)
    known[10:18, :5] = False
    known[10:18, -5:] = False
    found = filled(picture, known)
    assert torch.equal(found[known], picture[known])
    assert float((found - picture).abs().max()) < 0.12


def test_even_light_has_no_lights_and_mistakes_are_told(two):
    none = find_lights(torch.full((32, 64, 3), 0.5))
    assert len(none) == 0 and none.angles == [] and torch.equal(none.edited([]), none.radiance)
    assert len(none.edited([LightEdit(None, 0, 30, 1.0, 10)])) == 32
    for edit, message in (
        (LightEdit(2), "there are 2"),
        (LightEdit(0, size=0), "size above 0"),
        (LightEdit(0, intensity=math.nan), "intensity of at least 0"),
        (LightEdit(0, color=(0.0, 0.0, 0.0)), "colour"),
        (LightEdit(None, remove=True), "which one"),
        (LightEdit(0, up=math.inf), "degrees"),
    ):
        with pytest.raises(RelightError, match=message):
            two.edited([edit])
    with pytest.raises(RelightError, match="none was found"):
        none.edited([LightEdit(0)])
    with pytest.raises(ShapeError):
        find_lights(torch.zeros(3, 4, 3))
    with pytest.raises(RelightError, match="finite"):
        find_lights(torch.full((8, 16, 3), math.nan))
