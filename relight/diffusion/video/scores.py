"""How steady a film is: what changes along the motion of things, and what keeps changing back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from relight.diffusion.pictures.geometry import looked_up
from relight.diffusion.video.motion import Motion
from relight.shading.color import luminance, srgb_to_linear

SURE = 0.5
"""Of motion, from which a place is looked at."""
DARK = 0.05
"""Linear brightness below which changes of light are hardly seen."""


def unsteadiness(fields: Sequence[Tensor], motion: Motion) -> dict[str, float]:
    """Of (H, W, C) each: warp, the mean absolute difference to the next along the motion; flicker, that of second
    differences.  What is hidden in a neighbour isn't looked at."""
    warps, flickers = [], []
    for i in range(len(fields) - 1):
        place, sure = motion.between(i, i + 1)
        after, both = looked_up(fields[i + 1], place), sure > SURE
        warps.append((after - fields[i])[both].abs().mean())
        if i == 0:
            continue
        place, sure = motion.between(i, i - 1)
        both = both & (sure > SURE)
        flickers.append((after + looked_up(fields[i - 1], place) - 2 * fields[i])[both].abs().mean())
    return {name: _mean(values) for name, values in (("warp", warps), ("flicker", flickers))}


def change_of_light(relit: Tensor, source: Tensor) -> Tensor:
    """(H, W, 1) natural logarithm of brightness over that before, of (H, W, 3) sRGB pictures: what a relighter did,
    without what the film itself does."""
    after, before = (luminance(srgb_to_linear(picture)) for picture in (relit, source))
    return ((after + DARK) / (before + DARK)).log()[..., None]


def _mean(values: Sequence[Tensor]) -> float:
    kept = [value for value in values if bool(torch.isfinite(value))]
    return float(torch.stack(kept).mean()) if kept else 0.0
