"""Fixtures of the pipeline's tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from run_bench import Bench

from relight.pipeline import job as job_module
from relight.testing.capture import write_capture


@pytest.fixture(scope="session")
def capture(tmp_path_factory) -> Path:
    """Not to be changed; `copied_capture` may be."""
    return write_capture(tmp_path_factory.mktemp("capture"), views=4)


@pytest.fixture
def copied_capture(capture, tmp_path) -> Path:
    return Path(shutil.copytree(capture, tmp_path / "photos"))


@pytest.fixture
def bench(tmp_path, capture, monkeypatch) -> Bench:
    monkeypatch.chdir(tmp_path)
    return Bench(tmp_path, capture)


@pytest.fixture
def checkpoint_every_step(monkeypatch):
    """However long the last checkpoint took."""
    monkeypatch.setattr(job_module, "MOST_OF_THE_TIME", 0)
