"""What our priors are trained to do: which maps they are told, and what their channels mean.

material   a photograph to base colour, roughness and metallic, or materials from nothing or from words
relight    a photograph and radiance hints of another light to the photograph under that light
panorama   a photograph laid on the sphere to all that is around it, in high dynamic range
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from relight.diffusion.own.network import Config
from relight.diffusion.own.procedural.textures import WORDS
from relight.diffusion.surroundings.framing import CONDITION

GROUPS = {"photo": 3, "mask": 1, "normal": 3, "depth": 1, "hints": 12}
"""Channels of `condition_maps`, in this order; three follow that say whether photo, geometry and hints are given."""


def condition_maps(
    photo: Tensor | None = None,
    mask: Tensor | None = None,
    normal: Tensor | None = None,
    depth: Tensor | None = None,
    hints: Tensor | None = None,
) -> Tensor:
    """(B, 23, H, W) for `Condition.maps` of material and relight.  Any may be None, but not all.

    photo: (B, 3, H, W) sRGB-encoded, 0 to 1; for relight as it is before.  mask: (B, 1, H, W) 0 or 1.
    normal: (B, 3, H, W) unit, camera frame (+x right, +y down, +z forward).  depth: (B, 1, H, W), as of `Frames`.
    hints: (B, 12, H, W), as of `Frames`; for relight of the light to come.
    """
    given = {"photo": photo, "mask": mask, "normal": normal, "depth": depth, "hints": hints}
    some = next(v for v in given.values() if v is not None)

    def part(name: str) -> Tensor:
        value = given[name]
        if value is None:
            return some.new_zeros(len(some), GROUPS[name], *some.shape[2:])
        return value if name in ("normal", "mask") else 2 * value - 1

    flags = [some.new_full((len(some), 1, *some.shape[2:]), float(v is not None)) for v in (photo, normal, hints)]
    return torch.cat([*(part(name) for name in GROUPS), *flags], 1)


MAPS = sum(GROUPS.values()) + 3


@dataclass(frozen=True)
class Task:
    """config: of the network that is trained.  size: rows and columns of the pictures it is trained on."""

    config: Callable[[], Config]
    about: str


TASKS: dict[str, Task] = {
    "material": Task(lambda: Config("material", 5, MAPS, WORDS), "photograph to base colour, roughness, metallic"),
    "relight": Task(lambda: Config("relight", 3, MAPS, WORDS), "photograph to photograph under another light"),
    "panorama": Task(
        lambda: Config("panorama", 6, len(CONDITION), size=(32, 64), around=True),
        "photograph to all that is around it, in high dynamic range",
    ),
}
