"""Light and albedo from shading alone, in closed form: where a fit of materials and light starts.

A diffuse surface shows albedo x irradiance, and irradiance is linear in the light (`relight.render.transfer`).  So for
a known albedo the light is a non-negative least-squares problem, of a size that is solved in a second; and most albedo
takes few values.  Steps of a gradient, which see one picture at a time, take thousands of steps to the same place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from relight.render.transfer import ROWS, Transfer, solid_angles

COLORS = 8
"""Albedo is taken for a mixture of so many."""
KINDS = 16
"""Of material, which share a colour."""
ROUNDS = 6
APART = 0.15
"""Width of a colour in log albedo."""
BRIGHTNESS = 0.2
"""How much differences of brightness count between kinds of material."""
RIDGE, SMOOTH, WHITE = 1e-3, 1e-2, 1.0
"""Weights, relative to the mean information about a cell, of the light's energy, of differences between cells, and of
colour.  Over ten times less or more changes the irradiance on path-traced captures by a few per cent."""
STEPS = 400
"""Of the solver, which needs a quarter of them from near the solution."""
BRIGHT = 0.6
"""What the brighter albedos are taken for: photographs fix only the product of light and albedo."""


@dataclass(frozen=True)
class Shading:
    """radiance: (R, 2R, 3) of the light's cells.  albedo: (N, 3), linear."""

    radiance: Tensor
    albedo: Tensor


def solve_shading(look: Tensor, transfer: Transfer) -> Shading:
    """Light and albedo that explain the (N, 3) linear radiance `look` of the points of `transfer` as diffuse.

    First all albedo is one colour, and points that disagree count less and less (L1 by reweighting); then albedo is a
    mixture of the `COLORS` most common ones, and light is solved for anew.  Light is white on average.
    Deterministic; not differentiated.
    """
    look, weights = look.detach(), transfer.weights
    lit = (weights.sum(1) > 0.02)[:, None]
    # Of the most common hue, as light is mostly white.
    middle = look.median(0).values.clamp_min(1e-4)
    albedo, doubt = (0.5 * middle / middle.amax()).expand_as(look), torch.ones_like(look)
    palette = radiance = None
    for number in range(ROUNDS + 3):
        bounced = transfer.bounced
        trust = doubt * lit * albedo * albedo
        radiance = solve_rows(lambda _: weights, look / albedo - bounced, trust, radiance)
        irradiance = weights @ radiance + bounced
        doubt = 1 / ((albedo * irradiance - look).abs() + 0.02 * look.mean().clamp_min(1e-6))
        if number >= 3:
            free = (look / irradiance.clamp_min(1e-3)).clamp(1e-3, 10).log()
            palette = _palette(free, palette)
            share = torch.softmax(-((torch.cdist(free, palette) / APART) ** 2) / 2, 1)
            albedo = (share @ palette).exp()
    assert radiance is not None
    albedo = look / (weights @ radiance + transfer.bounced).clamp_min(1e-3)
    return Shading(*white_and_bright(radiance, albedo, lit[:, 0]))


