"""Draw stills or an orbit film of a run.

examples:
  relight render runs/fox --orbit 6 -o turn.mp4
  relight render runs/fox --views test -o stills/
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Source, what to draw, output."""
    parser.add_argument("source", metavar="RUN", type=Path, help="run folder, stage folder")
    parser.add_argument("-o", "--output", type=Path, help="film (.mp4) or folder of stills")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--orbit", type=float, metavar="SECONDS", help="a turn around the subject, as a film")
    what.add_argument(
        "--views", default="test", metavar="SPLIT", help="stills of the test or train views (default: test)"
    )
    parser.add_argument("--fps", type=float, default=30)
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
    if output.is_file() and not arguments.force:
        raise RelightError(f"{output}: exists; --force replaces it, -o writes elsewhere")
    if arguments.orbit:
        cameras = [views.train.camera(i) for i in range(len(views.train))]
        up = torch.tensor(scene.frame.up) if scene.frame.up else None
        path = orbit(
            cameras, torch.tensor(scene.frame.center), up, frames=max(2, round(arguments.orbit * arguments.fps))
        )
        count = write_film(output, (picture(camera) for camera in path), arguments.fps)
        print(f"wrote {output} ({count} frames)")
        return 0
    chosen = views.split(arguments.views)
    if len(chosen) == 0:
        raise RelightError(f"--views {arguments.views}: no such views; the run has splits train and test")
    for i, view in enumerate(chosen):
        target = output / (Path(view.name).with_suffix("").as_posix().replace("/", "_") + ".png")
        if target.exists() and not arguments.force:
            raise RelightError(f"{target}: exists; --force replaces it, -o writes elsewhere")
        write_image(target, picture(chosen.camera(i)))
    print(f"wrote {len(chosen)} stills to {output}")
    return 0


def _size(text: str) -> tuple[int, int]:
    from relight.errors import RelightError

    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) > 0 and int(height) > 0):
        raise RelightError(f"--size {text}: expected WIDTHxHEIGHT, e.g. 640x480")
    return int(width), int(height)
