"""Kinds of material: segments of a splat, and which of two ways to tell kinds apart is nearer to materials."""

from __future__ import annotations

import pytest
import torch
from table_scene import BLUE, RED, TABLE, table_scene
from torch.nn.functional import one_hot

from relight.fit.gloss import Seen, explained_by
from relight.fit.graph import seen_surface
from relight.fit.places import LEVELS
from relight.fit.shared import segments
from relight.render.backends.splat_cpu import SplatCpu
from relight.render.protocol import RasterOptions


def test_segments_are_things():
    scene, of = table_scene()
    assert scene.gaussians is not None and scene.views is not None
    found = segments(seen_surface(SplatCpu(), scene.gaussians, scene.views, RasterOptions()))
    assert torch.equal(found.sum(1), torch.ones(len(of))) and set(found.unique().tolist()) == {0.0, 1.0}
    mostly = [int(found[of == thing].sum(0).argmax()) for thing in (TABLE, RED, BLUE)]
    assert len(set(mostly)) == 3
    for thing, column in zip((TABLE, RED, BLUE), mostly, strict=True):
        assert found[of == thing, column].mean() > 0.9


def places(slope: torch.Tensor) -> Seen:
    """That reflect so much of what they mirror, (N,), at the third level of roughness, and else something else."""
    g = torch.Generator().manual_seed(0)
    mirrored = 1 + torch.rand(len(LEVELS), len(slope), 40, 3, generator=g)
    radiance = 0.3 + slope[:, None, None] * mirrored[2] + 0.02 * torch.randn(len(slope), 40, 3, generator=g)
    return Seen(
        radiance.mean(1), torch.ones(len(slope), 3), torch.full((len(slope),), 40.0),
        varies=radiance.var(1, correction=0).sum(-1), mirrors=mirrored.var(2, correction=0).sum(-1),
        together=(mirrored * radiance).mean(2).sub(mirrored.mean(2) * radiance.mean(1)).sum(-1),
    )  # fmt: skip


def test_kinds_that_are_materials_explain_more():
    material = torch.arange(60) % 3
    seen = places(torch.tensor([0.02, 0.3, 0.9])[material])
    right, wrong, one = one_hot(material).float(), one_hot(torch.arange(60) // 20).float(), torch.ones(60, 1)
    assert explained_by([seen], right) > 0.9
    assert explained_by([seen], right) > explained_by([seen], wrong) + 0.2
    assert explained_by([seen], wrong) == pytest.approx(explained_by([seen], one), abs=0.05)
