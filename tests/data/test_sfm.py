"""`sfm.solve` with a stand-in for pycolmap, which writes a real COLMAP model, and once with the real library."""

from __future__ import annotations

import builtins
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from capture_files import ColmapModel, write_picture
from PIL import Image

from relight.data import load
from relight.data.sfm import solve
from relight.errors import BackendUnavailableError, DataError, RelightError


class FakeReconstruction:
    def __init__(self, model: ColmapModel):
        self.model = model

    def num_reg_images(self) -> int:
        return len(self.model.names)

    def write(self, path: str) -> None:
        self.model.write_binary(Path(path))


class FakePycolmap(ModuleType):
    """Notes the calls, and finds the models it was told to find.  Signatures are those of pycolmap 3.10 and later."""

    def __init__(self, found: list[ColmapModel], failure: Exception | None = None):
        super().__init__("pycolmap")
        self.found, self.failure, self.calls = found, failure, []

    def extract_features(self, database_path: str, image_path: str, **options: object) -> None:
        assert not options and Path(image_path).is_dir() and not Path(database_path).exists()
        Path(database_path).write_bytes(b"features")
        self.calls.append("extract")

    def match_exhaustive(self, database_path: str, **options: object) -> None:
        assert not options and Path(database_path).read_bytes() == b"features"
        self.calls.append("match")

    def incremental_mapping(self, database_path: str, image_path: str, output_path: str) -> dict:
        assert Path(database_path).is_file() and Path(output_path).is_dir()
        self.calls.append(image_path)
        if self.failure:
            raise self.failure
        return {i: FakeReconstruction(model) for i, model in enumerate(self.found)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(4):
        write_picture(tmp_path / f"{i:03d}.png")
    return tmp_path


def install(monkeypatch: pytest.MonkeyPatch, *found: ColmapModel, failure: Exception | None = None) -> FakePycolmap:
    fake = FakePycolmap(list(found), failure)
    monkeypatch.setitem(sys.modules, "pycolmap", fake)
    return fake


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_the_model_with_most_photos_is_kept_and_loads(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = names(photos)
    fake = install(monkeypatch, ColmapModel.ring(2), ColmapModel.ring(4), ColmapModel.ring(3))
    result = solve(photos)
    assert result == photos / "sparse" / "0" and fake.calls == ["extract", "match", str(photos)]
    assert names(photos) - before == {f"sparse/0/{part}.bin" for part in ("cameras", "images", "points3D")}
    scene = load(photos)
    assert scene.views is not None and len(scene.views) == 4
    np.testing.assert_allclose(scene.views[2].camera.world_from_camera.numpy(), ColmapModel.ring(4).poses[2], atol=2e-6)


def test_photos_in_an_images_folder_with_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(3):
        write_picture(tmp_path / f"images/{i:03d}.png")
        Image.new("L", (48, 32), 255 * (i % 2)).save(write_picture(tmp_path / f"masks/{i:03d}.png"))
    fake = install(monkeypatch, ColmapModel.ring(3))
    solve(tmp_path)
    assert fake.calls[-1] == str(tmp_path / "images")
    views = load(tmp_path, masks="masks").views
    assert views is not None
    alphas = [views.photo(i).alpha for i in range(3)]
    assert [None if a is None else float(a.mean()) for a in alphas] == [0, 1, 0]


def test_an_existing_model_is_never_overwritten(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = install(monkeypatch, ColmapModel.ring(4))
    (photos / "sparse/0").mkdir(parents=True)
    (photos / "sparse/0/cameras.txt").write_text("mine")
    before = names(photos)
    with pytest.raises(RelightError, match=r"sparse/0: there is a model already; load it, or move it away"):
        solve(photos)
    assert names(photos) == before and fake.calls == []


def test_without_pycolmap(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(BackendUnavailableError, match=r"needs pycolmap.*pip install 'relight\[sfm\]'.*COLMAP"):
        solve(photos)


def test_a_broken_installation_says_why(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refusing(name: str, *args, **kwargs):
        if name == "pycolmap":
            raise ImportError("libcuda.so.1: cannot open shared object file")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refusing)
    with pytest.raises(BackendUnavailableError, match=r"libcuda\.so\.1: cannot open"):
        solve(photos)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_photos(tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    for i in range(count):
        write_picture(tmp_path / f"{i}.jpg")
    with pytest.raises(DataError, match=rf"{tmp_path.name}: {count} photo\(s\).*needs at least 2"):
        solve(tmp_path)


@pytest.mark.parametrize("found", [[], [ColmapModel.ring(1)]], ids=["none", "one"])
def test_photos_that_cannot_be_placed(photos: Path, found: list, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, *found)
    before = names(photos)
    with pytest.raises(DataError, match=rf"COLMAP could place {len(found)} of 4 photos; take more that overlap"):
        solve(photos)
    assert names(photos) == before and not (photos / "sparse").exists()


def test_failure_inside_colmap(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, failure=RuntimeError("[sfm.cc:9] check failed"))
    with pytest.raises(
        DataError, match=rf"{photos.name}: COLMAP failed \(\[sfm\.cc:9\] check failed\); see its messages"
    ):
        solve(photos)
    assert sorted(p.name for p in photos.iterdir()) == [f"{i:03d}.png" for i in range(4)]


def test_interrupt_leaves_nothing_behind(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, failure=KeyboardInterrupt())  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        solve(photos)
    assert sorted(p.name for p in photos.iterdir()) == [f"{i:03d}.png" for i in range(4)]


def test_a_full_disk_leaves_nothing_behind(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = install(monkeypatch)

    def full(path: str) -> None:
        Path(path, "cameras.bin").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    model = SimpleNamespace(num_reg_images=lambda: 4, write=full)
    monkeypatch.setattr(fake, "incremental_mapping", lambda **_: {0: model})
    with pytest.raises(RelightError, match=r"sparse/0: cannot be written \(No space left on device\); make room"):
        solve(photos)
    assert sorted(p.name for p in photos.iterdir()) == [f"{i:03d}.png" for i in range(4)]


@pytest.mark.slow
def test_the_real_library_finds_the_cameras_of_real_photos(data_dir, tmp_path):
    """Eleven photographs of the fountain; camera centres against laser-measured ones, up to a similarity."""
    pytest.importorskip("pycolmap")
    source = load(data_dir / "multiview" / "strecha_fountain_p11").views
    assert source is not None
    for view in source:
        shutil.copy(view.image_path, tmp_path)
    solve(tmp_path)
    solved = {Path(v.name).name: v.camera.position.double() for v in load(tmp_path).views or ()}
    truth = {v.image_path.name: v.camera.position.double() for v in source}
    assert solved.keys() == truth.keys()
    a, b = (torch.stack([cameras[k] for k in sorted(truth)]) for cameras in (solved, truth))
    a, b = a - a.mean(0), b - b.mean(0)
    u, s, vt = torch.linalg.svd(b.mT @ a)
    sign = torch.ones(3, dtype=torch.float64)
    sign[2] = torch.linalg.det(u @ vt).sign()
    scale = (s * sign).sum() / (a * a).sum()
    error = (b - scale * a @ (u * sign @ vt).mT).norm(dim=1)
    assert float(error.max()) < 0.02 * float(b.norm(dim=1).max())
