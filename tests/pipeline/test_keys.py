"""Content keys: what makes a result another one, and what doesn't."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from relight.data import load
from relight.pipeline.keys import BLOCK, BLOCKS, _sampled, data_key


def edit_transforms(folder: Path, change) -> None:
    path = folder / "transforms.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def touch(folder: Path) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))


def repaint(folder: Path) -> None:
    path = folder / "images" / "001.png"
    pixels = np.array(Image.open(path))
    pixels[7, 7, 0] ^= 1
    Image.fromarray(pixels).save(path)


def swap(folder: Path) -> None:
    a, b = folder / "images" / "000.png", folder / "images" / "001.png"
    a.rename(folder / "x")
    b.rename(a)
    (folder / "x").rename(b)


def remove(folder: Path) -> None:
    edit_transforms(folder, lambda d: d["frames"].pop())


def move_camera(folder: Path) -> None:
    edit_transforms(folder, lambda d: d["frames"][1]["transform_matrix"][0].__setitem__(3, 1.0))


def zoom(folder: Path) -> None:
    edit_transforms(folder, lambda d: d.__setitem__("fl_x", 20.0))


def mask(folder: Path) -> None:
    (folder / "masks").mkdir()
    for path in (folder / "images").iterdir():
        Image.new("L", (16, 16), 255).save(folder / "masks" / path.name)
    edit_transforms(folder, lambda d: [f.update(mask_path=f"masks/{Path(f['file_path']).name}") for f in d["frames"]])


@pytest.mark.parametrize("change", [repaint, swap, remove, move_camera, zoom, mask])
def test_what_changes_the_key(copied_capture, change):
    before = data_key(load(copied_capture))
    change(copied_capture)
    assert data_key(load(copied_capture)) != before


def reformat(folder: Path) -> None:
    path = folder / "transforms.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=3, sort_keys=True))


def add_others(folder: Path) -> None:
    (folder / "notes.txt").write_text("not a part of the capture")
    shutil.copy(folder / "images" / "000.png", folder / "images" / "999.png")


def move(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))


@pytest.mark.parametrize("change", [touch, reformat, add_others, move])
def test_what_does_not_change_the_key(copied_capture, change):
    before = data_key(load(copied_capture))
    change(copied_capture)
    assert data_key(load(copied_capture if copied_capture.exists() else copied_capture.with_name("moved"))) == before


@pytest.mark.parametrize("option", [{"max_size": 8}, {"test_every": 2}, {"test_every": 0}])
def test_options_that_change_what_is_read(capture, option):
    assert data_key(load(capture, **option)) != data_key(load(capture))


@pytest.mark.parametrize("option", [{"format": "transforms"}, {"test_every": 4}])
def test_options_that_read_the_same(capture, option):
    assert data_key(load(capture, **option)) == data_key(load(capture))


def test_a_touched_capture_is_not_fitted_again_and_a_changed_one_is(bench, copied_capture):
    from run_bench import COUNT

    bench.capture = copied_capture
    bench(COUNT)
    touch(copied_capture)
    bench(COUNT)
    assert bench.ran == []
    repaint(copied_capture)
    bench(COUNT)
    assert bench.ran == ["count"]


def test_a_file_that_an_option_names_counts_by_what_it_holds(bench, tmp_path):
    stages, weights = "  - use: fake_stages:Read\n    table: {}\n    prior: ./weights\n", tmp_path / "weights"
    weights.mkdir()
    for name in ("a.txt", "b.txt", "weights/part"):
        (tmp_path / name).write_text("1")
    assert bench.folder == tmp_path
    bench(stages.format("a.txt"))
    bench(stages.format("b.txt"))
    assert bench.ran == [], "another file with the same content"
    (tmp_path / "b.txt").write_text("2")
    bench(stages.format("b.txt"))
    assert bench.ran == ["read"]
    (weights / "part").write_text("2")
    bench(stages.format("b.txt"))
    assert bench.ran == ["read"]
    (weights / "part").rename(weights / "other")
    bench(stages.format("b.txt"))
    assert bench.ran == ["read"]


@pytest.mark.parametrize("size", [0, 1, BLOCK * BLOCKS, BLOCK * BLOCKS + 1, 3 * BLOCK * BLOCKS + 17])
def test_the_sample_of_a_file_covers_both_ends_and_its_size(tmp_path, size):
    path = tmp_path / "f"
    content = bytearray(np.random.default_rng(size).bytes(size))
    path.write_bytes(content)
    key = _sampled(path)
    assert _sampled(path) == key
    path.write_bytes(content + b"\0")
    assert _sampled(path) != key
    for place in {0, size // 2, size - 1} if 0 < size <= BLOCK * BLOCKS else {0, size - 1} if size else set():
        changed = content.copy()
        changed[place] ^= 1
        path.write_bytes(changed)
        assert _sampled(path) != key, place
