"""What is on disk after a run, and what the next run makes of it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from run_bench import COUNT, KEEP, SHIFT, inode

from relight.config import load_config
from relight.errors import DataError, MissingPartError, RelightError
from relight.pipeline.events import Loaded, Note, Progress, StageFinished, StageSkipped, StageStarted
from relight.scene_io import load_scene

STAGE = {"scene.json", "cameras.json", "gaussians.safetensors"}


def means(folder: Path) -> torch.Tensor:
    gaussians = load_scene(folder).gaussians
    assert gaussians is not None
    return gaussians.means


def test_a_run_leaves_a_folder_a_stage_and_nothing_else(bench):
    result = bench(COUNT + SHIFT)
    assert bench.files() == {
        "scene.yaml", "01-count/metrics.jsonl", *(f"{s}/{f}" for s in ("01-count", "02-shift") for f in STAGE)
    }  # fmt: skip
    assert (result.folder, result.stage) == (bench.out, bench.out / "02-shift")
    torch.testing.assert_close(means(result.stage), means(bench.out / "01-count") + 1)
    assert torch.equal(result.scene.gaussians.means, means(result.stage))


def test_a_stage_gets_as_many_first_points_as_it_asks_for(bench):
    assert [len(means(bench("  - use: fake_stages:Cloud\n", f"cloud.ask={n}").stage)) for n in (70, 90)] == [70, 90]


def test_what_listeners_are_told(bench):
    bench(COUNT + SHIFT)
    kinds = [type(e) for e in bench.events if not isinstance(e, Progress)]
    assert kinds == [Loaded, StageStarted, StageFinished, StageStarted, StageFinished]
    assert bench.told(Loaded)[0].names == ("count", "shift")
    steps = [(e.index, e.step, e.total, dict(e.metrics)["value"]) for e in bench.told(Progress)]
    assert steps == [(0, i, 6, float(i)) for i in range(1, 7)]
    assert bench.told(StageFinished)[0].metrics["value"] == 6


def test_the_resolved_scene_file_of_the_run_is_the_same_scene(bench):
    bench(COUNT + SHIFT, "count.steps=4")
    config = load_config(bench.out)
    assert config.output == bench.out
    assert config == bench.config(COUNT + SHIFT, "count.steps=4")
    bench.ran.clear()
    from relight import pipeline

    pipeline.run(config, on_event=bench.events.append)
    assert len(bench.told(StageSkipped)) == 2


def test_nothing_is_computed_twice(bench):
    bench(COUNT + SHIFT)
    assert bench.ran == ["count", "shift"]
    before = {f: (bench.out / f).stat().st_mtime_ns for f in bench.files()}
    result = bench(COUNT + SHIFT)
    assert bench.ran == []
    assert [e.folder.name for e in bench.told(StageSkipped)] == ["01-count", "02-shift"]
    assert {f: (bench.out / f).stat().st_mtime_ns for f in bench.files()} == before
    assert result.stage == bench.out / "02-shift"


@pytest.mark.parametrize("word", ["count.steps=7", "count.size=0.25", "count.mode=odd", "seed=1", "data.max_size=8"])
def test_what_changes_the_result_is_computed_again_and_the_earlier_one_set_aside(bench, word):
    bench(COUNT + SHIFT)
    first = means(bench.out / "01-count"), means(bench.out / "02-shift")
    bench(COUNT + SHIFT, word)
    assert bench.ran == ["count", "shift"]
    assert torch.equal(means(bench.out / ".old" / "01-count.1"), first[0])
    assert torch.equal(means(bench.out / ".old" / "02-shift.1"), first[1])
    notes = [n.text for n in bench.told(Note)]
    assert notes[0].startswith("01-count: computed again (")
    if word.startswith("count."):
        assert word.split(".")[1].split("=")[0] in notes[0]
    assert any(".old" in n for n in notes)


@pytest.mark.parametrize("word", ["device=cpu", "backend=reference", "data.test_every=4", "output={}/other"])
def test_what_changes_nothing_is_not_computed_again(bench, word):
    bench(COUNT, "data.test_every=5")  # of four views, either way the first is held out
    if word.startswith("output"):
        shutil.copytree(bench.out, bench.folder / "other")
    bench(COUNT, word.format(bench.folder))
    assert bench.ran == []


def test_a_later_stage_alone_is_computed_when_it_alone_changes(bench):
    bench(COUNT + SHIFT)
    bench(COUNT + SHIFT, "shift.by=2")
    assert bench.ran == ["shift"]
    assert bench.folders() == {"01-count", "02-shift", ".old"}
    torch.testing.assert_close(means(bench.out / "02-shift"), means(bench.out / "01-count") + 2)


def test_options_that_change_back_bring_the_earlier_result_back(bench):
    bench(COUNT + SHIFT)
    first = means(bench.out / "02-shift")
    files = bench.files()
    bench(COUNT + SHIFT, "count.steps=7")
    bench(COUNT + SHIFT)
    assert bench.ran == []
    assert torch.equal(means(bench.out / "02-shift"), first)
    assert {f for f in bench.files() if not f.startswith(".old")} == files
    assert {p.name for p in (bench.out / ".old").iterdir()} == {"01-count.2", "02-shift.2"}
    assert any("is used again" in n.text for n in bench.told(Note))
    bench(COUNT + SHIFT, "count.steps=7")
    assert bench.ran == []


def test_a_stage_that_was_removed_is_set_aside_and_comes_back(bench):
    bench(COUNT + SHIFT)
    bench(COUNT)
    assert bench.ran == []
    assert bench.folders() == {"01-count", ".old"}
    bench(COUNT + SHIFT)
    assert bench.ran == []
    assert bench.folders() == {"01-count", "02-shift"}, "an empty .old is removed"


def test_an_inserted_stage_changes_those_after_it(bench):
    bench(COUNT + SHIFT)
    bench(COUNT + KEEP + SHIFT)
    assert bench.ran == ["keep", "shift"]
    assert bench.folders() == {"01-count", "02-keep", "03-shift", ".old"}


def test_until_stops_early_and_keeps_what_is_there(bench):
    bench(COUNT + SHIFT, until="count")
    assert bench.ran == ["count"] and bench.folders() == {"01-count"}
    bench(COUNT + SHIFT)
    result = bench(COUNT + SHIFT, until="01-count")
    assert bench.ran == [] and bench.folders() == {"01-count", "02-shift"}
    assert result.stage.name == "01-count"
    with pytest.raises(RelightError, match=r"--until cuont: no stage of this scene, did you mean 'count'\?"):
        bench(COUNT + SHIFT, until="cuont")


def test_a_part_that_is_left_as_it_was_is_a_link(bench):
    bench(COUNT + KEEP)
    first, second = (bench.out / s / "gaussians.safetensors" for s in ("01-count", "02-keep"))
    assert inode(first) == inode(second)
    bench(COUNT + KEEP + SHIFT)  # from disk
    assert inode(first) == inode(second) != inode(bench.out / "03-shift" / "gaussians.safetensors")


def test_a_file_system_without_links_gets_copies(bench, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    bench(COUNT + KEEP)
    first, second = (bench.out / s / "gaussians.safetensors" for s in ("01-count", "02-keep"))
    assert inode(first) != inode(second) and first.read_bytes() == second.read_bytes()


def test_a_stage_folder_copied_elsewhere_is_a_scene_by_itself(bench, tmp_path):
    result = bench(COUNT + KEEP + SHIFT)
    copy = shutil.copytree(bench.out / "02-keep", tmp_path / "elsewhere")
    shutil.rmtree(bench.out)
    scene = load_scene(copy)
    assert scene.views is not None and scene.gaussians is not None
    assert [r.name for r in scene.history] == ["count", "keep"]
    assert scene.history[0].options["steps"] == 6 and scene.history[0].steps == 6
    assert scene.views.photo(1).rgb.shape == (16, 16, 3)
    torch.testing.assert_close(scene.gaussians.means + 1, result.scene.gaussians.means)


def test_a_run_whose_capture_moved_is_still_done_and_finds_its_pictures(bench, copied_capture):
    bench.capture = copied_capture
    bench(COUNT + KEEP)
    bench.capture = copied_capture.rename(copied_capture.with_name("moved"))
    bench(COUNT + KEEP)
    assert bench.ran == []
    for stage in ("01-count", "02-keep"):
        views = load_scene(bench.out / stage).views
        assert views is not None
        assert {v.image_path.parent.parent for v in views} == {bench.capture}
        assert views.photo(0).rgb.shape == (16, 16, 3)


def test_a_scene_yaml_of_the_users_is_not_overwritten(bench):
    bench.out.mkdir()
    (bench.out / "scene.yaml").write_text("mine\n")
    with pytest.raises(RelightError, match="a file that relight did not write is in the way; set another output"):
        bench(COUNT)
    assert bench.files() == {"scene.yaml"} and (bench.out / "scene.yaml").read_text() == "mine\n"


def test_a_users_file_in_the_run_folder_stays(bench):
    bench(COUNT)
    (bench.out / "notes.txt").write_text("mine")
    (bench.out / "07-mine").mkdir()
    (bench.out / "07-mine" / "a.txt").write_text("mine")
    bench(COUNT, "count.steps=3")
    assert {"notes.txt", "07-mine/a.txt"} <= bench.files()


def test_a_folder_of_the_users_where_a_stage_goes_is_set_aside(bench):
    (bench.out / "01-count").mkdir(parents=True)
    (bench.out / "01-count" / "a.txt").write_text("mine")
    bench(COUNT)
    assert (bench.out / ".old" / "01-count.1" / "a.txt").read_text() == "mine"
    assert (bench.out / "01-count" / "scene.json").is_file()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": "1", "parts": {}, "history": [], "key": "x"}', "\0"])
def test_a_damaged_manifest_is_explained(bench, text):
    bench(COUNT)
    manifest = bench.out / "01-count" / "scene.json"
    manifest.write_text(text)
    before = bench.files()
    with pytest.raises(DataError, match=r"scene\.json: missing or damaged .*; move .*01-count away and fit again"):
        bench(COUNT)
    assert bench.files() == before
    shutil.move(manifest.parent, bench.folder / "away")
    bench(COUNT)
    assert bench.ran == ["count"]


def test_a_missing_manifest_means_not_done(bench):
    bench(COUNT)
    (bench.out / "01-count" / "scene.json").unlink()
    bench(COUNT)
    assert bench.ran == ["count"]
    assert (bench.out / ".old" / "01-count.1" / "gaussians.safetensors").is_file()


def test_a_manifest_of_a_newer_relight_is_refused(bench):
    bench(COUNT)
    manifest = bench.out / "01-count" / "scene.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"schema": 99}))
    with pytest.raises(DataError, match=r"written by a newer relight \(schema 99\); update relight"):
        bench(COUNT)


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_part_is_explained(bench, damage):
    bench(COUNT)
    path = bench.out / "01-count" / "gaussians.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink() if damage == "gone" else path.write_bytes(content[:-5] if damage == "cut" else content)
    with pytest.raises(DataError, match=r"move .*away and fit again"):
        bench(COUNT + SHIFT)
    assert bench.folders() == {"01-count"}


def test_parts_that_nobody_gives_are_missed_before_anything_runs(bench):
    with pytest.raises(MissingPartError, match=r"shift: needs gaussians, which neither the capture nor an earlier"):
        bench(SHIFT + COUNT)
    assert not bench.out.exists()


def test_a_stage_that_lies_about_what_it_gives_is_told_so(bench, monkeypatch):
    import fake_stages

    monkeypatch.setattr(fake_stages.Keep, "gives", ("gaussians",))
    with pytest.raises(TypeError, match="Keep says it gives gaussians, and returned a scene without"):
        bench(KEEP)


def test_a_fault_in_a_stage_leaves_earlier_results_as_they_were(bench):
    bench(COUNT + SHIFT)
    before = {f: (bench.out / f).read_bytes() for f in bench.files() if f != "scene.yaml"}
    with pytest.raises(RuntimeError, match="the fault"):
        bench(COUNT + SHIFT, "count.fail_at=3")
    after = {f: (bench.out / f).read_bytes() for f in bench.files() if not f.startswith(".work") and f != "scene.yaml"}
    assert after == before
    bench(COUNT + SHIFT)
    assert bench.ran == [] and ".work" not in bench.folders()
