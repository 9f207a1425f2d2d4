"""Random surroundings under the sky, by day and by night."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from relight.diffusion.own.procedural.draw import Draw, repeated, soft_step
from relight.diffusion.own.procedural.sphere import Sphere, towards
from relight.shading.color import blackbody, luminance

EYE = 1.6
"""Metres above the ground."""


@dataclass(frozen=True)
class _Light:
    """What falls on things.  sun: (3,) irradiance facing it.  sky: (3,) irradiance on the level.  towards: (3,)."""

    sun: Tensor
    sky: Tensor
    towards: Tensor


def outdoors(draw: Draw, sphere: Sphere, *, night: bool = False) -> Tensor:
    """(H, 2H, 3) radiance, any scale: sky with clouds and sun, what stands on the horizon, ground lit by both.

    night: a moon instead of the sun, stars' worth of sky, and lamps with their pools of light.
    """
    device = draw.device
    half = sphere.directions.shape[0] // 2
    azimuth = draw.number(-math.pi, math.pi)
    elevation = math.radians(72 * draw.number() ** 1.3 - 2)
    sun_at = towards(azimuth, elevation, device)
    overcast = 1.0 if draw.chance(0.12) else draw.number() ** 3

    sky = _night_sky(draw, sphere) if night else _day_sky(draw, sphere, azimuth, elevation, overcast)
    irradiance = (sky * sphere.directions[:half, :, 1:2] * sphere.solid[:half]).sum((0, 1))
    strength = draw.log(0.1, 1.5) if night else draw.log(3, 30) * min(1.0, max(elevation + 0.05, 0) / 0.2)
    kelvin = draw.number(4000, 6500) if night else 2000 + 3800 * (1 - math.exp(-max(elevation, 0) / 0.25))
    facing = blackbody(kelvin).to(device) * luminance(irradiance) * strength
    sun = sphere.disc(sun_at, facing, math.radians(draw.log(0.25, 2.5)))[:half]
    if draw.chance(0.65):
        clouds, passed = _clouds(draw, sphere, sun_at, irradiance, facing, overcast)
        sky, sun = torch.lerp(clouds, sky, passed), sun * passed**4
    through = (sun * sphere.solid[:half]).sum((0, 1))
    irradiance = (sky * sphere.directions[:half, :, 1:2] * sphere.solid[:half]).sum((0, 1))
    light = _Light(through, irradiance, sun_at)

    lamps = _Lamps.drawn(draw, luminance(irradiance)) if night else None
    ground = _ground(draw, sphere, sky + 0.02 * sun, light, lamps)
    out = torch.cat([sky + sun, ground])
    for layer in range(draw.count(0, 3)):
        out = _skyline(draw, sphere, out, light, layer, lamps)
    if lamps is not None:
        for place, intensity in zip(lamps.places, lamps.intensities, strict=True):
            square = place.square().sum()
            out = out + sphere.disc(place / square.sqrt(), intensity / square, float(0.15 / square.sqrt()))
    return out


def _day_sky(draw: Draw, sphere: Sphere, azimuth: float, elevation: float, overcast: float) -> Tensor:
    """(H / 2, 2H, 3)."""
    directions = sphere.directions[: sphere.directions.shape[0] // 2]
    up = directions[..., 1:2]
    blue = blackbody(draw.log(9000, 25000)).to(draw.device) ** draw.number(1.2, 3)
    blue = blue / luminance(blue)
    pale = draw.light(4500, 10000) ** draw.number(0.5, 1)
    grey = draw.light(5000, 8500) ** 0.6
    zenith = torch.lerp(blue, grey, overcast) * draw.number(0.6, 1)
    # Clear skies are brightest at the horizon, overcast ones a third of the zenith there (CIE S 011).
    brighter = draw.log(1, 3) * (1 - overcast) + draw.number(0.4, 1) * overcast
    low = torch.lerp(pale, grey, overcast) * brighter
    sky = torch.lerp(zenith, low, (1 - up) ** draw.number(2, 8))

    sun_at = towards(azimuth, elevation, draw.device)
    cosine = (directions @ sun_at)[..., None]
    warm = blackbody(2200 + 3600 * (1 - math.exp(-max(elevation, 0) / 0.3))).to(draw.device)
    haze = draw.log(0.4, 6) * torch.exp(draw.number(4, 14) * (cosine - 1))
    haze = haze + draw.log(3, 60) * torch.exp(draw.log(40, 300) * (cosine - 1))
    sky = sky + warm * haze * (1 - 0.8 * overcast)
    glow = max(0.0, 1 - elevation / math.radians(15)) * (1 - overcast) * draw.number()
    if glow > 0:
        band = torch.exp(-up / draw.number(0.05, 0.2) + draw.number(0.5, 2) * (cosine - 1))
        sky = sky + band * blackbody(draw.number(1700, 3000)).to(draw.device) * (3 * glow)
    return sky


def _night_sky(draw: Draw, sphere: Sphere) -> Tensor:
    up = sphere.directions[: sphere.directions.shape[0] // 2, :, 1:2]
    dark = blackbody(draw.log(6000, 20000)).to(draw.device)
    glow = draw.light(2000, 5000) * draw.log(0.2, 4)
    return torch.lerp(dark, glow, torch.exp(-up / draw.number(0.05, 0.5)).expand(-1, -1, 3) * 0.8)


def _clouds(
    draw: Draw, sphere: Sphere, sun_at: Tensor, sky: Tensor, facing: Tensor, overcast: float
) -> tuple[Tensor, Tensor]:
    """Radiance (H / 2, 2H, 3), and what of the sky comes through (H / 2, 2H, 1): a flat layer of noise."""
    directions = sphere.directions[: sphere.directions.shape[0] // 2]
    high = directions[..., 1] + 0.12
    scale, along = draw.log(0.03, 0.15), draw.log(1, 4)
    x = directions[..., 0] / high * scale + draw.number()
    z = directions[..., 2] / high * scale * along + draw.number()
    noise = draw.noise(draw.number(0.2, 0.8))
    density = repeated(noise, x, z)
    # Nearer to the sun and denser means less light comes through: a cheap slope of a thick layer.
    lit = repeated(noise, x + 0.02 * float(sun_at[0]), z + 0.02 * float(sun_at[2]))
    cover = draw.number(-2, 0.5) + 1.5 * overcast
    soft = draw.log(0.5, 3)
    passed = 1 - soft_step((density + cover) / soft)[..., None] * draw.number(0.6, 1)
    forward = torch.exp(draw.log(4, 20) * ((directions @ sun_at)[..., None] - 1))
    shade = (0.75 + draw.number(0, 0.3) * (density - lit).clamp(-1.5, 1.5) - 0.12 * density.clamp(-1, 2))[..., None]
    white = sky * draw.number(0.3, 0.6) + facing * (0.06 + draw.log(0.05, 0.5) * forward * (0.3 + passed))
    return white * shade.clamp_min(0.2), passed


@dataclass(frozen=True)
class _Lamps:
    """places: (K, 3) from the eye, metres.  intensities: (K, 3)."""

    places: Tensor
    intensities: Tensor

    @staticmethod
    def drawn(draw: Draw, sky: Tensor) -> _Lamps:
        count = draw.count(1, 7)
        color = draw.light(2000, 6500)
        places, intensities = [], []
        for _ in range(count):
            azimuth, distance, height = draw.number(-math.pi, math.pi), draw.log(4, 40), draw.number(2.5, 9) - EYE
            places.append([distance * math.cos(azimuth), height, distance * math.sin(azimuth)])
            tint = torch.lerp(draw.vivid(), color, 0.5) if draw.chance(0.08) else color
            intensities.append(tint * sky * draw.log(3, 60) * (height + EYE) ** 2)
        return _Lamps(torch.tensor(places, device=draw.device), torch.stack(intensities))

    def on_level(self, points: Tensor) -> Tensor:
        """(..., 3) irradiance on (..., 3) points of the ground."""
        offset = self.places - points[..., None, :]
        square = offset.square().sum(-1)
        return (offset[..., 1].clamp_min(0) * square**-1.5) @ self.intensities

    def on_upright(self, directions: Tensor, distance: float) -> Tensor:
        """(..., 3) irradiance on what stands at a distance in (..., 3) directions and faces the eye."""
        offset = self.places - directions[..., None, :] * distance
        square = offset.square().sum(-1) + 1
        cosine = -(offset * directions[..., None, :]).sum(-1) / square.sqrt()
        return ((0.3 + cosine).clamp_min(0) / square) @ self.intensities


def _ground(draw: Draw, sphere: Sphere, sky: Tensor, light: _Light, lamps: _Lamps | None) -> Tensor:
    """(H / 2, 2H, 3) of a level plane: earth, grass, stone, sand, snow; or water, that mirrors the sky."""
    directions = sphere.directions[sphere.directions.shape[0] // 2 :]
    down = -directions[..., 1:2]
    points = directions * (EYE / down)
    x, z = points[..., 0], points[..., 2]
    first, second = _earth(draw), _earth(draw)
    large, small = draw.noise(draw.number(0.3, 1)), draw.noise(draw.number(1, 2))
    # What is finer than a pixel far away is left out of the texture.
    footprint = sphere.pixel * EYE / down[..., 0] ** 2
    scale = draw.log(0.01, 0.06)
    patches = repeated(large, x * scale, z * scale) / (1 + 20 * scale * footprint)
    grain = repeated(small, x * 0.13, z * 0.13) * torch.exp(-footprint * 1.5)
    mixed = soft_step(patches / draw.log(0.3, 3) + draw.number(-0.6, 0.6))[..., None]
    albedo = torch.lerp(first, second, mixed) * (1 + draw.number(0, 0.35) * grain[..., None]).clamp(0.2, 2)
    if draw.chance(0.3):  # a road
        angle, width = draw.number(-math.pi, math.pi), draw.number(1, 5)
        across = x * math.cos(angle) + z * math.sin(angle) + draw.number(-width, width)
        road = soft_step((width - across.abs()) / (0.3 + footprint))[..., None]
        albedo = torch.lerp(albedo, draw.paint(0.1, 0.45, 0.1).expand_as(albedo), road)
    falls = light.sun * max(float(light.towards[1]), 0.0)
    if draw.chance(0.35):  # shadows of what stands around
        shadow = repeated(draw.noise(0.6), x * 0.03, z * 0.03)
        falls = falls * soft_step(shadow * 1.5 + draw.number(-0.5, 1.0))[..., None]
    received = falls + light.sky * draw.number(0.5, 1)
    if lamps is not None:
        received = received + lamps.on_level(points)
    ground = albedo * received / math.pi
    if draw.chance(0.15):
        # Fresnel's reflectance of water, as Schlick has it; waves smear the mirror image downwards.
        mirror = sky.flip(0)
        smear = max(1, round(draw.number(0.02, 0.15) * len(mirror)))
        mirror = (mirror + mirror.roll(smear, 0) + mirror.roll(2 * smear, 0)) / 3
        share = 0.02 + 0.98 * (1 - down) ** draw.number(3, 5)
        wet = soft_step((patches / 2 + draw.number(-0.5, 1.5)) * 3)[..., None]
        water = torch.lerp(draw.paint(0.02, 0.12) * received / math.pi, mirror, share)
        ground = torch.lerp(ground, water, wet)
    return ground


def _earth(draw: Draw) -> Tensor:
    """(3,) albedo of grass, soil, stone, sand or snow."""
    bases = ((0.11, 0.16, 0.04), (0.20, 0.14, 0.09), (0.25, 0.25, 0.25), (0.42, 0.36, 0.28), (0.8, 0.82, 0.85))
    base = torch.tensor(bases[min(draw.count(0, 8) // 2, 4)], device=draw.device)
    return (base * draw.log(0.6, 1.5) * (1 + draw.uniform(-0.1, 0.1, 3))).clamp(0.01, 0.9)


def _skyline(draw: Draw, sphere: Sphere, behind: Tensor, light: _Light, layer: int, lamps: _Lamps | None) -> Tensor:
    """Hills, buildings or trees in front of a picture; later layers are nearer and higher."""
    directions = sphere.directions
    elevation = torch.asin(directions[:, :1, 1].clamp(-1, 1))
    phi = torch.atan2(directions[:1, :, 2], directions[:1, :, 0])
    kind = ("hills", "trees", "trees", "buildings")[draw.count(0, 3)]
    distance = {"hills": draw.log(100, 1000), "trees": draw.log(6, 60), "buildings": draw.log(8, 80)}[kind] / (
        1 + layer
    )
    base = -math.atan2(EYE, distance)
    noise = draw.noise(draw.number(0.3, 1))
    turn = draw.number()
    # Around a circle in the noise, so that the ends of the map meet.
    size = 0.07 if kind == "hills" else draw.number(0.15, 0.5)
    outline = repeated(noise, size * phi.cos() + turn, size * phi.sin() + turn)
    rough = repeated(draw.noise(draw.number(1, 1.8)), phi / math.tau + turn, elevation / math.tau)
    windows = None
    if kind == "hills":
        top = math.radians(draw.number(1, 9)) * (1 + 0.5 * outline)
        albedo = _earth(draw) * 0.7
        rough = 0.5 * rough
    elif kind == "trees":
        height = math.atan2(draw.number(3, 14) - EYE, distance)
        gaps = soft_step(outline * 2 + draw.number(-1, 1.5))
        top = base + (height - base) * gaps * (1 + 0.35 * outline + 0.12 * rough)
        albedo = (
            torch.tensor([0.10, 0.13, 0.045], device=draw.device)
            * draw.log(0.25, 1.1)
            * (1 + draw.uniform(-0.4, 0.4, 3))
        )
        if draw.chance(0.2):  # autumn
            albedo = albedo * torch.tensor([2.5, 1.3, 0.8], device=draw.device)
    else:
        count = draw.count(6, 24)
        lots = ((phi / math.tau + turn) * count).floor().long() % count
        heights = draw.uniform(0.2, 1, count) * (draw.uniform(0, 1, count) < draw.number(0.3, 1))
        storeys = math.atan2(draw.number(6, 35) - EYE, distance)
        top = base + (storeys - base) * heights[lots]
        walls = torch.stack([draw.paint(0.1, 0.7, 0.5) for _ in range(4)])
        albedo = walls[lots % 4]
        windows = (((phi * count * 0.8).sin() > 0) & ((elevation * 40).sin() > 0.2))[..., None]
    covered = soft_step((top - elevation) / sphere.pixel) * soft_step((elevation - base) / sphere.pixel + 0.5)
    if kind == "trees":
        covered = covered * soft_step(2 + rough * draw.number(0, 2.5) - (elevation > 0.2) * draw.number(0, 1.5))
    level = torch.stack([phi.cos(), torch.zeros_like(phi), phi.sin()], -1)
    facing = -(level @ light.towards)[..., None]
    lit = facing.clamp_min(0) + (0.25 if kind == "trees" else 0.02)
    received = light.sky * 0.5 + light.sun * lit * draw.number(0.3, 1)
    if lamps is not None:
        received = received + lamps.on_upright(level, distance)
    bumpy = (1 + (0.7 if kind == "trees" else 0.2) * rough[..., None]).clamp(0.15, 3)
    shown = albedo * received * bumpy / math.pi
    if windows is not None:
        glass = light.sky * 0.1
        if lamps is not None:
            glass = glass + draw.light(2200, 5000) * luminance(light.sky) * draw.log(0.1, 8)
        shown = torch.where(windows, glass.expand_as(shown), shown)
    haze = draw.number(0, 0.6) * (1 - math.exp(-distance / 300))
    shown = torch.lerp(shown, (light.sky / math.pi).expand_as(shown), haze)
    return torch.lerp(behind, shown, covered[..., None])
