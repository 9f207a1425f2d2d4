"""Random rooms seen from inside, and photographers' studios: boxes lit by windows, lamps, strips and soft boxes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from relight.diffusion.own.procedural.draw import Draw, repeated, soft_step
from relight.diffusion.own.procedural.sphere import Sphere, towards
from relight.vectors import unit

BACK = 0.02
"""Metres that lights stand out from their walls."""


@dataclass(frozen=True)
class _Box:
    """Walls about the eye.  low, high: (3,) metres, below and above 0."""

    low: Tensor
    high: Tensor

    @property
    def area(self) -> float:
        x, y, z = (float(n) for n in self.high - self.low)
        return 2 * (x * y + y * z + z * x)


@dataclass(frozen=True)
class Lit:
    """K flat lights.  middle, across, along: (K, 3) metres, the last two half edges; normal: (K, 3) towards the side
    that shines.  half: (K, 2) lengths of the half edges.  area: (K, 1).  radiance: (K, 3).  round: (K,) ellipses.
    pane: (K,) above 0, a window whose bars are so far apart; below 0, a soft box that is brighter in the middle.
    """

    middle: Tensor
    across: Tensor
    along: Tensor
    normal: Tensor
    half: Tensor
    area: Tensor
    radiance: Tensor
    round: Tensor
    pane: Tensor


class Panels:
    """Flat lights, hung one by one."""

    def __init__(self) -> None:
        self.places: list[Tensor] = []
        self.radiance: list[Tensor] = []
        self.kinds: list[tuple[bool, float]] = []

    def add(self, middle, across, along, radiance: Tensor, round: bool = False, pane: float = 0.0) -> None:
        """See `Lit`."""
        vectors = (torch.as_tensor(v, device=radiance.device, dtype=torch.float32) for v in (middle, across, along))
        self.places.append(torch.stack(list(vectors)))
        self.radiance.append(radiance)
        self.kinds.append((round, pane))

    def lit(self, inside: Tensor) -> Lit:
        """All of them, shining towards the side of this (3,) point."""
        middle, across, along = torch.stack(self.places).unbind(1)
        normal = unit(torch.linalg.cross(across, along))
        normal = torch.where(((inside - middle) * normal).sum(-1, keepdim=True) < 0, -normal, normal)
        half = torch.stack([across.norm(dim=-1), along.norm(dim=-1)], -1)
        round, pane = half.new_tensor(self.kinds).unbind(-1)
        area = half.prod(-1) * torch.where(round > 0, math.pi, 4.0)
        return Lit(middle, across, along, normal, half, area[:, None], torch.stack(self.radiance), round > 0, pane)


@dataclass(frozen=True)
class Seen:
    """What each pixel sees.  distance: (H, W).  point, normal, albedo: (H, W, 3)."""

    distance: Tensor
    point: Tensor
    normal: Tensor
    albedo: Tensor


def room(draw: Draw, sphere: Sphere) -> Tensor:
    """(H, 2H, 3) radiance, any scale: a furnished room with windows, lamps on and under the ceiling, strips."""
    box = _drawn_box(draw, draw.log(1.3, 9))
    turned = _turned(sphere.directions, draw.number(-math.pi, math.pi))
    panels = Panels()
    beams = _windows(draw, box, panels) if draw.chance(0.8) else []
    _lamps(draw, box, panels, at_least=0 if panels.places else 1)
    if draw.chance(0.12):
        _neon(draw, box, panels)
    pale = draw.chance(0.6)
    walls = draw.paint(0.35 if pale else 0.08, 0.85, 0.3 if pale else 0.7)
    ceiling = draw.paint(0.5, 0.9, 0.15) if draw.chance(0.7) else draw.paint(0.05, 0.6, 0.5)
    seen = _paint(draw, _walls(box, turned, (draw.paint(0.08, 0.65, 0.5), walls, ceiling)), box, sphere)
    seen = _furniture(draw, seen, box, turned)
    return _shaded(draw, seen, box, panels, beams, turned, sphere)


def studio(draw: Draw, sphere: Sphere) -> Tensor:
    """(H, 2H, 3) radiance, any scale: a room, mostly dark, with 1 to 8 soft boxes that face the eye."""
    box = _drawn_box(draw, draw.log(2.5, 6))
    turned = _turned(sphere.directions, draw.number(-math.pi, math.pi))
    panels = Panels()
    color = draw.light(3000, 7500)
    key = draw.log(30, 3000)
    for number in range(draw.count(1, 8)):
        at = towards(draw.number(-math.pi, math.pi), math.radians(draw.number(-10, 85)), draw.device)
        reach = torch.where(at > 0, box.high / at.clamp_min(1e-3), box.low / at.clamp_max(-1e-3)).min()
        middle = at * float(reach) * draw.number(0.5, 0.95)
        side = unit(torch.linalg.cross(at, torch.tensor([0.02, 1.0, 0.01], device=draw.device)))
        roll = draw.number(-0.5, 0.5)
        upward = torch.linalg.cross(side, at)
        side, upward = (
            side * math.cos(roll) + upward * math.sin(roll),
            upward * math.cos(roll) - side * math.sin(roll),
        )
        far = float(middle.norm())
        width, shape = far * draw.log(0.06, 0.4), draw.count(0, 3)
        height = width if shape == 0 else far * draw.log(0.06, 0.4)
        tint = torch.lerp(draw.vivid(), color, 0.3) if draw.chance(0.06) else color
        panels.add(middle, side * width, upward * height, tint * key, shape == 0, -1.0 if shape == 2 else 0.0)
        key = key * draw.log(0.2, 1) if number == 0 else key
    dark = draw.chance(0.65)
    walls = draw.paint(0.03, 0.25, 0.2) if dark else draw.paint(0.4, 0.9, 0.15)
    floor = walls if draw.chance(0.5) else draw.paint(0.05, 0.9, 0.2)
    seen = _paint(draw, _walls(box, turned, (floor, walls, walls * draw.number(0.5, 1))), box, sphere)
    return _shaded(draw, _furniture(draw, seen, box, turned), box, panels, [], turned, sphere)


def _drawn_box(draw: Draw, size: float) -> _Box:
    sides = [size * draw.log(0.6, 1.7) for _ in range(4)]
    ceiling = max(0.8, min(7.0, size * draw.number(0.25, 0.9)))
    low = [-sides[0], -draw.number(1.0, 1.8), -sides[1]]
    return _Box(torch.tensor(low, device=draw.device), torch.tensor([sides[2], ceiling, sides[3]], device=draw.device))


def _turned(directions: Tensor, angle: float) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return directions @ directions.new_tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _wall(draw: Draw, box: _Box) -> tuple[Tensor, Tensor, int]:
    """A wall's middle at the height of the eye, the unit vector along it, and its axis (0 or 2)."""
    axis, far = draw.count(0, 1) * 2, draw.chance(0.5)
    other = 2 - axis
    middle = torch.zeros(3, device=draw.device)
    middle[axis] = box.high[axis] - BACK if far else box.low[axis] + BACK
    middle[other] = (box.high[other] + box.low[other]) / 2
    along = torch.zeros(3, device=draw.device)
    along[other] = 1.0
    return middle, along, axis


