"""Light from all around taken apart into lights that can be changed, and put together again.

After EverLight (Dastjerdi et al., ICCV 2023): each light is a spherical Gaussian, found as a peak of the map's blurred
logarithm; one that is only moved, scaled or tinted keeps its shape.  What isn't edited stays as it was, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, pad

from relight.diffusion.surroundings.framing import map_directions, resized_map
from relight.errors import RelightError, ShapeError
from relight.shading.color import luminance
from relight.shading.environment import Environment, bilinear
from relight.shading.spherical_gaussians import SphericalGaussians
from relight.vectors import unit

BRIGHTEST = 0.015
"""Share of a map's pixels in which peaks are looked for."""
ABOVE = 4.0
"""Times the median luminance: below, nothing is a light."""
MERGED = math.radians(12)
"""Peaks nearer to each other are one light."""
LOOKED_AT = 128
"""Rows of the map in which lights are looked for, at most."""
STEPS, RATE = 150, 0.05
"""Of fitting the lobes, by Adam."""
WIDEST = 4.0
"""Sharpness of the widest lobe, half a radian."""


@dataclass(frozen=True)
class LightEdit:
    """light: number of the light, from the strongest, 0; None adds a new one.

    right, up: degrees to move it by, about the vertical axis and towards the zenith, where it stops; of a new light,
    where it is, from the middle of the map.  intensity: times its power; of a new light, its irradiance on a surface
    that faces it.  size: times its angular width, at the same power; of a new light, its width in degrees.
    color: (r, g, b), linear, of any brightness; None keeps it, or is white.  remove: take it out.
    """

    light: int | None
    right: float = 0.0
    up: float = 0.0
    intensity: float = 1.0
    size: float = 1.0
    color: tuple[float, float, float] | None = None
    remove: bool = False


@dataclass(frozen=True)
class EditableLights:
    """radiance: (H, 2H, 3) the map.  background: (H, 2H, 3) without lights.  owner: (H, 2H) number of the light that a
    pixel shows, -1 for none.  lobes: K lights, the strongest first; None if there is none.
    """

    radiance: Tensor
    background: Tensor
    owner: Tensor
    lobes: SphericalGaussians | None

    def __len__(self) -> int:
        return 0 if self.lobes is None else len(self.lobes.sharpness)

    @property
    def angles(self) -> list[tuple[float, float]]:
        """Of each light, degrees to the right of the map's middle and above its horizon."""
        return [] if self.lobes is None else [_angles(axis) for axis in self.lobes.axis]

    @property
    def irradiance(self) -> Tensor:
        """(K, 3) of each light on a surface that faces it: its power, if it is small."""
        return torch.zeros(0, 3) if self.lobes is None else self.lobes.power

    @property
    def widths(self) -> list[float]:
        """Degrees from where each light has half its radiance to where it has so on the other side."""
        return [] if self.lobes is None else [_width(float(k)) for k in self.lobes.sharpness]

    def edited(self, edits: Iterable[LightEdit]) -> Tensor:
        """(H, 2H, 3) radiance: edited lights taken out, their surroundings drawn in, and put where they go: as they
        look in the map, or, with another size, as lobes.

        Several edits of one light add up.  Raises RelightError for a light that isn't there and meaningless values.
        """
        out, changed = [], set()
        lobes = {k: _Lobe.of(self.lobes, k) for k in range(len(self)) if self.lobes is not None}
        for edit in edits:
            _check(edit, len(self))
            if edit.light is None:
                out.append(_Lobe.new(edit))
                continue
            changed.add(edit.light)
            if edit.remove:
                lobes.pop(edit.light, None)
            elif edit.light in lobes:
                lobes[edit.light] = lobes[edit.light].edited(edit)
        gone = torch.zeros_like(self.owner, dtype=torch.bool)
        for light in changed:
            gone |= self.owner == light
        picture = torch.where(gone[..., None], self.background, self.radiance)
        for k in sorted(changed & lobes.keys()):
            same = self.lobes is not None and lobes[k].sharpness == float(self.lobes.sharpness[k])
            picture = picture + (self._turned(k, lobes[k]) if same else lobes[k].drawn(len(picture)))
        for lobe in out:
            picture = picture + lobe.drawn(len(picture))
        return picture

    def _turned(self, light: int, goal: _Lobe) -> Tensor:
        """(H, 2H, 3) the light's own picture where the goal's axis is, with the goal's power."""
        own = (self.radiance - self.background).clamp_min(0) * (self.owner == light)[..., None]
        (right, up), (new_right, new_up) = self.angles[light], _angles(goal.axis)
        x, y, z = map_directions(len(own)).unbind(-1)
        x, z = _rotated(x, z, -new_right)
        x, y = _rotated(x, y, up - new_up)
        x, z = _rotated(x, z, right)
        found = bilinear(own, Environment(own).uv(torch.stack([x, y, z], -1)))
        power = (found * solid_angles(len(own))[..., None]).sum((0, 1))
        return found * (goal.power / power.clamp_min(1e-12))


