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
from pathlib import Path

from relight.cli.arguments import angle, count, finite, keep_files, positive, size, whole
from relight.cli.render_model import CURVES, ESTIMATORS, draw_model
from relight.cli.render_run import SHOWN, draw_run
from relight.cli.render_splat import draw_splat, is_splat

BACKGROUNDS = ("white", "black", "transparent", "surroundings")


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
        draw_splat(arguments, output, size(arguments.size or "768x768"))
    elif arguments.source.suffix.lower() in SUFFIXES and not arguments.source.is_dir():
        if arguments.views:
            raise RelightError(f"--views {arguments.views}: {arguments.source} is a model, which has no photographs")
        if arguments.show or arguments.set:
            raise RelightError(f"--show, --set: for runs; {arguments.source} is a model, edit its own materials")
        output = arguments.output or Path(arguments.source.stem + (".mp4" if arguments.orbit else ".png"))
        keep_files([output], arguments.force)
        draw_model(arguments, output, size(arguments.size or "768x768"))
    else:
        draw_run(arguments, size(arguments.size) if arguments.size else None)
    return 0
