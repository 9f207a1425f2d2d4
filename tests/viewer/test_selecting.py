"""Clicks, boxes and words on a table with two balls, seen by a camera that took no photograph."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from table_scene import BLUE, CENTERS, RED, TABLE, camera, table_scene
from torch.nn.functional import one_hot

from relight.errors import RelightError
from relight.scene import FeatureBasis, Scene
from relight.viewer.app import Shown
from relight.viewer.content import Content
from relight.viewer.document import Document
from relight.viewer.lights import Lamps, Library
from relight.viewer.selection import ALIKE, NEAR, OBJECT, STEPS_BACK, TOUCHING, Click, Selection, selector_of
from relight.viewer.splat_painter import SplatPainter


class Reader:
    """A teacher that knows three words."""

    name, levels = "reader", (3,)
    made = 0

    def __init__(self):
        Reader.made += 1

    def __call__(self, rgb):
        return rgb

    def text(self, prompts):
        places = {"table": 0, "red ball": 1, "blue ball": 2}
        return torch.stack([torch.eye(3)[places[p]] if p in places else torch.ones(3) for p in prompts])


class Desk:
    """One client's selection, and what it was told."""

    def __init__(self, scene: Scene, *, fitted: bool = True):
        self.said: list[str] = []
        self.changes = 0
        assert scene.gaussians is not None
        selector = selector_of(scene) if fitted else None
        painter = SplatPainter(scene, Lamps(Library()))
        self.shown = Shown(Content("table", scene), painter, Document(scene.gaussians), selector)
        self.camera = camera(0.2, 1.9).resized(160, 120)
        self.selection = Selection(lambda: self.shown, lambda: self.camera, self._changed, self.said.append)

    def _changed(self) -> None:
        self.changes += 1

    @property
    def mask(self) -> torch.Tensor:
        assert self.selection.mask is not None
        return self.selection.mask

    def click(self, thing: int, means: str = OBJECT, **more) -> torch.Tensor:
        on = CENTERS[thing - 1] if thing else torch.tensor([0.0, -0.6, 0.0])
        x, y = (self.camera.project(on)[0] / torch.tensor([160, 120])).tolist()
        self.selection.click(x, y, Click(means), **more)
        return self.mask


def overlap(chosen: torch.Tensor, truth: torch.Tensor) -> float:
    return float((chosen & truth).sum() / (chosen | truth).sum())


@pytest.fixture(scope="module")
def plain() -> tuple[Scene, torch.Tensor]:
    return table_scene()


@pytest.fixture(scope="module")
def featured(plain) -> Scene:
    """The balls feel alike in part, and the teacher reads."""
    scene, of = plain
    feature = one_hot(of, 3).float()
    feature[of != TABLE] = torch.nn.functional.normalize(feature[of != TABLE] + torch.tensor([0.0, 0.7, 0.7]), dim=1)
    basis = FeatureBasis(torch.zeros(3), torch.eye(3), f"{__name__}:Reader")
    return replace(scene, feature_basis=basis, gaussians=replace(scene.gaussians, channels={"feature": feature}))


def test_a_click_means_the_thing_that_is_there(plain):
    desk, of = Desk(plain[0]), plain[1]
    assert desk.selection.meanings() == [OBJECT, NEAR]
    assert overlap(desk.click(RED), of == RED) > 0.9
    assert overlap(desk.click(BLUE, how="add"), of != TABLE) > 0.9
    assert overlap(desk.click(RED, how="subtract"), of == BLUE) > 0.9
    assert len(desk.said) == 1 and "seconds" in desk.said[0], "only the first click takes long"
    near = desk.click(RED, NEAR)
    assert bool(near.any()) and int(near.sum()) < 100 and not bool(near[of == BLUE].any())


def test_a_click_beside_everything_selects_nothing(plain):
    desk = Desk(plain[0])
    desk.selection.click(0.01, 0.01, Click(OBJECT))
    assert not bool(desk.mask.any())


def test_each_selection_can_be_taken_back(plain):
    desk = Desk(plain[0])
    assert not desk.selection.back()
    red = desk.click(RED)
    desk.selection.drag((0.0, 0.0), (1.0, 1.0), through=True)
    desk.selection.clear()
    assert desk.changes == 3 and desk.selection.mask is None
    assert desk.selection.back() and int(desk.mask.sum()) > 1000
    assert desk.selection.back() and torch.equal(desk.mask, red)
    assert desk.selection.back() and desk.selection.mask is None and not desk.selection.back()
    for _ in range(2 * STEPS_BACK):
        desk.selection.clear()
    assert sum(desk.selection.back() for _ in range(2 * STEPS_BACK)) == STEPS_BACK
    desk.click(RED)
    desk.selection.keep_for(7)
    assert desk.selection.mask is None and not desk.selection.back()


def test_what_is_hidden_is_clicked_through_and_not_selected(plain):
    desk, of = Desk(plain[0]), plain[1]
    document = desk.shown.document
    assert document is not None
    document.hide(of == RED)
    through = desk.click(RED)
    assert not bool(through[of == RED].any()) and bool(through[of == TABLE].any())
    document.undo()
    assert overlap(desk.click(RED), of == RED) > 0.9


def test_features_let_clicks_mean_what_is_alike(featured, plain):
    desk, of = Desk(featured), plain[1]
    assert desk.selection.meanings() == [OBJECT, TOUCHING, ALIKE, NEAR]
    assert overlap(desk.click(RED, TOUCHING), of == RED) > 0.9
    assert overlap(desk.click(RED, ALIKE), of != TABLE) > 0.9


def test_words_select_as_clicks_do(featured, plain):
    desk, of = Desk(featured), plain[1]
    Reader.made = 0
    assert desk.selection.knows_words() and Reader.made == 0, "known without loading the teacher"
    desk.selection.words("red ball")
    assert overlap(desk.mask, of == RED) > 0.9
    desk.selection.words(" table ", how="add")
    assert overlap(desk.mask, of != BLUE) > 0.9
    assert Reader.made == 1, "and then loaded once"
    assert desk.selection.back() and overlap(desk.mask, of == RED) > 0.9
    document = desk.shown.document
    assert document is not None
    document.delete(desk.mask)
    with pytest.raises(RelightError, match="write what"):
        desk.selection.words("  ")
    before = desk.selection.mask
    with pytest.raises(RelightError, match="unicorn"):
        desk.selection.words("unicorn")
    assert desk.selection.mask is before
    document.undo()
    assert bool(document.visible.all()), "what was done to a selection by words is undone as any other"


@pytest.mark.parametrize("teacher", ["efficientnet-lite0", "xfeat", "dino", "sam", None])
def test_words_without_a_teacher_that_reads_are_answered_by_a_hint(featured, plain, teacher):
    basis = None if teacher is None else FeatureBasis(torch.zeros(3), torch.eye(3), teacher, "weights")
    for scene in (replace(featured, feature_basis=basis), plain[0]):
        desk = Desk(scene)
        assert not desk.selection.knows_words()
        with pytest.raises(RelightError, match="stage `features`"):
            desk.selection.words("table")
    clip = FeatureBasis(torch.zeros(3), torch.eye(3), "clip", "/no/such/weights")
    assert Desk(replace(featured, feature_basis=clip)).selection.knows_words()


def test_without_photographs_a_click_means_what_is_near(plain):
    scene, _ = plain
    assert selector_of(replace(scene, views=None)) is None
    desk = Desk(scene, fitted=False)
    assert desk.selection.meanings() == [NEAR]
    found = desk.click(RED, OBJECT)
    assert bool(found.any()) and int(found.sum()) < 100 and not desk.said
