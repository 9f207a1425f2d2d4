"""Fixtures of more than one test module."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Captures made by others: $RELIGHT_DATA, else ../shared/data next to the repository.  Skips without them."""
    folder = Path(os.environ.get("RELIGHT_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set RELIGHT_DATA")
    return folder
