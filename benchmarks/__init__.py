"""Benchmarks: one script a figure; each prints one JSON line and writes it to results/."""

import os

# Before torch is loaded, as the command line does: idle threads that spin slow down whatever else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
