"""The one central type.  A `Scene` goes into a stage and a new one comes out; a stage folder on disk is one.

Invariants: the world is the input's world, never re-oriented or rescaled; a scene is never edited, only replaced;
each part is written once, and later stage folders refer to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from relight.geometry.gaussians import Gaussians
from relight.geometry.mesh import Mesh
from relight.shading.lighting import Lighting
from relight.views import Views


@dataclass(frozen=True)
class Frame:
    """The world's frame and the size of what is in it.

    up: unit, world frame; None if unknown.  center: world units.  radius: world units: the scene's extent, to which
    learning rates and thresholds are proportional.
    """

    center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    radius: float = 1.0
    up: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Points:
    """A sparse cloud.  positions: (M, 3) world units.  colors: (M, 3), sRGB-encoded, 0 to 1."""

    positions: Tensor
    colors: Tensor


@dataclass(frozen=True)
class FeatureBasis:
    """What the channel `feature` of a splat means: what a teacher says is about `mean + feature @ directions`.

    mean: (C,).  directions: (F, C).  teacher, source: how `relight.fit.teachers.create` made the teacher.
    """

    mean: Tensor
    directions: Tensor
    teacher: str
    source: str | None = None

    def widened(self, feature: Tensor) -> Tensor:
        """(..., C) that the teacher would say, of (..., F)."""
        return feature.float() @ self.directions + self.mean

    def tensors(self) -> dict[str, Tensor]:
        """What is saved."""
        return {"mean": self.mean, "directions": self.directions}

    @property
    def flags(self) -> dict[str, str | None]:
        """What `tensors` does not hold."""
        return {"teacher": self.teacher, "source": self.source}

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor], teacher: str, source: str | None = None) -> FeatureBasis:
        """Inverse of `tensors` and `flags`."""
        return FeatureBasis(tensors["mean"], tensors["directions"], teacher, source)


@dataclass(frozen=True)
class StageRecord:
    """What made a part of this scene.

    options: all of them, as JSON-like values.  key: content key.  seconds: of work, interruptions left out.
    metrics: the last value of each that the stage reported.  steps: that the stage reported.
    ended_early: the user wanted the next stage before this one had taken all its steps.
    """

    name: str
    options: dict[str, object]
    key: str
    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    ended_early: bool = False


@dataclass(frozen=True)
class Scene:
    """frame: always.  views: posed photographs.  points: from structure from motion.  gaussians: the splat.
    light: what lit the photographs, as far as it is given or was found out.
    mesh: the surface as triangles, for rays; its colours are the captured look, decoded to linear light.
    asset: the subject as a textured mesh with glTF materials: for other programs, and what mesh renderers draw.
    feature_basis: what the splat's channel `feature` means.
    history: the stages that led here, oldest first.
    """

    frame: Frame
    views: Views | None = None
    points: Points | None = None
    gaussians: Gaussians | None = None
    history: tuple[StageRecord, ...] = ()
    light: Lighting | None = None
    mesh: Mesh | None = None
    asset: Mesh | None = None
    feature_basis: FeatureBasis | None = None
