"""The light that `relight relight` was asked for: what shines at each moment."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from relight.cli.arguments import finite
from relight.errors import RelightError

if TYPE_CHECKING:
    from torch import Tensor

    from relight.diffusion.light_words import LightDescription
    from relight.diffusion.pictures.geometry import Geometry
    from relight.diffusion.pictures.relighters import NewLight
    from relight.shading.environment import Environment

CHOICES = ("direction", "text", "env", "background", "point")
STAYS = 0.2
"""Of the photograph's own light in a sweep of lamps (GenLit, Bharadwaj et al. 2024)."""
ROWS = 256
"""Of environment maps: finer ones are reduced, since hints are smooth."""


def add_light(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The options that `chosen` reads; returns the group that says how the light shines."""
    light = parser.add_argument_group("light, one of")
    light.add_argument("--direction", metavar="WORDS", help="left, right, top, bottom, front, back, pairs such as "
                       "top-left, ambient, or AZIMUTH,ELEVATION in degrees, 90 being the right")  # fmt: skip
    light.add_argument(
        "--text", metavar="WORDS", help="direction, intensity, hardness, colour, time and source in words"
    )
    light.add_argument("--env", type=Path, metavar="FILE", help="equirectangular light (.hdr, .exr)")
    light.add_argument(
        "--background", type=Path, metavar="FILE", help="picture to be put behind, whose light is estimated"
    )
    light.add_argument("--point", action="append", metavar="X,Y,Z[,INTENSITY[,KELVIN]]",
                       help="a lamp; Z in widths of the subject before it; again: way of a sweep")  # fmt: skip
    how = parser.add_argument_group("how it shines")
    how.add_argument("--rotate", type=finite, default=0.0, metavar="DEGREES", help="turn of --env about the vertical")
    how.add_argument(
        "--exposure", type=finite, default=0.0, metavar="STOPS", help="default: as bright as the photograph"
    )
    return how


@dataclass(frozen=True)
class ChosenLight:
    """at: seconds, and share of the film, to the light.  background: (H, W, 3) sRGB to be put behind, or None.
    film_ambient: share of the photograph's own light that stays in a film.
    """

    at: Callable[[float, float], NewLight]
    background: Tensor | None = None
    film_ambient: float = 0.0


def chosen(arguments: argparse.Namespace, picture: Tensor, geometry: Geometry, *, film: bool = False) -> ChosenLight:
    """Raises RelightError unless exactly one light was asked for.  film: the picture is the first of one, whose light
    moves only if it was said to."""
    given = [name for name in CHOICES if getattr(arguments, name) is not None]
    if len(given) != 1:
        options = ", ".join(f"--{name}" for name in CHOICES)
        found = " and ".join(f"--{name}" for name in given) or "none"
        raise RelightError(f"relight: expected one light of {options}; found {found}")
    stops = 2.0**arguments.exposure
    if given[0] in ("direction", "text"):
        return _described(arguments, picture, geometry, stops)
    if given[0] == "point":
        return _lamps(arguments, picture, geometry, stops, film)
    if given[0] == "env":
        return _mapped(arguments, picture, geometry, stops)
    return _behind(arguments, picture, geometry, stops)


def _described(arguments, picture, geometry, stops) -> ChosenLight:
    from relight.diffusion.light_words import LightDescription
    from relight.diffusion.pictures.relighters import exposure_of

    if arguments.text is not None:
        said = LightDescription.parse(arguments.text)
    else:
        said = LightDescription.parse(f"direction={arguments.direction.strip().replace(' ', '-')}")
    # What stands still is turned once around for a film, so that there is something to see.
    turned = arguments.sweep is not None and said.variation == "static" and said.direction is not None
    exposure = exposure_of(picture, geometry) * stops

    def at(seconds: float, share: float) -> NewLight:
        now = _turned(said, 2 * math.pi * share) if turned else said.at(seconds)
        return _light(now, geometry, exposure)

    return ChosenLight(at)


def _turned(said: LightDescription, angle: float) -> LightDescription:
    assert said.direction is not None
    x, y, z = said.direction
    c, s = math.cos(angle), math.sin(angle)
    return replace(said, direction=(c * x + s * z, y, c * z - s * x))


def _light(said: LightDescription, geometry: Geometry, exposure: float) -> NewLight:
    from relight.diffusion.pictures.relighters import NewLight

    lights = said.lights(geometry.world_from_viewer, geometry.middle, geometry.radius)
    return NewLight(lights, exposure, said)


def _mapped(arguments, picture, geometry, stops) -> ChosenLight:
    from relight.data.environments import load_environment
    from relight.diffusion.pictures.relighters import NewLight, metered
    from relight.resize import resized
    from relight.shading.environment import Environment

    light = load_environment(arguments.env)
    if light.radiance.shape[0] > ROWS:
        light = Environment(resized(light.radiance, ROWS, 2 * ROWS))
    light = light.turned(math.radians(arguments.rotate))
    exposure = metered(picture, geometry, (light,)) * stops
    around = 2 * math.pi
    return ChosenLight(lambda seconds, share: NewLight((light.turned(around * share),), exposure))


def _lamps(arguments, picture, geometry, stops, film) -> ChosenLight:
    import torch

    from relight.diffusion.light_words import RANGES, LightDescription
    from relight.diffusion.pictures.relighters import NewLight, exposure_of
    from relight.shading.lights import Point

    places = [_numbers(text) for text in arguments.point]
    if len(places) > 1 and arguments.sweep is None and not film:
        raise RelightError("--point: several are the way of a lamp in a film; ask for one by --sweep, or give one")
    if len(places) == 1 and arguments.sweep is not None:
        # To the other side and back.
        x, *rest = places[0]
        places += [(1 - x, *rest), places[0]]
    exposure = exposure_of(picture, geometry) * stops

    def at(seconds: float, share: float) -> NewLight:
        along = share * (len(places) - 1)
        k = min(int(along), max(0, len(places) - 2))
        one, two = places[k], places[min(k + 1, len(places) - 1)]
        x, y, z, intensity, kelvin = (a + (b - a) * (along - k) for a, b in zip(one, two, strict=True))
        low, high = RANGES["temperature"]
        color = LightDescription(temperature=min(max(kelvin, low), high)).color
        place = placed(geometry, x, y, z)
        # As bright as the photograph where it is as far from the subject as the subject is large.
        return NewLight((Point(place, torch.pi * intensity * color * geometry.radius**2 * 4),), exposure)

    return ChosenLight(at, film_ambient=STAYS)


def placed(geometry: Geometry, x: float, y: float, z: float) -> Tensor:
    """(3,) world, of a place in the picture, 0 to 1 from its upper left corner, in the plane of the subject's middle,
    moved towards the camera by z of the subject's width."""
    import torch

    camera = geometry.camera
    deep = float((geometry.middle - camera.position) @ camera.forward)
    pixel = torch.tensor([x * camera.width, y * camera.height])
    return (
        camera.position
        + camera.world_from_camera[:3, :3] @ (camera.local_rays(pixel) * deep)
        - (camera.forward * (2 * z * geometry.radius))
    )


def _numbers(text: str) -> tuple[float, ...]:
    """x, y, z, intensity, kelvin."""
    from relight.diffusion.light_words import RANGES

    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not 3 <= len(values) <= 5 or not all(map(math.isfinite, values)):
        raise RelightError(f"--point {text}: expected X,Y,Z[,INTENSITY[,KELVIN]], such as 0.2,0.3,0.5")
    x, y, z, intensity, kelvin = (*values, *(1.0, 6500.0)[len(values) - 3 :])
    low, high = RANGES["temperature"]
    if intensity < 0 or not low <= kelvin <= high:
        raise RelightError(f"--point {text}: expected an intensity of 0 or more, and {low:g} to {high:g} kelvin")
    return x, y, z, intensity, kelvin


def _behind(arguments, picture, geometry, stops) -> ChosenLight:
    from relight.diffusion.pictures.relighters import NewLight
    from relight.images import read_image

    if bool(geometry.mask.all()):
        raise RelightError(
            f"--background: {arguments.picture} has no outline; give --mask, or a picture with transparency"
        )
    background = read_image(arguments.background).srgb
    light, exposure = seen_behind(background, picture, geometry, arguments.fov)
    exposure *= stops
    new = NewLight((light,), exposure, background=background)
    return ChosenLight(lambda seconds, share: replace(new, lights=(light.turned(2 * math.pi * share),)), background)


def seen_behind(background: Tensor, picture: Tensor, geometry: Geometry, fov: float) -> tuple[Environment, float]:
    """The light that a (H, W, 3) sRGB background was taken in, as far as it tells, and an exposure for the picture."""
    import torch

    from relight.diffusion.pictures.relighters import metered
    from relight.shading.environment import Environment

    light = Environment(torch.as_tensor(_panorama(background, fov)))
    # Relit pictures are as bright as the light would make them where the background was taken, within reason.
    own = metered(picture, geometry, (light,))
    return light, min(max(1.0, 0.5 * own), 2.0 * own)


def _panorama(background: Tensor, fov: float) -> Tensor:
    """(64, 128, 3) radiance around a background, by the estimator of panoramas."""
    from relight.diffusion.own.prior import Prior
    from relight.diffusion.surroundings.framing import Frame
    from relight.diffusion.surroundings.panorama import DiffusionPanorama
    from relight.resize import resized, within
    from relight.shading.color import srgb_to_linear

    height, width = background.shape[:2]
    small = resized(srgb_to_linear(background), *within((height, width), 256))
    # The field of view is of the longer side, a frame's of the width.
    across = fov if width >= height else math.degrees(2 * math.atan(math.tan(math.radians(fov) / 2) * width / height))
    return DiffusionPanorama(Prior.load("panorama")).estimate(small, Frame.of(across, width / height), 64)
