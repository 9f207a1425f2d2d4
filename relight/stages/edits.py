"""Stages that change what the stage `select` marked: each is repeatable, and undone by taking it out of the list.

The channel `selection` says how far a Gaussian is meant.
"""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from relight.errors import MissingPartError, RelightError
from relight.fit.patch import joined, patched
from relight.geometry import sh
from relight.geometry.gaussians import Gaussians
from relight.geometry.transforms import rigid_from_twist
from relight.render.relit import has_materials
from relight.scene import Scene
from relight.shading.color import linear_to_srgb, luminance, srgb_to_linear
from relight.shading.metals import METALS
from relight.stages.base import Job, Stage


@dataclass(frozen=True, kw_only=True)
class Edit(Stage):
    """What all of them do: find what is selected, and drop what no longer fits the splat."""

    needs: ClassVar[tuple[str, ...]] = ("gaussians",)
    gives: ClassVar[tuple[str, ...]] = ("gaussians",)
    moves: ClassVar[bool] = True
    """Whether the shape changes, so that the mesh for rays is no longer of it."""
    threshold: float = 0.5
    """Selection above which a Gaussian is changed; others are not touched.  0 to 1."""

    def __post_init__(self) -> None:
        self.check_ranges({"threshold": (0, 1)})

    def run(self, scene: Scene, job: Job) -> Scene:
        """Raises MissingPartError without a selection, RelightError for an empty one.

        The textured mesh, and with a change of shape the mesh for rays, are left behind: they show what was.
        """
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(self).__name__).lower()
        if scene.gaussians is None or "selection" not in scene.gaussians.channels:
            raise MissingPartError(f"{name}: nothing is selected; put the stage select before it")
        chosen = scene.gaussians.channels["selection"] > self.threshold
        if not bool(chosen.any()):
            raise RelightError(f"{name}: the selection is empty; change the options of the stage select")
        gaussians = self.changed(scene.gaussians, chosen)
        job.report(1, 1, {"changed": float(chosen.sum()), "gaussians": float(len(gaussians))})
        return replace(scene, gaussians=gaussians, asset=None, mesh=None if self.moves else scene.mesh)

    @abstractmethod
    def changed(self, gaussians: Gaussians, chosen: Tensor) -> Gaussians:
        """With (N,) those that are selected changed."""


@dataclass(frozen=True, kw_only=True)
class Extract(Edit):
    """Keep what is selected and nothing else."""

    def changed(self, gaussians: Gaussians, chosen: Tensor) -> Gaussians:
        return gaussians[chosen]


@dataclass(frozen=True, kw_only=True)
class Delete(Edit):
    """Remove what is selected, and close what it stood on."""

    fill: bool = True
    """Close the hole that is left with copies of the Gaussians around it."""

    def changed(self, gaussians: Gaussians, chosen: Tensor) -> Gaussians:
        if bool(chosen.all()):
            raise RelightError("delete: everything is selected; nothing would be left")
        return patched(gaussians, chosen) if self.fill else gaussians[~chosen]


