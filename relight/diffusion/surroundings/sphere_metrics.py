"""How well an estimate of all light does its work: three spheres under it, and where its brightest light is.

The recipe is that of DiffusionLight's evaluation (Phongthawee et al., CVPR 2024): maps of 128x256, gamma 2.4 with the
median at 0.5, a mirror, a matte silver and a diffuse sphere.  Where that leaves something open it is settled here (see
`sphere_scores`), so numbers compare with each other, and with other papers' only in kind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from relight.diffusion.surroundings.framing import Frame, map_directions, resized_map
from relight.diffusion.surroundings.light_edit import solid_angles
from relight.diffusion.surroundings.panorama import check_photo, laid
from relight.shading.color import luminance
from relight.shading.environment import Environment, bilinear
from relight.shading.prefilter import blurred
from relight.vectors import unit

ROWS = 128
GAMMA = 2.4
MEDIAN = 0.5
SILVER = 0.35
"""Perceptual roughness of the matte silver sphere."""
BLOB = math.radians(8)
"""Peaks are looked for in maps averaged over so much."""
SPHERES = ("mirror", "matte silver", "diffuse")


def spheres(radiance: Tensor, size: int = 64) -> dict[str, Tensor]:
    """(N, 3) linear pictures, N pixels of discs, of three white spheres under (H, 2H, 3) light, seen from afar by an
    orthographic camera that looks along the middle of the map.
    """
    light = Environment(radiance)
    x, y = torch.meshgrid(*[(torch.arange(size) + 0.5) * (2 / size) - 1] * 2, indexing="xy")
    inside = x * x + y * y < 1
    x, y = x[inside], y[inside]
    # The camera looks along +x, its right is +z: the spheres show mostly what is behind it.
    normal = torch.stack([-(1 - x * x - y * y).clamp_min(0).sqrt(), -y, x], -1)
    ahead = torch.tensor([1.0, 0.0, 0.0])
    mirrored = unit(ahead - 2 * (normal @ ahead)[:, None] * normal)
    return {
        "mirror": light.eval(mirrored),
        "matte silver": bilinear(blurred(radiance, SILVER), light.uv(mirrored)),
        "diffuse": light.irradiance(normal),
    }


def sphere_scores(estimate: Tensor, truth: Tensor) -> dict[str, dict[str, float]]:
    """Of two (H, 2H, 3) maps, for each of `SPHERES`: "rmse"; "si_rmse", after the estimate is scaled as fits best;
    "angular", degrees between colours, the mean over pixels.  And "peak": "degrees" between their brightest places.

    Both maps are brought to 128 rows and exposed alike, so that the truth's median luminance is 0.5 after gamma; errors
    are of pictures after gamma, cut at 1; the angular one is of linear pictures.
    """
    estimate, truth = resized_map(estimate, ROWS), resized_map(truth, ROWS)
    scale = MEDIAN**GAMMA / luminance(truth).median().clamp_min(1e-6)
    found, wanted = spheres(estimate * scale), spheres(truth * scale)
    scores = {}
    for name in SPHERES:
        a, b = (x[name].clamp(0, 1) ** (1 / GAMMA) for x in (found, wanted))
        best = (a * b).sum() / (a * a).sum().clamp_min(1e-9)
        scores[name] = {
            "rmse": float((a - b).square().mean().sqrt()),
            "si_rmse": float((best * a - b).square().mean().sqrt()),
            "angular": float(_angle(found[name], wanted[name]).mean()),
        }
    scores["peak"] = {"degrees": float(_angle(peak(estimate)[None], peak(truth)[None]))}
    return scores


def peak(radiance: Tensor) -> Tensor:
    """(3,) unit direction of the brightest place of (H, 2H, 3) light: the middle of what the brightest `BLOB` shows."""
    radiance = resized_map(radiance, min(radiance.shape[0], ROWS))
    rows = radiance.shape[0]
    directions, weight = map_directions(rows), luminance(radiance) * solid_angles(rows)
    # The mean over a cap is a blur by a kernel of the angle: the brightest few are tried one by one.
    candidates = luminance(radiance).flatten().topk(min(256, weight.numel())).indices
    around = directions.reshape(-1, 3)
    near = (around[candidates] @ around.mT > math.cos(BLOB)).to(weight.dtype)
    best = near[(near @ weight.flatten()).argmax()]
    return unit((around * (weight.flatten() * best)[:, None]).sum(0))


@dataclass(frozen=True)
class ConstantMean:
    """A baseline `PanoramaEstimator`: the photograph's mean everywhere."""

    def estimate(self, photo: Tensor, frame: Frame, rows: int = 64) -> Tensor:
        """See `PanoramaEstimator.estimate`."""
        check_photo(photo)
        return photo.mean((0, 1)).expand(rows, 2 * rows, 3).contiguous()


@dataclass(frozen=True)
class MirroredCrop:
    """A baseline `PanoramaEstimator`: the photograph, folded back and forth all around."""

    def estimate(self, photo: Tensor, frame: Frame, rows: int = 64) -> Tensor:
        """See `PanoramaEstimator.estimate`."""
        check_photo(photo)
        parts, seen = laid(photo, frame, rows)
        x, y, z = map_directions(rows).unbind(-1)
        wide, high = float(frame.fov) / 2, math.atan(math.tan(float(frame.fov) / 2) / float(frame.aspect))
        right = _folded(torch.atan2(z, x), 0.0, 0.95 * wide)
        up = _folded(torch.asin(y), float(frame.pitch), 0.95 * high)
        there = torch.stack([up.cos() * right.cos(), up.sin(), up.cos() * right.sin()], -1)
        where, _ = frame.place(there)
        found = torch.nn.functional.grid_sample(
            photo.permute(2, 0, 1)[None], where, padding_mode="border", align_corners=False
        )[0].permute(1, 2, 0)
        return torch.where(seen[0, ..., None] > 0.99, parts[0, ..., :3], found)


def _folded(angle: Tensor, middle: float, half: float) -> Tensor:
    """Into middle - half to middle + half, back and forth."""
    turn = torch.remainder(angle - middle + half, 4 * half)
    return middle - half + torch.minimum(turn, 4 * half - turn)


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """(...,) degrees between (..., 3) vectors; 0 where both are 0."""
    cross = torch.linalg.cross(a, b).norm(dim=-1)
    return torch.rad2deg(torch.atan2(cross, (a * b).sum(-1)))
