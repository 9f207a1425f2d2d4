"""Numba kernels, one file a family."""

from __future__ import annotations

import numba

# A fit and a viewer call kernels from two threads; Numba's fallback layer, workqueue, aborts the process then.
numba.config.THREADING_LAYER = "threadsafe"
