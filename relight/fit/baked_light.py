"""How much of the light on a surface was taken for its colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relight.render.deferred import GBuffer
from relight.render.meshes import Visible
from relight.render.proxy import Proxy
from relight.render.transfer import bake
from relight.shading.environment import Environment
from relight.vectors import unit

POINTS = 20_000
"""Pixels that are looked at, over all views."""
DARKEST = 0.004
"""Colours and irradiances below this have no logarithm worth the name."""


@dataclass(frozen=True)
class BakedLight:
    """correlation: Pearson's, -1 to 1, of the logarithms of what the albedo is wrong by and of irradiance; 0 where no
    shadow or light is left in the albedo, above 0 where it is, below 0 where it was taken out too much.
    slope: the share of irradiance's contrast that is in the albedo, of the same line: 0 for none, 1 for all of it.
    points: that were compared.

    A product of albedo and irradiance is a sum of logarithms, so factors of either, which photographs under one light
    don't tell, change nothing.
    """

    correlation: float
    slope: float
    points: int


def baked_light(
    buffers: Sequence[GBuffer | Visible],
    masks: Sequence[Tensor],
    light: Environment,
    proxy: Proxy | None,
    *,
    albedo: Sequence[Tensor] | None = None,
    normals: Sequence[Tensor] | None = None,
) -> BakedLight:
    """Of a splat's base colour in some views, with the light of the photographs.  Captures with truth give no geometry,
    so shadows are always those of the splat's own mesh.

    masks: (H, W) pixels of the object.  proxy: casts the shadows, and gives light by way of other surfaces; None for
    neither.  albedo: (H, W, 3) true linear base colours; without, base colour itself is compared with irradiance, which
    also correlate where a subject is dark below.  normals: (H, W, 3) true ones, world; otherwise the splat's.
    """
    wanted = sum(int(mask.sum()) for mask in masks)
    colors, places, facing = [], [], []
    for i, (buffer, mask) in enumerate(zip(buffers, masks, strict=True)):
        surface = buffer.surface
        chosen = (mask.to(buffer.mask.device) & buffer.mask).flatten().nonzero()[:: max(1, wanted // POINTS), 0]

        def at(picture: Tensor, index: Tensor = chosen) -> Tensor:
            return picture.flatten(0, 1)[index]

        found = at(buffer.spread(surface.base_color)).clamp_min(DARKEST).log()
        direction = at(buffer.spread(surface.normal) if normals is None else normals[i])
        told = torch.ones(len(chosen), dtype=torch.bool)
        if albedo is not None:
            truth = at(albedo[i])
            told = (truth > DARKEST).all(-1)
            found = found - truth.clamp_min(DARKEST).log()
        colors.append(found.mean(-1)[told])
        places.append(at(buffer.spread(surface.position))[told])
        facing.append(unit(direction)[told])
    return _line(torch.cat(colors), irradiance(torch.cat(places), torch.cat(facing), light, proxy))


def irradiance(places: Tensor, normals: Tensor, light: Environment, proxy: Proxy | None) -> Tensor:
    """(N, 3) irradiance / pi at (N, 3) places of (N, 3) unit normals, world; with shadows if there is a proxy."""
    with torch.no_grad():
        if proxy is None or len(places) == 0:
            return light.irradiance(normals)
        return bake(proxy, proxy.closest(places)[0], normals, light.rotation).irradiance(light)


def _line(residual: Tensor, received: Tensor) -> BakedLight:
    x, y = received.clamp_min(DARKEST).log().mean(-1).double(), residual.double()
    if len(x) < 3:
        return BakedLight(0.0, 0.0, len(x))
    x, y = x - x.mean(), y - y.mean()
    across, along, apart = float(x @ y), float(x @ x), float(y @ y)
    # What is flat or right to a thousandth correlates with nothing but rounding.
    told = min(along, apart) > 1e-6 * len(x)
    return BakedLight(across / (along * apart) ** 0.5 if told else 0.0, across / max(along, 1e-12), len(x))
