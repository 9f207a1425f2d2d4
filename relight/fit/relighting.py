"""How right materials and light are, by the protocols of the field, where the truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from relight.errors import DataError, MissingPartError
from relight.fit.baked_light import BakedLight, baked_light
from relight.fit.evaluate import psnr
from relight.fit.losses import mean_ssim
from relight.fit.lpips import Lpips
from relight.images import Picture, read_image
from relight.render.relit import Relit
from relight.render.relit_mesh import RelitMesh, displayed
from relight.resize import averaged
from relight.shading.color import linear_to_srgb, srgb_to_linear
from relight.shading.environment import Environment
from relight.shading.shade import Estimator
from relight.vectors import unit
from relight.views import Views

ALIGNMENTS = ("unscaled", "global", "per channel")
"""Factors on base colour before it is compared and relit: none; one; one a channel (TensoIR).  Medians of truth over
found, over all views: photographs under one light fix base colour only up to such factors."""

DARK = 0.004
"""Black surfaces tell no factor; on a mostly black object the median would be 0."""


@dataclass(frozen=True)
class Truth:
    """Pictures of the same views, in their order; larger ones are reduced to the views' size as photographs are.

    albedo: sRGB of linear base colour, or linear itself with `albedo_is_linear` or in an EXR.  roughness, metallic:
    linear.  normal: world, 0.5 n + 0.5.  Empty if unknown.
    relit: by name of the light: the light, stood up in the world, and the pictures, sRGB without tone curve.
    light: that of the photographs.
    """

    albedo: list[Path] = field(default_factory=list)
    roughness: list[Path] = field(default_factory=list)
    metallic: list[Path] = field(default_factory=list)
    normal: list[Path] = field(default_factory=list)
    relit: Mapping[str, tuple[Environment, list[Path]]] = field(default_factory=dict)
    light: Environment | None = None
    albedo_is_linear: bool = False


def measure(
    relit: Relit | RelitMesh,
    views: Views,
    truth: Truth,
    estimator: Estimator,
    *,
    every: int = 1,
    lpips: Lpips | None = None,
    advance: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Scores by name; those that take an alignment by alignment.  `foreground` is over the photographs' solid pixels;
    `picture` over all, both black (normals: (0, 0, 1)) where there is nothing, which dilutes errors by the share of the
    background: the legacy of most papers.

    every: relight each so many views only.  lpips: adds `LPIPS`.  advance: told of each picture that was drawn.
    Raises MissingPartError if there is nothing to compare with; DataError for pictures that don't fit the views.
    """
    if not (truth.albedo or truth.roughness or truth.metallic or truth.normal or truth.relit):
        raise MissingPartError("evaluate: no truth about materials; see relight eval --help for where it is looked for")
    masks = [_solid(views, i) for i in range(len(views))]
    buffers = [relit.buffer(views.camera(i)) for i in range(len(views))]
    out: dict[str, Any] = {}
    scales = {"unscaled": torch.ones(3)}
    albedo = _true_albedo(truth, masks)
    if albedo:
        found = [buffer.spread(buffer.surface.base_color) for buffer in buffers]
        scales |= _alignment(found, albedo, masks)
        out["albedo scale"] = {name: [round(x, 4) for x in scale.tolist()] for name, scale in scales.items()}
        out["albedo"] = {name: _albedo(found, albedo, masks, scale, lpips) for name, scale in scales.items()}
    for name in ("roughness", "metallic"):
        if paths := getattr(truth, name):
            error = [
                (buffer.spread(getattr(buffer.surface, name)[:, None])[..., 0] - _read(path, mask).values[..., 0])[mask]
                for buffer, path, mask in zip(buffers, paths, masks, strict=True)
            ]
            out[f"{name} MAE"] = _both(float(torch.cat(error).abs().mean()), masks)
            out[f"{name} MSE"] = _both(float(torch.cat(error).square().mean()), masks)
    normals = None
    if truth.normal:
        normals = [
            unit(_read(path, mask).values[..., :3] * 2 - 1) for path, mask in zip(truth.normal, masks, strict=True)
        ]
        angles = [
            torch.rad2deg(torch.acos((buffer.spread(buffer.surface.normal) * n).sum(-1).clamp(-1, 1)))[m]
            for buffer, n, m in zip(buffers, normals, masks, strict=True)
        ]
        out["normal MAE, degrees"] = _both(float(torch.cat(angles).mean()), masks)
    own = relit.lighting.of_world
    if truth.light is not None and own is not None:
        out["light, relative error of irradiance"] = _light_error(own, truth.light)
    if (light := truth.light or own) is not None:
        proxy = relit.proxy if isinstance(relit, Relit) else None
        score = baked_light(buffers, masks, light, proxy, albedo=albedo or None, normals=normals)
        out["baked light"] = {
            **asdict(score),
            "albedo": "its error" if albedo else "as found",
            "light": "true" if truth.light is not None else "as found",
        }
    if truth.relit:
        out |= _relighting(relit, views, truth, estimator, scales, masks, every, lpips, advance)
    return out


