"""Write a commented scene file for a capture.

examples:
  relight new photos/                 photos/scene.yaml
  relight new photos/ -o fox.yaml
  relight new --sfm photos/           solve the cameras first (needs pycolmap)
"""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path

from relight.cli.arguments import keep_files

TEMPLATE = """\
# {described}
# Fit it with: relight fit {file}

data:
  path: {path}
  test_every: 8       # every n-th photo is held out to measure quality; 0 for none
  max_size: {max_size:<10}# longest side in pixels; more is sharper and slower
output: {output}   # where results go, relative to where the command runs
seed: 0

stages:
  - radiance:         # a splat from the photos; `relight options radiance` lists every option
      iterations: 7000
      max_gaussians: 50000
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Folder, output, --sfm, --force."""
    parser.add_argument("folder", type=Path, help="capture: photos with cameras, or plain photos with --sfm")
    parser.add_argument("-o", "--output", type=Path, help="scene file to write; default FOLDER/scene.yaml")
    parser.add_argument("--sfm", action="store_true", help="solve cameras from plain photos with pycolmap")
    parser.add_argument("--force", action="store_true", help="replace an existing scene file")


def run(arguments: argparse.Namespace) -> int:
    """Detect, describe, write."""
    from relight import data
    from relight.atomic import replacing
    from relight.config import inline_text

    capture = arguments.folder
    folder = capture if capture.is_dir() else capture.parent
    output = arguments.output or folder / "scene.yaml"
    keep_files([output], arguments.force)
    if arguments.sfm:
        from relight.data.sfm import solve

        solve(capture)
    views = data.load(capture).views or ()
    longest = max((max(v.camera.width, v.camera.height) for v in views), default=0)
    described = f"{len(views)} photographs up to {longest} pixels, read as {data.detect(capture)}"
    text = TEMPLATE.format(
        described=described,
        file=shlex.quote(str(output)),
        path=inline_text(Path(os.path.relpath(capture, output.parent)).as_posix()),
        output=inline_text(f"runs/{folder.resolve().name}"),
        max_size=min(max(longest, 8), 800),
    )
    with replacing(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{described}\nwrote {output}; next: relight fit {shlex.quote(str(output))}")
    return 0
