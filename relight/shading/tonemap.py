"""From scene-referred linear light to the 0 to 1 that a display gets, still linear (encode with `linear_to_srgb`).

Each takes (..., 3) linear Rec.709 and gives (..., 3), 0 to 1; differentiable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor


def expose(radiance: Tensor, stops: float) -> Tensor:
    """Times 2 to the `stops`."""
    return radiance * 2.0**stops


def clip(radiance: Tensor) -> Tensor:
    """Nothing but clipping; Blender's "Standard"."""
    return radiance.clamp(0, 1)


def reinhard(radiance: Tensor) -> Tensor:
    """x / (1 + x) on each channel (Reinhard et al., SIGGRAPH 2002, eq. 3)."""
    x = radiance.clamp_min(0)
    return x / (1 + x)


def aces(radiance: Tensor) -> Tensor:
    """The filmic curve of three.js: Stephen Hill's fit of the ACES RRT and ODT, exposed by 1 / 0.6."""
    to_curve = [[0.59719, 0.35458, 0.04823], [0.07600, 0.90834, 0.01566], [0.02840, 0.13383, 0.83777]]
    from_curve = [[1.60475, -0.53108, -0.07367], [-0.10208, 1.10813, -0.00605], [-0.00327, -0.07276, 1.07602]]
    x = (radiance / 0.6) @ radiance.new_tensor(to_curve).mT
    x = (x * (x + 0.0245786) - 0.000090537) / (x * (0.983729 * x + 0.4329510) + 0.238081)
    return (x @ radiance.new_tensor(from_curve).mT).clamp(0, 1)


def agx(radiance: Tensor) -> Tensor:
    """AgX (Troy Sobotka) without a look, by the polynomial of three.js (Benjamin Wrensch), through Rec.2020."""
    to_2020 = [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0113], [0.0164, 0.0880, 0.8956]]
    from_2020 = [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
    inset = [
        [0.856627153315983, 0.0951212405381588, 0.0482516061458583],
        [0.137318972929847, 0.761241990602591, 0.101439036467562],
        [0.11189821299995, 0.0767994186031903, 0.811302368396859],
    ]
    outset = [
        [1.1271005818144368, -0.11060664309660323, -0.016493938717834573],
        [-0.1413297634984383, 1.157823702216272, -0.016493938717834257],
        [-0.14132976349843826, -0.11060664309660294, 1.2519364065950405],
    ]
    low, high = -12.47393, 4.026069
    x = radiance @ radiance.new_tensor(to_2020).mT @ radiance.new_tensor(inset).mT
    x = ((x.clamp_min(1e-10).log2() - low) / (high - low)).clamp(0, 1)
    x2 = x * x
    x4 = x2 * x2
    x = 15.5 * x4 * x2 - 40.14 * x4 * x + 31.96 * x4 - 6.868 * x2 * x + 0.4298 * x2 + 0.1191 * x - 0.00232
    x = (x @ radiance.new_tensor(outset).mT).clamp_min(0) ** 2.2
    return (x @ radiance.new_tensor(from_2020).mT).clamp(0, 1)


def neutral(radiance: Tensor) -> Tensor:
    """Khronos PBR Neutral: base colours below 0.8 stay what they are (Khronos Group 2024)."""
    start, desaturation = 0.8 - 0.04, 0.15
    lowest = radiance.amin(-1, keepdim=True)
    offset = torch.where(lowest < 0.08, lowest - 6.25 * lowest * lowest, 0.04)
    x = radiance - offset
    peak = x.amax(-1, keepdim=True)
    d = 1 - start
    squeezed = 1 - d * d / (peak + d - start).clamp_min(1e-6)
    share = 1 - 1 / (desaturation * (peak - squeezed) + 1)
    bright = x * (squeezed / peak.clamp_min(1e-6))
    bright = bright * (1 - share) + squeezed * share
    return torch.where(peak < start, x, bright).clamp(0, 1)


CURVES: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"clip": clip, "reinhard": reinhard, "aces": aces, "agx": agx, "neutral": neutral}
)
"""By the name that options and the command line use."""
