"""How right materials and light are, by the protocols of the field, where the truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from relight.errors import MissingPartError
from relight.fit.evaluate import psnr
from relight.fit.losses import mean_ssim
from relight.images import read_image
from relight.render.relit import Relit
from relight.render.relit_mesh import RelitMesh
from relight.shading.color import linear_to_srgb, srgb_to_linear
from relight.shading.environment import Environment
from relight.shading.shade import Estimator
from relight.views import Views

ALIGNMENTS = ("unscaled", "global", "per channel")
"""Factors on base colour before it is compared and relit: none; one; one a channel (TensoIR).  Medians of truth over
found, over all views: photographs under one light fix base colour only up to such factors."""

DARK = 0.004
"""Black surfaces tell no factor; on a mostly black object the median would be 0."""


@dataclass(frozen=True)
class Truth:
    """Pictures of the same views, in their order.

    albedo: sRGB of linear base colour.  roughness, metallic: linear.  normal: world, 0.5 n + 0.5.  Empty if unknown.
    relit: by name of the light: the light, stood up in the world, and the pictures, sRGB without tone curve.
    light: that of the photographs.
    """

    albedo: list[Path] = field(default_factory=list)
    roughness: list[Path] = field(default_factory=list)
    metallic: list[Path] = field(default_factory=list)
    normal: list[Path] = field(default_factory=list)
    relit: Mapping[str, tuple[Environment, list[Path]]] = field(default_factory=dict)
    light: Environment | None = None


def measure(
    relit: Relit | RelitMesh,
    views: Views,
    truth: Truth,
    estimator: Estimator,
    *,
    every: int = 1,
    advance: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Scores by name; those that take an alignment by alignment.  `foreground` is over the photographs' solid pixels;
    `picture` over all, black where there is nothing, which dilutes errors by the share of the background.

    every: relight each so many views only.  advance: told of each picture that was drawn.
    Raises MissingPartError if there is nothing to compare with.
    """
    if not (truth.albedo or truth.roughness or truth.metallic or truth.normal or truth.relit):
        raise MissingPartError("evaluate: no truth about materials; see relight eval --help for where it is looked for")
    masks = [_solid(views, i) for i in range(len(views))]
    buffers = [relit.buffer(views.camera(i)) for i in range(len(views))]
    out: dict[str, Any] = {}
    scales = {"unscaled": torch.ones(3)}
    if truth.albedo:
        wanted = [srgb_to_linear(read_image(path).values[..., :3]) for path in truth.albedo]
        found = [buffer.spread(buffer.surface.base_color) for buffer in buffers]
        ratio = torch.cat([(w / f.clamp_min(1e-4))[m] for w, f, m in zip(wanted, found, masks, strict=True)])
        told = torch.cat([(w > DARK)[m].all(-1) for w, m in zip(wanted, masks, strict=True)])
        ratio = ratio[told] if bool(told.any()) else torch.ones(1, 3)
        scales["global"] = ratio.median().expand(3)
        scales["per channel"] = ratio.median(0).values
        out["albedo scale"] = {name: [round(x, 4) for x in scale.tolist()] for name, scale in scales.items()}
        out["albedo"] = {name: _albedo(found, wanted, masks, scale) for name, scale in scales.items()}
    for name in ("roughness", "metallic"):
        if paths := getattr(truth, name):
            error = [
                (buffer.spread(getattr(buffer.surface, name)[:, None])[..., 0] - read_image(path).values[..., 0])[mask]
                for buffer, path, mask in zip(buffers, paths, masks, strict=True)
            ]
            out[f"{name} MAE"] = float(torch.cat(error).abs().mean())
    if truth.normal:
        pairs = [
            (buffer.spread(buffer.surface.normal), normalize(read_image(path).values[..., :3] * 2 - 1, dim=-1), mask)
            for buffer, path, mask in zip(buffers, truth.normal, masks, strict=True)
        ]
        angles = [torch.rad2deg(torch.acos((f * w).sum(-1).clamp(-1, 1)))[m] for f, w, m in pairs]
        inside = float(torch.cat(angles).mean())
        share = sum(int(m.sum()) for m in masks) / sum(m.numel() for m in masks)
        out["normal MAE, degrees"] = {"foreground": inside, "picture": inside * share}
    if truth.light is not None and relit.light is not None:
        out["light, relative error of irradiance"] = _light_error(relit.light, truth.light)
    lights = {}
    for name, (light, paths) in truth.relit.items():
        by_alignment: dict[str, dict[str, float]] = {}
        for alignment, scale in scales.items():
            scores = []
            for i in range(0, len(views), every):
                picture = relit.under(views.camera(i), light, estimator, scale=scale, seed=i)
                scores.append(_relit_score(picture, paths[i], masks[i]))
                advance(1)
            by_alignment[alignment] = {key: sum(s[key] for s in scores) / len(scores) for key in scores[0]}
        lights[name] = by_alignment
    if lights:
        out["relit"] = lights
        out["relit, mean"] = {
            alignment: {
                key: sum(light[alignment][key] for light in lights.values()) / len(lights)
                for key in next(iter(lights.values()))[alignment]
            }
            for alignment in scales
        }
    return out


def _solid(views: Views, index: int) -> Tensor:
    alpha = views.photo(index).alpha
    if alpha is None:
        return torch.ones(views.photo(index).rgb.shape[:2], dtype=torch.bool)
    return alpha > 0.99


def _albedo(found: list[Tensor], wanted: list[Tensor], masks: list[Tensor], scale: Tensor) -> dict[str, float]:
    """Decibels, of all pixels of all views together."""
    scaled = [(f * scale).clamp(0, 1) for f in found]
    out = {}
    for space, curve in (("linear", lambda x: x), ("sRGB", linear_to_srgb)):
        squares = [
            ((curve(f) - curve(w)) * m[..., None]).square() for f, w, m in zip(scaled, wanted, masks, strict=True)
        ]
        total, solid = sum(float(s.sum()) for s in squares), sum(int(m.sum()) for m in masks)
        for where, count in (("foreground", solid), ("picture", sum(m.numel() for m in masks))):
            out[f"{space}, {where}"] = -10 * math.log10(max(total / (3 * max(count, 1)), 1e-12))
    return out


def _relit_score(picture: Tensor, path: Path, mask: Tensor) -> dict[str, float]:
    """Pictures are compared over black."""
    wanted = read_image(path).values
    alpha = wanted[..., 3:] if wanted.shape[-1] == 4 else torch.ones_like(wanted[..., :1])
    expected = wanted[..., :3] * alpha
    straight = picture[..., :3] / picture[..., 3:].clamp_min(1e-6)
    found = linear_to_srgb(straight.clamp(0, 1)) * picture[..., 3:]
    ssim = float(mean_ssim(found.permute(2, 0, 1).contiguous(), expected.permute(2, 0, 1).contiguous()))
    return {"PSNR": psnr(found, expected), "PSNR, foreground": psnr(found, expected, mask), "SSIM": ssim}


def _light_error(found: Environment, wanted: Environment) -> float:
    """Root mean square over all normals, after one factor a channel."""
    n = 512
    i = torch.arange(n) + 0.5
    z, phi = 1 - 2 * i / n, i * math.pi * (1 + math.sqrt(5))
    r = (1 - z * z).sqrt()
    normals = torch.stack([r * phi.cos(), r * phi.sin(), z], 1)
    with torch.no_grad():
        a, b = found.irradiance(normals), wanted.irradiance(normals)
    a = a * (a * b).sum(0) / (a * a).sum(0).clamp_min(1e-12)
    return float(((a - b).square().mean(0) / b.square().mean(0)).mean().sqrt())
