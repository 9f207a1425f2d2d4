"""Numba kernels, one file a family."""
