from __future__ import annotations

import pytest
import torch

from relight.errors import RelightError
from relight.viewer.document import STEPS_BACK, Document, box, pick

LEFT, RIGHT = slice(0, 200), slice(200, 400)


def test_a_click_selects_what_is_seen_there(scene, camera):
    pixel, _ = camera.project(torch.tensor([-1.0, 0.0, 0.5]))
    x, y = float(pixel[0]) / camera.width, float(pixel[1]) / camera.height
    found = pick(scene.gaussians, camera, x, y, reach=0.3, extent=2.0)
    assert bool(found[LEFT].any()) and not bool(found[RIGHT].any())
    distance = (scene.gaussians.means[found] - torch.tensor([-1.0, 0.0, 0.5])).norm(dim=1)
    assert float(distance.max()) < 0.5
    assert not bool((scene.gaussians.means[found][:, 2] < 0).any()), "nothing of the far side"


@pytest.mark.parametrize("place", [(0.5, 0.5), (0.0, 0.0), (1.0, 1.0), (-3.0, 9.0)])
def test_a_click_beside_selects_nothing(scene, camera, place):
    assert not bool(pick(scene.gaussians, camera, *place, reach=0.2, extent=2.0).any())


def test_a_box_selects_what_is_within(scene, camera):
    through = box(scene.gaussians, camera, (0.0, 0.0), (0.5, 1.0), through=True, extent=2.0)
    assert bool(through[LEFT].all()) and not bool(through[RIGHT].any())
    seen = box(scene.gaussians, camera, (0.0, 0.0), (0.5, 1.0), through=False, extent=2.0)
    depth = 5 - scene.gaussians.means[:, 2]
    assert bool(seen.any()) and bool((through & ~seen).any())
    assert float(depth[seen].mean()) < float(depth[through & ~seen].mean())


def test_changes_can_be_undone_and_redone(scene):
    calls: list[int] = []
    document = Document(scene.gaussians, lambda: calls.append(1))
    left = torch.arange(400) < 200
    assert not document.undo() and not document.redo() and not calls
    document.hide(left)
    assert float(document.gaussians.opacities[left].max()) < 1e-10
    assert torch.equal(document.gaussians.opacities[~left], scene.gaussians.opacities[~left])
    document.set_material(~left, roughness=0.9, metallic=0.25)
    document.recolor(~left, (0.0, 0.5, 0.0))
    assert document.gaussians.channels["base_color"][300].tolist() == [0.0, 0.5, 0.0]
    assert document.gaussians.channels["roughness"][300] == pytest.approx(0.9)
    assert torch.equal(document.gaussians.channels["roughness"][left], scene.gaussians.channels["roughness"][left])
    for _ in range(3):
        assert document.undo()
    assert not document.undo() and not document.edited
    assert document.gaussians is scene.gaussians
    for _ in range(3):
        assert document.redo()
    assert not document.redo()
    assert document.gaussians.channels["metallic"][300] == pytest.approx(0.25)
    assert len(calls) == 9


def test_a_change_after_undo_forgets_what_was_undone(scene):
    document = Document(scene.gaussians)
    left = torch.arange(400) < 200
    document.delete(left)
    document.undo()
    document.delete(~left)
    assert not document.redo()
    assert bool(document.kept[left].all())


def test_memory_is_bounded(scene):
    document = Document(scene.gaussians)
    for _ in range(3 * STEPS_BACK):
        document.hide(torch.ones(400, dtype=torch.bool))
    steps = 0
    while document.undo():
        steps += 1
    assert steps == STEPS_BACK


def test_extracting_leaves_out_what_is_deleted(scene):
    document = Document(scene.gaussians)
    left = torch.arange(400) < 200
    document.hide(left)
    assert len(document.extract()) == 400, "hidden is not gone"
    assert float(document.extract(left).opacities.min()) > 0.9
    document.delete(left)
    assert len(document.extract()) == 200
    with pytest.raises(RelightError, match="nothing to extract"):
        document.extract(left)


def test_colour_of_a_splat_without_materials(plain):
    document = Document(plain.gaussians)
    left = torch.arange(400) < 200
    document.recolor(left, (0.0, 1.0, 0.0))
    shown = 0.28209479 * document.gaussians.sh[:, 0] + 0.5
    assert bool((shown[left, 1] > shown[left, 0] + 0.2).all()) and torch.equal(
        shown[~left], 0.28209479 * plain.gaussians.sh[~left, 0] + 0.5
    )
    with pytest.raises(RelightError, match="no materials"):
        document.set_material(left, roughness=0.5)