@dataclass(frozen=True)
class _Lobe:
    """axis: (3,) unit.  power: (3,) integral over the sphere."""

    axis: Tensor
    sharpness: float
    power: Tensor

    @staticmethod
    def of(lobes: SphericalGaussians | None, number: int) -> _Lobe:
        assert lobes is not None
        return _Lobe(lobes.axis[number], float(lobes.sharpness[number]), lobes.power[number])

    def drawn(self, rows: int) -> Tensor:
        """(rows, 2 rows, 3)."""
        return drawn(self.axis, self.sharpness, self.power, rows)

    @staticmethod
    def new(edit: LightEdit) -> _Lobe:
        color = torch.tensor(edit.color or (1.0, 1.0, 1.0))
        power = edit.intensity * color / luminance(color)
        # Half its radiance at half the width: the inverse of `_width`.
        sharpness = math.log(2) / (1 - math.cos(math.radians(min(edit.size, 180)) / 2))
        return _Lobe(_direction(edit.right, edit.up), sharpness, power)

    def edited(self, edit: LightEdit) -> _Lobe:
        right, up = _angles(self.axis)
        axis = self.axis
        if edit.right or edit.up:
            axis = _direction(right + edit.right, max(-90.0, min(90.0, up + edit.up)))
        power = self.power * edit.intensity
        if edit.color is not None:
            color = torch.tensor(edit.color)
            power = luminance(power) * color / luminance(color)
        return _Lobe(axis, self.sharpness / edit.size**2, power)


