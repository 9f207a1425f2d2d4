"""The `relight` command: one module a verb."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from importlib import import_module

from relight.errors import RelightError

VERBS = (
    "new",
    "options",
    "check",
    "fit",
    "batch",
    "view",
    "eval",
    "render",
    "relight",
    "portrait",
    "bench",
    "select",
    "decompose",
    "texture",
    "export",
    "convert",
    "compress",
    "panorama",
    "info",
    "doctor",
)
_MODULES = {"eval": "evaluate", "relight": "relight_picture"}

EPILOG = """examples:
  relight new photos/            write photos/scene.yaml for a capture
  relight check photos/scene.yaml
  relight fit photos/scene.yaml radiance.iterations=3000
  relight render runs/photos --orbit 6 -o turn.mp4
"""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; imports no torch."""
    parser = argparse.ArgumentParser(
        prog="relight",
        description="Photos in; relightable, compressed, selectable 3D assets out.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=import_module("relight").__version__)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for name in VERBS:
        module = import_module(f"relight.cli.{_MODULES.get(name, name)}")
        summary, _, examples = (module.__doc__ or "").partition("\n\n")
        verb = verbs.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(verb)
        verb.set_defaults(run=module.run)
    return parser


def _show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    """Ours are for users, who don't care where in the code they come from."""
    name = "" if category is UserWarning else f"{category.__name__}: "
    print(f"warning: {name}{message}", file=sys.stderr)


def _parsed(argv: list[str] | None) -> argparse.Namespace:
    """Like `parse_args`, but options may stand between a scene file and its overrides."""
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    # argparse of older Pythons takes an empty `key=value*` as soon as the scene file is read.
    if rest and not (hasattr(arguments, "overrides") and all("=" in w and not w.startswith("-") for w in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides = [*arguments.overrides, *rest]
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 done, 1 our fault, 2 the user can fix it, 130 interrupted."""
    # Idle threads that spin take the cores from whoever else computes (a viewer, another fit): 4 times slower there.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = _parsed(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return arguments.run(arguments)
    except RelightError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0
    except Exception:
        traceback.print_exc()
        print("This is a bug in relight: please report it with the output of `relight doctor`.", file=sys.stderr)
        return 1
