"""Draw stills or an orbit film of a run or of a model file.

examples:
  relight render runs/fox --orbit 6 -o turn.mp4
  relight render runs/fox --views test -o stills/
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
    parser.add_argument("source", metavar="SOURCE", type=Path, help="run folder, stage folder; .glb, .gltf, .obj, .ply")
    parser.add_argument("-o", "--output", type=Path, help="film (.mp4); folder of stills; a model's still (.png, .exr)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--orbit", type=positive, metavar="SECONDS", help="a turn around the subject, as a film")
    what.add_argument("--views", metavar="SPLIT", help="stills of the test or train views of a run (default: test)")
    parser.add_argument("--fps", type=positive, default=30.0, help="pictures a second of a film (default: 30)")
    parser.add_argument("--size", help="WIDTHxHEIGHT; default: that of the photographs, 768x768 for models")
    parser.add_argument(
        "--background", choices=BACKGROUNDS, help="default: black for runs, white for models; the last two for models"
    )
    parser.add_argument("--force", action="store_true", help="replace existing files")
    model = parser.add_argument_group("models")
    model.add_argument("--env", type=Path, metavar="FILE", help="equirectangular light (.hdr, .exr); default: a studio")
    model.add_argument(
        "--rotate", type=finite, default=0.0, metavar="DEGREES", help="turn the light about the vertical"
    )
    model.add_argument(
        "--estimator", choices=ESTIMATORS, default="split-sum",
        help="split-sum: fast, no noise, no shadows of the environment (default); monte-carlo: reference",
    )  # fmt: skip
    model.add_argument("--samples", type=count, default=64, help="of light and of material, a point (default: 64)")
    model.add_argument("--bounces", type=whole, default=1, help="of light by way of other surfaces (default: 1)")
    model.add_argument("--supersample", type=count, default=2, help="shaded points along a pixel's side (default: 2)")
    model.add_argument("--exposure", type=finite, default=0.0, metavar="STOPS")
    model.add_argument("--curve", choices=CURVES, default="neutral", help="tone curve (default: Khronos PBR Neutral)")
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

    if arguments.source.suffix.lower() in SUFFIXES and not arguments.source.is_dir():
        if arguments.views:
            raise RelightError(f"--views {arguments.views}: {arguments.source} is a model, which has no photographs")
        output = arguments.output or Path(arguments.source.stem + (".mp4" if arguments.orbit else ".png"))
        _keep([output], arguments.force)
        draw_model(arguments, output, _size(arguments.size or "768x768"))
    else:
        _draw_run(arguments)
    return 0


def _draw_run(arguments: argparse.Namespace) -> None:
    import torch

    from relight.errors import RelightError
    from relight.export.images import write_film, write_image
    from relight.export.runs import last_stage
    from relight.render.protocol import RasterOptions
    from relight.render.splats import create_rasterizer, render
    from relight.render.trajectory import orbit, with_size
    from relight.scene_io import load_scene

    if arguments.background in ("transparent", "surroundings"):
        raise RelightError(f"--background {arguments.background}: for models; a run is drawn on black or white")
    scene = load_scene(last_stage(arguments.source))
    if scene.gaussians is None or scene.views is None:
        raise RelightError(f"{arguments.source}: holds no splat; run a stage that fits one")
    gaussians, views = scene.gaussians, scene.views
    rasterizer, options = create_rasterizer(), RasterOptions.for_extent(scene.frame.radius)
    background = torch.full((3,), float(arguments.background == "white"))

    def picture(camera) -> torch.Tensor:
        with torch.no_grad():
            if arguments.size:
                camera = with_size(camera, *_size(arguments.size))
            return render(rasterizer, gaussians, camera, options=options, background=background).color

    output = arguments.output or Path("orbit.mp4" if arguments.orbit else "stills")
    if arguments.orbit:
        _keep([output], arguments.force)
        cameras = [views.train.camera(i) for i in range(len(views.train))]
        up = torch.tensor(scene.frame.up) if scene.frame.up else None
        path = orbit(
            cameras, torch.tensor(scene.frame.center), up, frames=max(2, round(arguments.orbit * arguments.fps))
        )
        frames = write_film(output, (picture(camera) for camera in path), arguments.fps)
        print(f"wrote {output} ({frames} frames)")
        return
    split = arguments.views or "test"
    chosen = views.split(split)
    if len(chosen) == 0:
        raise RelightError(f"--views {split}: no such views; the run has splits train and test")
    stills = [output / name for name in _still_names([view.name for view in chosen])]
    _keep(stills, arguments.force)
    for i, still in enumerate(stills):
        write_image(still, picture(chosen.camera(i)))
    print(f"wrote {len(chosen)} stills to {output}")


def _keep(files: list[Path], force: bool) -> None:
    """Raise RelightError if one of the files exists; before any is written."""
    from relight.errors import RelightError

    found = [file for file in files if file.exists()]
    if found and not force:
        raise RelightError(f"{found[0]}: exists; --force replaces it, -o writes elsewhere")


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
