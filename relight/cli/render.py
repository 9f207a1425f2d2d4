"""Draw stills or an orbit film of a run, of a splat file or of a model file.

examples:
  relight render runs/fox --orbit 6 -o turn.mp4
  relight render runs/fox --views test -o stills/
  relight render runs/fox --env sunset.hdr --rotate 90 -o sunset/     its materials under another light
  relight render runs/fox --env studio.hdr --set roughness=0.2 --orbit 6 -o shiny.mp4
  relight render runs/fox --show base_color -o albedo/
  relight render runs/fox --show selection --views test -o segments/    novel views; features: their principal colours
  relight render scene.spz -o scene.png        a splat of any format that `relight convert` reads
  relight render scene.sog --orbit 6 --up y -o turn.mp4
  relight render runs/chair --env sunset.hdr --renderer mesh -o mesh/   a run with the stage mesh, as its export looks
  relight render chair.glb --env studio.hdr
  relight render chair.glb --env sunset.exr --estimator monte-carlo --samples 256 --curve agx -o chair.png
  relight render chair.glb --orbit 4 --background surroundings -o chair.mp4
  relight render chair.glb -o chair.exr        scene-referred, for a compositing program
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from relight.cli.render_model import CURVES, ESTIMATORS, draw_model
from relight.cli.render_run import SHOWN, draw_run
from relight.cli.render_splat import draw_splat, is_splat

BACKGROUNDS = ("white", "black", "transparent", "surroundings")


def _number(name: str, kind: type, low: float, high: float):
    """A command line's number above `low` and at most `high`; argparse shows `name` in its message."""

    def parse(text: str):
        value = kind(text)
        if not low < value <= high or value == float("inf"):
            raise ValueError(text)
        return value

    parse.__name__ = name
    return parse


