"""A run on disk: one folder a stage, work in progress, earlier results, and the lock."""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import suppress
from pathlib import Path

from relight.atomic import ADVICE, remove_leftovers, replacing
from relight.config import Config, resolved_text
from relight.errors import DataError, RelightError
from relight.pipeline.events import Listener, Note
from relight.pipeline.job import CHECKPOINT, checkpoint_key
from relight.pipeline.keys import early_key
from relight.scene_io import MANIFEST, flush, read_manifest, stage_folders

try:
    import fcntl
except ImportError:  # Windows: two fits of one folder are not kept apart there
    fcntl = None

HEADER = "# Written by relight: every option of this run, defaults filled in.  `relight fit` takes it as it is.\n"


class RunFolder:
    """Open with `with`: holds the run's lock.  Raises RelightError if another process has it."""

    def __init__(self, path: Path, emit: Listener):
        self.path, self.emit = path, emit
        self.work, self.old = path / ".work", path / ".old"
        self._lock: int | None = None

    def __enter__(self) -> RunFolder:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            advice = ADVICE.get(error.errno or 0, "set another output")
            raise RelightError(f"{self.path}: cannot be made ({error.strerror}); {advice}") from error
        while fcntl is not None:
            descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(descriptor, 200).decode(errors="replace").strip()
                os.close(descriptor)
                raise RelightError(
                    f"{self.path}: another relight works here ({holder or 'process unknown'}); "
                    "wait for it, stop it, or set another output"
                ) from None
            # The one who had it may have removed the file between our open and our lock.
            if self._is_current(descriptor):
                self._lock = descriptor
                break
            os.close(descriptor)
        if self._lock is not None:
            with suppress(OSError):  # on a full disk the lock holds without saying whose it is
                os.ftruncate(self._lock, 0)
                os.write(self._lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            with suppress(OSError):
                (self.path / ".lock").unlink()
            os.close(self._lock)
            self._lock = None

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.stat(self.path / ".lock"), os.fstat(descriptor))
        except FileNotFoundError:
            return False

    def write_config(self, config: Config) -> None:
        """scene.yaml, unless a file of the user's is in the way."""
        path = self.path / "scene.yaml"
        remove_leftovers(path)
        text = HEADER + resolved_text(config, self.path)
        if path.is_file():
            found = path.read_text(encoding="utf-8", errors="replace")
            if found == text:
                return
            if not found.startswith(HEADER):
                raise RelightError(f"{path}: a file that relight did not write is in the way; set another output")
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def stage(self, index: int, name: str) -> Path:
        return self.path / f"{index + 1:02d}-{name}"

    def found(self, folder: Path, key: str, *, early: bool) -> str | None:
        """The content key of the complete scene in `folder`, if that is `key`; None for others and for nothing.

        early: or, of a stage that was ended early, what `early_key` makes of it.  Raises DataError for a damaged list.
        """
        if not (folder / MANIFEST).is_file():
            return None
        manifest = read_manifest(folder)
        last = manifest["history"][-1] if manifest["history"] else {}
        wanted = early_key(key, last["steps"]) if early and last.get("ended_early") else key
        return wanted if manifest["key"] == wanted else None

    def is_ready(self, folder: Path, key: str) -> bool:
        """Whether work in progress, whose manifest a crash of the machine may have damaged, is a complete result."""
        with suppress(DataError):
            return self.found(folder, key, early=True) is not None
        return False

    def working(self, index: int, name: str, key: str, *, resume: bool) -> Path:
        """Where the stage works.  Work on the same stage with other options is set aside."""
        work = self.work / self.stage(index, name).name
        if work.exists() and not resume:
            shutil.rmtree(work)
        other = checkpoint_key(work) if work.exists() else None
        if other is not None and other != key:
            self._set_aside(work, ".unfinished")
        return work

    def install(self, finished: Path, index: int, name: str) -> Path:
        """Move a finished result into place, and earlier results of this and later stages out of it."""
        target = self.stage(index, name)
        for path in sorted(finished.rglob("*")):
            if path.is_file():
                flush(path)
        flush(finished)
        # The result is complete.  A checkpoint that a kill after the rename leaves would look like unfinished work.
        (self.work / target.name / CHECKPOINT).unlink(missing_ok=True)
        self._put(finished, index, target)
        flush(self.path)
        shutil.rmtree(self.work / target.name, ignore_errors=True)
        return target

    def restore(self, index: int, name: str, key: str) -> Path | None:
        """Bring back an earlier result with this key, if there is one."""
        target = self.stage(index, name)
        for folder in sorted(self.old.glob(f"{target.name}.*")):
            with suppress(DataError):
                if self.found(folder, key, early=False) is not None:
                    self._put(folder, index, target)
                    self._remove_if_empty(self.old)
                    return target
        return None

    def finish(self, count: int) -> None:
        """After the last of `count` stages: set aside what belongs to stages that are no longer in the list."""
        self._make_room(count)
        if self.work.is_dir():
            for work in sorted(self.work.iterdir()):
                if checkpoint_key(work) is not None:
                    self._set_aside(work, ".unfinished")
            shutil.rmtree(self.work)

    def tidy(self) -> None:
        self._remove_if_empty(self.work)

    def _put(self, folder: Path, index: int, target: Path) -> None:
        """Rename a complete result to the folder of stage `index`."""
        self._make_room(index)
        if target.exists():  # without a manifest, so no result of ours any more
            self._set_aside(target)
        os.rename(folder, target)

    def _make_room(self, index: int) -> None:
        """Set aside the results of stage `index` and later: their input is no longer what they were made from."""
        for folder in stage_folders(self.path):
            if int(folder.name[:2]) > index:
                self._set_aside(folder)

    def _set_aside(self, folder: Path, suffix: str = "") -> None:
        self.old.mkdir(exist_ok=True)
        number = 1
        while (target := self.old / f"{folder.name}.{number}{suffix}").exists():
            number += 1
        os.rename(folder, target)
        self.emit(Note(f"{folder.name}: the earlier result is now in {os.path.relpath(target)}"))

    @staticmethod
    def _remove_if_empty(folder: Path) -> None:
        with suppress(OSError):
            folder.rmdir()
