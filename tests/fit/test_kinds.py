"""Kinds of material: segments of a splat, and which of two ways to tell kinds apart is nearer to materials."""

from __future__ import annotations

import torch
from lit_ball import photographs, places_of_ball, sky
from meshed_ball import ball_splat
from table_scene import BLUE, RED, TABLE, table_scene
from torch.nn.functional import one_hot

from relight.fit.graph import seen_surface
from relight.fit.judge import Trials, judge
from relight.fit.lighting import FittedLighting
from relight.fit.shared import segments
from relight.render.backends.splat_cpu import SplatCpu
from relight.render.protocol import RasterOptions
from relight.shading.lighting import Lighting


def test_segments_are_things():
    scene, of = table_scene()
    assert scene.gaussians is not None and scene.views is not None
    found = segments(seen_surface(SplatCpu(), scene.gaussians, scene.views, RasterOptions()))
    assert torch.equal(found.sum(1), torch.ones(len(of))) and set(found.unique().tolist()) == {0.0, 1.0}
    mostly = [int(found[of == thing].sum(0).argmax()) for thing in (TABLE, RED, BLUE)]
    assert len(set(mostly)) == 3
    for thing, column in zip((TABLE, RED, BLUE), mostly, strict=True):
        assert found[of == thing, column].mean() > 0.9


def test_kinds_that_are_materials_explain_more(tmp_path):
    red = (ball_splat().means[:, 0] > 0).long()
    views = photographs(tmp_path, red.float(), 0.6 - 0.2 * red, 24)
    known = FittedLighting(
        views, Lighting({"": sky()}, measured=True), size=8, brightness=1.0, device=torch.device("cpu")
    )
    trials = Trials.of(places_of_ball().in_views(views, known))
    across = (ball_splat().means[:, 1] > 0).long()
    right, wrong, one = (judge(trials, one_hot(kinds).float()).left for kinds in (red, across, torch.zeros_like(red)))
    assert right < 0.8 * wrong and wrong < 1.05 * one
