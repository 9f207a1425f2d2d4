"""Random light from all around, in high dynamic range: what priors learn what surroundings look like from.

Each kind is drawn from its own ranges; all are in linear Rec.709 and without units until `environment` exposes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from relight.diffusion.own.procedural.draw import Draw
from relight.diffusion.own.procedural.outdoors import outdoors
from relight.diffusion.own.procedural.rooms import room, studio
from relight.diffusion.own.procedural.sphere import Sphere, sphere, towards
from relight.shading.color import luminance
from relight.shading.encoding import MOST
from relight.shading.environment import Environment

MEDIAN = 0.35
"""Luminance of the median pixel of a map, before up to `STOPS` of exposure either way."""
STOPS = 1.5
APART = 15_485_863
"""Between the first seeds of two lots of `lights`, so that none is in both."""


def plain(draw: Draw, sphere: Sphere) -> Tensor:
    """(H, 2H, 3) radiance: one colour, a gradient, and up to 8 spherical Gaussians."""
    device = draw.device
    axis = towards(draw.number(-math.pi, math.pi), math.radians(draw.number(-30, 90)), device)
    across = (sphere.directions @ axis)[..., None] * 0.5 + 0.5
    out = torch.lerp(draw.light() * draw.log(0.05, 1), draw.light(), across ** draw.log(0.5, 4))
    for _ in range(draw.count(0, 8)):
        color = draw.vivid() if draw.chance(0.15) else draw.light()
        at = towards(draw.number(-math.pi, math.pi), math.asin(draw.number(-0.5, 1)), device)
        lobe = torch.exp(draw.log(4, 800) * ((sphere.directions @ at) - 1))[..., None]
        out = out + lobe * color * draw.log(0.5, 200)
    return out


def night(draw: Draw, sphere: Sphere) -> Tensor:
    """(H, 2H, 3) radiance: `outdoors` with a moon and lamps."""
    return outdoors(draw, sphere, night=True)


KINDS: Mapping[str, tuple[float, Callable[[Draw, Sphere], Tensor]]] = MappingProxyType({
    "outdoors": (0.42, outdoors),
    "room": (0.34, room),
    "studio": (0.12, studio),
    "night": (0.07, night),
    "plain": (0.05, plain),
})  # fmt: skip
"""Name to probability, and function to (H, 2H, 3) radiance of any scale."""


def environment(generator: torch.Generator, rows: int = 64, kind: str | None = None) -> Tensor:
    """(rows, 2 rows, 3) radiance, linear Rec.709, float32, finite, 0 to `MOST`, in the frame of `Environment`: row 0 is
    up, +x in the middle.  rows: even.  The same state of the generator gives the same map, on the generator's device.

    kind: one of `KINDS`, or drawn with their probabilities.
    The median pixel's luminance is `MEDIAN` times 2 to a number between -STOPS and STOPS, which is how a photographer
    would expose for most of what is around; white is balanced more or less; suns reach `MOST`.  Light is that of black
    bodies of 2000 to 10000 K, bluer in clear skies, or of coloured lamps.  Nothing is shaded exactly: rooms have no
    shadows, and of light that bounces only its mean.
    """
    draw = Draw(generator)
    if kind is None:
        pick, names = draw.number(0, sum(p for p, _ in KINDS.values())), list(KINDS)
        while pick > KINDS[names[0]][0] and len(names) > 1:
            pick -= KINDS[names.pop(0)][0]
        kind = names[0]
    radiance = KINDS[kind][1](draw, sphere(rows, draw.device))
    # A camera's white balance takes out some of the light's colour, though not all of it.
    mean = radiance.clamp_max(20 * radiance.mean()).mean((0, 1)).clamp_min(1e-6)
    radiance = radiance * (mean.mean() / mean) ** draw.number(0, 0.5 if kind == "outdoors" else 1.1)
    middle = luminance(radiance).median().clamp_min(1e-6)
    return (radiance * (MEDIAN * 2 ** draw.number(-STOPS, STOPS) / middle)).clamp(0, MOST).contiguous()


def environments(count: int, first: int) -> Tensor:
    """(count, 64, 128, 3) of the seeds from `first` on.  98 kB each."""
    return torch.stack([environment(torch.Generator().manual_seed(first + i)) for i in range(count)])


def lights(count: int, seed: int) -> list[Environment]:
    """`environments` from a seed of their own on, with what shading wants of them worked out."""
    made = [Environment(radiance) for radiance in environments(count, seed * APART)]
    for light in made:
        light.prefiltered  # noqa: B018 - worked out when first asked for
    return made
