"""Random rooms seen from inside, and photographers' studios: boxes lit by windows, lamps, strips and soft boxes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from relight.diffusion.procedural.draw import Draw, repeated, soft_step
from relight.diffusion.procedural.sphere import Sphere, towards
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


@dataclass
class _Panels:
    """Flat lights, gathered one by one.  half: half of each edge; round: discs and ellipses."""

    middle: list[Tensor]
    across: list[Tensor]
    along: list[Tensor]
    radiance: list[Tensor]
    round: list[bool]
    pane: list[float]

    def add(self, middle, across, along, radiance: Tensor, round: bool = False, pane: float = 0.0) -> None:
        device = radiance.device
        for values, value in ((self.middle, middle), (self.across, across), (self.along, along)):
            values.append(torch.as_tensor(value, device=device, dtype=torch.float32))
        self.radiance.append(radiance)
        self.round.append(round)
        self.pane.append(pane)


@dataclass(frozen=True)
class _Seen:
    """What each pixel sees.  distance: (H, W).  point, normal, albedo: (H, W, 3)."""

    distance: Tensor
    point: Tensor
    normal: Tensor
    albedo: Tensor


def room(draw: Draw, sphere: Sphere) -> Tensor:
    """(H, 2H, 3) radiance, any scale: a furnished room with windows, lamps on and under the ceiling, coloured strips."""
    box = _drawn_box(draw, draw.log(1.3, 9))
    turned = _turned(sphere.directions, draw.number(-math.pi, math.pi))
    panels = _Panels([], [], [], [], [], [])
    beams = _windows(draw, box, panels) if draw.chance(0.8) else []
    _lamps(draw, box, panels, at_least=0 if panels.middle else 1)
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
    panels = _Panels([], [], [], [], [], [])
    color = draw.light(3000, 7500)
    key = draw.log(20, 300)
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
        width, shape = draw.log(0.15, 1.2), draw.count(0, 3)
        height = width if shape == 0 else width * draw.log(0.2, 5) if shape == 1 else draw.log(0.15, 1.2)
        if draw.chance(0.1):
            color = draw.vivid()
        panels.add(middle, side * width, upward * height, color * key, shape == 0, -1.0 if shape == 2 else 0.0)
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
    # So that across x along, along being up, points into the room.
    sign = 1.0 if far == (axis == 0) else -1.0
    along[other] = -sign if axis == 0 else sign
    along[other] *= 1.0
    return middle, along, axis


def _windows(draw: Draw, box: _Box, panels: _Panels) -> list[tuple[int, Tensor, Tensor]]:
    """One to three walls with windows in a row.  Returns the walls' panels through which the sun may shine, as
    (number of the panel, direction to the sun, irradiance facing it).
    """
    color, radiance = draw.light(4800, 10000), draw.log(8, 200)
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
        at = towards(0.0, math.radians(draw.number(10, 55)), draw.device)[1]
        sun_at = unit(-inward + along * draw.number(-0.9, 0.9) + torch.tensor([0.0, 1.5, 0.0], device=draw.device) * at)
        for k in range(count):
            place = middle + along * (length * ((k + 0.5) / count - 0.5))
            place[1] = (top + bottom) / 2
            if sunny:
                beams.append((len(panels.middle), sun_at, sun))
            panels.add(place, along * width, [0, (top - bottom) / 2, 0], color * radiance, pane=pane)
    return beams


def _lamps(draw: Draw, box: _Box, panels: _Panels, at_least: int) -> None:
    """On the ceiling or hanging from it: a grid of equal discs, panels or strips, or single bulbs."""
    device = draw.device
    for _ in range(draw.count(at_least, 2)):
        color, radiance = draw.light(2200, 6500), draw.log(30, 1500)
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


def _neon(draw: Draw, box: _Box, panels: _Panels) -> None:
    """Coloured strips on the walls."""
    for _ in range(draw.count(1, 3)):
        middle, along, axis = _wall(draw, box)
        length = float(box.high[2 - axis] - box.low[2 - axis])
        middle[1] = float(box.high[1]) * draw.number(-0.2, 0.95)
        thick = [0, draw.log(0.03, 0.15), 0]
        panels.add(middle, along * (length * draw.number(0.2, 0.48)), thick, draw.vivid() * draw.log(20, 300))


def _walls(box: _Box, directions: Tensor, colors: tuple[Tensor, Tensor, Tensor]) -> _Seen:
    """colors: of floor, walls, ceiling."""
    ahead = torch.where(directions > 0, box.high, box.low) / torch.where(directions.abs() < 1e-6, 1e-6, directions)
    distance, axis = ahead.abs().min(-1)
    normal = -torch.nn.functional.one_hot(axis, 3) * directions.sign()
    floor, wall, ceiling = colors
    upright = torch.where(directions[..., 1:2] < 0, floor, ceiling)
    return _Seen(distance, directions * distance[..., None], normal, torch.where(axis[..., None] == 1, upright, wall))


def _flat(seen: _Seen) -> tuple[Tensor, Tensor]:
    """Two coordinates along each wall, metres."""
    x, y, z = seen.point.unbind(-1)
    sideways, level = seen.normal[..., 0].abs() > 0.5, seen.normal[..., 1].abs() > 0.5
    return torch.where(sideways, z, x), torch.where(level, z, y)


def _paint(draw: Draw, seen: _Seen, box: _Box, sphere: Sphere) -> _Seen:
    """Boards or tiles, stains, a painted dado, panels, beams and doors."""
    a, b = _flat(seen)
    level, below = seen.normal[..., 1:2].abs() > 0.5, seen.point[..., 1:2] < 0
    noise = draw.noise(draw.number(0.5, 1.5))
    factor = 1 + draw.number(0.02, 0.2) * repeated(noise, a * 0.2, b * 0.2)[..., None]
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
    for _ in range(draw.count(0, 5)):  # doors, pictures, shelves, blackboards: flat things of another colour
        left, low = draw.number(-4, 4), float(box.low[1]) * draw.number(-0.5, 1)
        width, height = draw.log(0.3, 1.5), draw.log(0.3, 2)
        side = seen.normal[..., draw.count(0, 1) * 2] * (1 if draw.chance(0.5) else -1) > 0.5
        inside = ((a - left).abs() < width) & (b > low) & (b < low + height) & side
        albedo = torch.where(inside[..., None], draw.paint(0.03, 0.8, 0.9), albedo)
    return _Seen(seen.distance, seen.point, seen.normal, albedo.clamp(0.01, 0.95))


def _furniture(draw: Draw, seen: _Seen, box: _Box, directions: Tensor) -> _Seen:
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
    normal = -torch.nn.functional.one_hot(axis, 3) * directions.sign()
    albedo = torch.stack([draw.paint(0.04, 0.85, 0.9) for _ in range(count)])[nearest]
    distance = torch.where(closer[..., 0], distance, seen.distance)
    return _Seen(
        distance,
        directions * distance[..., None],
        torch.where(closer, normal, seen.normal),
        torch.where(closer, albedo, seen.albedo),
    )


def _shaded(draw, seen: _Seen, box: _Box, panels: _Panels, beams, directions: Tensor, sphere: Sphere) -> Tensor:
    middle, across, along = (torch.stack(v) for v in (panels.middle, panels.across, panels.along))
    radiance = torch.stack(panels.radiance)
    normal = unit(torch.linalg.cross(across, along))
    # Towards the room's inside: the eye is there.
    normal = torch.where((normal * middle).sum(-1, keepdim=True) > 0, -normal, normal)
    half = torch.stack([across.norm(dim=-1), along.norm(dim=-1)], -1)
    area = 4 * half.prod(-1)
    area = torch.where(torch.tensor(panels.round, device=area.device), area * math.pi / 4, area)

    received = _received(seen, middle, across, along, normal, half, radiance * area[:, None])
    # What bounces more than once, as in an integrating sphere, less in corners.
    mean = seen.albedo.mean((0, 1))
    indirect = (radiance * area[:, None]).sum(0) * math.pi * mean / (1 - mean) / box.area
    inner = torch.minimum(box.high - seen.point, seen.point - box.low).clamp_min(0)
    corner = (1 - draw.number(0.2, 0.6) * torch.exp(-inner / (0.15 * float(box.high[1] - box.low[1])))).prod(-1)
    received = received + indirect * corner[..., None]
    for number, sun_at, sun in beams:
        received = received + sun * _beam(seen, sun_at, middle[number], across[number], along[number], half[number])
    out = seen.albedo * received / math.pi
    return out + _visible(panels, middle, across, along, normal, half, radiance, seen, directions, sphere)


def _received(seen: _Seen, middle, across, along, normal, half: Tensor, power: Tensor) -> Tensor:
    """(H, W, 3) irradiance of panels, each taken for four points; without shadows."""
    # Along the longer edge of strips, in a square otherwise.
    long = half[:, 1:] > 4 * half[:, :1]
    wide = half[:, :1] > 4 * half[:, 1:]
    points = []
    for i, (p, q) in enumerate(((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5))):
        line = (i - 1.5) / 2
        a = torch.where(wide, line, torch.where(long, 0.0, p))
        b = torch.where(long, line, torch.where(wide, 0.0, q))
        points.append(middle + across * a + along * b)
    places = torch.cat(points)
    normals = normal.repeat(4, 1)
    here, facing = seen.point.reshape(-1, 3), seen.normal.reshape(-1, 3).to(seen.point.dtype)
    square = here.square().sum(-1)[:, None] + places.square().sum(-1) - 2 * here @ places.mT
    leaves = (here @ normals.mT - (places * normals).sum(-1)).clamp_min(0)
    arrives = (facing @ places.mT - (facing * here).sum(-1)[:, None]).clamp_min(0)
    # Nearer than its size a panel is no point.
    nearest = (0.3 * half.prod(-1)).clamp_min(0.01).repeat(4)
    form = leaves * arrives / (square.clamp_min(0) + nearest).square()
    return (form @ (power / 4).repeat(4, 1)).reshape(seen.point.shape)


def _beam(seen: _Seen, sun_at: Tensor, middle, across, along, half: Tensor) -> Tensor:
    """(H, W, 1) cosine to the sun where it shines in through a panel."""
    axis = unit(torch.linalg.cross(across, along))
    steps = ((middle - seen.point) @ axis) / (sun_at @ axis)
    offset = seen.point + steps[..., None] * sun_at - middle
    a, b = offset @ across / half[0] ** 2, offset @ along / half[1] ** 2
    inside = soft_step((1 - a.abs()) * 5) * soft_step((1 - b.abs()) * 5)
    return (inside * (seen.normal.to(sun_at.dtype) @ sun_at).clamp_min(0))[..., None]


def _visible(panels: _Panels, middle, across, along, normal, half, radiance, seen: _Seen, directions, sphere) -> Tensor:
    """(H, W, 3) radiance of the panels that are seen."""
    flat = directions.reshape(-1, 3)
    facing = flat @ normal.mT
    distance = (middle * normal).sum(-1) / torch.where(facing.abs() < 1e-4, 1e-4, facing)
    shown = (facing < 0) & (distance > 0) & (distance < seen.distance.reshape(-1, 1) + BACK)
    a = (distance * (flat @ (across / half[:, :1]).mT) - (middle * across).sum(-1) / half[:, 0]) / half[:, 0]
    b = (distance * (flat @ (along / half[:, 1:]).mT) - (middle * along).sum(-1) / half[:, 1]) / half[:, 1]
    a, b = a.abs(), b.abs()
    # In pixels, as tall or wide as the panel looks from here.
    sharp_a, sharp_b = half[:, 0] / (distance.abs() * sphere.pixel), half[:, 1] / (distance.abs() * sphere.pixel)
    is_round = torch.tensor(panels.round, device=flat.device)
    radial = (a * a + b * b).sqrt()
    square = soft_step((1 - a) * sharp_a) * soft_step((1 - b) * sharp_b)
    inside = torch.where(is_round, soft_step((1 - radial) * torch.minimum(sharp_a, sharp_b)), square)
    pane = torch.tensor(panels.pane, device=flat.device)
    if bool((pane > 0).any()):
        # A view: bright sky above the horizon, half as much below; and bars between panes.
        view = torch.where(flat[:, 1:2] > 0, 1.1, 0.6)
        period = pane.abs().clamp_min(0.1)
        bar = (torch.cos(a * half[:, 0] * math.tau / period) > 0.93) | (
            torch.cos(b * half[:, 1] * math.tau / period) > 0.93
        )
        inside = torch.where(pane > 0, inside * torch.where(bar, 0.15, view), inside)
    # Soft boxes that are brighter in the middle.
    inside = torch.where(pane < 0, inside * 1.4 * torch.exp(-1.5 * radial * radial), inside)
    return ((inside * shown) @ radiance).reshape(directions.shape)