def _windows(draw: Draw, box: _Box, panels: Panels) -> list[tuple[int, Tensor, Tensor]]:
    """One to three walls with windows in a row.  Returns the walls' panels through which the sun may shine, as
    (number of the panel, direction to the sun, irradiance facing it).
    """
    color, radiance = draw.light(4800, 10000), draw.log(15, 500)
    sun = draw.light(2500, 5800) * radiance * draw.log(0.5, 12)
    sunny = draw.chance(0.4)
    beams = []
    for _ in range(draw.count(1, 2)):
        middle, along, axis = _wall(draw, box)
        other = 2 - axis
        length = float(box.high[other] - box.low[other])
        count = draw.count(1, 4)
        width = length / count * draw.number(0.15, 0.42)
        top, bottom = float(box.high[1]) * draw.number(0.3, 0.95), float(box.low[1]) * draw.number(0.0, 0.9)
        pane = draw.log(0.3, 1.2) if draw.chance(0.7) else 0.0
        inward = torch.zeros(3, device=draw.device)
        inward[axis] = -middle[axis].sign()
        # From outside: the other way from where the wall looks.
        up = torch.tensor([0.0, draw.number(0.25, 1.25), 0.0], device=draw.device)
        sun_at = unit(-inward + along * draw.number(-0.9, 0.9) + up)
        for k in range(count):
            place = middle + along * (length * ((k + 0.5) / count - 0.5))
            place[1] = (top + bottom) / 2
            if sunny:
                beams.append((len(panels.places), sun_at, sun))
            panels.add(place, along * width, [0, (top - bottom) / 2, 0], color * radiance, pane=pane)
    return beams