@torch.enable_grad()
def find_lights(radiance: Tensor, most: int = 8) -> EditableLights:
    """Take (H, 2H, 3) radiance, not negative, apart into `most` lights at most.  Raises ShapeError, RelightError."""
    rows = radiance.shape[0]
    if radiance.shape != (rows, 2 * rows, 3):
        raise ShapeError.expected("panorama", "(H, 2H, 3)", tuple(radiance.shape))
    if not bool(torch.isfinite(radiance).all()) or float(radiance.min()) < 0:
        raise RelightError("panorama: expected finite radiance, not below 0; export it again")
    # Lights are looked for in a map of moderate size; what they own of a larger one is what they own there.
    small = resized_map(radiance, min(rows, LOOKED_AT))
    directions, solid = map_directions(len(small)), solid_angles(len(small))
    parts = _components(_bright(small))
    if not parts:
        return EditableLights(radiance, radiance, torch.full(radiance.shape[:2], -1), None)
    parts = _merged(parts, luminance(small) * solid, directions)
    # A margin of one blur takes halos too.
    around = _grown(torch.stack(parts).any(0), max(1, len(small) // 32))
    extra = (small - filled(small, ~around)).clamp_min(0)

    energy = torch.stack([(luminance(extra) * solid * part).sum() for part in parts])
    parts = [parts[int(k)] for k in energy.argsort(descending=True)[:most]]
    owner = _nearest(parts, extra)
    power = torch.stack([(extra * (owner == k)[..., None] * solid[..., None]).sum((0, 1)) for k in range(len(parts))])
    lobes = _fitted(extra * (owner >= 0)[..., None], parts, power, directions, solid)
    whole = _enlarged(owner, rows)
    unlit = torch.minimum(filled(radiance, _enlarged(around.long(), rows) == 0), radiance)
    return EditableLights(radiance, torch.where((whole >= 0)[..., None], unlit, radiance), whole, lobes)


def solid_angles(rows: int) -> Tensor:
    """(rows, 1) steradians of a pixel of a map with so many rows."""
    edges = torch.linspace(0, math.pi, rows + 1, dtype=torch.float64).cos()
    return ((edges[:-1] - edges[1:]) * math.pi / rows).float()[:, None]


def drawn(axis: Tensor, sharpness: float, power: Tensor, rows: int) -> Tensor:
    """(rows, 2 rows, 3) radiance of a lobe about a (3,) axis whose integral over the map is (3,) power, whatever the
    map's pixels can hold of its shape.
    """
    directions = map_directions(rows)
    sharpness = min(sharpness, 2 * (rows / math.pi) ** 2)
    # From the chord: the cosine of a small angle has no digits left.
    shape = torch.exp(-0.5 * sharpness * (directions - axis).square().sum(-1))
    return shape[..., None] * (power / (shape * solid_angles(rows)).sum())


def filled(values: Tensor, known: Tensor) -> Tensor:
    """(H, W, C) with what isn't `known` (H, W) drawn in smoothly from around it: pull and push over a pyramid (Gortler
    et al., SIGGRAPH 1996).  Around in width.
    """
    if bool(known.all()):
        return values
    weight = known.to(values.dtype)[None, None]
    picture = values.permute(2, 0, 1)[None] * weight

    def fill(picture: Tensor, weight: Tensor) -> Tensor:
        height, width = weight.shape[2:]
        if bool((weight > 0).all()) or height == 1 or width < 4:
            mean = picture.sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True).clamp_min(1e-9)
            return torch.where(weight > 0, picture / weight.clamp_min(1e-9), mean)
        size = (math.ceil(height / 2), math.ceil(width / 2))
        coarse = fill(interpolate(picture, size, mode="area"), interpolate(weight, size, mode="area"))
        around = pad(coarse, (1, 1, 0, 0), mode="circular")
        scale = math.ceil(width / size[1])
        big = interpolate(around, (height, around.shape[3] * scale), mode="bilinear")[..., scale : scale + width]
        return torch.where(weight > 0, picture / weight.clamp_min(1e-9), big)

    return fill(picture, weight)[0].permute(1, 2, 0)


def _bright(radiance: Tensor) -> Tensor:
    """(H, 2H) bool: the brightest of the blurred logarithm, and well above the median."""
    light = luminance(radiance)
    rows = len(light)
    reach = max(1, rows // 64)
    log = pad(torch.log1p(light)[None, None], (reach, reach, 0, 0), mode="circular")
    log = avg_pool2d(pad(log, (0, 0, reach, reach), mode="replicate"), 2 * reach + 1, stride=1)[0, 0]
    # Rows near the poles are counted for as much as they cover.
    solid = solid_angles(rows).expand_as(log).flatten()
    values, order = log.flatten().sort(descending=True)
    share = solid[order].cumsum(0) / solid.sum()
    least = values[int((share < BRIGHTEST).sum().clamp_max(len(values) - 1))]
    above = torch.log1p(ABOVE * light.median())
    return (log >= torch.maximum(least, above)) & (light > light.median())


def _components(bright: Tensor) -> list[Tensor]:
    """Connected parts (H, 2H) bool, corners included, around in width, from the largest."""
    height, width = bright.shape
    label = torch.arange(1, height * width + 1, dtype=torch.float64).view(1, 1, height, width) * bright
    while True:
        around = pad(label, (1, 1, 0, 0), mode="circular")
        spread = max_pool2d(pad(around, (0, 0, 1, 1)), 3, stride=1) * bright
        if torch.equal(spread, label):
            break
        label = spread
    numbers, counts = label[label > 0].unique(return_counts=True)
    return [label[0, 0] == numbers[k] for k in counts.argsort(descending=True)[:64]]


def _merged(parts: list[Tensor], weight: Tensor, directions: Tensor) -> list[Tensor]:
    """Parts whose middles are near to each other, joined, from the strongest on."""
    kept: list[tuple[Tensor, Tensor]] = []
    for part in sorted(parts, key=lambda p: -float((weight * p).sum())):
        middle = unit((directions * (weight * part)[..., None]).sum((0, 1)))
        near = next((i for i, (_, other) in enumerate(kept) if float(middle @ other) > math.cos(MERGED)), None)
        if near is None:
            kept.append((part, middle))
        else:
            kept[near] = (kept[near][0] | part, kept[near][1])
    return [part for part, _ in kept]


def _grown(inside: Tensor, by: int) -> Tensor:
    around = pad(inside.float()[None, None], (by, by, 0, 0), mode="circular")
    return max_pool2d(pad(around, (0, 0, by, by)), 2 * by + 1, stride=1)[0, 0] > 0


def _enlarged(numbers: Tensor, rows: int) -> Tensor:
    """(rows, 2 rows) whole numbers of the nearest of (H, 2H)."""
    return interpolate(numbers[None, None].double(), (rows, 2 * rows), mode="nearest")[0, 0].long()


def _nearest(parts: list[Tensor], extra: Tensor) -> Tensor:
    """(H, 2H): which part a pixel belongs to; its halo goes with it, as far as it is brighter than its surroundings."""
    rows = len(extra)
    owner = torch.full(extra.shape[:2], -1)
    for number, part in enumerate(parts):
        halo = _grown(part, max(1, rows // 32)) & (luminance(extra) > 0)
        owner = torch.where(halo & (owner < 0), number, owner)
    for number, part in enumerate(parts):
        owner = torch.where(part, number, owner)
    return owner


def _fitted(extra: Tensor, parts: list[Tensor], power: Tensor, directions: Tensor, solid: Tensor) -> SphericalGaussians:
    """Lobes to the light above the background: axes and widths by Adam; powers are known."""
    light = luminance(extra)
    weight = light * solid
    axis, sharp = [], []
    for part in parts:
        total = (weight * part).sum().clamp_min(1e-12)
        mean = (directions * (weight * part)[..., None]).sum((0, 1)) / total
        axis.append(unit(mean))
        # The mean cosine of a lobe is about 1 - 1 / sharpness.
        sharp.append(1 / (1 - mean.norm()).clamp(1e-5, 1))
    rows = len(extra)
    finest = 2 * (rows / math.pi) ** 2
    axes, log_sharpness = torch.stack(axis), torch.stack(sharp).clamp(WIDEST, finest).log()
    means = [torch.zeros_like(x) for x in (axes, log_sharpness)]
    squares = [torch.zeros_like(x) for x in (axes, log_sharpness)]
    # Only where there is light: elsewhere lobes are as good as 0.
    near = _grown(torch.stack(parts).any(0), max(1, rows // 16))
    wanted, places, area = light[near].sqrt(), directions[near], solid.expand_as(light)[near]
    scale = luminance(power)

    def lobes(axes: Tensor, log_sharpness: Tensor) -> SphericalGaussians:
        sharpness = log_sharpness.exp()
        amplitude = power * (sharpness / (2 * math.pi * -torch.expm1(-2 * sharpness)))[:, None]
        return SphericalGaussians(unit(axes), sharpness, amplitude)

    # Adam by hand (Kingma and Ba 2015): torch's takes seconds to import, the fit a tenth of one.
    for step in range(1, STEPS + 1):
        parameters = [x.detach().requires_grad_() for x in (axes, log_sharpness)]
        shown = luminance(lobes(*parameters).eval(places)).clamp_min(1e-12).sqrt()
        loss = ((shown - wanted) ** 2 * area).sum() / scale.sum().clamp_min(1e-12)
        for k, gradient in enumerate(torch.autograd.grad(loss, parameters)):
            means[k] = torch.lerp(gradient, means[k], 0.9)
            squares[k] = torch.lerp(gradient**2, squares[k], 0.999)
            size = (squares[k] / (1 - 0.999**step)).sqrt() + 1e-8
            parameters[k] = parameters[k].detach() - RATE * (means[k] / (1 - 0.9**step)) / size
        axes, log_sharpness = unit(parameters[0]), parameters[1].clamp(math.log(WIDEST), math.log(finest))
    return lobes(axes, log_sharpness)


def _angles(axis: Tensor) -> tuple[float, float]:
    """Degrees to the right of the map's middle, and above the horizon, of a (3,) direction."""
    x, y, z = (float(n) for n in axis)
    return math.degrees(math.atan2(z, x)), math.degrees(math.asin(max(-1.0, min(1.0, y))))


def _direction(right: float, up: float) -> Tensor:
    """Inverse of `_angles`."""
    a, b = math.radians(right), math.radians(up)
    return torch.tensor([math.cos(b) * math.cos(a), math.sin(b), math.cos(b) * math.sin(a)])


def _rotated(a: Tensor, b: Tensor, degrees: float) -> tuple[Tensor, Tensor]:
    """In their plane, from a towards b."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return c * a - s * b, s * a + c * b


def _width(sharpness: float) -> float:
    """Degrees from half the radiance to half the radiance."""
    return 2 * math.degrees(math.acos(max(-1.0, 1 - math.log(2) / sharpness)))


def _check(edit: LightEdit, count: int) -> None:
    if edit.light is not None and not 0 <= edit.light < count:
        found = f"there are {count}, numbered from 0" if count else "none was found"
        raise RelightError(f"light {edit.light}: {found}")
    if edit.remove and edit.light is None:
        raise RelightError("light edit: a new light can't be removed; say which one")
    if not (edit.intensity >= 0 and edit.size > 0 and math.isfinite(edit.intensity + edit.size)):
        raise RelightError(
            f"light edit: expected an intensity of at least 0 and a size above 0, found {edit.intensity}, {edit.size}"
        )
    if not (math.isfinite(edit.right) and abs(edit.up) <= 180):
        raise RelightError(f"light edit: expected degrees, up at most 180, found {edit.right}, {edit.up}")
    if edit.color is not None and not (min(edit.color) >= 0 and max(edit.color) > 0 and math.isfinite(sum(edit.color))):
        raise RelightError(
            f"light edit: expected a colour of three numbers, not below 0, not black, found {edit.color}"
        )