positive = _number("positive", float, 0, float("inf"))
finite = _number("finite", float, float("-inf"), 1e9)
angle = _number("angle", float, 0, 170)
count = _number("count", int, 0, 1 << 20)
whole = _number("whole", int, -1, 64)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Source, what to draw, output; then what only models need."""
    parser.add_argument(
        "source", metavar="SOURCE", type=Path, help="run folder, stage folder; splat; .glb, .gltf, .obj, .ply"
    )
    parser.add_argument("-o", "--output", type=Path, help="film (.mp4); folder of stills; a file's still (.png, .exr)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--orbit", type=positive, metavar="SECONDS", help="a turn around the subject, as a film")
    what.add_argument("--views", metavar="SPLIT", help="stills of the test or train views of a run (default: test)")
    parser.add_argument("--fps", type=positive, default=30.0, help="pictures a second of a film (default: 30)")
    parser.add_argument("--size", help="WIDTHxHEIGHT; default: that of the photographs, 768x768 for files")
    parser.add_argument(
        "--background",
        choices=BACKGROUNDS,
        help="default: black for runs, white for models; surroundings: the light of --env",
    )
    parser.add_argument("--force", action="store_true", help="replace existing files")
    light = parser.add_argument_group("light")
    light.add_argument(
        "--env", type=Path, metavar="FILE",
        help="equirectangular light (.hdr, .exr); default: a studio for models, the photographs' light for runs",
    )  # fmt: skip
    light.add_argument(
        "--rotate", type=finite, default=0.0, metavar="DEGREES", help="turn the light about the vertical"
    )
    light.add_argument(
        "--estimator", choices=ESTIMATORS,
        help="split-sum: fast, no noise, no shadows of the environment (default for models); monte-carlo: reference "
        "(default for runs under --env)",
    )  # fmt: skip
    light.add_argument("--samples", type=count, default=64, help="of light and of material, a point (default: 64)")
    light.add_argument("--exposure", type=finite, default=0.0, metavar="STOPS")
    light.add_argument(
        "--curve", choices=CURVES, help="tone curve (default: Khronos PBR Neutral for models, none, clip, for runs)"
    )
    materials = parser.add_argument_group("materials of runs")
    materials.add_argument(
        "--renderer", choices=("auto", "splat", "mesh"), default="auto",
        help="what is drawn of a run that has both (default: the mesh if there is one)",
    )  # fmt: skip
    materials.add_argument("--show", choices=SHOWN, help="draw a material, features or the selection instead of light")
    materials.add_argument(
        "--set", action="append", metavar="NAME=VALUE", help="another roughness, metallic or base_color (R,G,B, linear)"
    )
    model = parser.add_argument_group("models and splat files")
    model.add_argument(
        "--up",
        choices=("x", "y", "z", "-x", "-y", "-z"),
        default="-y",
        help="of a splat file (default: -y, a capture's)",
    )
    model.add_argument("--bounces", type=whole, default=1, help="of light by way of other surfaces (default: 1)")
    model.add_argument("--supersample", type=count, default=2, help="shaded points along a pixel's side (default: 2)")
    model.add_argument(
        "--azimuth", type=finite, default=30.0, metavar="DEGREES", help="0 is in front, +z (default: 30)"
    )
    model.add_argument("--elevation", type=finite, default=15.0, metavar="DEGREES", help="default: 15")
    model.add_argument(
        "--fov", type=angle, default=30.0, metavar="DEGREES", help="vertical field of view (default: 30)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Render and write."""
    from relight.data.models import SUFFIXES
    from relight.errors import RelightError

    if is_splat(arguments.source):
        output = arguments.output or Path(arguments.source.stem + (".mp4" if arguments.orbit else ".png"))
        keep_files([output], arguments.force)
        draw_splat(arguments, output, _size(arguments.size or "768x768"))
    elif arguments.source.suffix.lower() in SUFFIXES and not arguments.source.is_dir():
        if arguments.views:
            raise RelightError(f"--views {arguments.views}: {arguments.source} is a model, which has no photographs")
        if arguments.show or arguments.set:
            raise RelightError(f"--show, --set: for runs; {arguments.source} is a model, edit its own materials")
        output = arguments.output or Path(arguments.source.stem + (".mp4" if arguments.orbit else ".png"))
        keep_files([output], arguments.force)
        draw_model(arguments, output, _size(arguments.size or "768x768"))
    else:
        draw_run(arguments, _size(arguments.size) if arguments.size else None, keep_files, _still_names)
    return 0


def keep_files(files: list[Path], force: bool) -> None:
    """Raise RelightError if one of the files exists; before any is written."""
    from relight.errors import RelightError

    found = [file for file in files if file.exists()]
    if found and not force:
        raise RelightError(f"{found[0]}: exists; --force replaces it, -o writes elsewhere")


def keep_folder(folder: Path, force: bool) -> None:
    """Raise RelightError if maps of a folder would be replaced, or if it is a file; before any is written."""
    from relight.errors import RelightError

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not force:
        raise RelightError(f"{folder}: is not an empty folder; --force replaces maps in it, or name another")
    if folder.exists() and not folder.is_dir():
        raise RelightError(f"{folder}: is a file; name a folder")


def _still_names(views: list[str]) -> list[str]:
    """Names of files in one folder, all different: of the views, without their suffixes if they differ without."""
    from relight.images import SUFFIXES

    full = [re.sub(r"[^\w.-]+", "_", name).strip("._") for name in views]
    short = [name if (at := Path(name)).suffix.lower() not in SUFFIXES else at.stem for name in full]
    numbered = [f"{i:04d}_{name}" for i, name in enumerate(full)]
    chosen = next(names for names in (short, full, numbered) if len(set(names)) == len(names))
    return [f"{name}.png" for name in chosen]


def _size(text: str) -> tuple[int, int]:
    from relight.errors import RelightError

    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) > 0 and int(height) > 0):
        raise RelightError(f"--size {text}: expected WIDTHxHEIGHT, e.g. 640x480")
    return int(width), int(height)
