"""Write a run's result for other programs: splats in every format, textured meshes, the HTML report.

examples:
  relight export runs/fox -o fox.ply            materials as more columns; every viewer shows the captured look
  relight export runs/fox -o fox.glb            the same in glTF, as KHR_gaussian_splatting
  relight export runs/fox -o fox.spz version=3  options of the format as key=value
  relight export runs/fox -o fox.sog
  relight export runs/chair -o chair.glb        with textures: for runs that have the stage mesh
  relight export runs/chair -o maps --format textures
  relight export runs/fox -o fox.html                    the report
  relight export runs/fox -o fox.html --format web       the splat, to turn and light in any browser
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Run folder and output."""
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="run folder or stage folder")
    parser.add_argument("-o", "--output", type=Path, required=True, help="file to write; its suffix is the format")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="options of a splat format")
    parser.add_argument("--format", help="the format, where the suffix doesn't say it")
    parser.add_argument("--force", action="store_true", help="replace an existing file")


def run(arguments: argparse.Namespace) -> int:
    """Choose the writer by suffix."""
    from relight.cli.arguments import keep_files, key_values
    from relight.export import export

    output = arguments.output
    keep_files([output], arguments.force)
    export(arguments.run_folder, output, arguments.format, **key_values(arguments.overrides))
    print(f"wrote {output}")
    return 0
