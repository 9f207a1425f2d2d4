"""Draw stills or an orbit film of a run.

examples:
  relight render runs/fox --orbit 6 -o turn.mp4
  relight render runs/fox --views test -o stills/
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path


def positive(text: str) -> float:
    """A command line's number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Source, what to draw, output."""
    parser.add_argument("source", metavar="RUN", type=Path, help="run folder, stage folder")
    parser.add_argument("-o", "--output", type=Path, help="film (.mp4) or folder of stills")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--orbit", type=positive, metavar="SECONDS", help="a turn around the subject, as a film")
    what.add_argument("--views", metavar="SPLIT", help="stills of the test or train views (default: test)")
    parser.add_argument("--fps", type=positive, default=30.0, help="pictures a second of a film (default: 30)")
    parser.add_argument("--size", help="WIDTHxHEIGHT; default: that of the photographs")
    parser.add_argument("--background", default="black", choices=("black", "white"))
    parser.add_argument("--force", action="store_true", help="replace existing files")


def run(arguments: argparse.Namespace) -> int:
    """Render and write."""
    import torch

    from relight.errors import RelightError
    from relight.export.images import write_film, write_image
    from relight.export.runs import last_stage
    from relight.render.protocol import RasterOptions
    from relight.render.splats import create_rasterizer, render
    from relight.render.trajectory import orbit, with_size
    from relight.scene_io import load_scene

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
        count = write_film(output, (picture(camera) for camera in path), arguments.fps)
        print(f"wrote {output} ({count} frames)")
        return 0
    split = arguments.views or "test"
    chosen = views.split(split)
    if len(chosen) == 0:
        raise RelightError(f"--views {split}: no such views; the run has splits train and test")
    stills = [output / name for name in _still_names([view.name for view in chosen])]
    _keep(stills, arguments.force)
    for i, still in enumerate(stills):
        write_image(still, picture(chosen.camera(i)))
    print(f"wrote {len(chosen)} stills to {output}")
    return 0


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
