"""Convert a Gaussian splat file: .ply, compressed .ply, .splat, .spz, .sog, .glb, .usdc, .ksplat.

examples:
  relight convert scene.ply scene.sog
  relight convert scene.ply scene.spz version=3 sh_bits=6      an older .spz, with finer view dependence
  relight convert scene.spz scene.compressed.ply
  relight convert scene.sog web/meta.json                      the same as loose files
  relight convert other.spz scene.ply --turn x                 what PlayCanvas' tools wrote, which keep a capture's axes
"""

from __future__ import annotations

import argparse
from pathlib import Path

from relight.cli.arguments import keep_files, key_values


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Input, output, options of the output's format."""
    parser.add_argument("source", metavar="INPUT", type=Path, help="splat file, or folder of an unbundled SOG")
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="file to write; its suffix is the format")
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", help="options of the format; a wrong one lists them"
    )
    parser.add_argument("--from", dest="source_format", metavar="FORMAT", help="of the input, where it can't be told")
    parser.add_argument("--format", metavar="FORMAT", help="of the output, where the suffix doesn't say it")
    parser.add_argument("--turn", choices=("x", "y", "z"), help="turn by 180 degrees about this axis of the world")
    parser.add_argument(
        "--drop-invalid", action="store_true", help="leave out Gaussians with values that aren't finite"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing file")


def run(arguments: argparse.Namespace) -> int:
    """Read, turn, write."""
    from relight.formats import read_splat, writable, write_splat

    output, options = arguments.output, key_values(arguments.overrides)
    writable(output, arguments.format)  # before a large file is read
    keep_files([output], arguments.force)
    gaussians = read_splat(arguments.source, format=arguments.source_format, drop_invalid=arguments.drop_invalid)
    if arguments.turn:
        from relight.formats.common import half_turn

        gaussians = half_turn(gaussians, arguments.turn)
    write_splat(gaussians, output, format=arguments.format, **options)
    print(f"wrote {output} ({len(gaussians)} Gaussians)")
    return 0