def baked_as_found(relit: Relit, views: Views) -> BakedLight:
    """See `baked_light`, of a splat whose truth is not known.  Raises MissingPartError without a light."""
    light = relit.lighting.of_world
    if light is None:
        raise MissingPartError("evaluate: the scene has no light of its own in the world; run the stage distill first")
    buffers = [relit.buffer(views.camera(i)) for i in range(len(views))]
    return baked_light(buffers, [_solid(views, i) for i in range(len(views))], light, relit.proxy)


def _relighting(
    relit: Relit | RelitMesh,
    views: Views,
    truth: Truth,
    estimator: Estimator,
    scales: Mapping[str, Tensor],
    masks: list[Tensor],
    every: int,
    lpips: Lpips | None,
    advance: Callable[[int], None],
) -> dict[str, Any]:
    lights = {}
    for name, (light, paths) in truth.relit.items():
        by_alignment: dict[str, dict[str, float]] = {}
        for alignment, scale in scales.items():
            scores = []
            for i in range(0, len(views), every):
                picture = relit.under(views.camera(i), light, estimator, scale=scale, seed=i)
                scores.append(_relit_score(picture, paths[i], masks[i], lpips))
                advance(1)
            by_alignment[alignment] = {key: sum(s[key] for s in scores) / len(scores) for key in scores[0]}
        lights[name] = by_alignment
    mean = {
        alignment: {
            key: sum(light[alignment][key] for light in lights.values()) / len(lights)
            for key in next(iter(lights.values()))[alignment]
        }
        for alignment in scales
    }
    return {"relit": lights, "relit, mean": mean}


def _solid(views: Views, index: int) -> Tensor:
    alpha = views.photo(index).alpha
    if alpha is None:
        return torch.ones(views.photo(index).rgb.shape[:2], dtype=torch.bool)
    return alpha > 0.99


def _read(path: Path, mask: Tensor) -> Picture:
    """A picture of truth at the size of the (H, W) `mask`, by area averaging."""
    picture, (height, width) = read_image(path), mask.shape
    stored = picture.values.shape[:2]
    if stored == (height, width):
        return picture
    if stored[0] < height or stored[0] * width != stored[1] * height:
        raise DataError(f"{path}: is {stored[1]}x{stored[0]}, its view {width}x{height}; expected the view's shape")
    return Picture(averaged(picture.values, height, width), picture.linear)


def _both(foreground: float, masks: list[Tensor]) -> dict[str, float]:
    """A mean error of the object, and that of whole pictures whose background has none."""
    share = sum(int(m.sum()) for m in masks) / sum(m.numel() for m in masks)
    return {"foreground": foreground, "picture": foreground * share}


