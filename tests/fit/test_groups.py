"""Masks of many views to things: by what they share, with masks as bad as real ones."""

from __future__ import annotations

import pytest
import torch
from table_scene import photographed_table, table_scene

from relight.errors import RelightError
from relight.fit.groups import Masks, grouped
from relight.fit.select import Prompt, Selector
from relight.fit.teachers import MaskExtractor
from relight.fit.uplift import gathered
from relight.render.backends.splat_cpu import SplatCpu
from relight.render.protocol import RasterOptions
from relight.scene import Scene
from relight.stages.features import Features
from relight.testing.job import MemoryJob


def seen(generator: torch.Generator, worse: float = 0.0) -> tuple[list[Masks], torch.Tensor]:
    """Masks of ten views, by what each Gaussian is of; this share of views lacks one, cuts it or runs two together."""
    scene, of = table_scene()
    assert scene.gaussians is not None and scene.views is not None
    views = []
    for view in scene.views:
        label = torch.nn.functional.one_hot(of).float()
        image = SplatCpu().rasterize(scene.gaussians, view.camera, label, RasterOptions())
        masks = [(image.features[..., k] > 0.5) for k in range(3)]
        if torch.rand((), generator=generator) < worse:
            kind = int(torch.randint(3, (), generator=generator))
            if kind == 0:
                masks.pop(int(torch.randint(3, (), generator=generator)))
            elif kind == 1:
                left = (torch.arange(masks[1].shape[1]) < masks[1].any(0).float().argmax() + 4).expand_as(masks[1])
                masks += [masks[1] & left, masks.pop(1) & ~left]
            else:
                masks.append(masks[1] | masks.pop(2))
        order = torch.randperm(len(masks), generator=generator).tolist()
        stacked = torch.stack([masks[i] for i in order])
        views.append(Masks.of(SplatCpu(), scene.gaussians, view.camera, stacked, RasterOptions()))
    return views, of


@pytest.mark.parametrize("worse", [0.0, 0.4])
def test_masks_of_one_thing_are_one_group(worse):
    views, of = seen(torch.Generator().manual_seed(3), worse)
    share = grouped(views, 8)
    # Those that are found are the three things, in whatever order.
    assert share.shape[1] >= 3
    known = share.amax(1) > 0.5
    assert known.float().mean() > 0.85
    best = share.argmax(1)
    for thing in range(3):
        mine = best[known & (of == thing)]
        group = int(mine.mode().values)
        assert (mine == group).float().mean() > 0.95
        assert (of[known & (best == group)] == thing).float().mean() > 0.95


def test_what_a_gaussian_shows_in_a_mask_is_its_share():
    scene, _ = table_scene()
    assert scene.gaussians is not None and scene.views is not None
    camera = scene.views[0].camera
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[:, :, 32:] = True
    one = Masks.of(SplatCpu(), scene.gaussians, camera, mask, RasterOptions())
    right = gathered(SplatCpu(), scene.gaussians, camera, mask[0, ..., None].float(), RasterOptions())[:, 0]
    torch.testing.assert_close(one.held[:, 0] * one.seen, right, atol=1e-3, rtol=1e-3)


def test_masks_of_a_single_view_are_no_group():
    views, _ = seen(torch.Generator().manual_seed(3))
    empty = [Masks(v.held[:, :0], v.seen) for v in views[1:]]
    assert grouped([views[0], *empty], 8).shape[1] == 0


class Hues:
    """Takes pictures apart by whether red or blue prevails."""

    name = "hues"

    def masks(self, rgb: torch.Tensor) -> torch.Tensor:
        red, _, blue = rgb.unbind(-1)
        return torch.stack([red > blue + 0.4, blue > red + 0.4])


class Blind:
    """Sees nothing."""

    name = "blind"

    def masks(self, rgb: torch.Tensor) -> torch.Tensor:
        return torch.zeros(0, *rgb.shape[:2], dtype=torch.bool)


@pytest.fixture(scope="module")
def photographed(tmp_path_factory) -> tuple[Scene, torch.Tensor]:
    return photographed_table(tmp_path_factory.mktemp("photos"))


def test_the_stage_groups_and_a_click_selects_a_group(photographed, tmp_path):
    scene, of = photographed
    assert isinstance(Hues(), MaskExtractor)
    job = MemoryJob(tmp_path)
    result = Features(teacher=f"{__name__}:Hues", size=64).run(scene, job)
    assert job.metrics["groups"] == 2 and result.feature_basis is not None
    picked = int((of == 1).nonzero()[200])
    share = Selector(result).select(Prompt(like=picked), by="similarity", threshold=0.8, whole=True).share
    mine = share > 0.5
    assert (mine & (of == 1)).sum() > 0.9 * (of == 1).sum()
    assert not (mine & (of == 2)).any()
    with pytest.raises(RelightError, match="no two of different photographs agree"):
        Features(teacher=f"{__name__}:Blind", size=64).run(scene, MemoryJob(tmp_path))