def _lamps(draw: Draw, box: _Box, panels: Panels, at_least: int) -> None:
    """On the ceiling or hanging from it: a grid of equal discs, panels or strips, or single bulbs."""
    device = draw.device
    for _ in range(draw.count(at_least, 2)):
        color, radiance = draw.light(2200, 6500), draw.log(100, 6000)
        kind = draw.count(0, 2)
        columns, rows = draw.count(1, 3), draw.count(1, 2)
        lower = float(box.high[1]) * (draw.number(0.6, 0.95) if draw.chance(0.3) else 1) - BACK
        reach = float((box.high - box.low).min())
        if kind == 0:
            half = (draw.log(0.06, 0.4),) * 2
        elif kind == 1:
            half = (draw.log(0.15, 0.7), draw.log(0.15, 0.7))
        else:
            half = (0.04 + draw.number(0, 0.06), min(draw.log(0.5, 3), 0.4 * reach))
        for i in range(columns):
            for j in range(rows):
                share = torch.tensor([(i + 0.5) / columns, 0, (j + 0.5) / rows], device=device)
                place = box.low + (box.high - box.low) * (share + 0.05 * draw.uniform(-1, 1, 3))
                place[1] = lower
                across, along = torch.zeros(3, device=device), torch.zeros(3, device=device)
                across[0], along[2] = half[0], half[1]
                panels.add(place, across, along, color * radiance, round=kind == 0)


def _neon(draw: Draw, box: _Box, panels: Panels) -> None:
    """Coloured strips on the walls."""
    for _ in range(draw.count(1, 3)):
        middle, along, axis = _wall(draw, box)
        length = float(box.high[2 - axis] - box.low[2 - axis])
        middle[1] = float(box.high[1]) * draw.number(-0.2, 0.95)
        thick = [0, draw.log(0.03, 0.15), 0]
        panels.add(middle, along * (length * draw.number(0.2, 0.48)), thick, draw.vivid() * draw.log(20, 300))


def _walls(box: _Box, directions: Tensor, colors: tuple[Tensor, Tensor, Tensor]) -> Seen:
    """colors: of floor, walls, ceiling."""
    ahead = torch.where(directions > 0, box.high, box.low) / torch.where(directions.abs() < 1e-6, 1e-6, directions)
    distance, axis = ahead.abs().min(-1)
    normal = -torch.nn.functional.one_hot(axis, 3).to(directions) * directions.sign()
    floor, wall, ceiling = colors
    upright = torch.where(directions[..., 1:2] < 0, floor, ceiling)
    return Seen(distance, directions * distance[..., None], normal, torch.where(axis[..., None] == 1, upright, wall))


def _flat(seen: Seen) -> tuple[Tensor, Tensor]:
    """Two coordinates along each wall, metres."""
    x, y, z = seen.point.unbind(-1)
    sideways, level = seen.normal[..., 0].abs() > 0.5, seen.normal[..., 1].abs() > 0.5
    return torch.where(sideways, z, x), torch.where(level, z, y)


