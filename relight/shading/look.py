"""From scene-referred pictures to displayed ones: exposure, tone curve, background."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relight.shading.color import linear_to_srgb
from relight.shading.surface import Surface
from relight.shading.tonemap import CURVES, expose


@dataclass(frozen=True)
class Look:
    """exposure: stops.  curve: a name in `relight.shading.tonemap.CURVES`.

    background: "white", "black", "transparent", or "surroundings" for the environment that lights the picture.
    """

    exposure: float = 0.0
    curve: str = "neutral"
    background: str = "white"

    def encoded(self, picture: Tensor, surroundings: Tensor | None = None) -> Tensor:
        """(H, W, 4) linear radiance, premultiplied, to (H, W, 3) sRGB-encoded; (H, W, 4), straight, if transparent.

        surroundings: (H, W, 3) linear radiance behind the picture; needed by the background of that name only.
        """
        color, alpha = picture[..., :3], picture[..., 3:].clamp(0, 1)
        if self.background == "surroundings":
            assert surroundings is not None
            return self._displayed(color + (1 - alpha) * surroundings)
        # The curve is not linear: an edge is a mixture of displayed colours, which is what compositing programs make.
        straight = self._displayed(torch.where(alpha > 0, color / alpha.clamp_min(1e-6), 0.0))
        if self.background == "transparent":
            return torch.cat([straight, alpha], -1)
        return straight * alpha + (1 - alpha) * float(self.background == "white")

    def _displayed(self, linear: Tensor) -> Tensor:
        return linear_to_srgb(CURVES[self.curve](expose(linear, self.exposure)))


def material_colors(surface: Surface, name: str) -> Tensor:
    """(N, 3) of a material as people look at it, 0 to 1: base colours sRGB-encoded, numbers as they are (glTF), normals
    in world axes."""
    if name == "normal":
        return 0.5 + 0.5 * surface.normal
    values = getattr(surface, name)
    return linear_to_srgb(values) if name == "base_color" else values[:, None].expand(-1, 3)
