"""Fit many scene files, several at once, here or on a Ray cluster; one that fails stops no other.

examples:
  relight batch scenes/*.yaml
  relight batch scenes/*.yaml --workers 2 radiance.iterations=3000
  relight batch scenes/*.yaml --workers 4 --gpus-per-task 1      a GPU for each of four workers
  relight batch scenes/*.yaml --engine ray --address auto        on the cluster this machine belongs to
  relight batch scenes/*.yaml                the same command continues, and keeps what is done
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Scenes, engine, report."""
    parser.add_argument(
        "scenes", nargs="+", metavar="scene", help="scene files, or folders with one; and key=value for all of them"
    )
    parser.set_defaults(overrides=[])
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local",
        help="processes of this machine (default), or Ray: pip install 'relight[ray]'",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=_workers, metavar="N",
        help="scenes at once, which share the processors (default: 1; of a cluster: all it has room for)",
    )  # fmt: skip
    parser.add_argument(
        "--address", help="of a Ray cluster whose machines see the same files; auto: the one of this machine"
    )
    parser.add_argument(
        "--gpus-per-task", type=_share, default=0.0, metavar="X",
        help="GPUs of its own for each scene, or a share of one, such as 0.5 (default: no say)",
    )  # fmt: skip
    parser.add_argument(
        "--retries", type=_retries, default=2, metavar="N",
        help="more tries for a scene whose process died (default: 2)",
    )  # fmt: skip
    parser.add_argument(
        "--report", type=Path, default=Path("runs/batch.html"), metavar="FILE",
        help="page about all scenes; a .json with the same goes beside it (default: runs/batch.html)",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="print only errors and the result")


def run(arguments: argparse.Namespace) -> int:
    """Fit, write the report, print the table.  Exit code: 0 all done, 2 for scenes' mistakes, 1 for worse."""
    import time

    from relight.batch.engines import create_engine
    from relight.batch.report import keep_others, write_batch_report
    from relight.batch.scenes import scene_tasks
    from relight.batch.schedule import run_tasks
    from relight.cli.fit import asked_to_stop
    from relight.cli.progress import BatchTerminal

    begun = time.monotonic()
    overrides = [*(w for w in arguments.scenes if _is_override(w)), *arguments.overrides]
    tasks = scene_tasks([w for w in arguments.scenes if not _is_override(w)], overrides)
    report = arguments.report.with_suffix(".html")
    keep_others(report)
    engine = create_engine(
        arguments.engine, workers=arguments.workers, address=arguments.address, gpus=arguments.gpus_per_task
    )
    with (
        BatchTerminal(len(tasks), quiet=arguments.quiet) as terminal,
        asked_to_stop(terminal.say) as stop,
        engine,
    ):
        outcomes = run_tasks(tasks, engine, retries=arguments.retries, on_event=terminal, stop=stop)
    seconds = time.monotonic() - begun
    write_batch_report(report, outcomes, engine=arguments.engine, seconds=seconds)
    _print(outcomes)
    print(f"report:  {report}")
    statuses = {o.ending.status for o in outcomes}
    return 130 if "stopped" in statuses else 1 if "broken" in statuses else 2 if "refused" in statuses else 0


def _print(outcomes: Any) -> None:
    width = max(len(o.task.key) for o in outcomes)
    print(f"{'scene':<{width}}  status   tries  seconds  test PSNR")
    for o in outcomes:
        psnr = o.ending.result.get("metrics", {}).get("test_psnr")
        shown = "" if psnr is None else f"{psnr:9.2f}"
        print(f"{o.task.key:<{width}}  {o.ending.status:<7}  {o.tries:>5}  {o.seconds:7.0f}  {shown}".rstrip())


def _is_override(word: str) -> bool:
    return "=" in word and not Path(word).exists()


def _share(text: str) -> float:
    value = float(text)
    if not (0 <= value < 1 or value == int(value)):
        raise argparse.ArgumentTypeError(f"expected a whole number, or a share below 1 (got {text})")
    return value


def _at_least(least: int, text: str) -> int:
    value = int(text)
    if value < least:
        raise argparse.ArgumentTypeError(f"expected {least} or more (got {text})")
    return value


_workers, _retries = partial(_at_least, 1), partial(_at_least, 0)