def _paint(draw: Draw, seen: Seen, box: _Box, sphere: Sphere) -> Seen:
    """Boards or tiles, stains, a painted dado, panels, beams and doors."""
    a, b = _flat(seen)
    level, below = seen.normal[..., 1:2].abs() > 0.5, seen.point[..., 1:2] < 0
    noise = draw.noise(draw.number(0.5, 1.5))
    factor = 1 + draw.log(0.01, 0.15) * repeated(noise, a * 0.2, b * 0.2)[..., None]
    fades = torch.exp(-seen.distance * sphere.pixel * 4)[..., None]
    if draw.chance(0.6):  # tiles or boards on the floor
        size, ratio = draw.log(0.15, 1), draw.count(1, 6)
        cells = ((a / size).floor() * 7 + (b / (size * ratio)).floor() * 3) / 13
        tint = 1 + draw.number(0.1, 0.6) * fades * repeated(noise, cells, cells * 0.37)[..., None]
        factor = torch.where(level & below, factor * tint, factor)
    albedo = seen.albedo * factor.clamp(0.3, 1.6)
    if draw.chance(0.3):
        edge = float(box.low[1]) * draw.number(0, 0.5)
        lower = soft_step((edge - seen.point[..., 1:2]) / (seen.distance * sphere.pixel)[..., None])
        albedo = torch.where(level, albedo, torch.lerp(albedo, draw.paint(0.05, 0.8, 0.7).expand_as(albedo), lower))
    if draw.chance(0.3):
        period, share = draw.log(0.5, 2.5), draw.number(-0.9, -0.3)
        beam = soft_step((torch.sin(a * math.tau / period) + share) * 2)[..., None]
        chosen = (level & ~below) if draw.chance(0.5) else ~level
        albedo = torch.where(chosen, torch.lerp(albedo, draw.paint(0.05, 0.6, 0.5).expand_as(albedo), beam), albedo)
    for _ in range(draw.count(0, 10)):  # doors, pictures, shelves, blackboards: flat things of another colour
        left, low = draw.number(-4, 4), float(box.low[1]) * draw.number(-0.5, 1)
        width, height = draw.log(0.3, 1.5), draw.log(0.3, 2)
        side = seen.normal[..., draw.count(0, 1) * 2] * (1 if draw.chance(0.5) else -1) > 0.5
        inside = ((a - left).abs() < width) & (b > low) & (b < low + height) & side
        albedo = torch.where(inside[..., None], draw.paint(0.02, 0.7, 0.9) * draw.log(0.3, 1), albedo)
    return Seen(seen.distance, seen.point, seen.normal, albedo.clamp(0.01, 0.95))


def _furniture(draw: Draw, seen: Seen, box: _Box, directions: Tensor) -> Seen:
    """Up to nine blocks that stand on the floor, none about the eye."""
    count = draw.count(0, 9)
    if count == 0:
        return seen
    size = torch.stack(
        [draw.uniform(0.15, 0.8, count), draw.uniform(0.2, 1.3, count), draw.uniform(0.15, 0.8, count)], -1
    )
    middle = box.low + (box.high - box.low) * draw.uniform(0.05, 0.95, count, 3)
    # Out from the eye by as much as it takes.
    level = middle * torch.tensor([1.0, 0.0, 1.0], device=draw.device)
    middle = middle + unit(level) * (1.4 - level.norm(dim=-1, keepdim=True)).clamp_min(0)
    middle[:, 1] = box.low[1] + size[:, 1]
    safe = torch.where(directions.abs() < 1e-6, 1e-6, directions)[None]
    shape = (count, 1, 1, 3)
    first, second = (middle - size).view(shape) / safe, (middle + size).view(shape) / safe
    enter, axis = torch.minimum(first, second).max(-1)
    hit = (enter < torch.maximum(first, second).amin(-1)) & (enter > 0.05)
    distance, nearest = torch.where(hit, enter, math.inf).min(0)
    closer = (distance < seen.distance)[..., None]
    axis = axis.gather(0, nearest[None])[0]
    normal = -torch.nn.functional.one_hot(axis, 3).to(directions) * directions.sign()
    albedo = torch.stack([draw.paint(0.02, 0.7, 0.9) * draw.log(0.3, 1) for _ in range(count)])[nearest]
    distance = torch.where(closer[..., 0], distance, seen.distance)
    return Seen(
        distance,
        directions * distance[..., None],
        torch.where(closer, normal, seen.normal),
        torch.where(closer, albedo, seen.albedo),
    )


def _shaded(draw: Draw, seen: Seen, box: _Box, panels: Panels, beams, directions: Tensor, sphere: Sphere) -> Tensor:
    lit = panels.lit(torch.zeros(3, device=draw.device))
    falls = received(seen, lit)
    # What bounces more than once, as in an integrating sphere, less in corners.
    mean = seen.albedo.mean((0, 1))
    indirect = (lit.radiance * lit.area).sum(0) * math.pi * mean / (1 - mean) / box.area
    inner = torch.minimum(box.high - seen.point, seen.point - box.low).clamp_min(0)
    corner = (1 - draw.number(0.2, 0.6) * torch.exp(-inner / (0.15 * float(box.high[1] - box.low[1])))).prod(-1)
    falls = falls + indirect * corner[..., None]
    for number, sun_at, sun in beams:
        falls = falls + sun * _beam(seen, sun_at, lit.middle[number], lit.across[number], lit.along[number])
    return seen.albedo * falls / math.pi + _visible(lit, seen, directions, sphere)


