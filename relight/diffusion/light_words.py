"""Light in six attributes, as UniLumos (arXiv 2511.01678) describes it: from words, to words, and to a light that
`relight.shading` shines.

    LightDescription.parse("soft warm light from the left, dim, flickering lamp")
    LightDescription.parse("direction=-60,20 hardness=0.9 temperature=5600 source=sun")
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from relight.errors import RelightError
from relight.plugins import did_you_mean
from relight.shading.color import blackbody
from relight.shading.lights import Light, Point, Sun
from relight.shading.spherical_gaussians import SphericalGaussians
from relight.shading.surface import frame

DIRECTIONS: Mapping[str, tuple[float, float, float]] = MappingProxyType({
    "front": (0, 0, 1), "back": (0, 0, -1), "left": (-1, 0, 0), "right": (1, 0, 0), "top": (0, 1, 0),
    "bottom": (0, -1, 0),
})  # fmt: skip
"""A viewer's axes: +x right, +y up, +z towards the viewer.  Those named together are added."""
LEVELS: Mapping[str, Mapping[str, float]] = MappingProxyType({
    "intensity": {"dim": 0.35, "moderate": 1.0, "bright": 2.5},
    "hardness": {"soft": 0.15, "medium": 0.5, "hard": 0.9},
    "temperature": {"candlelit": 1900.0, "warm": 3200.0, "neutral": 6500.0, "cool": 9000.0},
})  # fmt: skip
"""What words say in numbers.  Of temperature 6500 K is white, as in a white-balanced photograph."""
RANGES = {"intensity": (0.01, 100.0), "hardness": (0.0, 1.0), "temperature": (1500.0, 20000.0)}
VARIATIONS = ("static", "flickering", "pulsing", "moving")
"""The last turns about the vertical, the two before it change in intensity."""
TEMPORAL = {"static": "static", "flickering": "changing", "pulsing": "changing", "moving": "moving"}
"""A variation to its class."""
SOURCES: Mapping[str, Mapping[str, Any]] = MappingProxyType({
    "sun": {"hardness": 0.95, "temperature": 5600.0},
    "moon": {"hardness": 0.95, "temperature": 9000.0, "intensity": 0.35},
    "sky": {"direction": None, "temperature": 8000.0},
    "window": {"hardness": 0.25, "temperature": 6500.0},
    "softbox": {"hardness": 0.15, "temperature": 6500.0},
    "lamp": {"temperature": 3000.0},
    "candle": {"temperature": 1900.0, "intensity": 0.35},
    "flash": {"direction": (0.0, 0.0, 1.0), "temperature": 5600.0, "intensity": 2.5},
})  # fmt: skip
"""Kinds of source to what they are like where nothing else is said."""
NEAR = ("lamp", "candle", "flash")
"""Sources that are small and close; the others are far away."""
SYNONYMS: Mapping[str, str] = MappingProxyType({
    "behind": "back", "backlit": "back", "backlight": "back", "rim": "back", "above": "top", "overhead": "top",
    "below": "bottom", "underneath": "bottom", "under": "bottom", "side": "left", "split": "left", "frontal": "front",
    "low": "dim", "faint": "dim", "weak": "dim", "strong": "bright", "glaring": "bright", "intense": "bright",
    "normal": "moderate", "diffuse": "soft", "sharp": "hard", "harsh": "hard", "crisp": "hard",
    "golden": "warm", "orange": "warm", "cold": "cool", "blue": "cool", "bluish": "cool", "white": "neutral",
    "daylight": "neutral", "candlelight": "candle", "sunlight": "sun", "sunlit": "sun", "sunny": "sun",
    "moonlight": "moon", "overcast": "sky", "skylight": "sky", "bulb": "lamp", "lantern": "lamp", "torch": "lamp",
    "studio": "softbox", "constant": "static", "steady": "static", "flicker": "flickering", "flickers": "flickering",
    "pulse": "pulsing", "fading": "pulsing", "move": "moving", "rotating": "moving", "orbiting": "moving",
    "sweeping": "moving", "surrounding": "ambient", "everywhere": "ambient",
})  # fmt: skip
FILLERS = frozenset({
    "a", "an", "the", "from", "of", "in", "on", "at", "to", "with", "and", "by", "it", "its", "is", "very", "coming",
    "comes",
    "light", "lit", "lighting", "source", "intensity", "hardness", "colour", "color", "temperature", "direction",
})  # fmt: skip
FILL = 0.15
"""Light from all around beside one with a direction, as a share of it."""
WIDEST = 45.0
"""Degrees of radius of the softest light; the hardest has a hundredth."""
SHARP = 2.0
"""Degrees of radius under which far light is a disc, which casts shadows by rays, and above which it is a lobe."""
DISTANCE = 2.5
"""Of near sources from the subject's middle, in its radii."""
BULB = 9
"""Points that stand for a near source with extent."""
TURN = 40.0
"""Degrees a second of what moves."""


