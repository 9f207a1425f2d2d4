"""Files are complete or absent, and what a killed writer left is cleared away."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from relight.atomic import _host, remove_leftovers, replacing
from relight.errors import RelightError

DIE = """
import os, signal, sys
from relight.atomic import replacing
with replacing(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_is_there_when_the_block_ends_and_not_before(tmp_path):
    path = tmp_path / "new" / "a.png"
    with replacing(path) as temporary:
        assert temporary.suffix == ".png" and temporary.name.startswith(".") and temporary.parent == path.parent
        temporary.write_text("x")
        assert not path.exists()
    assert path.read_text() == "x" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_earlier_file_and_nothing_else(tmp_path, failure):
    path = tmp_path / "a.txt"
    path.write_text("earlier")
    with pytest.raises(failure), replacing(path) as temporary:
        temporary.write_text("half")
        raise failure
    assert path.read_text() == "earlier" and list(tmp_path.iterdir()) == [path]


def test_an_error_of_the_file_system_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RelightError, match=r"cannot be written \(File exists\); choose another place"), \
            replacing(tmp_path / "file" / "a.txt"):  # fmt: skip
        pass
    with pytest.raises(RelightError, match=r"cannot be written \(Is a directory\); choose another place"), \
            replacing(tmp_path) as temporary:  # fmt: skip
        temporary.write_text("x")


@pytest.mark.skipif(sys.platform == "win32", reason="no kill -9 there")
def test_the_next_writer_clears_away_what_a_killed_one_left(tmp_path):
    path = tmp_path / "a [1].txt"
    subprocess.run([sys.executable, "-c", DIE, str(path)])
    (left,) = tmp_path.iterdir()
    others = [
        f".a [1].{_host()}-{os.getpid()}-0123abcd.txt",  # of a process that lives
        f".a [1].00000000-{left.name.split('-')[1]}-0123abcd.txt",  # of another machine
        left.name.replace("a [1]", "b"),
        left.name.replace(".txt", ".png"),
        ".a [1].txt",
    ]
    for name in others:
        (tmp_path / name).write_text("not ours to remove")
    with replacing(path) as temporary:
        temporary.write_text("x")
    assert {p.name for p in tmp_path.iterdir()} == {path.name, *others}


def test_nothing_to_clear_away_where_there_is_no_folder(tmp_path):
    remove_leftovers(tmp_path / "none" / "a.txt")
