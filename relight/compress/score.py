"""How much worse a splat has become, on views that nothing is fitted to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relight.compress.looks import Looks, over
from relight.fit.evaluate import psnr
from relight.fit.losses import mean_ssim
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.shading.environment import Environment
from relight.views import Views

WHITE = torch.ones(3)
HIGHEST = 99.0
"""Decibels of pictures that are the same, as files of results have no infinity."""
SHOWN = 0.02
"""Least alpha of pixels that show something."""


@dataclass(frozen=True)
class Score:
    """psnr: decibels, at most `HIGHEST`, and ssim, against what the judge compares with.  drop: decibels lost, negative
    where some were gained."""

    psnr: float
    ssim: float
    drop: float


class Judge:
    """Compares with photographs if it is given any, else with the splat as it was.

    photos: held-out views.  light: that materials are shaded in, for splats that have some.
    assumed: decibels between the splat as it was and photographs that nobody has.  An error of compression, which is
    independent of the splat's own, adds to it; that is what `Score.drop` is then.  Only pixels that show something of
    the splat count, as those that show nothing would dilute errors.
    """

    def __init__(
        self,
        original: Gaussians,
        cameras: Sequence[Camera],
        looks: Looks,
        *,
        photos: Views | None = None,
        light: Environment | None = None,
        assumed: float = 27.4,
    ):
        self.cameras, self.looks, self.photos, self.light, self.assumed = cameras, looks, photos, light, assumed
        self.masks: list[Tensor | None]
        if photos is None:
            with torch.no_grad():
                self.masks = [looks.draw(original, camera)[1].cpu() > SHOWN for camera in cameras]
            self.expected = self.pictures(original)
            self.before = Score(HIGHEST, 1.0, 0.0)
            return
        shots = [photos.photo(i) for i in range(len(cameras))]
        self.masks = [shot.mask for shot in shots]
        self.expected = [s.rgb if s.alpha is None else over(s.rgb * s.alpha[..., None], s.alpha, WHITE) for s in shots]
        # Where photographs are cut out, pictures lie over white; else over nothing.
        self.cut_out = any(s.alpha is not None for s in shots)
        self.before = Score(0.0, 0.0, 0.0)
        self.before = replace(self.score(original), drop=0.0)

    def score(self, splat: Gaussians) -> Score:
        """Means over the views."""
        psnrs, ssims, drops = [], [], []
        for found, expected, mask in zip(*_alike(self.pictures(splat), self.expected), self.masks, strict=True):
            psnrs.append(min(psnr(found, expected, mask), HIGHEST))
            pair = [(p if mask is None else p * mask[..., None])[..., :3].permute(2, 0, 1) for p in (found, expected)]
            ssims.append(float(mean_ssim(*pair)))
            drops.append(10 * math.log10(1 + 10 ** ((self.assumed - psnrs[-1]) / 10)))
        mean = [sum(values) / len(values) for values in (psnrs, ssims, drops)]
        return Score(mean[0], mean[1], mean[2] if self.photos is None else self.before.psnr - mean[0])

    def distance(self, splat: Gaussians, other: Sequence[Tensor]) -> float:
        """Mean squared error against `pictures` of another splat."""
        total = 0.0
        for found, expected, mask in zip(*_alike(self.pictures(splat), other), self.masks, strict=True):
            error = (found - expected).square()
            total += float(error.mean() if mask is None else error[mask].mean())
        return total / len(self.cameras)

    def pictures(self, splat: Gaussians) -> list[Tensor]:
        """(H, W, C) each, 0 to 1, as they are compared."""
        out = []
        with torch.no_grad():
            for camera in self.cameras:
                light = self.light if self.photos is None else None
                picture, alpha = self.looks.draw(splat, camera, light)
                if self.photos is None or self.cut_out:
                    picture = over(picture, alpha, WHITE)
                out.append(picture.clamp(0, 1).cpu())
        return out


def _alike(found: Sequence[Tensor], expected: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Without channels that only one side has: features come last, and not every file has a place for them."""
    count = min(found[0].shape[-1], expected[0].shape[-1])
    return [f[..., :count] for f in found], [e[..., :count] for e in expected]
