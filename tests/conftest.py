"""Fixtures of more than one test module."""

from __future__ import annotations

import os

# Before torch is loaded: idle threads that spin make tests many times slower where cores are shared.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:  # one worker for each core, so one thread for each worker
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Captures made by others: $RELIGHT_DATA, else ../shared/data next to the repository.  Skips without them."""
    folder = Path(os.environ.get("RELIGHT_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set RELIGHT_DATA")
    return folder