def white_and_bright(radiance: Tensor, albedo: Tensor, counts: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(D, 3) radiance and (N, 3) albedo, of which photographs tell only the product, as (R, 2R, 3) white light of the
    brightness that makes bright surfaces plausible, and albedo within 0 to 1.  counts: (N,) bool, the surfaces meant.
    """
    solid = solid_angles().to(radiance)[:, None]
    tint = (radiance * solid).sum(0) / solid.sum()
    tint = (tint / tint.mean().clamp_min(1e-12)).clamp_min(1e-3)
    radiance, albedo = radiance / tint, albedo * tint
    meant = albedo if counts is None else albedo[counts]
    gain = max(float(meant.amax(1).quantile(0.9)) if len(meant) else BRIGHT, 1e-6) / BRIGHT
    return (radiance * gain).view(ROWS, 2 * ROWS, 3), (albedo / gain).clamp(0, 1)


def solve_light(look: Tensor, albedo: Tensor, transfer: Transfer) -> Tensor:
    """(R, 2R, 3) radiance of the light's cells under which diffuse points of (N, 3) albedo look so, (N, 3) linear."""
    look, albedo = look.detach(), albedo.detach().clamp_min(1e-3)
    radiance = solve_rows(lambda _: transfer.weights, look / albedo - transfer.bounced, albedo * albedo)
    return radiance.view(ROWS, 2 * ROWS, 3)


def color_kinds(albedo: Tensor) -> Tensor:
    """(KINDS, 3) of the most common colours in (N, 3) albedo, for `color_shares`.  Not differentiated."""
    return _palette(_hue(albedo), None, KINDS)


def color_shares(albedo: Tensor, kinds: Tensor) -> Tensor:
    """(N, K) shares, which sum to 1, of (K, 3) kinds in (N, 3) albedo.  Not differentiated."""
    return torch.softmax(-((torch.cdist(_hue(albedo), kinds) / APART) ** 2) / 2, 1)


def _hue(albedo: Tensor) -> Tensor:
    """(N, 3) logarithms, in which brightness counts less than hue: errors of light and shadow hardly change hue."""
    logs = albedo.detach().clamp_min(1e-3).log()
    return logs - (1 - BRIGHTNESS) * logs.mean(1, keepdim=True)


def _palette(values: Tensor, start: Tensor | None, count: int = COLORS, steps: int = 10) -> Tensor:
    """(count, 3) medians of clusters of (N, 3) values, from `start` or from quantiles of their sum."""
    if start is None:
        order = values.sum(1).argsort()
        start = values[order[torch.linspace(0, len(order) - 1, count).long()]]
    for _ in range(steps):
        nearest = torch.cdist(values, start).argmin(1)
        start = torch.stack(
            [values[m].median(0).values if bool((m := nearest == i).any()) else start[i] for i in range(len(start))]
        )
    return start


def _differences() -> Tensor:
    """(P, R * 2R): each row the difference of two neighbouring cells."""
    index = torch.arange(2 * ROWS * ROWS).view(ROWS, 2 * ROWS)
    across = torch.stack([index.flatten(), index.roll(-1, 1).flatten()], 1)
    down = torch.stack([index[:-1].flatten(), index[1:].flatten()], 1)
    pairs = torch.cat([across, down])
    out = torch.zeros(len(pairs), index.numel())
    out.scatter_(1, pairs[:, :1], 1.0)
    return out.scatter_(1, pairs[:, 1:], -1.0)


def solve_rows(rows: Callable[[int], Tensor], wanted: Tensor, trust: Tensor, start: Tensor | None = None) -> Tensor:
    """(D, 3) x >= 0 that minimises the trusted squares of rows @ x - wanted, with the priors on light.

    rows: of a channel, (N, D).  wanted, trust: (N, 3).  start: x near the minimum, if one is known.
    Accelerated projected gradients (Beck and Teboulle, FISTA, 2009).
    """
    trust = trust / trust.mean().clamp_min(1e-12)
    equations = []
    for channel in range(3):
        matrix = rows(channel)
        weighted = matrix * trust[:, channel, None]
        equations.append((weighted.mT @ matrix / len(matrix), weighted.mT @ wanted[:, channel] / len(matrix)))
    normal, right = (torch.stack(parts) for parts in zip(*equations, strict=True))
    scale = normal.diagonal(dim1=1, dim2=2).mean().clamp_min(1e-12)
    apart, solid = _differences().to(normal), solid_angles().to(normal)
    normal = normal + scale * (RIDGE * torch.diag(solid) + SMOOTH * apart.mT @ apart)
    colored = WHITE * scale * (torch.eye(3) - 1 / 3).to(normal)
    step = 1 / (torch.linalg.eigvalsh(normal).amax() + 2 * WHITE * scale * solid.max())
    x = torch.full_like(right, float(wanted.mean().clamp_min(0.01))) if start is None else start.mT.contiguous()
    ahead, momentum = x, 1.0
    for _ in range(STEPS if start is None else STEPS // 4):
        gradient = (normal @ ahead[..., None])[..., 0] - right + colored @ ahead * solid
        after = (ahead - step * gradient).clamp_min(0)
        faster = (1 + math.sqrt(1 + 4 * momentum * momentum)) / 2
        ahead = after + (momentum - 1) / faster * (after - x)
        x, momentum = after, faster
    return x.mT
