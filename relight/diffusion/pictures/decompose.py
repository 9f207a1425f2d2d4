"""One photograph to base colour, roughness, metallic and shading, by the bundled prior, which is made for 64 pixels.

The whole picture, shrunk to what the prior was trained at, gives the low frequencies: only there is all of the context.
Overlapping crops of the picture at twice that scale, and so on, give what is finer: of each, only what the scale before
couldn't hold is added (a Laplacian pyramid, Burt and Adelson 1983).  What is left to the photograph's own size is joint
upsampling: by the upscaler, or by a guided filter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from relight.diffusion.own.network import PriorError
from relight.diffusion.own.prior import Prior
from relight.diffusion.own.tasks import condition_maps
from relight.diffusion.pictures.upscale import Upscaler
from relight.diffusion.protocol import Condition
from relight.resize import bicubic
from relight.shading.color import srgb_to_linear

DARKEST = 0.02
"""Base colour, linear, that a photograph is divided by at least; the darkest that the prior was shown."""
TOGETHER = 16
"""Crops that the prior is asked of at once."""


@dataclass(frozen=True)
class Options:
    """steps: of the prior's samples, whose mean is taken; 0 for what it expects, and samples of one step for their
    spread alone.  samples: how many.  zooms: scales of crops beyond the whole picture, each twice the last.
    upsampling: "upscaler", "guided" (filter) or "bicubic".
    """

    samples: int = 4
    steps: int = 0
    zooms: int = 1
    upsampling: str = "guided"


@dataclass(frozen=True)
class Decomposition:
    """All (C, H, W).  base_color: 3, sRGB-encoded.  roughness: 1, perceptual.  metallic: 1.  shading: 3, linear: the
    photograph over base colour, which for metals holds what they mirror.  spread: 1, the standard deviation between
    samples, mean over channels; 0 where there was one.
    """

    base_color: Tensor
    roughness: Tensor
    metallic: Tensor
    shading: Tensor
    spread: Tensor

    @property
    def confidence(self) -> Tensor:
        """(1, H, W), 1 where samples agree, 1 / e where they are 0.1 apart."""
        return torch.exp(-self.spread / 0.1)


@dataclass(frozen=True)
class Photograph:
    """What the prior is told, all (1, C, H, W).  picture: 3, sRGB-encoded, 0 to 1.  mask: 1, what belongs to it.
    normal: 3, unit, camera frame (+x right, +y down, +z forward); depth: 1, 1 near to 0.1 far, 0 outside the mask.  The
    prior knows these two together only.
    """

    picture: Tensor
    mask: Tensor
    normal: Tensor | None = None
    depth: Tensor | None = None

    def maps(self, size: tuple[int, int]) -> Tensor:
        """(1, 23, *size) for `Condition.maps`."""
        normal, depth = self.normal, self.depth
        if normal is not None and depth is not None:
            normal = torch.nn.functional.normalize(bicubic(normal, size), dim=1)
            depth = bicubic(depth, size).clamp(0, 1)
        else:
            normal = depth = None
        mask = (bicubic(self.mask, size) > 0.5).float()
        return condition_maps(bicubic(self.picture, size).clamp(0, 1), mask, normal, depth)


def decompose(
    photo: Photograph,
    prior: Prior,
    upscaler: Upscaler | None = None,
    options: Options | None = None,
    generator: Generator | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Decomposition:
    """The layers of one picture, at its size.  upscaler: of materials; needed for that way of upsampling.

    progress: crops done, and of how many.  Raises PriorError for a prior of another task.
    """
    options = Options() if options is None else options
    if prior.config.task != "material":
        raise PriorError(f"decompose: needs a prior of the task 'material', found {prior.config.task!r}")
    way = options.upsampling
    if way not in ("upscaler", "guided", "bicubic"):
        raise PriorError(f"decompose: upsampling is upscaler, guided or bicubic, not {way!r}")
    if way == "upscaler" and upscaler is None:
        raise PriorError("decompose: this upsampling needs an upscaler of materials")
    found, spread = estimated(photo, prior, options, generator, progress)
    size, picture = _size(photo.picture), photo.picture.to(found)
    if _size(found) == size or way == "bicubic":
        maps = bicubic(found, size).clamp(0, 1)
    elif way == "upscaler" and upscaler is not None:
        maps = upscaler.to_size(found, size, picture)
    else:
        maps = guided_upsampling(found, picture)
    return layered(photo, maps, bicubic(spread, size).clamp(0, 1))


def layered(photo: Photograph, maps: Tensor, spread: Tensor) -> Decomposition:
    """With the shading that (1, 5, H, W) maps leave of the photograph; all 0 outside the mask."""
    maps = maps * photo.mask
    base = srgb_to_linear(maps[:, :3]).clamp_min(DARKEST)
    shading = srgb_to_linear(photo.picture.to(maps)) / base * photo.mask
    return Decomposition(maps[0, :3], maps[0, 3:4], maps[0, 4:5], shading[0], (spread * photo.mask)[0])


def estimated(
    photo: Photograph,
    prior: Prior,
    options: Options,
    generator: Generator | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[Tensor, Tensor]:
    """(1, 5, h, w), 0 to 1, and (1, 1, h, w) spread, at the scale of the finest zoom or of the photograph."""
    size, side = _size(photo.picture), max(prior.config.size)
    longest = max(size)
    scales = [min(side * 2**k, longest) for k in range(options.zooms + 1)]
    sizes = [tuple(max(1, round(n * s / longest)) for n in size) for s in dict.fromkeys(scales)]
    places = [_places(s, side) for s in sizes]
    done, total = 0, options.samples * sum(len(p) for p in places)
    result: Tensor | None = None
    spread = photo.picture.new_zeros(1, 1, 1, 1)
    for at, where in zip(sizes, places, strict=True):
        maps = photo.maps(at).to(prior.device)  # type: ignore[arg-type]
        high, wide = min(side, at[0]), min(side, at[1])
        crops = torch.cat([maps[..., y : y + high, x : x + wide] for y, x in where])
        asked = crops.repeat_interleave(options.samples, 0)
        parts = []
        for some in asked.split(TOGETHER):
            shape, steps = (len(some), high, wide), max(1, options.steps)
            parts.append(prior.sample(Condition(some), shape, steps=steps, generator=generator))
            done += len(some)
            progress(done, total)
        samples = (torch.cat(parts) * 0.5 + 0.5).unflatten(0, (len(where), options.samples))
        if options.steps:
            likely = samples.mean(1)
        else:
            expected = [prior.expected(Condition(c), (len(c), high, wide)) for c in crops.split(TOGETHER)]
            likely = torch.cat(expected) * 0.5 + 0.5
        mean = _blended(likely, where, at)  # type: ignore[arg-type]
        apart = samples.std(1, unbiased=False).mean(1, keepdim=True)
        spread = _blended(apart, where, at)  # type: ignore[arg-type]
        if result is None:
            result = mean
        else:
            before = _size(result)
            result = bicubic(result, at) + mean - bicubic(bicubic(mean, before), at)  # type: ignore[arg-type]
    assert result is not None
    return result.clamp(0, 1), spread


def _places(size: tuple[int, ...], side: int) -> list[tuple[int, int]]:
    """Top left corners of crops that overlap by half or more."""

    def along(length: int) -> list[int]:
        last = max(0, length - side)
        count = -(-last // max(1, side // 2)) + 1
        return sorted({round(last * i / max(1, count - 1)) for i in range(count)})

    return [(y, x) for y in along(size[0]) for x in along(size[1])]


def _blended(crops: Tensor, places: list[tuple[int, int]], size: tuple[int, int]) -> Tensor:
    """(1, C, *size) of (N, C, h, w), each weighted by a raised cosine towards its middle."""
    high, wide = crops.shape[2:]

    def window(length: int) -> Tensor:
        return torch.hann_window(length + 2, periodic=False, device=crops.device)[1:-1]

    weight = window(high)[:, None] * window(wide)
    total = crops.new_zeros(1, crops.shape[1] + 1, *size)
    for crop, (y, x) in zip(crops, places, strict=True):
        total[0, :-1, y : y + high, x : x + wide] += crop * weight
        total[0, -1, y : y + high, x : x + wide] += weight
    return total[:, :-1] / total[:, -1:]


def guided_upsampling(coarse: Tensor, guide: Tensor, radius: int = 2, smooth: float = 1e-3) -> Tensor:
    """(B, C, H, W) of (B, C, h, w): in windows of 2 radius + 1 coarse pixels linear in the colours of the guide (B, 3,
    H, W), the fast guided filter (He and Sun, arXiv 1505.00996).  smooth: variance of colours that counts as none.
    """
    small = bicubic(guide, _size(coarse))
    mean_g, mean_c = _box(small, radius), _box(coarse, radius)
    products = small[:, :, None] * small[:, None]
    b, _, _, h, w = products.shape
    covariance = _box(products.reshape(b, 9, h, w), radius).view(b, 3, 3, h, w) - mean_g[:, :, None] * mean_g[:, None]
    shared = _box((small[:, :, None] * coarse[:, None]).flatten(1, 2), radius).view(b, 3, -1, h, w)
    shared = shared - mean_g[:, :, None] * mean_c[:, None]
    system = covariance.permute(0, 3, 4, 1, 2) + smooth * torch.eye(3).to(guide)
    slopes = torch.linalg.solve(system, shared.permute(0, 3, 4, 1, 2)).permute(0, 3, 4, 1, 2)
    rest = mean_c - (slopes * mean_g[:, :, None]).sum(1)
    size = _size(guide)

    def fine(values: Tensor) -> Tensor:
        return interpolate(_box(values, radius), size, mode="bilinear", align_corners=False)

    return fine(slopes.flatten(1, 2)).unflatten(1, (3, -1)).mul(guide[:, :, None]).sum(1).add(fine(rest)).clamp(0, 1)


def _box(values: Tensor, radius: int) -> Tensor:
    """Mean over windows, replicated at the border."""
    return avg_pool2d(pad(values, (radius,) * 4, mode="replicate"), 2 * radius + 1, 1)


def _size(picture: Tensor) -> tuple[int, int]:
    return picture.shape[2], picture.shape[3]