class LightWordsError(RelightError):
    """Words or numbers that describe no light."""


@dataclass(frozen=True)
class LightDescription:
    """direction: (3,) unit, towards the light, a viewer's axes (+x right, +y up, +z towards the viewer); None for light
    from all around.  intensity: 1 is as bright as the photograph.  hardness: 0 to 1, see `angular_radius`.
    temperature: kelvin, 6500 is white.  variation: one of VARIATIONS.  source: one of SOURCES.
    """

    direction: tuple[float, float, float] | None = (0.0, 0.0, 1.0)
    intensity: float = 1.0
    hardness: float = 0.5
    temperature: float = 6500.0
    variation: str = "static"
    source: str = "softbox"

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise LightWordsError(f"light: {name} {value:g} is out of range; expected {low:g} to {high:g}")
        for name, known in (("variation", VARIATIONS), ("source", SOURCES)):
            if getattr(self, name) not in known:
                raise LightWordsError(f"light: unknown {name} {getattr(self, name)!r}; there are: {', '.join(known)}")

    @staticmethod
    def parse(text: str) -> LightDescription:
        """Of words in any order, `name=value` pairs, or both; what isn't said is as the source has it, else as here.

        Raises LightWordsError, with what is known, for words it doesn't know, that contradict each other or say
        nothing.
        """
        said: dict[str, Any] = {}
        directions: list[str] = []
        pairs = re.findall(r"(\w+)\s*=\s*([^\s;]+)", text)
        for name, value in pairs:
            _say(said, name, _valued(name, value), f"{name}={value}")
        rest = re.sub(r"\w+\s*=\s*[^\s;]+", " ", text).lower()
        for kelvin in re.findall(r"(\d+(?:\.\d+)?)\s*k\b", rest):
            _say(said, "temperature", float(kelvin), f"{kelvin} K")
        rest = re.sub(r"\d+(?:\.\d+)?\s*k\b", " ", rest)
        for word in re.findall(r"[^\W_]+", rest):
            word = SYNONYMS.get(word, word)
            if word in DIRECTIONS:
                directions.append(word)
            elif word == "ambient":
                _say(said, "direction", None, word)
            elif (attribute := _attribute_of(word)) is not None:
                _say(said, attribute, LEVELS.get(attribute, {}).get(word, word), word)
            elif word not in FILLERS:
                raise LightWordsError(
                    f"light: unknown word {word!r}{did_you_mean(word, _known(), list_all=False)}\n{vocabulary()}"
                )
        if directions:
            _say(said, "direction", _added(directions), " ".join(directions))
        if not said:
            raise LightWordsError(f"light: {text!r} says nothing about light\n{vocabulary()}")
        defaults = SOURCES[said["source"]] if said.get("source") in SOURCES else {}
        return LightDescription(**{**defaults, **said})

    def words(self) -> str:
        """A sentence that `parse` takes back, to the nearest word for each attribute."""
        nearest = self.classes()
        light = f"{nearest['hardness']} {nearest['temperature']} light {self._whence()}"
        return f"{light}, {nearest['intensity']}, {self.variation} {self.source}"

    def _whence(self) -> str:
        if self.direction is None:
            return "from everywhere"
        parts = [
            name
            for name, axis in DIRECTIONS.items()
            if sum(a * b for a, b in zip(self.direction, axis, strict=True)) > 0.38
        ]
        return "from the " + " ".join(parts or [self.classes()["direction"]])

    def classes(self) -> dict[str, str]:
        """A word for each attribute, as benchmarks compare them: time in `TEMPORAL`'s, sources natural or artificial
        by kind: far, near or sky."""
        out = {"direction": direction_class(self.direction)}
        for name, levels in LEVELS.items():
            value = getattr(self, name)
            # Light is judged by ratios, hardness by steps.
            scale = (lambda x: x) if name == "hardness" else math.log
            out[name] = min(levels, key=lambda word: abs(scale(levels[word]) - scale(value)))
        kind = "sky" if self.direction is None else "near" if self.source in NEAR else "far"
        return {**out, "variation": TEMPORAL[self.variation], "source": kind}

    @property
    def angular_radius(self) -> float:
        """Radians: 45 degrees of the softest, a hundredth of it of the hardest, even steps in the logarithm."""
        return math.radians(WIDEST * 0.01**self.hardness)

    @property
    def color(self) -> Tensor:
        """(3,) linear Rec.709 of luminance 1."""
        return blackbody(self.temperature) / blackbody(6500.0)

    def at(self, seconds: float) -> LightDescription:
        """As it is at a time: what varies has been applied, and the result is static.  The same for the same time."""
        still = replace(self, variation="static")
        if self.variation == "flickering":
            waves = sum(math.sin(2 * math.pi * f * seconds + p) for f, p in ((3.1, 0.3), (5.3, 1.7), (8.9, 4.1)))
            return replace(still, intensity=max(RANGES["intensity"][0], self.intensity * math.exp(0.25 * waves)))
        if self.variation == "pulsing":
            wave = 0.55 + 0.45 * math.cos(2 * math.pi * 0.5 * seconds)
            return replace(still, intensity=max(RANGES["intensity"][0], self.intensity * wave))
        if self.variation == "moving" and self.direction is not None:
            x, y, z = self.direction
            turn = math.radians(TURN) * seconds
            c, s = math.cos(turn), math.sin(turn)
            return replace(still, direction=(c * x + s * z, y, c * z - s * x))
        return still

    def lights(self, world_from_viewer: Tensor, middle: Tensor, radius: float) -> tuple[Light, ...]:
        """What shines, in the world: matte white in the subject's middle that faces it shows `intensity` x `color`, and
        `FILL` of that more from all around.  Of a light without direction it shows so everywhere.

        world_from_viewer: (3, 3).  middle: (3,) and radius, world units, of the subject.  Variation: see `at`.
        """
        shown = self.color * self.intensity
        around = SphericalGaussians(torch.tensor([[0.0, 1, 0]]), torch.tensor([0.01]), torch.ones(1, 3))
        level = around.irradiance(torch.tensor([0.0, 1, 0]))
        if self.direction is None:
            return (replace(around, amplitude=(shown / level)[None]),)
        fill = replace(around, amplitude=(FILL * shown / level)[None])
        towards = world_from_viewer @ torch.tensor(self.direction).to(world_from_viewer)
        if self.source in NEAR:
            away = DISTANCE * radius
            return *_bulb(
                middle + away * towards, towards, shown * math.pi * away * away, away, self.angular_radius
            ), fill
        if self.angular_radius < math.radians(SHARP):
            return Sun(towards, shown * math.pi, self.angular_radius), fill
        return lobe(towards, self.angular_radius, shown), fill


