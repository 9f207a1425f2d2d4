"""Numba kernels, one file a family."""

from __future__ import annotations

import numba

# A fit and a viewer call kernels from two threads; Numba's fallback layer, workqueue, aborts the process then.
numba.config.THREADING_LAYER = "threadsafe"


def start_threads() -> None:
    """Start Numba's threads now, if they aren't running.

    To be called before a library is loaded that brings a TBB of its own, as Open3D does: Numba would find that one,
    call it too old and fall back to another threading layer.
    """
    numba.get_num_threads()
