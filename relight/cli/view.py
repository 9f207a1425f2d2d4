"""Look at a run, a splat or a textured mesh in a browser: light it, select in it, take it away.

examples:
  relight view runs/fox
  relight view runs/fox/01-radiance --lights hdris/
  relight view scene.yaml                       its run; before there is one, cameras and photographs
  relight view scan.sog --port 9000
  relight view model.glb                        a textured mesh
  relight view runs/fox --host 0.0.0.0          from other machines, with a token
"""

from __future__ import annotations

import argparse
import sys
import threading
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from relight.errors import RelightError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Source and server."""
    parser.add_argument(
        "source", metavar="SOURCE", type=Path, help="run, stage folder, scene file (.yaml), splat or model file"
    )
    add_server_arguments(parser)


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """What `relight fit --view` takes too."""
    server = parser.add_argument_group("viewer")
    server.add_argument("--host", default="localhost", help="to serve on (default: this machine only)")
    server.add_argument("--port", type=int, default=8080, help="the next free one if it is taken (default: 8080)")
    server.add_argument("--token", help="that browsers must bring; default: a random one unless on this machine only")
    server.add_argument(
        "--lights",
        type=Path,
        metavar="FOLDER",
        help="of .hdr and .exr files to choose from (default: lights beside the photographs)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    app_module = viewer_module("app")
    if not arguments.source.exists():
        raise RelightError(f"{arguments.source}: no such file or folder")
    server = open_server(arguments, f"relight · {arguments.source.resolve().name}")
    with app_module.open_app(arguments.source, server, arguments.lights).serving():
        print(f"look at: {server.address}", flush=True)
        wait_for_ctrl_c()
    return 0


def open_server(arguments: argparse.Namespace, title: str) -> Any:
    """A `relight.viewer.server.Server` as the options say.  Raises RelightError without viser."""
    if not 0 <= arguments.port < 1 << 16:
        raise RelightError(f"--port {arguments.port}: expected 0 to 65535")
    return viewer_module("server").Server(arguments.host, arguments.port, arguments.token, title=title)


def wait_for_ctrl_c() -> None:
    """Until the user has seen enough."""
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print(file=sys.stderr)


def viewer_module(name: str) -> Any:
    """A module of `relight.viewer`, which `relight` must work without.  Raises RelightError if it isn't installed."""
    package = import_module("relight")
    checkout = Path(str(package.__file__)).parents[1]
    # In a checkout that was not installed, the folder lies beside the package instead of in it.
    in_checkout = (checkout / "viewer" / "app.py").is_file() and (checkout / "pyproject.toml").is_file()
    if in_checkout and str(checkout) not in package.__path__:
        package.__path__.insert(0, str(checkout))
    if find_spec("relight.viewer") is None:
        raise RelightError("the viewer is not installed: pip install 'relight[viewer]'")
    return import_module(f"relight.viewer.{name}")
