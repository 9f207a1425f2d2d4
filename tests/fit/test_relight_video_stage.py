"""Stage `relight_video`."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from meshed_ball import photographed_ball, with_splat

from relight.config import stage_class
from relight.errors import MissingPartError
from relight.export.clips import open_clip
from relight.export.hdr import write_hdr
from relight.stages.base import Interrupted
from relight.stages.relight_video import FILM, RelightVideo
from relight.testing.job import MemoryJob

QUICK = {"model": "shading", "frames": 7, "fps": 10, "longest": 32, "window": 4, "overlap": 1, "reach": 1}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return with_splat(photographed_ball(tmp_path_factory.mktemp("ball"), count=4, size=32))


def film(folder):
    return torch.stack(list(open_clip(folder / FILM).frames()))


def test_a_path_under_words(scene, tmp_path):
    assert stage_class("relight_video") is RelightVideo
    job = MemoryJob(tmp_path)
    result = RelightVideo(text="soft warm light from the left", **QUICK).run(scene, job)
    assert result is scene
    frames = film(tmp_path)
    assert frames.shape == (7, 32, 32, 3)
    assert [p.name for p in tmp_path.iterdir()] == [FILM]
    assert job.reports[-1][0] == 7 and 0 <= job.metrics["flicker"] < 0.2
    bright = frames[0].mean(-1)
    assert float(bright[:, :16].mean()) > 1.15 * float(bright[:, 16:].mean())  # as the first camera sees it
    red, _, blue = frames[0].sum((0, 1))
    assert float(red) > float(blue)


def test_under_a_map_and_stopped_half_way(scene, tmp_path):
    light = torch.full((8, 16, 3), 0.05)
    light[1:3] = 4.0
    write_hdr(tmp_path / "top.hdr", light)
    options = {**QUICK, "environment": str(tmp_path / "top.hdr"), "trust": 0.0, "path": "spline"}
    (tmp_path / "whole").mkdir()
    (tmp_path / "stopped").mkdir()
    RelightVideo(**options).run(scene, MemoryJob(tmp_path / "whole"))
    job = MemoryJob(tmp_path / "stopped", stop_at=3)
    with pytest.raises(Interrupted):
        RelightVideo(**options).run(scene, job)
    assert job.saved is not None and job.saved.step == 3
    RelightVideo(**options).run(scene, MemoryJob(tmp_path / "stopped", restored=job.saved))
    assert torch.equal(film(tmp_path / "whole"), film(tmp_path / "stopped"))


def test_mistakes(scene, tmp_path):
    with pytest.raises(ValueError, match="expected one of them"):
        RelightVideo()
    with pytest.raises(Exception, match="unknown word"):
        RelightVideo(text="purplish nonsense")
    with pytest.raises(ValueError, match="trust"):
        RelightVideo(text="left", trust=2.0)
    with pytest.raises(MissingPartError, match="materials"):
        bare = replace(scene.gaussians, channels={})
        RelightVideo(text="left", **QUICK).run(replace(scene, gaussians=bare), MemoryJob(tmp_path))
