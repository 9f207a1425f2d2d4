"""One script a figure; each records its numbers under results/.  `python -m benchmarks.tables` fills the README."""