@dataclass(frozen=True, kw_only=True)
class Recolour(Edit):
    """Give what is selected another colour; light and shadow in it stay."""

    moves: ClassVar[bool] = False
    color: tuple[float, float, float]
    """sRGB-encoded, 0 to 1."""
    keep_pattern: bool = True
    """Keep how light or dark places are; false: one colour everywhere."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(0 <= c <= 1 for c in self.color):
            raise ValueError(f"color: expected three numbers, 0 to 1 (got {self.color})")

    def changed(self, gaussians: Gaussians, chosen: Tensor) -> Gaussians:
        wanted = srgb_to_linear(torch.tensor(self.color))
        look = gaussians.sh.clone()
        linear = srgb_to_linear(sh.to_constant(look[chosen, 0]).clamp(0, 1))
        tinted = linear_to_srgb(self._tinted(linear, wanted))
        look[chosen, 0] = sh.from_constant(tinted)
        # What depends on the view is mostly light that is mirrored: it loses its colour and stays.
        look[chosen, 1:] = luminance(look[chosen, 1:])[..., None].expand(-1, -1, 3)
        channels = dict(gaussians.channels)
        if "base_color" in channels:
            base = channels["base_color"].clone()
            base[chosen] = self._tinted(base[chosen], wanted).to(base)
            channels["base_color"] = base
        return replace(gaussians, sh=look, channels=channels)

    def _tinted(self, linear: Tensor, wanted: Tensor) -> Tensor:
        """(K, 3) of (K, 3): the wanted colour, lighter and darker where they were lighter and darker than usual."""
        if not self.keep_pattern:
            return wanted.expand_as(linear)
        bright = luminance(linear)
        return (wanted * (bright / bright.median().clamp_min(1e-3)).clamp(0, 4)[:, None]).clamp(0, 1)


@dataclass(frozen=True, kw_only=True)
class SetMaterial(Edit):
    """Give what is selected another material: gold, or rough, or both."""

    moves: ClassVar[bool] = False
    metal: str | None = None
    """gold, silver, copper, aluminium or iron: base colour and metallic."""
    base_color: tuple[float, float, float] | None = None
    """Linear Rec.709, 0 to 1."""
    roughness: float | None = None
    """Perceptual, 0 to 1."""
    metallic: float | None = None
    """0 to 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        values = {"base_color": self.base_color, "roughness": self.roughness, "metallic": self.metallic}
        if self.metal is not None and self.metal not in METALS:
            raise ValueError(f"metal: expected one of {', '.join(METALS)} (got {self.metal})")
        if self.metal is None and all(v is None for v in values.values()):
            raise ValueError("expected a metal, base_color, roughness or metallic")
        for name, value in values.items():
            if value is not None and not all(0 <= v <= 1 for v in (value if isinstance(value, tuple) else (value,))):
                raise ValueError(f"{name}: expected 0 to 1 (got {value})")

    def changed(self, gaussians: Gaussians, chosen: Tensor) -> Gaussians:
        if not has_materials(gaussians):
            raise MissingPartError("set_material: the splat has no materials; put distill before it")
        metal = METALS.get(self.metal or "")
        values = {
            "base_color": self.base_color or metal,
            "roughness": self.roughness,
            "metallic": 1.0 if metal and self.metallic is None else self.metallic,
            "progress": 1.0,  # what is left of the captured look shows the old material
        }
        channels = dict(gaussians.channels)
        for name, value in values.items():
            if value is not None:
                channels[name] = channels[name].clone()
                channels[name][chosen] = channels[name].new_tensor(value)
        return replace(gaussians, channels=channels)


@dataclass(frozen=True, kw_only=True)
class Transform(Edit):
    """Move, turn and scale what is selected, about its middle."""

    move: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """World units."""
    axis: tuple[float, float, float] = (0.0, 0.0, 1.0)
    """World frame; of the turn."""
    degrees: float = 0.0
    """Of the turn, counter-clockwise seen against the axis."""
    scale: float = 1.0
    """0.001 to 1000."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_ranges({"scale": (1e-3, 1e3), "degrees": (-math.inf, math.inf)})
        if not any(self.axis):
            raise ValueError("axis: expected a direction (got 0, 0, 0)")

    def changed(self, gaussians: Gaussians, chosen: Tensor) -> Gaussians:
        moved, out = self.moved(gaussians[chosen]).tensors(), {}
        for name, value in gaussians.tensors().items():
            out[name] = value.clone()
            out[name][chosen] = moved[name]
        return Gaussians.from_tensors(out, **gaussians.flags)

    def moved(self, part: Gaussians) -> Gaussians:
        """A part, moved."""
        axis = torch.tensor(self.axis) / torch.tensor(self.axis).norm()
        turn = rigid_from_twist(torch.cat([torch.zeros(3), axis * math.radians(self.degrees)]))[:3, :3]
        weight = part.opacities[:, None]
        middle = (weight * part.means).sum(0) / weight.sum()
        return part.transformed(turn, middle + torch.tensor(self.move) - self.scale * turn @ middle, self.scale)


@dataclass(frozen=True, kw_only=True)
class Duplicate(Transform):
    """Copy what is selected, and move, turn and scale the copy, which is selected instead."""

    def changed(self, gaussians: Gaussians, chosen: Tensor) -> Gaussians:
        copy = self.moved(gaussians[chosen])
        original = {**gaussians.channels, "selection": torch.zeros_like(gaussians.channels["selection"])}
        return joined(replace(gaussians, channels=original), copy)
