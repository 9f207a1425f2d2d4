"""Pairs for the panorama head: what a photograph shows of surroundings, and the surroundings."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from relight.diffusion.own.batches import Batch, Batches
from relight.diffusion.own.procedural.draw import Draw
from relight.diffusion.surroundings.framing import Frame, condition, map_directions, seen_means
from relight.errors import ShapeError
from relight.shading.color import linear_to_srgb, luminance, srgb_to_linear
from relight.shading.encoding import MOST, encode

FOV = (40.0, 100.0)
PITCH = 30.0
ROLL = 4.0
ASPECT = (0.66, 1.8)
KEY = (0.06, 0.5)
"""What the geometric mean of a photograph's light becomes; 1 is white."""
NOISE = 0.03
"""Largest standard deviation of a pixel, of 1, sRGB-encoded."""


def drawn_frames(draw: Draw, count: int) -> Frame:
    """Cameras (count,) with random fields of view (degrees above), half of them nearly level."""
    pitch = draw.uniform(-1, 1, count) * torch.where(draw.uniform(0, 1, count) < 0.5, PITCH, PITCH / 5)
    roll = draw.uniform(-ROLL, ROLL, count)
    aspect = torch.exp(draw.uniform(math.log(ASPECT[0]), math.log(ASPECT[1]), count))
    return Frame(torch.deg2rad(draw.uniform(*FOV, count)), torch.deg2rad(pitch), torch.deg2rad(roll), aspect)


def pairs(
    environments: Tensor, generator: torch.Generator, rows: int = 32, frames: Frame | None = None
) -> tuple[Tensor, Tensor]:
    """Targets (B, 6, rows, 2 rows), -1 to 1, and condition maps (B, 5, rows, 2 rows) of (B, H, 2H, 3) radiance.

    Targets are `encode`'s pictures, display-like first, of the light in the photograph's own exposure: 1 is its white.
    Condition: see `framing.condition`.  Each map is turned about the vertical axis by whole pixels, and every other is
    mirrored, so that a pool of maps lasts.  H: a multiple of rows; 2 rows is enough, as each pixel then has four
    directions that are in the photograph or not.  All on the generator's device.  frames: drawn if None.
    No photograph is made and laid back on the map: its pixels are the map's, exposed, clipped, with noise, in 8 bits.
    """
    batch, height, width = environments.shape[:3]
    if height % rows or width != 2 * height:
        raise ShapeError.expected("environments", f"(B, H, 2H, 3), H a multiple of {rows}", tuple(environments.shape))
    draw = Draw(generator)
    frames = drawn_frames(draw, batch) if frames is None else frames
    light = _turned_and_mirrored(environments, draw)
    _, inside = frames.place(map_directions(height, light.device))
    inside = inside.to(light.dtype)

    logarithm = (luminance(light) + 1e-6).log()
    mean = (logarithm * inside).sum((1, 2)) / inside.sum((1, 2)).clamp_min(1)
    key = torch.exp(draw.uniform(math.log(KEY[0]), math.log(KEY[1]), batch))
    light = (light * (key / mean.exp())[:, None, None, None]).clamp_max(MOST)

    noise = torch.randn(light.shape, generator=generator, device=light.device)
    shown = linear_to_srgb(light.clamp_max(1)) + noise * draw.uniform(0, NOISE, batch, 1, 1, 1)
    shown = (shown.clamp(0, 1) * 255).round() / 255
    photo, seen = seen_means(srgb_to_linear(shown), inside, height // rows)
    whole, _ = seen_means(light, torch.ones_like(inside), height // rows)
    target = torch.cat(encode(whole), -1) * 2 - 1
    return target.permute(0, 3, 1, 2), condition(photo, seen)


def _turned_and_mirrored(environments: Tensor, draw: Draw) -> Tensor:
    batch, _, width = environments.shape[:3]
    columns = torch.arange(width, device=draw.device)
    start = (draw.uniform(0, width, batch, 1)).long()
    sign = torch.where(draw.uniform(0, 1, batch, 1) < 0.5, -1, 1)
    columns = (sign * columns + start) % width
    return environments.gather(2, columns[:, None, :, None].expand(environments.shape))


def panoramas(pool: Tensor, left: float = 0.1) -> Batches:
    """Batches for the task "panorama" from a pool (N, H, 2H, 3) of radiance, of which each picture takes one at random.

    left: share of pictures that are told nothing, so that guidance can ask what is likely without a photograph.
    Errors weigh as much as the solid angle that they cover.
    """

    def draw(count: int, generator: torch.Generator) -> Batch:
        some = pool[torch.randint(len(pool), (count,), generator=generator, device=pool.device)]
        target, maps = pairs(some, generator)
        told = torch.rand(count, 1, 1, 1, generator=generator, device=pool.device) >= left
        weight = map_directions(target.shape[2], pool.device)[..., 1].square().neg().add(1).sqrt()
        weight = (weight / weight.mean()).expand(count, 1, -1, -1)
        words = torch.full((count, 1), -1, device=pool.device)
        return Batch(target, maps * told, words, weight)

    return draw
