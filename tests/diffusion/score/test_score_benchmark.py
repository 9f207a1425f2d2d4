"""The analytic task of benchmarks.score_distillation measures what it says."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from benchmarks.score_distillation import MISTAKEN, MOMENTS, VARIANTS, analytic, fit
from relight.diffusion.protocol import Condition
from relight.testing.denoisers import MixtureDenoiser


def test_the_prior_s_own_pictures_are_right_and_others_are_not():
    task = analytic()
    assert isinstance(task.model, MixtureDenoiser)
    own = task.model.sample(8, torch.Generator().manual_seed(3), Condition(tokens=task.model.token(0, 8)))
    right = task.quality(own)
    assert right["KL to the prior"] < 0.1 and right["spread, of the prior's"] == pytest.approx(1, abs=0.1)
    alike = task.quality(own.mean(0, keepdim=True).expand(8, -1, -1, -1))
    shifted = task.quality(own + 0.3)
    assert alike["KL to the prior"] > 5 and alike["error"] == pytest.approx(right["error"])
    assert shifted["KL to the prior"] > 1 and shifted["error"] > 0.25


@pytest.mark.parametrize("name", ["SDS", "VSD", MISTAKEN])
def test_a_fit_is_measured_on_the_way(name):
    task = analytic(count=3)
    found = fit(task, replace(task.options, **VARIANTS[name]), 20, 0, name == MISTAKEN)  # type: ignore[arg-type]
    assert tuple(found) == MOMENTS
    assert all(math.isfinite(v) for row in found.values() for v in row.values())
    assert found[1.0]["calls"] == (80 if name == "VSD" else 40)  # guided, and what the twin says and learns
    assert found[1.0]["CPU seconds"] > found[0.1]["CPU seconds"] > 0
