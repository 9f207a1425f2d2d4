"""Layouts of the field's data sets, as their authors ship them: read, and scored by their protocols."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_relighting_commands import wall

from benchmarks.datasets import main, table
from benchmarks.protocols import BLENDER, CAMERA, DATASETS, LEGACY, Settings, _eroded, blender_light, orb_scores
from relight.data import detect, load
from relight.errors import DataError
from relight.export.hdr import write_hdr
from relight.export.images import pillow, write_exr
from relight.geometry.camera import Camera
from relight.render.relit import Relit
from relight.scene import Scene
from relight.shading.color import linear_to_srgb
from relight.shading.environment import Environment
from relight.shading.lighting import Lighting
from relight.shading.shade import MonteCarlo
from relight.views import Views

SIZE, FOV = 32, 0.8
FRAMES = {"train": 2, "test": 2}


def opengl(i: int) -> np.ndarray:
    """Camera-to-world, looking down on the wall from (0.1 i, 0, 4)."""
    pose = np.eye(4)
    pose[:3, 3] = 0.1 * i, 0.0, 4.0
    return pose


class Drawn:
    """What the camera of frame i sees of the wall, under a light from above that is warm on one side."""

    def __init__(self, folder: Path):
        gaussians, _ = wall()
        self.relit = Relit(gaussians)
        light = torch.full((8, 16, 3), 0.02)
        light[:3, :8] = torch.tensor([2.0, 1.5, 1.0])
        light[:3, 8:] = 0.5
        write_hdr(folder / "above.hdr", light)
        self.light = blender_light(folder, "above")
        self.kept: dict[int, torch.Tensor] = {}

    def camera(self, i: int) -> Camera:
        pose = torch.tensor(opengl(i) @ np.diag([1.0, -1, -1, 1]), dtype=torch.float32)
        return Camera.from_fov(pose, FOV, SIZE, SIZE)

    def channel(self, i: int, name: str) -> torch.Tensor:
        buffer = self.relit.buffer(self.camera(i))
        values = getattr(buffer.surface, name)
        return buffer.spread(values if values.ndim == 2 else values[:, None].expand(-1, 3))

    def lit(self, i: int) -> torch.Tensor:
        """(H, W, 4) linear, straight."""
        if i not in self.kept:
            picture = self.relit.under(self.camera(i), self.light, MonteCarlo(128), seed=i)
            self.kept[i] = torch.cat([picture[..., :3] / picture[..., 3:].clamp_min(1e-6), picture[..., 3:]], -1)
        return self.kept[i]

    def rgba(self, i: int) -> Image.Image:
        linear = self.lit(i)
        return pillow(torch.cat([linear_to_srgb(linear[..., :3].clamp(0, 1)), linear[..., 3:]], -1))

    def with_alpha(self, i: int, picture: torch.Tensor) -> Image.Image:
        return pillow(torch.cat([picture, self.lit(i)[..., 3:]], -1))


def frames(split: str) -> range:
    return range(FRAMES[split])


def transforms(folder: Path, split: str, names: list[str], **more) -> None:
    listed = [{"file_path": name, "transform_matrix": opengl(i).tolist(), **more} for i, name in enumerate(names)]
    text = json.dumps({"camera_angle_x": FOV, "frames": listed})
    (folder / f"transforms_{split}.json").write_text(text)


def tensoir(folder: Path, drawn: Drawn) -> Path:
    capture = folder / "lego"
    for split in FRAMES:
        for i in frames(split):
            view = capture / f"{split}_{i:03d}"
            view.mkdir(parents=True)
            words = ",".join(str(x) for x in opengl(i).flatten())
            data = {"cam_angle_x": FOV, "cam_transform_mat": words, "imw": SIZE, "imh": SIZE}
            (view / "metadata.json").write_text(json.dumps(data))
            drawn.rgba(i).save(view / "rgba.png")
            if split == "test":
                drawn.with_alpha(i, drawn.channel(i, "base_color")).save(view / "albedo.png")
                drawn.with_alpha(i, 0.5 * drawn.channel(i, "normal") + 0.5).save(view / "normal.png")
                drawn.rgba(i).save(view / "rgba_above.png")
    return capture


def synthetic4relight(folder: Path, drawn: Drawn) -> Path:
    capture = folder / "hotdog"
    for name in (*FRAMES, "test_rli"):
        (capture / name).mkdir(parents=True)
    for i in frames("train"):
        linear = drawn.lit(i)
        write_exr(capture / "train" / f"{i:03d}_rgb.exr", {"RGB": linear[..., :3] * linear[..., 3:]})
        pillow(linear[..., 3]).save(capture / "train" / f"{i:03d}_mask.png")
    for i in frames("test"):
        drawn.rgba(i).save(capture / "test" / f"{i:03d}_rgba.png")
        pillow(drawn.channel(i, "base_color")).save(capture / "test" / f"{i:03d}_albedo.png")
        pillow(drawn.channel(i, "roughness")).save(capture / "test" / f"{i:03d}_rough.png")
        drawn.rgba(i).save(capture / "test_rli" / f"above_{i:03d}.png")
    for split in FRAMES:
        transforms(capture, split, [f"{split}/{i:03d}" for i in frames(split)])
    return capture


def shiny(folder: Path, drawn: Drawn) -> Path:
    capture = folder / "ball"
    for split in FRAMES:
        (capture / split).mkdir(parents=True)
        for i in frames(split):
            drawn.rgba(i).save(capture / split / f"r_{i}.png")
            drawn.with_alpha(i, 0.5 * drawn.channel(i, "normal") + 0.5).save(capture / split / f"r_{i}_normal.png")
        transforms(capture, split, [f"./{split}/r_{i}" for i in frames(split)])
    return capture


def orb(folder: Path, drawn: Drawn) -> Path:
    capture, other = folder / "blender_HDR" / "ball_scene001", folder / "blender_HDR" / "ball_scene002"
    truth = folder / "ground_truth" / other.name / "env_map"
    for place in (capture / "train", capture / "test", other / "test"):
        place.mkdir(parents=True)
        Path(f"{place}_mask").mkdir()
        for i in frames(place.name):
            linear = drawn.lit(i)
            write_exr(place / f"{i:04d}.exr", {"RGB": 3 * linear[..., :3]})
            pillow((linear[..., 3] > 0.5).float()).save(Path(f"{place}_mask") / f"{i:04d}.png")
    for split in FRAMES:
        transforms(capture, split, [f"./{split}/{i:04d}" for i in frames(split)])
    transforms(capture, "novel", [f"./test/{i:04d}" for i in frames("test")], scene_name=other.name, camera_angle_x=FOV)
    truth.mkdir(parents=True)
    rows, columns = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(128) + 0.5, indexing="ij")
    for i in frames("test"):
        theta, phi = rows / 64 * math.pi, (columns / 128 - 0.5) * 2 * math.pi
        # ORB's own formula, solved for the direction: x to the right, y up, z backwards.
        camera = torch.stack([theta.sin() * phi.sin(), theta.cos(), -theta.sin() * phi.cos()], -1)
        world = camera @ torch.tensor(opengl(i)[:3, :3], dtype=torch.float32).mT
        write_exr(truth / f"{i:04d}.exr", {"RGB": drawn.light.eval(world)})
    return capture


WRITERS = {"tensoir": tensoir, "synthetic4relight": synthetic4relight, "shiny": shiny, "orb": orb}


def distilled(capture: Path, drawn: Drawn, factor: float = 1.0) -> Scene:
    """The wall itself as the result of a fit; factor: of its base colour."""
    captured = load(capture)
    gaussians, _ = wall()
    channels = {**gaussians.channels, "base_color": factor * gaussians.channels["base_color"]}
    return replace(captured, gaussians=replace(gaussians, channels=channels), light=Lighting.everywhere(drawn.light))


@pytest.mark.parametrize("name", WRITERS)
def test_layouts_are_read_and_the_truth_scores_as_such(name, tmp_path):
    drawn = Drawn(tmp_path)
    capture = WRITERS[name](tmp_path, drawn)
    dataset, settings = DATASETS[name], Settings(tmp_path, samples=64)
    assert dataset.captures(tmp_path, None) == [capture] == dataset.captures(tmp_path, [capture.name])
    assert detect(capture) == ("tensoir" if name == "tensoir" else "transforms")
    views = load(capture).views
    assert isinstance(views, Views) and len(views.train) == 2 and len(views.test) == 2
    for i in range(2):
        expected = drawn.camera(i)
        assert torch.allclose(views.test.camera(i).world_from_camera, expected.world_from_camera, atol=1e-5)
        assert views.test.camera(i).fx == pytest.approx(expected.fx)
        alpha = views.train.photo(i).alpha
        assert alpha is not None and 0.1 < float(alpha.mean()) < 0.9
    right = dataset.score(distilled(capture, drawn), capture, settings)
    assert set().union(*right.values()) <= set(dataset.columns)
    assert "mean" in table(dataset.columns, {capture.name: right})
    legacy = right[LEGACY]
    assert legacy["NVS SSIM"] > 0.8
    if name == "orb":
        # Pictures are three times as bright as the fit: only the alignment doesn't mind.
        assert legacy["relit PSNR-H"] > 30 and legacy["relit PSNR-L"] > 30
        assert right["ours, unscaled"]["relit PSNR-L"] < 20
        return
    if "normal MAE" in dataset.columns:
        ours = next(row for label, row in right.items() if label != LEGACY)
        assert legacy["normal MAE"] <= ours["normal MAE"] < 1
    if name == "shiny":
        return
    for row in right.values():
        assert row["relit PSNR"] > 30 and row["albedo PSNR"] > 33 and row["relit SSIM"] > 0.95
    if name == "synthetic4relight":
        assert legacy["rough. MSE"] < 1e-4
    dark = dataset.score(distilled(capture, drawn, 0.5), capture, settings)
    assert dark["ours, unscaled"]["relit PSNR"] < right["ours, unscaled"]["relit PSNR"] - 6
    for label in ("ours, per channel", "ours, one factor", LEGACY):
        assert dark[label]["relit PSNR"] > 30 and dark[label]["albedo PSNR"] > 33


def test_broken_views_of_tensoir_are_named(tmp_path):
    capture = tensoir(tmp_path, Drawn(tmp_path))
    file = capture / "test_001" / "metadata.json"
    good = json.loads(file.read_text())
    for change, message in (
        ({"cam_transform_mat": "1,2,3"}, "16 numbers"), ({"cam_angle_x": 4}, "radians"), ({"imw": None}, "imw"),
    ):  # fmt: skip
        file.write_text(json.dumps(good | change))
        with pytest.raises(DataError, match=message) as error:
            load(capture)
        assert str(file) in str(error.value)


def test_missing_parts_of_a_set_are_explained(tmp_path):
    drawn = Drawn(tmp_path)
    capture = tensoir(tmp_path, drawn)
    scene, dataset = distilled(capture, drawn), DATASETS["tensoir"]
    with pytest.raises(DataError, match="expected folders with train_000"):
        dataset.captures(tmp_path / "elsewhere", None)
    with pytest.raises(DataError, match="no scene ficus; there are lego"):
        dataset.captures(tmp_path, ["ficus"])
    with pytest.raises(DataError, match="name the folder of maps with --lights"):
        dataset.score(scene, capture, Settings(capture))
    (capture / "test_001" / "normal.png").unlink()
    with pytest.raises(DataError, match=r"normal\.png: no such picture of truth"):
        dataset.score(scene, capture, Settings(tmp_path))


def test_the_script_says_what_is_wrong(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["tensoir", str(tmp_path)])
    assert stop.value.code == 2 and "no scenes of TensoIR synthetic" in capsys.readouterr().err


def test_maps_are_looked_up_as_the_sets_own_code_does():
    generator = torch.Generator().manual_seed(0)
    d = torch.nn.functional.normalize(torch.randn(50, 3, generator=generator), dim=1)
    x, y, z = d.unbind(1)
    blender = Environment(torch.ones(4, 8, 3), torch.tensor(BLENDER)).uv(d)
    expected = torch.stack([(0.5 - torch.atan2(y, x) / (2 * math.pi)) % 1, torch.acos(z) / math.pi], 1)
    assert torch.allclose(blender, expected, atol=1e-4)
    camera = Environment(torch.ones(4, 8, 3), torch.tensor(CAMERA)).uv(d)
    expected = torch.stack([(torch.atan2(x, -z) + math.pi) / (2 * math.pi), torch.acos(y) / math.pi], 1)
    assert torch.allclose(camera, expected, atol=1e-4)


def test_scores_of_orb_by_hand():
    photo, mask = torch.full((20, 20, 3), 0.05), torch.zeros(20, 20)
    mask[5:15, 5:15] = 1
    inside = _eroded(mask > 0.5)
    assert int(inside.sum()) == 36 and bool(inside[7, 7]) and not bool(inside[6, 7])
    assert bool(_eroded(torch.ones(6, 6, dtype=torch.bool)).all())
    half = orb_scores(0.5 * photo, photo, mask, aligned=True, lpips=None)
    assert half["PSNR-H"] == 100 and half["SSIM"] == pytest.approx(1)
    plain = orb_scores(0.8 * photo, photo, mask, aligned=False, lpips=None)
    share = 36 / 400
    bright = float(linear_to_srgb(torch.tensor(0.05))) / 0.05
    assert plain["PSNR-H"] == pytest.approx(-10 * math.log10(share * (0.01 * bright) ** 2), abs=1e-3)
    srgb = linear_to_srgb(torch.tensor([0.04, 0.05]))
    assert plain["PSNR-L"] == pytest.approx(-10 * math.log10(share * float(srgb[1] - srgb[0]) ** 2), abs=1e-3)
    # At worst as bad as grey.
    white = orb_scores(20 * photo, photo, mask, aligned=False, lpips=None)
    assert white["PSNR-L"] == pytest.approx(-10 * math.log10(share * float(srgb[1] - 0.5) ** 2), abs=1e-3)
