"""A scene as a folder: what is written is read back; what is damaged is explained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_stages import splat

from relight.data import load
from relight.errors import DataError, RelightError
from relight.geometry.gaussians import Gaussians
from relight.scene import Frame, Points, Scene, StageRecord
from relight.scene_io import (
    load_scene,
    point_to_pictures,
    read_manifest,
    read_tensors,
    save_scene,
    stage_folders,
    write_tensors,
)
from relight.testing.capture import write_capture


def full_splat(n: int = 5) -> Gaussians:
    """With every part a splat can have."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return Gaussians(
        random(n, 3), random(n, 4), random(n, 3), random(n), random(n, 16, 3),
        channels={"base_color": random(n, 3).sigmoid(), "roughness": random(n).sigmoid(), "feature": random(n, 7)},
        filter_3d=random(n).abs(), surfels=True, antialiased=True,
    )  # fmt: skip


def assert_same_splat(found: Gaussians | None, expected: Gaussians) -> None:
    assert found is not None
    a, b = found.tensors(), expected.tensors()
    assert a.keys() == b.keys() and found.flags == expected.flags
    for name in a:
        assert a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]), name


@pytest.fixture
def scene(tmp_path) -> Scene:
    scene = load(write_capture(tmp_path / "photos", views=4, alpha=False))
    points = Points(torch.randn(9, 3), torch.rand(9, 3))
    record = StageRecord("count", {"steps": 3, "tags": ["é", None]}, "abc", 1.5, {"loss": 0.25}, 3)
    frame = Frame((1.0, 2.0, 3.0), 4.5, (0.0, 0.0, 1.0))
    return replace(scene, frame=frame, points=points, gaussians=full_splat(), history=(record,))


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "01-count"
    folder.mkdir()
    return folder


def test_read_what_was_written(scene, folder):
    save_scene(scene, folder, key="abc")
    found = load_scene(folder)
    assert (found.frame, found.history) == (scene.frame, scene.history)
    assert_same_splat(found.gaussians, scene.gaussians)
    for name in ("positions", "colors"):
        assert torch.equal(getattr(found.points, name), getattr(scene.points, name))
    assert found.views is not None and scene.views is not None
    assert found.views.to_json() == scene.views.to_json()
    assert torch.equal(found.views.photo(2).rgb, scene.views.photo(2).rgb)
    assert read_manifest(folder)["key"] == "abc"


@pytest.mark.parametrize("part", ["views", "points", "gaussians"])
def test_parts_that_are_not_there(scene, folder, part):
    save_scene(replace(scene, **{part: None}), folder, key="abc")
    assert getattr(load_scene(folder), part) is None
    assert part not in read_manifest(folder)["parts"]


def test_an_empty_scene_and_an_empty_splat(folder):
    save_scene(Scene(Frame(), gaussians=splat(torch.zeros(0, 3))), folder, key="k")
    found = load_scene(folder)
    assert found.frame == Frame() and found.gaussians is not None and len(found.gaussians) == 0


def test_json_is_standard_and_readable(scene, folder):
    save_scene(scene, folder, key="abc")
    for name in ("scene.json", "cameras.json"):
        text = (folder / name).read_text("utf-8")
        json.loads(text, parse_constant=pytest.fail)
        assert text.count("\n") > 10


def test_saving_again_never_writes_into_a_linked_file(scene, folder, tmp_path):
    save_scene(scene, folder, key="abc")
    second = tmp_path / "02-keep"
    second.mkdir()
    save_scene(scene, second, key="def", earlier=(scene, folder))
    save_scene(replace(scene, gaussians=splat(torch.ones(2, 3))), second, key="ghi", earlier=(scene, folder))
    assert_same_splat(load_scene(folder).gaussians, scene.gaussians)
    assert_same_splat(load_scene(second).gaussians, splat(torch.ones(2, 3)))


