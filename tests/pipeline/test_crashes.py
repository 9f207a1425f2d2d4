"""kill -9 and full disks, at every operation on files and at random moments."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import crashing
import pytest
from run_bench import COUNT, KEEP, SHIFT, Bench

from relight.errors import RelightError
from relight.scene_io import load_scene

# The fault needs fork; Windows has no kill -9 either.
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no fork")

STAGES = COUNT + KEEP + SHIFT
WORDS = ["count.steps=3"]


def snapshot(folder: Path) -> dict[str, object]:
    """What a run folder says, seconds and places left out."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            found[name] = "folder"
        elif path.name == "metrics.jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
        elif path.name == "scene.json":
            document = json.loads(path.read_text())
            document["history"] = [{k: v for k, v in r.items() if k != "seconds"} for r in document["history"]]
            found[name] = document
        else:
            found[name] = path.read_bytes()
    return found


@pytest.fixture
def scene(bench: Bench, monkeypatch) -> Path:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    bench.config(STAGES)
    return bench.folder / "scene.yaml"


def fit(scene: Path, *words: str, fault: crashing.Fault = "none", at: int = 0) -> int:
    return crashing.finish(crashing.start(scene, [*WORDS, *words], fault, at))


@pytest.fixture(params=["first run", "other options before"])
def start(request, scene, bench):
    """Puts the run folder into the state before the fault."""
    before = bench.folder / "before"
    if request.param != "first run":
        assert fit(scene, "count.size=2") == 0
        bench.out.rename(before)

    def start() -> None:
        shutil.rmtree(bench.out, ignore_errors=True)
        if before.exists():
            shutil.copytree(before, bench.out)

    return start


every = pytest.mark.parametrize("stride", [9, pytest.param(1, marks=pytest.mark.slow)])
"""Operations on files, of which a run has about a hundred, from one fault to the next."""


@every
def test_killed_before_any_operation_on_files_it_ends_as_if_nothing_had_happened(scene, bench, start, stride):
    start()
    assert fit(scene) == 0
    expected = snapshot(bench.out)
    at = 0
    for at in itertools.count(1, stride):
        start()
        code = fit(scene, fault="kill", at=at)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        bench(STAGES, *WORDS)
        assert snapshot(bench.out) == expected, f"killed before operation {at}"
    assert at > 60, "the faults were not met"


@every
def test_a_disk_full_from_any_operation_on_files_is_explained_and_hurts_nothing(scene, bench, start, stride):
    start()
    assert fit(scene) == 0
    expected = snapshot(bench.out)
    at = 0
    for at in itertools.count(1, stride):
        start()
        code = fit(scene, fault="full", at=at)
        if code == 0:
            break
        assert code == 2, f"operation {at}"
        message = scene.with_suffix(".error").read_text()
        assert "No space left on device" in message and "free some space" in message
        for folder in (p for p in bench.out.glob("0*-*") if p.is_dir()):
            assert load_scene(folder).history
        bench(STAGES, *WORDS)
        assert snapshot(bench.out) == expected, f"full at operation {at}"
    assert at > 40, "the faults were not met"


@pytest.mark.parametrize("kills", [5, pytest.param(40, marks=pytest.mark.slow)])
def test_killed_again_and_again_at_random_moments(bench, kills):
    scene, words = bench.folder / "scene.yaml", ["count.steps=30", "count.pause=0.01"]
    bench.config(STAGES)
    begun = time.monotonic()
    assert crashing.finish(crashing.start(scene, words)) == 0
    whole = time.monotonic() - begun
    expected = snapshot(bench.out)
    shutil.rmtree(bench.out)
    generator = random.Random(0)
    for _ in range(kills):
        process = crashing.start(scene, words)
        time.sleep(generator.uniform(0, whole))
        process.kill()
        assert crashing.finish(process) in (0, -signal.SIGKILL)
        if generator.random() < 0.3:  # else what is left of the last one is killed in its turn
            assert crashing.finish(crashing.start(scene, words)) == 0
            assert snapshot(bench.out) == expected
            shutil.rmtree(bench.out)
    assert crashing.finish(crashing.start(scene, words)) == 0
    assert snapshot(bench.out) == expected


@pytest.mark.slow
def test_the_real_command_killed_at_twenty_random_moments(bench):
    """`relight fit` of the radiance stage, from start-up to the report."""
    scene, run = bench.folder / "scene.yaml", bench.out
    bench.config("  - radiance: {iterations: 80, initial_gaussians: 200, max_gaussians: 400}\n")
    command = [sys.executable, "-m", "relight", "fit", str(scene), "--quiet"]
    begun = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    whole = time.monotonic() - begun
    expected = bench.files()
    generator = random.Random(0)
    for _ in range(20):
        shutil.rmtree(run)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(generator.uniform(0.05, 1) * whole)
        process.kill()
        process.wait()
        subprocess.run(command, check=True, capture_output=True)
        assert bench.files() == expected
        assert load_scene(run / "01-radiance").history[-1].steps == 80


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("this process may not mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(bench, small_disk):
    output = f"output={small_disk}/out"
    with pytest.raises(RelightError, match=r"No space left on device.*free some space.*run again"):
        bench(COUNT + SHIFT, output, "count.fill=500000")
    assert not (small_disk / "out" / "01-count").exists()
    result = bench(COUNT + SHIFT, output)
    assert bench.ran == ["count", "shift"]
    assert load_scene(result.stage).history[0].steps == 6
    with pytest.raises(RelightError, match="No space left on device"):
        bench(COUNT + KEEP + SHIFT, output, "count.fill=500000", "count.steps=7")
    assert load_scene(result.stage).history[0].steps == 6, "earlier results are as they were"
