"""Run the stages of a scene file.

examples:
  relight fit scene.yaml
  relight fit scene.yaml radiance.iterations=3000 data.max_size=400
  relight fit scene.yaml preset=full
  relight fit scene.yaml --view              watch it in a browser, and look at the result
  relight fit scene.yaml                     the same command continues after a kill or Ctrl-C
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from relight.cli.view import add_server_arguments, open_server, viewer_module, wait_for_ctrl_c


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Scene file, overrides, resume, until, quiet."""
    parser.add_argument("scene", help="scene file (YAML), or the folder it is in")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. radiance.iterations=500")
    parser.add_argument(
        "--resume", action=argparse.BooleanOptionalAction, default=True,
        help="continue an interrupted stage and keep one that was ended early (default), or start them anew",
    )  # fmt: skip
    parser.add_argument("--until", metavar="STAGE", help="stop after this stage")
    parser.add_argument(
        "--checkpoint-every", type=float, default=30.0, metavar="SECONDS",
        help="how much work a kill may cost (default: 30; less on machines that are taken away)",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="print only errors and the result")
    parser.add_argument("--view", action="store_true", help="serve the fit, and then its result, until Ctrl-C")
    add_server_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Fit, write the report, print where things are."""
    from relight import pipeline
    from relight.cli.progress import Terminal
    from relight.config import load_config

    config = load_config(arguments.scene, arguments.overrides)
    with ExitStack() as serving:
        with Terminal(quiet=arguments.quiet) as terminal, asked_to_stop(terminal.say) as stop:
            enough = threading.Event()
            live = _served(arguments, serving, (stop, enough), terminal.say) if arguments.view else None

            def tell(event: pipeline.Event) -> None:
                terminal(event)
                if live is not None:
                    live(event)

            try:
                result = pipeline.run(
                    config, resume=arguments.resume, until=arguments.until, on_event=tell, stop=stop, enough=enough,
                    checkpoint_seconds=arguments.checkpoint_every,
                )  # fmt: skip
            except pipeline.Interrupted:
                terminal.say("stopped and saved; the same command continues")
                return 130
        _print(result)
        if live is not None:
            live.finished(result.scene)
            print("the viewer goes on until Ctrl-C", flush=True)
            wait_for_ctrl_c()
    return 0


def _served(arguments: argparse.Namespace, serving: ExitStack, wishes: tuple[threading.Event, ...], say) -> Any:
    """A viewer of this fit; the listener that it gives.  wishes: to stop, and for the next stage."""
    live = viewer_module("live").Live(*wishes)
    server = open_server(arguments, "relight fit")
    serving.enter_context(viewer_module("app").open_app(None, server, arguments.lights, live).serving())
    say(f"look at: {server.address}")
    return live


def _print(result) -> None:
    from relight.compress import curve
    from relight.export.report import write_report

    for name, value in result.scene.history[-1].metrics.items():
        if name.startswith("test_"):
            print(f"{name}: {value:.3f}")
    if (result.stage / curve.JSON).is_file():
        rungs, summary = curve.read(result.stage)
        print(curve.table(rungs, summary["chosen"]))
    print(f"result:  {result.stage}")
    if result.scene.gaussians is not None:
        report = write_report(result.folder, result.folder / "report.html")
        print(f"report:  {report}\npicture: {report.with_suffix('.png')}")


@contextmanager
def asked_to_stop(say) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets, so that the stage saves and stops; the second one kills."""
    stop = threading.Event()
    earlier: dict[signal.Signals, object] = {}

    def ask(number: int, frame: object) -> None:
        stop.set()
        for each, handler in earlier.items():
            signal.signal(each, handler)  # type: ignore[arg-type]
        say("saving; once more to stop without")

    if threading.current_thread() is threading.main_thread():
        earlier = {each: signal.signal(each, ask) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for each, handler in earlier.items():
            signal.signal(each, handler)  # type: ignore[arg-type]
        sys.stderr.flush()
