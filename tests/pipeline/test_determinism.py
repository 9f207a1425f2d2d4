"""The same seed on the same machine gives the same bits, in separate processes."""

from __future__ import annotations

import shutil

import pytest

from benchmarks.determinism import RADIANCE, REST, different_files, fitted
from relight.scene_io import read_tensors, stage_folders, write_tensors


def same_bits_twice(folder, stages: str, count: int) -> None:
    first, again = fitted(folder, stages), fitted(folder, stages, "again")
    assert len(stage_folders(first)) == count
    assert different_files(first, again) == []


@pytest.mark.slow
def test_a_fit_gives_the_same_bits_twice(tmp_path):
    same_bits_twice(tmp_path, RADIANCE, 1)
    # And a bit that differed would be noticed.
    shutil.copytree(tmp_path / "again", tmp_path / "other")
    file = tmp_path / "other/01-radiance/gaussians.safetensors"
    tensors = read_tensors(file)[0]
    tensors["means"][0, 0] = tensors["means"][0, 0].nextafter(tensors["means"][0, 0] + 1)
    write_tensors(file, tensors)
    assert different_files(tmp_path / "first", tmp_path / "other") == ["01-radiance/gaussians.safetensors:means"]


@pytest.mark.slow
def test_all_core_stages_give_the_same_bits_twice(tmp_path):
    same_bits_twice(tmp_path, RADIANCE + REST, 4)
