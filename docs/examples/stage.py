"""A stage: leave out what is far from the subject."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch

from relight.errors import MissingPartError
from relight.scene import Scene
from relight.stages.base import Job, Stage


@dataclass(frozen=True, kw_only=True)
class Crop(Stage):
    """Leave out Gaussians that are far from the middle of the scene."""

    needs: ClassVar[tuple[str, ...]] = ("gaussians",)
    gives: ClassVar[tuple[str, ...]] = ("gaussians",)
    radius: float = 1.0
    """Of the sphere that is kept, in scene radii.  Above 0."""

    def __post_init__(self) -> None:
        self.check_ranges({"radius": (1e-3, math.inf)})

    def run(self, scene: Scene, job: Job) -> Scene:
        """What was made of the whole splat, meshes among it, is left behind."""
        if scene.gaussians is None:
            raise MissingPartError("crop: there is no splat; put the stage radiance before it")
        g = scene.gaussians
        distance = torch.linalg.vector_norm(g.means - g.means.new_tensor(scene.frame.center), dim=-1)
        kept = g[distance <= self.radius * scene.frame.radius]
        job.report(1, 1, {"gaussians": float(len(kept))})
        return replace(scene, gaussians=kept, mesh=None, asset=None)


def test_what_is_far_goes(tmp_path: Path) -> None:
    from relight.geometry.gaussians import Gaussians
    from relight.scene import Frame
    from relight.testing.job import MemoryJob

    means = torch.tensor([[0.5, 0.0, 0.0], [0.0, 3.0, 0.0]])
    quats = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(2, 1)
    splat = Gaussians(means, quats, torch.zeros(2, 3), torch.zeros(2), torch.zeros(2, 1, 3))
    scene = Scene(gaussians=splat, frame=Frame(radius=2.0))
    job = MemoryJob(tmp_path)
    cropped = Crop().run(scene, job)
    assert cropped.gaussians is not None and cropped.gaussians.means.tolist() == [[0.5, 0.0, 0.0]]
    assert job.metrics == {"gaussians": 1.0}
    assert len(splat) == 2, "a stage never changes what it is given"


def test_its_options_are_checked_and_explained() -> None:
    from relight.config.options import options_of, summary

    assert summary(Crop).startswith("Leave out")
    assert [(option.name, option.default) for option in options_of(Crop)] == [("radius", "1.0")]
    try:
        Crop(radius=0.0)
    except ValueError as error:
        assert "radius" in str(error)
    else:
        raise AssertionError("a radius of 0 was taken")
