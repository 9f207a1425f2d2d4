"""How a scene is shown: mode, split and light.  Frozen values that clients change as a whole, and share as text."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType

from relight.errors import MALFORMED, RelightError
from relight.shading.tonemap import CURVES

MODES: Mapping[str, str] = MappingProxyType({
    "final": "as photographed, or in the light that you choose",
    "base_color": "colour of the material, without light",
    "roughness": "0 mirrors, 1 is matt",
    "metallic": "0 is plastic, 1 is metal",
    "normal": "direction of the surface, world axes as red, green, blue",
    "depth": "near is yellow, far is blue",
    "progress": "share of the colour that materials explain; the rest is the captured look",
    "visibility": "share of the sky that each place sees",
    "specular": "only what the coat reflects",
    "diffuse": "only what comes from under the coat",
    "radiance": "the captured look",
    "error": "four times the difference to the photograph; jump into one first",
    "feature": "the three directions in which features differ most, as red, green, blue",
    "similarity": "how like the features are to those of what is selected in Edit",
    "points": "centres of the Gaussians",
    "ellipsoids": "the Gaussians as solids",
    "photo": "the photograph; jump into one first",
})  # fmt: skip
"""Every mode and what it shows."""
NEED_MATERIALS = ("base_color", "roughness", "metallic", "progress", "visibility", "specular", "diffuse")
NEED_FEATURES = ("feature", "similarity")
LIT = ("final", "specular", "diffuse")
"""Modes that light changes."""
PHOTOGRAPHED = "as photographed"
ESTIMATED = "light of the photographs"
STUDIO = "built-in studio"
"""Lights that are always there; the others are files."""
BACKGROUNDS = ("black", "white", "surroundings")


@dataclass(frozen=True)
class Lamp:
    """kind: "point" or "sun".  place: world; of a sun, the way towards it from the scene's centre.
    color: sRGB, 0 to 1.  strength: irradiance that a white surface gets, at a scene radius from a point.
    """

    kind: str
    place: tuple[float, float, float]
    color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    strength: float = 3.0


@dataclass(frozen=True)
class Lighting:
    """environment: PHOTOGRAPHED, ESTIMATED, STUDIO or the name of a light in the library; "" for none.
    rotation: degrees about the vertical.  exposure: stops.  curve: see `relight.shading.tonemap`.
    """

    environment: str = PHOTOGRAPHED
    rotation: float = 0.0
    exposure: float = 0.0
    curve: str = "clip"
    shadows: bool = True
    lamps: tuple[Lamp, ...] = ()

    @property
    def photographed(self) -> bool:
        """Nothing but the light of the photographs, with what is left of the captured look."""
        return self.environment == PHOTOGRAPHED and not self.lamps


@dataclass(frozen=True)
class Display:
    """mode: left of the divider or everywhere.  other: right of it, or None.  divider: 0 to 1 of the width."""

    mode: str = "final"
    other: str | None = None
    divider: float = 0.5
    lighting: Lighting = field(default_factory=Lighting)
    background: str = "black"


@dataclass(frozen=True)
class Shared:
    """What a link holds: what, how and from where.

    wxyz, position: world_from_camera.  distance: to what the camera turns about, world units.  fov: vertical, radians.
    name, beside: of the scenes left and right of the divider; "" for the first one, and for the same.
    """

    display: Display
    wxyz: tuple[float, float, float, float]
    position: tuple[float, float, float]
    distance: float
    fov: float
    name: str = ""
    beside: str = ""

    def to_text(self) -> str:
        """A line of letters that `from_text` understands, in another browser too."""
        data = json.dumps(asdict(self), separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(zlib.compress(data, 9)).decode().rstrip("=")

    @staticmethod
    def from_text(text: str) -> Shared:
        """Inverse of `to_text`.  Raises RelightError for anything else."""
        try:
            packed = base64.urlsafe_b64decode(text.strip() + "=" * (-len(text.strip()) % 4))
            unpacker = zlib.decompressobj()
            # A bound, because a small text can unpack to gigabytes.
            data = json.loads(unpacker.decompress(packed, 1 << 20))
            display = data["display"]
            lighting = display.pop("lighting")
            lamps = tuple(_lamp(lamp) for lamp in lighting.pop("lamps"))
            shown = Display(**display, lighting=Lighting(**lighting, lamps=lamps))
            distance, fov = _numbers((data["distance"], data["fov"]), 2)
            if not (distance > 0 and 1e-3 < fov < 3.1 and max(map(abs, data["wxyz"])) > 1e-6):
                raise ValueError("no such camera")
            return Shared(
                checked(shown), _numbers(data["wxyz"], 4), _numbers(data["position"], 3), distance, fov,  # type: ignore[arg-type]
                str(data["name"]), str(data["beside"]),
            )  # fmt: skip
        except (*MALFORMED, zlib.error) as error:
            raise RelightError(f"link: expected an address that Copy link gave, found another ({error})") from error


def checked(display: Display) -> Display:
    """The display with numbers in their ranges.  Raises ValueError for names that do not exist."""
    lighting = display.lighting
    for what, value, known in (
        ("mode", display.mode, MODES), ("mode", display.other or "final", MODES),
        ("curve", lighting.curve, CURVES), ("background", display.background, BACKGROUNDS),
    ):  # fmt: skip
        if value not in known:
            raise ValueError(f"no such {what}: {value!r}")
    numbers = (display.divider, lighting.rotation, lighting.exposure)
    if not all(isinstance(x, int | float) and math.isfinite(x) for x in numbers):
        raise ValueError("a number is missing or not finite")
    lighting = replace(
        lighting, environment=str(lighting.environment), exposure=max(-16.0, min(16.0, lighting.exposure))
    )
    return replace(display, divider=max(0.0, min(1.0, display.divider)), lighting=lighting)


def _lamp(data: Mapping) -> Lamp:
    if data["kind"] not in ("point", "sun"):
        raise ValueError(f"no such lamp: {data['kind']!r}")
    color = _numbers(data["color"], 3)
    return Lamp(data["kind"], _numbers(data["place"], 3), color, float(data["strength"]))  # type: ignore[arg-type]


def finite(value: float) -> float:
    """The number.  Raises ValueError for infinity and what is no number."""
    if not math.isfinite(value):
        raise ValueError("expected a finite number")
    return float(value)


def _numbers(values, count: int) -> tuple[float, ...]:
    found = tuple(finite(x) for x in values)
    if len(found) != count:
        raise ValueError(f"expected {count} finite numbers")
    return found