def _bulb(place: Tensor, towards: Tensor, intensity: Tensor, away: float, radius: float) -> list[Point]:
    """Points over a disc that faces the subject, which is seen `away` from it under an angular radius; one if small."""
    if radius < math.radians(SHARP):
        return [Point(place, intensity)]
    across, along = frame(towards)
    out = []
    for i in range(BULB):
        # A sunflower's seeds spread evenly (Vogel 1979).
        r, phi = math.sqrt((i + 0.5) / BULB) * away * math.tan(radius), i * math.pi * (3 - math.sqrt(5))
        out.append(Point(place + r * (math.cos(phi) * across + math.sin(phi) * along), intensity / BULB))
    return out


def lobe(towards: Tensor, radius: float, shown: Tensor) -> SphericalGaussians:
    """A spherical Gaussian of a disc's mean cosine to its axis (3,); matte white that faces it shows (3,) `shown`.

    radius: radians.
    """
    sharpness = torch.tensor([2 / (1 - math.cos(radius))])
    one = SphericalGaussians(towards[None], sharpness, torch.ones(1, 3))
    return replace(one, amplitude=(shown / one.irradiance(towards))[None])


def direction_class(direction: tuple[float, float, float] | None) -> str:
    """Of UniLumos's classes: front, side, back, top, bottom or ambient; split, which is at right angles to the view, is
    a side here."""
    if direction is None:
        return "ambient"
    x, y, z = direction
    name, _ = max((("side", abs(x)), ("top", y), ("bottom", -y), ("front", z), ("back", -z)), key=lambda pair: pair[1])
    return name


