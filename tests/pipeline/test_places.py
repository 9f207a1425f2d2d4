"""Outputs that can't be written, and outputs that somebody else writes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from run_bench import COUNT

from relight.errors import RelightError
from relight.pipeline.folder import RunFolder
from relight.testing.capture import write_capture

HOLD = """
import sys
import tempfile
from pathlib import Path
from relight.pipeline.folder import RunFolder
with RunFolder(Path(sys.argv[1]), print):
    print("holding", flush=True)
    sys.stdin.read()
"""

posix = pytest.mark.skipif(sys.platform == "win32", reason="no file locks there")


@posix
def test_two_processes_don_t_work_in_one_folder(bench):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(bench.out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == "holding\n"
        with pytest.raises(RelightError, match=rf"out: another relight works here \(process {other.pid} on .+\); wait"):
            bench(COUNT)
        assert bench.files() == {".lock"}
        other.kill()
    bench(COUNT)  # a lock dies with its process
    assert bench.ran == ["count"]
    assert ".lock" not in bench.files()


@posix
def test_the_lock_is_held_within_a_process_too_and_given_back(tmp_path):
    with RunFolder(tmp_path, print):
        with pytest.raises(RelightError, match=f"process {os.getpid()}"), RunFolder(tmp_path, print):
            pass
        assert (tmp_path / ".lock").exists()
    with RunFolder(tmp_path, print):
        pass
    assert list(tmp_path.iterdir()) == []


@posix
def test_a_lock_file_that_is_removed_while_it_is_waited_for_is_not_taken(tmp_path, monkeypatch):
    import fcntl

    real = fcntl.flock
    calls = []

    def flock(descriptor: int, how: int) -> None:
        if not calls:
            (tmp_path / ".lock").unlink()  # the holder leaves between our open and our lock
        calls.append(descriptor)
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with RunFolder(tmp_path, print):
        assert len(calls) == 2
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()


@posix
def test_a_full_disk_doesn_t_keep_the_lock(bench, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    bench(COUNT)
    bench(COUNT)
    assert bench.ran == []


def test_an_output_that_is_a_file(bench):
    bench.out.write_text("mine")
    with pytest.raises(RelightError, match=r"out: cannot be made \(File exists\); set another output"):
        bench(COUNT)
    assert bench.out.read_text() == "mine"


def test_an_output_below_a_file(bench):
    (bench.folder / "file").write_text("mine")
    with pytest.raises(RelightError, match=r"cannot be made \(Not a directory\); set another output"):
        bench(COUNT, f"output={bench.folder}/file/out")


def test_an_output_with_an_impossible_name(bench):
    with pytest.raises(RelightError, match=r"cannot be made \(File name too long\); set another output"):
        bench(COUNT, f"output={'x' * 300}")


READ_ONLY = """
import os, sys
from relight import pipeline
from relight.config import load_config
from relight.errors import RelightError
config = load_config(sys.argv[1])
pipeline.run(config, until="count")  # imports all there is, which another user may not be allowed to
os.chmod(config.output, 0o555)
if os.geteuid() == 0:
    os.seteuid(65534)
try:
    pipeline.run(load_config(sys.argv[1], ["count.steps=3"]))
except RelightError as error:
    print(error)
    sys.exit(2)
"""


@posix
def test_an_output_that_may_not_be_written():
    # Not in tmp_path: root runs this as nobody, who may not look into it.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        write_capture(folder / "photos", views=3)
        (folder / "s.yaml").write_text(f"data: photos\noutput: {folder}/out\nstages:\n  - use: fake_stages:Count\n")
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        command = [sys.executable, "-c", READ_ONLY, str(folder / "s.yaml")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
        assert done.returncode == 2, done.stderr
        assert done.stdout == (
            f"{folder}/out/.lock: Permission denied; choose another place, or change its permissions and run again: "
            "finished stages and the last checkpoint are kept\n"
        )
        assert sorted(p.name for p in (folder / "out").iterdir()) == ["01-count", "scene.yaml"]
