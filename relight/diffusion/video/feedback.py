"""Geometry feedback: what a relit film shows of depth and normals is held to what the film showed before.

UniLumos (arXiv 2511.01678) trains with it: M (|D' - D|^2 / |D|^2 + |N' - N|^2 / |N|^2), D and N read off pictures by a
frozen network.  Here it leads sampling, and is a check of what came out.  Any differentiable estimator of depth and
normals will do; the one that comes with relight reads relief off brightness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relight.diffusion.pictures.geometry import Geometry, integrated
from relight.diffusion.pictures.outline import RELIEF, relief_of
from relight.vectors import unit

Estimator = Callable[[Tensor], tuple[Tensor, Tensor]]
"""(F, H, W, 3) sRGB-encoded frames, 0 to 1, to (F, H, W) depth of any unit, above 0, and (F, H, W, 3) viewer's normals;
differentiable."""


@dataclass(frozen=True)
class ReliefEstimator:
    """Given shapes, with the relief that frames show by dark and bright (`outline`): blind to what light from another
    side does to smooth shapes, which it must be, and to flat patterns that only look like relief."""

    geometries: Sequence[Geometry]

    def __call__(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """See `Estimator`."""
        depths, normals = [], []
        for frame, shape in zip(frames, self.geometries, strict=True):
            own = shape.normal @ shape.world_from_viewer
            normal = unit(own + RELIEF * relief_of(frame, shape.mask))
            normals.append(normal)
            depths.append(integrated(normal, shape.mask, shape.camera))
        return torch.stack(depths), torch.stack(normals)


def disagreement(found: tuple[Tensor, Tensor], known: tuple[Tensor, Tensor], masks: Tensor) -> Tensor:
    """UniLumos's term: () of depth (F, H, W) and normals (F, H, W, 3), mean over (F, H, W) bool masks."""
    off = (found[0] - known[0]).square() / known[0].square().clamp_min(1e-8)
    turned = (found[1] - known[1]).square().sum(-1) / known[1].square().sum(-1).clamp_min(1e-8)
    return (off + turned)[masks].mean() if bool(masks.any()) else (off + turned).sum() * 0


@dataclass(frozen=True)
class GeometryFeedback:
    """strength: sRGB by which a step changes the most wrong value, at most.  rounds: steps each time.  estimator: of
    shapes of frames, given their guessed shapes."""

    strength: float = 0.02
    rounds: int = 4
    estimator: Callable[[Sequence[Geometry]], Estimator] = ReliefEstimator

    def held(self, frames: Tensor, source: Tensor, geometries: Sequence[Geometry]) -> Tensor:
        """(F, H, W, 3) sRGB, 0 to 1: the frames moved towards showing the shapes that the source shows."""
        read, masks = self.estimator(geometries), torch.stack([shape.mask for shape in geometries])
        with torch.no_grad():
            known = read(source)
        now, strength = frames.detach(), self.strength
        for _ in range(self.rounds):
            with torch.enable_grad():
                asked = now.clone().requires_grad_(True)
                error = disagreement(read(asked), known, masks)
                (slope,) = torch.autograd.grad(error, asked)
            most = slope.abs().amax()
            if not float(most) > 0:
                break
            moved = (now - strength / most * slope).clamp(0, 1)
            with torch.no_grad():
                better = bool(disagreement(read(moved), known, masks) < error)
            now, strength = (moved, strength) if better else (now, strength / 2)
        return now


def kept(
    made: Tensor, source: Tensor, geometries: Sequence[Geometry], read: Estimator | None = None
) -> dict[str, float]:
    """How far shapes that (F, H, W, 3) sRGB frames show are from those of the source: depth, %, and normals, degrees,
    means over the masks.  read: None for relief."""
    read = read or ReliefEstimator(geometries)
    masks = torch.stack([shape.mask for shape in geometries])
    if not bool(masks.any()):
        return {"depth, %": 0.0, "normals, degrees": 0.0}
    with torch.no_grad():
        (depth, normal), (true_depth, true_normal) = read(made), read(source)
    off = ((depth - true_depth).abs() / true_depth)[masks].mean()
    cosine = (unit(normal) * unit(true_normal)).sum(-1)[masks].clamp(-1, 1)
    return {"depth, %": 100 * float(off), "normals, degrees": float(torch.rad2deg(cosine.acos()).mean())}
