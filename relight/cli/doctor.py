"""Show which backends and optional libraries can be used here, and why others can't.

examples:
  relight doctor
"""

from __future__ import annotations

import argparse
import os
import platform
from importlib.util import find_spec

OPTIONAL = {
    "mitsuba": ("reference", "path-traced ground truth"),
    "open3d": ("mesh", "shadows and bounces on the CPU"),
    "xatlas": ("mesh", "texture coordinates"),
    "pxr": ("mesh", "USD files"),
    "warp": ("warp", "shadows and bounces on an NVIDIA GPU"),
    "gsplat": ("gsplat", "splats on an NVIDIA GPU"),
    "viser": ("viewer", "the live viewer"),
    "diffusers": ("diffusion", "diffusion models"),
    "pycolmap": ("sfm", "cameras from plain photos"),
    "ray": ("ray", "many scenes on many machines"),
}
"""Library to (extra of ours that installs it, what for)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(arguments: argparse.Namespace) -> int:
    """Print two tables, and what is wrong with plugins."""
    import numba
    import torch
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from relight import __version__, plugins
    from relight.render.meshes import available_mesh_backends
    from relight.render.splats import available_backends
    from relight.render.tracing import available_tracers

    console = Console()
    console.print(f"relight {__version__}, Python {platform.python_version()}, {platform.platform()}")
    console.print(
        f"torch {torch.__version__}, numba {numba.__version__}, {os.cpu_count()} cores, CUDA {torch.version.cuda}"
    )
    backends = Table("backend", "for", "usable", "why not")
    for kind, reasons in (
        ("splats", available_backends()),
        ("meshes", available_mesh_backends()),
        ("rays", available_tracers()),
    ):
        for name, reason in reasons.items():
            backends.add_row(name, kind, "no" if reason else "yes", escape(reason or ""))
    console.print(backends)
    libraries = Table("library", "installed", "for", "install with")
    for name, (extra, purpose) in OPTIONAL.items():
        there = find_spec(name) is not None
        libraries.add_row(name, "yes" if there else "no", purpose, "" if there else f"pip install 'relight\\[{extra}]'")
    console.print(libraries)
    for kind in plugins.KINDS:
        for name, reason in plugins.problems(kind).items():
            console.print(f"{plugins.KINDS[kind]} {name}: {reason}", markup=False, soft_wrap=True)
    return 0