def test_tensors_of_any_layout(tmp_path):
    path = tmp_path / "t.safetensors"
    shared = torch.arange(12.0).reshape(3, 4)
    tensors = {"a": shared.T, "b": shared[:, 1:3], "c": shared, "d": torch.tensor(7), "e": torch.zeros(0, 3)}
    write_tensors(path, tensors, {"note": "é"})
    found, metadata = read_tensors(path)
    assert metadata == {"note": "é"}
    assert all(torch.equal(found[k], tensors[k]) and found[k].shape == tensors[k].shape for k in tensors)


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"\xff" * 100, b"{}", b"\x80\x04K\x01."])
def test_what_is_no_tensor_file(tmp_path, content):
    path = tmp_path / "t.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"t\.safetensors: not a readable safetensors file"):
        read_tensors(path)
    with pytest.raises(DataError):
        read_tensors(tmp_path / "none")


def edited(folder: Path, change) -> None:
    document = json.loads((folder / "scene.json").read_text())
    change(document)
    (folder / "scene.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("frame"),
        lambda d: d.update(frame=3),
        lambda d: d["frame"].pop("radius"),
        lambda d: d["parts"].update(hologram={"file": "gaussians.safetensors", "sha256": "x", "flags": {}}),
        lambda d: d["parts"].update(gaussians=3),
        lambda d: d["parts"]["gaussians"].update(file="none.safetensors"),
        lambda d: d["parts"]["gaussians"].update(flags={"shiny": True}),
        lambda d: d["parts"]["points"].update(
            file=d["parts"]["gaussians"]["file"], sha256=d["parts"]["gaussians"]["sha256"]
        ),
        lambda d: d["history"].append({"name": "x"}),
        lambda d: d["history"].append(3),
    ],
)
def test_a_manifest_that_makes_no_sense(scene, folder, change):
    save_scene(scene, folder, key="abc")
    edited(folder, change)
    with pytest.raises(RelightError, match=r"01-count"):
        load_scene(folder)


@pytest.mark.parametrize("text", ["", "[]", '{"folder": "x"}', '{"folder": "x", "frames": [{}]}'])
def test_cameras_that_make_no_sense(scene, folder, text):
    save_scene(scene, folder, key="abc")
    (folder / "cameras.json").write_text(text)
    with pytest.raises(DataError, match=r"not a scene folder that can be read .*; move it away and fit again"):
        load_scene(folder)
    point_to_pictures(folder, scene.views)
    assert (folder / "cameras.json").read_text() == text


def test_a_folder_that_is_no_scene(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match=r"scene\.json: missing or damaged"):
            load_scene(path)


def test_stage_folders_are_in_order_and_others_are_not_stages(tmp_path):
    for name in ("02-b", "01-a", "10-c", "3-d", "notes", ".old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "scene.json").write_text("{}")
    (tmp_path / "04-unfinished").mkdir()
    assert [p.name for p in stage_folders(tmp_path)] == ["01-a", "02-b", "10-c"]
    assert stage_folders(tmp_path / "none") == []


def test_cameras_that_a_stage_changed_stay_so_when_pictures_move(scene, folder, tmp_path):
    views = scene.views
    moved_camera = replace(views[0].camera, fx=99.0)
    fewer = replace(views, views=(replace(views[0], camera=moved_camera), views[1]))
    save_scene(replace(scene, views=fewer), folder, key="abc")
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    point_to_pictures(folder, load(tmp_path / "elsewhere").views)  # type: ignore[arg-type]
    found = load_scene(folder).views
    assert found is not None and len(found) == 2 and found[0].camera.fx == 99.0
    assert found[0].image_path.is_file()


def test_pictures_of_another_capture_are_not_taken(scene, folder):
    save_scene(scene, folder, key="abc")
    before = (folder / "cameras.json").read_bytes()
    point_to_pictures(folder, replace(scene.views, views=scene.views.views[:2]))
    assert (folder / "cameras.json").read_bytes() == before
