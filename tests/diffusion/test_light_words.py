"""Six attributes of light."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from relight.diffusion.light_words import (
    FILL,
    LEVELS,
    SOURCES,
    TURN,
    VARIATIONS,
    LightDescription,
    LightWordsError,
)
from relight.diffusion.pictures.hints import matte
from relight.shading.lights import Point, Sun
from relight.shading.surface import Surface


def test_a_sentence():
    said = LightDescription.parse("Soft warm light from the left, dim, flickering lamp")
    assert said == LightDescription((-1.0, 0.0, 0.0), 0.35, 0.15, 3200.0, "flickering", "lamp")


def test_pairs_and_words_together():
    said = LightDescription.parse("direction=90,30 hardness=0.9 source=sun cool")
    assert said.direction == pytest.approx((math.cos(math.pi / 6), 0.5, 0.0), abs=1e-6)
    assert (said.hardness, said.temperature, said.source) == (0.9, 9000.0, "sun")


def test_what_is_not_said_is_as_the_source_has_it():
    assert LightDescription.parse("candle").temperature == 1900
    assert LightDescription.parse("candle, neutral").temperature == 6500
    assert LightDescription.parse("overcast").direction is None
    assert LightDescription.parse("3200 K from above and behind").direction == pytest.approx((0, 0.5**0.5, -(0.5**0.5)))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("soft purplish light", "unknown word 'purplish'"),
        ("softt", "did you mean 'soft'"),
        ("soft and hard", "contradicts"),
        ("left and right", "cancel each other out"),
        ("temperature=10", "out of range; expected 1500"),
        ("hue=3", "unknown attribute"),
        ("intensity=lots", "expected a number or one of dim, moderate, bright"),
        ("source=laser", "there are: sun, moon"),
        ("direction=up-left", "direction 'up'"),
        ("the light", "says nothing about light"),
    ],
)
def test_mistakes_are_explained(text, complaint):
    with pytest.raises(LightWordsError, match=complaint):
        LightDescription.parse(text)


def test_unknown_words_list_what_is_known():
    with pytest.raises(LightWordsError) as error:
        LightDescription.parse("nonsense")
    assert all(
        word in str(error.value) for word in ("direction", "moderate", "medium", "candlelit", *VARIATIONS, *SOURCES)
    )


def test_words_mean_what_was_said():
    directions = ("left", "front-right", "top", "back", "bottom-left", "ambient")
    for direction, (h, t), variation, source in product(
        directions, zip(LEVELS["hardness"], LEVELS["temperature"], strict=False), VARIATIONS, ("sun", "lamp")
    ):
        said = LightDescription.parse(
            f"direction={direction} hardness={h} temperature={t} intensity=dim variation={variation} source={source}"
        )
        again = LightDescription.parse(said.words())
        assert again.classes() == said.classes(), said.words()
        if said.direction is not None:
            assert again.direction == pytest.approx(said.direction, abs=1e-6)


def point(normal: torch.Tensor) -> Surface:
    one = torch.ones(1)
    return Surface(torch.zeros(1, 3), normal[None], normal[None], torch.ones(1, 3), one, 0 * one)


@pytest.mark.parametrize(
    "words", ["soft left", "hard top left sun", "medium warm right", "lamp left", "hard lamp front dim"]
)
def test_it_shines_as_said(words):
    said = LightDescription.parse(words)
    lights = said.lights(torch.eye(3), torch.zeros(3), 0.5)
    assert said.direction is not None
    shown = matte(point(torch.tensor(said.direction)), lights)[0]
    expected = said.color * said.intensity * (1 + FILL)
    # A wide bulb's rim is seen at a slant.
    assert torch.allclose(shown, expected, rtol=0.06 if said.hardness > 0.3 else 0.25), (shown, expected)
    behind = matte(point(-torch.tensor(said.direction)), lights)[0]
    assert float(behind.mean()) < 0.3 * float(shown.mean())


def test_kinds_of_light():
    def kinds(words: str) -> list[type]:
        return [type(x) for x in LightDescription.parse(words).lights(torch.eye(3), torch.zeros(3), 1.0)]

    assert kinds("hard sun left")[0] is Sun
    assert kinds("hard lamp left")[0] is Point and len(kinds("soft lamp left")) > 5
    assert len(kinds("overcast")) == 1


def test_time():
    flicker = LightDescription.parse("flickering lamp left")
    levels = [flicker.at(t / 10).intensity for t in range(20)]
    assert max(levels) > 1.3 * min(levels) and flicker.at(0.3) == flicker.at(0.3)
    moving = LightDescription.parse("moving sun left")
    one, two = moving.at(0).direction, moving.at(0.5).direction
    assert one is not None and two is not None
    turned = math.degrees(math.acos(sum(a * b for a, b in zip(one, two, strict=True))))
    assert turned == pytest.approx(TURN / 2, abs=1e-3)
    assert moving.at(0.5).variation == "static"


def test_colour_of_white_and_order_of_hardness():
    assert torch.allclose(LightDescription().color, torch.ones(3), atol=1e-5)
    warm = LightDescription.parse("warm").color
    assert warm[0] > warm[1] > warm[2]
    radii = [LightDescription(hardness=h).angular_radius for h in (0.0, 0.5, 1.0)]
    assert radii == pytest.approx([math.radians(45), math.radians(4.5), math.radians(0.45)])
