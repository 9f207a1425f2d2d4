"""How well a splat predicts photographs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from relight.errors import MissingPartError
from relight.fit.losses import mean_ssim
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.render.protocol import RasterOptions, SplatRasterizer
from relight.render.relit import Relit, has_materials
from relight.render.splats import render
from relight.scene import Scene
from relight.views import Photo, View

WHITE = 1.0
"""Captures with cut-outs are compared over white, as the field does for synthetic sets."""


@dataclass(frozen=True)
class ViewScore:
    """psnr: decibels over the usable pixels.  ssim: 0 to 1 over the picture, unusable pixels counting as equal."""

    name: str
    psnr: float
    ssim: float


def psnr(found: Tensor, expected: Tensor, mask: Tensor | None = None) -> float:
    """Decibels, for (H, W, 3) pictures in 0 to 1; `mask` (H, W) selects pixels.  Infinite for equal pictures."""
    difference = (found - expected) if mask is None else (found - expected)[mask]
    error = float(difference.detach().double().square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def target(photo: Photo) -> Tensor:
    """(H, W, 3) what a render over the evaluation background should look like."""
    if photo.alpha is None:
        return photo.rgb
    return photo.rgb * photo.alpha[..., None] + WHITE * (1 - photo.alpha[..., None])


def evaluate(
    scene: Scene,
    rasterizer: SplatRasterizer,
    split: str = "test",
    on_view: Callable[[View, Photo, Tensor], None] | None = None,
) -> list[ViewScore]:
    """Scores of every view of a split, renders clipped to 0 to 1.  `on_view` sees each picture, (H, W, 3).

    A splat with materials is drawn by them in the light of its photographs, as `distill` fitted it.
    """
    if scene.gaussians is None or scene.views is None:
        raise MissingPartError("evaluate: needs gaussians and views; run a stage that fits a splat first")
    views, draw = scene.views.split(split), _drawing(scene, scene.gaussians, rasterizer)
    device = scene.gaussians.means.device
    scores = []
    for i, view in enumerate(views):
        photo = views.photo(i)
        with torch.no_grad():
            color, alpha = draw(views.camera(i).to(device), view.light)
            if photo.alpha is not None:
                color = color + (1 - alpha)[..., None] * WHITE
        found, expected = color.clamp(0, 1).cpu(), target(photo)
        masked = [(p if photo.mask is None else p * photo.mask[..., None]).permute(2, 0, 1) for p in (found, expected)]
        scores.append(ViewScore(view.name, psnr(found, expected, photo.mask), float(mean_ssim(*masked))))
        if on_view is not None:
            on_view(view, photo, found)
    return scores


def _drawing(
    scene: Scene, gaussians: Gaussians, rasterizer: SplatRasterizer
) -> Callable[[Camera, str | None], tuple[Tensor, Tensor]]:
    """What draws sRGB-encoded, premultiplied colour and alpha, in a light of the photographs."""
    if has_materials(gaussians) and scene.light is not None and scene.light.main:
        extent = scene.frame.radius
        return Relit(gaussians, scene.mesh, scene.light, extent=extent, rasterizer=rasterizer).photographed
    options = RasterOptions.for_extent(scene.frame.radius)

    def captured(camera: Camera, light: str | None) -> tuple[Tensor, Tensor]:
        image = render(rasterizer, gaussians, camera, options=options)
        return image.color, image.alpha

    return captured


def means(scores: list[ViewScore]) -> dict[str, float]:
    """Mean PSNR and SSIM; empty without views."""
    if not scores:
        return {}
    return {"psnr": sum(s.psnr for s in scores) / len(scores), "ssim": sum(s.ssim for s in scores) / len(scores)}
