"""Look for every mistake in a scene file and its capture, without fitting.

examples:
  relight check scene.yaml
  relight check scene.yaml radiance.iterations=500
  relight check scene.yaml --fast          don't decode the pictures
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Scene file, overrides, --fast."""
    parser.add_argument("scene", help="scene file (YAML), or the folder it is in")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--fast", action="store_true", help="look at the pictures' sizes only")


def run(arguments: argparse.Namespace) -> int:
    """Print what would run."""
    from relight import data, pipeline
    from relight.config import load_config
    from relight.errors import DataError
    from relight.render.splats import create_rasterizer

    config = load_config(arguments.scene, arguments.overrides)
    scene = pipeline.load_data(config)
    pipeline.check_parts(config.stages, scene)
    backend = create_rasterizer(config.backend, pipeline.torch_device(config.device)).name
    views = scene.views
    if views is not None and not arguments.fast:
        problems = []
        for view in views:
            try:
                view.photo(views.max_size)
            except DataError as error:
                problems.append(str(error))
        if problems:
            raise DataError("\n".join(problems))
    format = data.detect(config.data.path) if config.data.format == "auto" else config.data.format
    print(f"capture:  {config.data.path} ({format})")
    if views is not None:
        sizes = sorted({(c.width, c.height) for c in (views.camera(i) for i in range(len(views)))})
        span = f"{sizes[0][0]}x{sizes[0][1]}" + (f" to {sizes[-1][0]}x{sizes[-1][1]}" if len(sizes) > 1 else "")
        print(f"views:    {len(views.train)} to fit, {len(views.test)} held out, {span}")
    known = len(scene.points.positions) if scene.points else 0
    print(f"points:   {known or 'none; first ones will be found from the photographs'}")
    print(f"backend:  {backend}")
    print(f"output:   {config.output}")
    for stage in config.stages:
        print(f"stage:    {stage.name} gives {', '.join(stage.stage.gives) or 'no new part'}")
    return 0
