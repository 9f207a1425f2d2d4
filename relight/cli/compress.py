"""Make a Gaussian splat file small: prune, recover, and write it as coarsely as still looks the same.

examples:
  relight compress scene.ply -o small.sog                          loses at most 0.3 dB
  relight compress scene.ply -o small.sog --max-psnr-drop 0.1
  relight compress scene.ply -o small.spz --max-size 5MB           the best there is of this size
  relight compress scene.ply -o small.sog --count 200k
  relight compress scene.ply -o small.sog iterations=1000          slower, and smaller; see relight options compress
  relight compress scene.ply -o small.sog --curve curve.svg        size against quality, of all that was tried

A splat alone has no photographs: it is compared with itself, from cameras around it.  For a run, whose photographs
tell more, add the stage compress to its scene file.  Ctrl-C saves; the same command continues.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relight.cli.arguments import keep_files

if TYPE_CHECKING:
    from relight.config import StageConfig
    from relight.scene import Scene

TARGETS = ("max_psnr_drop", "max_size", "count")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Input, output, target, options of the stage."""
    parser.add_argument("source", metavar="INPUT", type=Path, help="splat file, or folder of an unbundled SOG")
    parser.add_argument("-o", "--output", type=Path, required=True, help="file to write; its suffix is the format")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="options of the stage compress")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--max-psnr-drop", metavar="DB", help="smallest file that loses so many decibels (0.3)")
    target.add_argument("--max-size", metavar="BYTES", help="best file of this size, such as 5MB")
    target.add_argument("--count", metavar="N", help="number of Gaussians, such as 200k")
    parser.add_argument("--curve", type=Path, metavar="FILE.svg", help="drawing of all trials; as JSON beside it")
    parser.add_argument("--force", action="store_true", help="replace existing files")
    parser.add_argument("--quiet", action="store_true", help="print only errors and the result")
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Compress, print the curve, say what was written."""
    from relight.atomic import replacing
    from relight.cli.fit import asked_to_stop
    from relight.cli.progress import Terminal
    from relight.compress import curve
    from relight.pipeline import Interrupted

    stage, scene = _checked(arguments)
    output, work = arguments.output, arguments.output.with_name(f".{arguments.output.name}.work")
    with Terminal(quiet=arguments.quiet) as terminal, asked_to_stop(terminal.say) as stop:
        try:
            folder = _run_stage(stage, scene, work, _digest(arguments.source), arguments.seed, terminal, stop)
        except Interrupted:
            terminal.say("stopped and saved; the same command continues")
            return 130
    rungs, summary = curve.read(folder)
    for made, wanted in ((summary["file"], output), *_curve_files(arguments)):
        with replacing(wanted) as temporary:
            shutil.copyfile(folder / made, temporary)
    shutil.rmtree(work)
    chosen, before = rungs[summary["chosen"]], _size(arguments.source)
    print(curve.table(rungs, chosen.index))
    print(
        f"wrote {output} ({chosen.count:,} of {summary['before']:,} Gaussians, {chosen.size:,} bytes, "
        f"{before / chosen.size:.1f} times smaller than {arguments.source.name})"
    )
    return 0


def _checked(arguments: argparse.Namespace) -> tuple[StageConfig, Scene]:
    """All that can be wrong, before anything is computed."""
    from relight.config import stage_alone
    from relight.errors import RelightError
    from relight.export.runs import last_stage
    from relight.formats import read_splat, writable
    from relight.render.trajectory import subject
    from relight.scene import Frame, Scene

    source, output = arguments.source, arguments.output
    target = writable(output)
    if output.name.lower() == "meta.json":
        raise RelightError(f"{output}: name a .sog; `relight convert small.sog {output}` then takes it apart")
    keep_files([output, *(path for _, path in _curve_files(arguments))], arguments.force)
    words = [f"{name}={value}" for name in TARGETS if (value := getattr(arguments, name)) is not None]
    stage = stage_alone("compress", [*arguments.overrides, *words, f"format={target.name}"])
    if source.is_dir() and not (source / "meta.json").is_file():
        raise RelightError(
            f"{last_stage(source)}: a run; add the stage compress to its scene file and fit again, "
            "so that its photographs can tell"
        )
    gaussians = read_splat(source)
    if not len(gaussians):
        raise RelightError(f"{source}: holds no Gaussians")
    center, radius = subject(gaussians)
    x, y, z = center.tolist()
    return stage, Scene(Frame((x, y, z), radius), gaussians=gaussians)


def _run_stage(
    stage: StageConfig, scene: Scene, work: Path, digest: str, seed: int, listener: Any, stop: threading.Event
) -> Path:
    """Run in a folder beside the output, so that what was begun can be continued; returns the result's."""
    from relight.pipeline import torch_device
    from relight.pipeline.events import Loaded, StageFinished, StageStarted
    from relight.pipeline.job import FolderJob
    from relight.pipeline.keys import stage_key

    listener(Loaded(scene, (stage.name,)))
    job = FolderJob(
        work, 0, stage_key(stage, seed, digest), device=torch_device("auto"), backend="auto", seed=seed, stop=stop,
        enough=threading.Event(), emit=listener, checkpoint_seconds=30.0,
    )  # fmt: skip
    listener(StageStarted(0, job.restored.step if job.restored else 0))
    with job:
        stage.stage.run(scene, job)
    listener(StageFinished(0, job.folder, job.seconds, job.metrics))
    return job.folder


def _curve_files(arguments: argparse.Namespace) -> tuple[tuple[str, Path], ...]:
    """Names in the stage's folder, and where they shall be."""
    from relight.compress.curve import DRAWING, JSON

    if arguments.curve is None:
        return ()
    return (DRAWING, arguments.curve), (JSON, arguments.curve.with_suffix(".json"))


def _files(source: Path) -> list[Path]:
    return sorted(p for p in source.iterdir() if p.is_file()) if source.is_dir() else [source]


def _digest(source: Path) -> str:
    digest = hashlib.sha256()
    for path in _files(source):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _size(source: Path) -> int:
    return sum(path.stat().st_size for path in _files(source))