def vocabulary() -> str:
    """What can be said, one attribute a line."""
    lines = [f"direction: {', '.join(DIRECTIONS)} and pairs of them, ambient; direction=AZIMUTH,ELEVATION"]
    for name, levels in LEVELS.items():
        low, high = RANGES[name]
        lines.append(f"{name}: {', '.join(levels)}; {name}={low:g}..{high:g}")
    lines.append(f"variation: {', '.join(VARIATIONS)}")
    lines.append(f"source: {', '.join(SOURCES)}")
    return "\n".join(lines)


def _known() -> list[str]:
    levels = [word for names in LEVELS.values() for word in names]
    return [*DIRECTIONS, "ambient", *levels, *VARIATIONS, *SOURCES, *SYNONYMS]


def _attribute_of(word: str) -> str | None:
    for name, levels in LEVELS.items():
        if word in levels:
            return name
    return "variation" if word in VARIATIONS else "source" if word in SOURCES else None


def _say(said: dict[str, Any], name: str, value: Any, as_written: str) -> None:
    names = [f.name for f in fields(LightDescription)]
    if name not in names:
        raise LightWordsError(f"light: {as_written}: unknown attribute{did_you_mean(name, names)}")
    if name in said and said[name] != value:
        raise LightWordsError(f"light: {as_written!r} contradicts what was said of {name} before; say one of them")
    said[name] = value


def _valued(name: str, text: str) -> Any:
    """A value of `name=value`: a word, a number, or angles of a direction in degrees."""
    word = SYNONYMS.get(text.lower(), text.lower())
    if name == "direction":
        if word == "ambient":
            return None
        if re.fullmatch(r"[-+\d.]+(,[-+\d.]+)?", text):
            try:
                azimuth, elevation = (*(math.radians(float(part)) for part in text.split(",")), 0.0)[:2]
            except ValueError:
                raise LightWordsError(f"light: direction={text}: expected AZIMUTH,ELEVATION in degrees") from None
            c = math.cos(elevation)
            return (c * math.sin(azimuth), math.sin(elevation), c * math.cos(azimuth))
        return _added([SYNONYMS.get(part, part) for part in re.split(r"[-,+_]", word)])
    if name not in LEVELS:
        return word
    if word in LEVELS[name]:
        return LEVELS[name][word]
    try:
        return float(word.removesuffix("k"))
    except ValueError:
        known = ", ".join(LEVELS[name])
        raise LightWordsError(f"light: {name}={text}: expected a number or one of {known}") from None


def _added(names: list[str]) -> tuple[float, float, float]:
    """Directions named together: "top left"."""
    for name in names:
        if name not in DIRECTIONS:
            raise LightWordsError(f"light: direction {name!r}{did_you_mean(name, [*DIRECTIONS, 'ambient'])}")
    total = [sum(axis) for axis in zip(*(DIRECTIONS[name] for name in set(names)), strict=True)]
    length = math.hypot(*total)
    if length == 0:
        raise LightWordsError(f"light: {' and '.join(names)} cancel each other out; say one of them")
    return (total[0] / length, total[1] / length, total[2] / length)