def _true_albedo(truth: Truth, masks: list[Tensor]) -> list[Tensor]:
    """(H, W, 3), linear; none if unknown."""
    out = []
    for path, mask in zip(truth.albedo, masks if truth.albedo else [], strict=True):
        picture = _read(path, mask)
        linear = picture.linear or truth.albedo_is_linear
        out.append(picture.values[..., :3] if linear else srgb_to_linear(picture.values[..., :3]))
    return out


def _alignment(found: list[Tensor], wanted: list[Tensor], masks: list[Tensor]) -> dict[str, Tensor]:
    """(3,) factors of base colour by name; see ALIGNMENTS."""
    ratio = torch.cat([(w / f.clamp_min(1e-4))[m] for w, f, m in zip(wanted, found, masks, strict=True)])
    told = torch.cat([(w > DARK)[m].all(-1) for w, m in zip(wanted, masks, strict=True)])
    ratio = ratio[told] if bool(told.any()) else torch.ones(1, 3)
    return {"global": ratio.median().expand(3), "per channel": ratio.median(0).values}


def _albedo(
    found: list[Tensor], wanted: list[Tensor], masks: list[Tensor], scale: Tensor, lpips: Lpips | None
) -> dict[str, float]:
    """Decibels, of all pixels of all views together; mean SSIM and LPIPS of sRGB pictures, black around the object."""
    scaled = [(f * scale).clamp(0, 1) for f in found]
    out = {}
    for space, curve in (("linear", lambda x: x), ("sRGB", linear_to_srgb)):
        squares = [
            ((curve(f) - curve(w)) * m[..., None]).square() for f, w, m in zip(scaled, wanted, masks, strict=True)
        ]
        total, solid = sum(float(s.sum()) for s in squares), sum(int(m.sum()) for m in masks)
        for where, count in (("foreground", solid), ("picture", sum(m.numel() for m in masks))):
            out[f"{space}, {where}"] = -10 * math.log10(max(total / (3 * max(count, 1)), 1e-12))
    pairs = [[linear_to_srgb(x) * m[..., None] for x in (f, w)] for f, w, m in zip(scaled, wanted, masks, strict=True)]
    likeness = [_likeness(f, w, lpips) for f, w in pairs]
    return out | {key: sum(s[key] for s in likeness) / len(likeness) for key in likeness[0]}


def _likeness(found: Tensor, expected: Tensor, lpips: Lpips | None) -> dict[str, float]:
    f, e = (x.permute(2, 0, 1).contiguous() for x in (found, expected))
    out = {"SSIM": float(mean_ssim(f, e))}
    return out if lpips is None else {**out, "LPIPS": lpips(f, e)}


def _relit_score(picture: Tensor, path: Path, mask: Tensor, lpips: Lpips | None) -> dict[str, float]:
    """Pictures are compared over black."""
    stored = _read(path, mask)
    wanted = stored.srgb
    expected = wanted if stored.alpha is None else wanted * stored.alpha[..., None]
    found, _ = displayed(picture)
    scores = {"PSNR": psnr(found, expected), "PSNR, foreground": psnr(found, expected, mask)}
    return scores | _likeness(found, expected, lpips)


def _light_error(found: Environment, wanted: Environment) -> dict[str, float]:
    """Root mean square over all normals of the difference of irradiance, relative to its own, by alignment; factors are
    those of least squares."""
    n = 512
    i = torch.arange(n) + 0.5
    z, phi = 1 - 2 * i / n, i * math.pi * (1 + math.sqrt(5))
    r = (1 - z * z).sqrt()
    normals = torch.stack([r * phi.cos(), r * phi.sin(), z], 1)
    with torch.no_grad():
        a, b = found.irradiance(normals), wanted.irradiance(normals)
    factors = {
        "unscaled": torch.ones(3),
        "global": (a * b).sum() / (a * a).sum().clamp_min(1e-12),
        "per channel": (a * b).sum(0) / (a * a).sum(0).clamp_min(1e-12),
    }
    return {
        name: float((((a * factor - b).square().mean(0)) / b.square().mean(0)).mean().sqrt())
        for name, factor in factors.items()
    }
