"""Runs in processes of their own that die, or meet a full disk, at a chosen moment."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Literal

# A server that has imported torch and has no threads: its children start in milliseconds, and may be killed.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "relight.pipeline",
        "relight.data",
        "relight.stages.radiance",
        "pydantic.main",
        "PIL.PngImagePlugin",
        "safetensors.torch",
    ]
)

Fault = Literal["none", "kill", "full"]
WRITES = ("os.rename", "os.link", "os.mkdir", "os.truncate")
REMOVES = ("os.remove", "os.rmdir", "shutil.rmtree")


def start(scene: Path, words: list[str], fault: Fault = "none", at: int = 0) -> ForkServerProcess:
    """A process that runs the scene file and checkpoints every step.

    fault: what happens before the file operation number `at` within the run folder, counted from 1.
    Exit codes are the command line's.
    """
    process = CONTEXT.Process(target=_child, args=(str(scene), words, fault, at))
    process.start()
    return process


def finish(process: ForkServerProcess) -> int:
    """Its exit code; negative for a signal."""
    process.join(60)
    assert process.exitcode is not None, "the run hangs"
    return process.exitcode


def _child(scene: str, words: list[str], fault: Fault, at: int) -> None:
    from relight import pipeline
    from relight.config import load_config
    from relight.errors import RelightError
    from relight.pipeline import job

    job.MOST_OF_THE_TIME = 0
    os.fsync = lambda descriptor: None  # what the process wrote outlives it without, and this is what takes time
    config = load_config(scene, words)
    if fault != "none":
        sys.addaudithook(_Faulty(str(config.output), fault, at))
    try:
        pipeline.run(config, checkpoint_seconds=0)
    except RelightError as error:
        Path(scene).with_suffix(".error").write_text(str(error))
        sys.exit(2)


class _Faulty:
    """An audit hook: Python calls it before every operation on files."""

    def __init__(self, folder: str, fault: Fault, at: int):
        self.folder, self.fault, self.left = folder, fault, at

    def __call__(self, event: str, arguments: tuple) -> None:
        writes = event in WRITES or (event == "open" and self._writes(arguments))
        if not (writes or (event in REMOVES and self.fault == "kill")):
            return
        if not any(isinstance(a, str | os.PathLike) and os.fspath(a).startswith(self.folder) for a in arguments):
            return
        self.left -= 1
        if self.fault == "kill" and self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        # Once full, a disk stays full; only the report to the tests gets through.
        if self.fault == "full" and self.left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))

    @staticmethod
    def _writes(arguments: tuple) -> bool:
        return bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