def received(seen: Seen, lit: Lit) -> Tensor:
    """(H, W, 3) irradiance of lights on what is seen, large ones taken for four points each; without shadows."""
    # In a square, or along the longer edge of strips.
    large = lit.half.amax(-1) > 0.5
    wide, long = lit.half[:, :1] > 4 * lit.half[:, 1:], lit.half[:, 1:] > 4 * lit.half[:, :1]
    places, owner = [lit.middle[~large]], [(~large).nonzero()[:, 0]]
    for i, (p, q) in enumerate(((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5))):
        line = (i - 1.5) / 2
        a = torch.where(wide, line, torch.where(long, 0.0, p))
        b = torch.where(long, line, torch.where(wide, 0.0, q))
        places.append((lit.middle + lit.across * a + lit.along * b)[large])
        owner.append(large.nonzero()[:, 0])
    place, own = torch.cat(places), torch.cat(owner)
    normal = lit.normal[own]
    power = (lit.radiance * lit.area / torch.where(large, 4.0, 1.0)[:, None])[own]
    here, facing = seen.point.reshape(-1, 3), seen.normal.reshape(-1, 3)
    square = (here.square().sum(-1)[:, None] + place.square().sum(-1)).addmm_(here, place.mT, alpha=-2)
    leaves = (-(place * normal).sum(-1)).addmm(here, normal.mT).clamp_min_(0)
    arrives = (-(facing * here).sum(-1)[:, None]).addmm(facing, place.mT).clamp_min_(0)
    # Nearer than its size a light is no point.
    nearest = (0.3 * lit.half.prod(-1)).clamp_min(0.01)[own]
    form = leaves.mul_(arrives).div_(square.clamp_min_(0).add_(nearest).square_())
    return (form @ power).reshape(seen.point.shape)


def _beam(seen: Seen, sun_at: Tensor, middle: Tensor, across: Tensor, along: Tensor) -> Tensor:
    """(H, W, 1) cosine to the sun where it shines in through a window."""
    axis = torch.linalg.cross(across, along)
    steps = ((middle - seen.point) @ axis) / (sun_at @ axis)
    offset = seen.point + steps[..., None] * sun_at - middle
    a, b = offset @ (across / across.square().sum()), offset @ (along / along.square().sum())
    inside = soft_step((1 - a.abs()) * 5) * soft_step((1 - b.abs()) * 5)
    return (inside * (seen.normal @ sun_at).clamp_min(0))[..., None]


def _visible(lit: Lit, seen: Seen, directions: Tensor, sphere: Sphere) -> Tensor:
    """(H, W, 3) radiance of the lights that are seen."""
    flat = directions.reshape(-1, 3)
    facing = flat @ lit.normal.mT
    distance = (lit.middle * lit.normal).sum(-1) / torch.where(facing.abs() < 1e-4, 1e-4, facing)
    shown = (facing < 0) & (distance > 0) & (distance < seen.distance.reshape(-1, 1) + BACK)
    # Places on each light in half edges from its middle, and half edges in pixels, as large as they look from here.
    places, sharp = [], []
    for edge, half in ((lit.across, lit.half[:, 0]), (lit.along, lit.half[:, 1])):
        edge = edge / half[:, None] ** 2
        places.append((distance * (flat @ edge.mT) - (lit.middle * edge).sum(-1)).abs())
        sharp.append(half / sphere.pixel / distance.abs())
    a, b = places
    inside = soft_step((1 - a) * sharp[0]) * soft_step((1 - b) * sharp[1])
    if bool(lit.round.any() | (lit.pane < 0).any()):
        square = a * a + b * b
        ellipse = soft_step((1 - square.sqrt()) * torch.minimum(*sharp))
        inside = torch.where(lit.round, ellipse, inside)
        inside = torch.where(lit.pane < 0, inside * 1.4 * torch.exp(-1.5 * square), inside)
    if bool((lit.pane > 0).any()):
        # A view: bright sky above the horizon, the ground below; and bars between panes.
        view = torch.where(flat[:, 1:2] > 0.05, 1.1, 0.4)
        across, up = (math.tau * lit.half / lit.pane.abs().clamp_min(0.1)[:, None]).unbind(-1)
        bar = torch.maximum(torch.cos(a * across), torch.cos(b * up)) > 0.93
        inside = torch.where(lit.pane > 0, inside * torch.where(bar, 0.15, view), inside)
    return ((inside * shown) @ lit.radiance).reshape(directions.shape)
