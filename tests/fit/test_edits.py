"""Edits change what is selected, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from table_scene import BLUE, CENTERS, RED, TABLE, table_scene
from torch import Tensor

from relight.errors import MissingPartError, RelightError
from relight.geometry import sh
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.geometry.transforms import look_at
from relight.render.backends.splat_cpu import SplatCpu
from relight.render.splats import render
from relight.scene import Scene
from relight.stages.edits import Delete, Duplicate, Edit, Extract, Recolour, SetMaterial, Transform
from relight.testing.job import MemoryJob


def selected(thing: int, **channels: Tensor) -> tuple[Scene, Gaussians, Tensor]:
    """The table with one thing selected."""
    scene, of = table_scene()
    assert scene.gaussians is not None
    marked = replace(scene.gaussians, channels={"selection": (of == thing).float(), **channels})
    return replace(scene, gaussians=marked), marked, of


def edited(stage: Edit, scene: Scene, tmp_path) -> Gaussians:
    result = stage.run(scene, MemoryJob(tmp_path)).gaussians
    assert result is not None
    return result


def same(found: Gaussians, expected: Gaussians, but: tuple[str, ...] = ()) -> None:
    for name, value in expected.tensors().items():
        if name not in but:
            assert torch.equal(found.tensors()[name], value), name


def test_extracting_keeps_only_what_is_selected(tmp_path):
    scene, before, of = selected(RED)
    same(edited(Extract(), scene, tmp_path), before[of == RED])


def from_above() -> Camera:
    pose = look_at(torch.tensor([0.0, 0.01, 3.0]), torch.zeros(3), torch.tensor([0.0, 1.0, 0.0]))
    return Camera(pose, 96.0, 96.0, 48, 48, 96, 96)


def hole(gaussians: Gaussians) -> float:
    """Alpha of the darkest pixel where the red ball stood."""
    alpha = render(SplatCpu(), gaussians, from_above()).alpha
    x, y = from_above().project(CENTERS[0] * torch.tensor([1.0, 1.0, 0.0]))[0].long().tolist()
    return float(alpha[y - 4 : y + 5, x - 4 : x + 5].min())


def test_deleting_closes_the_hole(tmp_path):
    scene, before, of = selected(RED)
    bare, filled = (edited(Delete(fill=fill), scene, tmp_path) for fill in (False, True))
    same(bare, before[of != RED])
    same(filled[: len(bare)], bare)
    assert hole(bare) < 0.2 and hole(filled) > 0.9
    more = filled.means[len(bare) :]
    assert 4 < len(more) < 80 and more[:, 2].abs().max() < 0.05
    assert ((more - CENTERS[0])[:, :2].norm(dim=1) < 0.5).all()


def test_deleting_what_floats_adds_nothing(tmp_path):
    scene, _, of = selected(TABLE)
    balls = edited(Delete(), scene, tmp_path)
    assert len(balls) == int((of != TABLE).sum())


def test_recolouring_keeps_light_and_shadow(tmp_path):
    scene, before, of = selected(RED, base_color=torch.rand(len(table_scene()[1]), 3))
    found = edited(Recolour(color=(0.1, 0.8, 0.2)), scene, tmp_path)
    same(found[of != RED], before[of != RED])
    same(found, before, ("sh", "channels.base_color"))
    look = sh.to_constant(found.sh[of == RED, 0])
    assert (look - torch.tensor([0.1, 0.8, 0.2])).abs().max() < 0.02
    base = found.channels["base_color"][of == RED]
    assert base.std(0).max() > 0.02 and (base[:, 1] >= base[:, 0]).all()
    # And in a picture: what shows none of the red ball is as it was.
    camera = scene.views[0].camera  # type: ignore[index]
    share = SplatCpu().rasterize(before, camera, (of == RED).float()[:, None]).features[..., 0]
    change = (render(SplatCpu(), found, camera).color - render(SplatCpu(), before, camera).color).abs().amax(-1)
    assert change[share < 1e-6].max() < 1e-6 and change[share > 0.9].min() > 0.2


def materials(count: int) -> dict[str, Tensor]:
    return {
        "base_color": torch.full((count, 3), 0.5), "roughness": torch.full((count,), 0.7),
        "metallic": torch.zeros(count), "progress": torch.full((count,), 0.6),
    }  # fmt: skip


def test_a_thing_becomes_gold(tmp_path):
    count = len(table_scene()[1])
    scene, before, of = selected(BLUE, **materials(count))
    gold = edited(SetMaterial(metal="gold", roughness=0.2), scene, tmp_path)
    same(gold[of != BLUE], before[of != BLUE])
    on = gold.channels
    assert on["base_color"][of == BLUE][0].tolist() == pytest.approx([1.0, 0.782, 0.344])
    assert (on["metallic"][of == BLUE] == 1).all() and on["roughness"][of == BLUE][0] == pytest.approx(0.2)
    with pytest.raises(MissingPartError, match="distill"):
        edited(SetMaterial(metal="gold"), selected(BLUE)[0], tmp_path)


def test_moving_turns_about_the_middle(tmp_path):
    scene, before, of = selected(BLUE)
    found = edited(Transform(move=(0.0, 0.2, 0.0), degrees=90, scale=2.0), scene, tmp_path)
    same(found[of != BLUE], before[of != BLUE])
    offset = before.means[of == BLUE] - CENTERS[1]
    turned = torch.stack([-offset[:, 1], offset[:, 0], offset[:, 2]], 1)
    expected = CENTERS[1] + torch.tensor([0.0, 0.2, 0.0]) + 2 * turned
    torch.testing.assert_close(found.means[of == BLUE], expected, rtol=0, atol=2e-2)
    torch.testing.assert_close(found.scales[of == BLUE], 2 * before.scales[of == BLUE])


def test_a_copy_is_added_and_selected(tmp_path):
    scene, before, of = selected(BLUE)
    found = edited(Duplicate(move=(0.0, 0.7, 0.0)), scene, tmp_path)
    same(found[: len(before)], before, ("channels.selection",))
    torch.testing.assert_close(found[len(before) :].means, before[of == BLUE].means + torch.tensor([0.0, 0.7, 0.0]))
    assert torch.equal(found.channels["selection"] > 0, torch.arange(len(found)) >= len(before))


@pytest.mark.parametrize(
    ("stage", "options"),
    [(Recolour, {"color": (2.0, 0, 0)}), (SetMaterial, {}), (SetMaterial, {"metal": "wood"}),
     (Transform, {"scale": 0.0}), (SetMaterial, {"roughness": 3.0}), (Transform, {"axis": (0.0, 0.0, 0.0)}),
     (Extract, {"threshold": 1.5}), (Transform, {"threshold": -0.1})],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(stage: Any, options):
    with pytest.raises(ValueError, match="expected"):
        stage(**options)


def test_nothing_selected_is_explained(tmp_path):
    scene, before, _ = selected(RED)
    empty = replace(before, channels={"selection": torch.zeros(len(before))})
    with pytest.raises(RelightError, match="empty"):
        edited(Extract(), replace(scene, gaussians=empty), tmp_path)
    with pytest.raises(MissingPartError, match="select"):
        edited(Extract(), replace(scene, gaussians=replace(before, channels={})), tmp_path)
    whole = replace(before, channels={"selection": torch.ones(len(before))})
    with pytest.raises(RelightError, match="nothing would be left"):
        edited(Delete(), replace(scene, gaussians=whole), tmp_path)
