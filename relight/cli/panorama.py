"""Light from all around (.exr, .hdr) from a photograph, a mirror ball, exposures or a panorama; its lights edited.

examples:
  relight panorama photo.jpg -o env.exr                       what it doesn't show is made up by a prior
  relight panorama photo.jpg -o env.exr --fov 75 --pitch -10  a wide lens, held a little downwards
  relight panorama dark.jpg mid.jpg bright.jpg -o env.exr     exposures are merged first; the first one's white is 1
  relight panorama ball.png -o env.exr --ball --circle 512 380 300
  relight panorama part.exr -o env.exr --map --mask known.png a panorama with holes is completed
  relight panorama env.exr --map --lights                     lists the lights of a panorama
  relight panorama env.exr -o new.exr --map --move 0 30 0 --scale 1 0.5 --remove 2 --add -60 40 3 10
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from relight.cli.arguments import keep_files
from relight.errors import DataError, RelightError

if TYPE_CHECKING:
    from torch import Tensor

    from relight.diffusion.surroundings.light_edit import EditableLights, LightEdit
    from relight.diffusion.surroundings.panorama import DiffusionPanorama


class _Edit(argparse.Action):
    """Keeps edits in the order in which they are given."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        namespace.edits = [*(namespace.edits or []), (self.dest, values)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Pictures, what they are, what to make, and edits of lights."""
    parser.add_argument(
        "pictures", metavar="PICTURE", nargs="+", type=Path, help="several are exposures of the same scene"
    )
    parser.add_argument("-o", "--output", metavar="ENV.exr", type=Path, help="equirectangular, linear, +y up; or .hdr")
    parser.add_argument("--rows", type=int, help="of the result, twice as wide (default 128; of a panorama, its own)")
    parser.add_argument("--force", action="store_true", help="replace an existing file")

    kind = parser.add_argument_group("what the picture is").add_mutually_exclusive_group()
    kind.add_argument("--ball", action="store_true", help="a mirror ball, by default the largest circle in the middle")
    kind.add_argument("--map", action="store_true", help="a panorama already")
    more = parser.add_argument_group("more about it")
    more.add_argument("--fov", type=float, default=60.0, help="degrees that a photograph is wide (default %(default)g)")
    more.add_argument("--pitch", type=float, default=0.0, help="degrees that the camera looks up")
    more.add_argument("--roll", type=float, default=0.0, help="degrees that it is turned clockwise")
    more.add_argument("--circle", type=float, nargs=3, metavar=("X", "Y", "RADIUS"), help="of the ball, pixels")
    more.add_argument(
        "--distance", type=float, default=math.inf, help="of the camera from the ball, in its radii (default far)"
    )
    more.add_argument("--mask", type=Path, help="of a panorama: white where it is known; the rest is made up")
    more.add_argument(
        "--stops", type=float, nargs="+", metavar="EV", help="exposures of the pictures; by default from EXIF or found"
    )
    more.add_argument(
        "--response", choices=("srgb", "fit"), default="srgb", help="of the camera; fit: found from the exposures"
    )

    made = parser.add_argument_group("what is made up")
    made.add_argument("--prior", default="panorama", help="that comes with relight, or a file (default %(default)s)")
    made.add_argument(
        "--steps", type=int, default=1, help="of sampling; 1: the mean of what could be, more: one of it (default 1)"
    )
    made.add_argument("--draws", type=int, default=1, help="possible surroundings that are averaged")
    made.add_argument("--seed", type=int, default=0)

    edit = parser.add_argument_group("lights, numbered from the strongest, 0; given often, they add up in order")
    edit.add_argument("--lights", action="store_true", help="list them, before edits")
    edit.add_argument("--most", type=int, default=8, help="of them (default %(default)s)")
    for name, words, text in (
        ("move", ("N", "RIGHT", "UP"), "by degrees"),
        ("scale", ("N", "FACTOR"), "its intensity"),
        ("size", ("N", "FACTOR"), "its width, at the same power"),
        ("color", ("N", "R", "G", "B"), "linear, of any brightness"),
        ("remove", ("N",), "with its surroundings drawn in"),
        ("add", ("RIGHT", "UP", "INTENSITY", "WIDTH"), "degrees; irradiance facing it; degrees"),
    ):
        edit.add_argument(f"--{name}", nargs=len(words), metavar=words, type=float, action=_Edit, help=text)
    parser.set_defaults(edits=None)


def run(arguments: argparse.Namespace) -> int:
    """Read, make, edit, write."""
    output: Path | None = arguments.output
    _check(arguments)
    from relight.export.hdr import write_hdr
    from relight.export.images import write_exr

    edits = [_edit(name, values) for name, values in arguments.edits or []]
    radiance = _light(arguments)
    if arguments.lights or edits:
        from relight.diffusion.surroundings.light_edit import find_lights

        lights = find_lights(radiance, arguments.most)
        if arguments.lights:
            _list(lights)
        radiance = lights.edited(edits)
    if output is not None:
        if output.suffix.lower() == ".hdr":
            write_hdr(output, radiance)
        else:
            write_exr(output, {"RGB": radiance})
        print(f"wrote {output} ({radiance.shape[1]}x{radiance.shape[0]})")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    output = arguments.output
    if output is None and not arguments.lights:
        raise RelightError("panorama: say where to write with -o ENV.exr, or --lights to list lights")
    if output is not None and output.suffix.lower() not in (".exr", ".hdr"):
        raise RelightError(f"{output}: light is written as .exr or .hdr; name it so")
    if output is not None:
        keep_files([output], arguments.force)
    if arguments.rows is not None and not 8 <= arguments.rows <= 4096:
        raise RelightError(f"--rows {arguments.rows}: expected 8 to 4096")
    if not 1 <= arguments.most <= 64:
        raise RelightError(f"--most {arguments.most}: expected 1 to 64")
    if not 1 <= arguments.fov <= 170:
        raise RelightError(f"--fov {arguments.fov:g}: expected degrees from 1 to 170; 60 is a usual lens")
    for name, needed in (("mask", "map"), ("circle", "ball")):
        if getattr(arguments, name) is not None and not getattr(arguments, needed):
            raise RelightError(f"--{name}: only with --{needed}")
    if arguments.stops is not None and len(arguments.stops) != len(arguments.pictures):
        raise RelightError(
            f"--stops: expected one number for each of the {len(arguments.pictures)} pictures, "
            f"found {len(arguments.stops)}"
        )


