"""Renaming a Gaussian's axes changes files, and nothing else."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from small_splats import ball

from relight.compress import codec
from relight.compress.orientation import least_turned
from relight.formats import FORMATS


@pytest.mark.parametrize("surfels", [False, True])
def test_a_gaussian_turned_least_is_the_same(surfels):
    splat = replace(ball(300), surfels=surfels)
    found = least_turned(splat)
    torch.testing.assert_close(found.covariances, splat.covariances, rtol=0, atol=1e-6)
    if surfels:
        torch.testing.assert_close(found.rotations[..., 2], splat.rotations[..., 2], rtol=0, atol=1e-5)
    else:
        # No rotation is further from all of a cube's own than 62.8 degrees.
        least = (2 + math.sqrt(2)) / 4
        assert float(found.quats_wxyz[:, 0].abs().min()) > least - 1e-3
    twice = least_turned(found)
    torch.testing.assert_close(twice.quats_wxyz.abs(), found.quats_wxyz.abs(), rtol=0, atol=1e-6)


def test_its_rotation_takes_fewer_bits(tmp_path):
    splat = ball(4000)
    sizes = []
    for version in (splat, least_turned(splat)):
        codec.encode(version, codec.usual(FORMATS["sog"], len(splat)), FORMATS["sog"], tmp_path / "a.sog")
        sizes.append((tmp_path / "a.sog").stat().st_size)
    assert 8 * (sizes[0] - sizes[1]) > 2.5 * len(splat)
