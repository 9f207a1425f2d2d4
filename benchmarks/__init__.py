"""Benchmarks: one script a figure; each prints one JSON line and writes it to results/."""

import os
from pathlib import Path

# Before torch is loaded, as the command line does: idle threads that spin slow down whatever else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("RELIGHT_DATA", ROOT.parent / "shared" / "data")).resolve()
"""The folder of captures, models and lights that others made."""