def _light(arguments: argparse.Namespace) -> Tensor:
    """(rows, 2 rows, 3) before edits."""
    picture, name = _picture(arguments), arguments.pictures[0]
    if arguments.ball:
        from relight.diffusion.surroundings.probes import from_mirror_ball

        circle = tuple(arguments.circle) if arguments.circle else None
        return from_mirror_ball(picture, arguments.rows or 128, circle, arguments.distance)
    height, width = picture.shape[:2]
    if arguments.map:
        from relight.diffusion.surroundings.framing import resized_map

        if abs(width - 2 * height) > 2:
            raise DataError(f"{name}: a panorama is twice as wide as high; this is {width}x{height}")
        radiance = resized_map(picture.clamp_min(0), arguments.rows or height)
        if arguments.mask is None:
            return radiance
        from relight.images import read_image

        # Light that isn't known at all is often stored as nothing: no pixel that is partly so may count.
        mask = read_image(arguments.mask).rgb.mean(-1, keepdim=True)
        known = resized_map((mask > 0.5).float().expand(-1, -1, 3).contiguous(), radiance.shape[0])[..., 0] > 0.999
        return _estimator(arguments).complete(radiance, known.float())
    from relight.diffusion.surroundings.framing import Frame

    if abs(width - 2 * height) <= 2 and width >= 512:
        import warnings

        warnings.warn(f"{name}: twice as wide as high; if it is a panorama, say --map", stacklevel=1)
    frame = Frame.of(arguments.fov, width / height, arguments.pitch, arguments.roll)
    return _estimator(arguments).estimate(picture, frame, arguments.rows or 128)


def _picture(arguments: argparse.Namespace) -> Tensor:
    """(h, w, 3) linear; of several exposures, merged."""
    import torch

    from relight.images import exposure, read_image
    from relight.shading.color import srgb_to_linear

    pictures = [read_image(path) for path in arguments.pictures]
    for path, picture in zip(arguments.pictures, pictures, strict=True):
        if not bool(torch.isfinite(picture.rgb).all()):
            raise DataError(f"{path}: holds NaN or infinity; export it again")
    if len(pictures) == 1:
        return pictures[0].rgb if pictures[0].linear else srgb_to_linear(pictures[0].rgb)
    from relight.diffusion.surroundings.probes import merged

    for path, picture in zip(arguments.pictures, pictures, strict=True):
        if picture.linear:
            raise DataError(f"{path}: is linear already; exposures are photographs of 8 or 16 bits")
    if arguments.stops is not None:
        times: list[float] | None = [2.0**stop for stop in arguments.stops]
    else:
        said = [exposure(path) for path in arguments.pictures]
        times = [t for t in said if t is not None]
        times = times if len(times) == len(said) else None
    return merged([p.rgb for p in pictures], times, response=arguments.response)


def _estimator(arguments: argparse.Namespace) -> DiffusionPanorama:
    from relight.diffusion.own.prior import Prior
    from relight.diffusion.surroundings.panorama import DiffusionPanorama

    prior = Prior.load(arguments.prior)
    return DiffusionPanorama(prior, prior.config.size[0], arguments.steps, arguments.draws, arguments.seed)


def _edit(name: str, values: list[float]) -> LightEdit:
    from relight.diffusion.surroundings.light_edit import LightEdit

    if name == "add":
        right, up, intensity, width = values
        return LightEdit(None, right, up, intensity, width)
    if values[0] != int(values[0]):
        raise RelightError(f"--{name} {values[0]:g}: lights have whole numbers; --lights lists them")
    number, rest = int(values[0]), values[1:]
    if name == "move":
        return LightEdit(number, right=rest[0], up=rest[1])
    if name == "color":
        return LightEdit(number, color=(rest[0], rest[1], rest[2]))
    if name == "remove":
        return LightEdit(number, remove=True)
    return LightEdit(number, intensity=rest[0]) if name == "scale" else LightEdit(number, size=rest[0])


def _list(lights: EditableLights) -> None:
    if not len(lights):
        print("no lights: nothing is much brighter than the rest")
    for k, ((right, up), width, irradiance) in enumerate(
        zip(lights.angles, lights.widths, lights.irradiance.tolist(), strict=True)
    ):
        color = " ".join(f"{c:.3g}" for c in irradiance)
        print(f"{k}: {right:+.0f} degrees right, {up:+.0f} up, {width:.0f} wide, irradiance {color}")
