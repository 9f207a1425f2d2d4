"""List every option of a stage: type, default, meaning.

examples:
  relight options                          the stages there are
  relight options radiance
  relight options my_package.my_module:MyStage
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The stage."""
    parser.add_argument("stage", nargs="?", help="a stage's name, or module:Class; none lists the stages")


def run(arguments: argparse.Namespace) -> int:
    """Print plain text, so that it can be searched and piped."""
    import textwrap

    from relight import plugins
    from relight.config import stage_class
    from relight.config.options import options_of, summary

    if arguments.stage is None:
        for name in plugins.offered("stages"):
            try:
                what = summary(stage_class(name))
            except plugins.PluginError as error:
                what = f"can't be used: {error}"
            print(f"{name:<16}{what}")
        return 0
    cls = stage_class(arguments.stage)
    needs, gives = (", ".join(getattr(cls, part)) or "nothing" for part in ("needs", "gives"))
    print(f"{summary(cls)}\nNeeds {needs}; gives {gives}.\n")
    for option in options_of(cls):
        default = "required" if option.default is None else f"default {option.default}"
        print(f"{option.name}: {option.type}, {default}")
        if option.help:
            print(textwrap.fill(option.help, 100, initial_indent="    ", subsequent_indent="    "))
    return 0
