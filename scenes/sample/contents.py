"""What is in the sample scene: objects, materials, lights and cameras.  NumPy only; generate.py renders it.

World: +Z up, the plinth's top at z = 0.  Colour: linear Rec.709.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapes
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Material:
    """Mitsuba's `principled` without its extras: specular 0.5, that is F0 = 0.04 where not metallic.

    base_color: (3,) or a (H, W, 3) texture.  roughness: perceptual, a number or (H, W).  metallic: 0 or 1.
    Texture row 0 is v = 0.
    """

    base_color: Array
    roughness: float | Array
    metallic: float = 0.0


@dataclass(frozen=True)
class Thing:
    name: str
    shape: shapes.Shape
    material: Material


def color(red: float, green: float, blue: float) -> Array:
    """sRGB 0..255, as a colour picker shows it, to linear."""
    c = np.array([red, green, blue]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def _texture_grid(height: int, width: int) -> tuple[Array, Array]:
    """(H, W) texture coordinates u, v of texel centres."""
    v, u = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
    return u, v


def _select(mask: NDArray[np.bool_], yes: Array, no: Array) -> Array:
    return np.where(mask[..., None], yes, no)


def terrazzo(size: int = 1024, chips: int = 750, seed: int = 4) -> Material:
    """Stone chips in pale cement: a Voronoi diagram whose cells are shrunk, so cement shows between them."""
    rng = np.random.default_rng(seed)
    u, v = _texture_grid(size, size)
    seeds = rng.random((chips, 2))
    reach = rng.uniform(0.35, 1.0, chips) * 0.55 / np.sqrt(chips)
    palette = np.array(
        [color(122, 62, 48), color(60, 66, 74), color(196, 160, 112), color(92, 118, 108), color(236, 230, 220)]
    )
    chip_color = palette[rng.integers(len(palette), size=chips)] * rng.uniform(0.75, 1.15, (chips, 1))
    first, second = np.full((size, size), np.inf), np.full((size, size), np.inf)
    owner = np.zeros((size, size), dtype=int)
    for i, (x, y) in enumerate(seeds):
        d = np.hypot(u - x, v - y)
        nearer = d < first
        second = np.where(nearer, first, np.minimum(second, d))
        first, owner = np.where(nearer, d, first), np.where(nearer, i, owner)
    chip = (second - first > 0.006) & (first < reach[owner])
    return Material(_select(chip, chip_color[owner], color(205, 198, 186)), np.where(chip, 0.3, 0.6))


def checker(squares: int, one: Array, other: Array, roughness: float, size: int = 384) -> Material:
    u, v = _texture_grid(size, size)
    odd = (np.floor(u * squares) + np.floor(v * squares)) % 2 > 0
    return Material(_select(odd, one, other), roughness)


def spiral_stripes(turns: int, one: Array, other: Array, roughness: tuple[float, float], size: int = 512) -> Material:
    """Stripes that climb; the two colours differ in roughness as well."""
    u, v = _texture_grid(size, size)
    odd = (turns * (v * 1.5 + u)) % 1 > 0.5
    return Material(_select(odd, one, other), np.where(odd, *roughness))


def vertical_gradient(low: Array, high: Array, roughness: float | tuple[float, float], size: int = 256) -> Material:
    """Blends from v = 0 to v = 1; roughness too, when two numbers are given."""
    _, v = _texture_grid(size, 4)
    base = low + (high - low) * v[..., None]
    return Material(base, roughness if isinstance(roughness, float) else roughness[0] + np.diff(roughness) * v)


GOLD, COPPER = np.array([1.0, 0.71, 0.29]), np.array([0.95, 0.55, 0.4])


def _ring(angle: float, radius: float, z: float = 0.0) -> tuple[float, float, float]:
    return (radius * float(np.cos(np.radians(angle))), radius * float(np.sin(np.radians(angle))), z)


def things() -> list[Thing]:
    """The plinth first; position in this list + 1 is the value in the id maps."""
    plinth = shapes.lathe([(0, -0.08), (0.9, -0.08), (0.9, 0), (0, 0)], 0.025)
    cylinder = shapes.lathe([(0, 0), (0.14, 0), (0.14, 0.4), (0, 0.4)], 0.03)
    cone = shapes.lathe([(0, 0), (0.19, 0), (0.012, 0.46), (0, 0.46)], 0.01)
    orange, magenta, violet = color(250, 150, 30), color(190, 40, 130), color(150, 80, 200)
    return [
        Thing("plinth", shapes.unrolled_from_axis(plinth, 1.03), terrazzo()),
        Thing(
            "jade bunny",
            shapes.bunny(0.66).moved((-0.06, 0.0, -0.004), (0, 0, -40)),
            Material(color(58, 158, 112), 0.3),
        ),
        Thing("gold torus", shapes.torus(0.17, 0.075).moved(_ring(-78, 0.6, 0.075)), Material(GOLD, 0.25, 1.0)),
        Thing(
            "checker cube",
            shapes.rounded_cube(0.155, 0.03).moved(_ring(100, 0.6, 0.155), (0, 0, 32)),
            checker(4, color(196, 40, 36), color(240, 228, 204), 0.5),
        ),
        Thing("copper sphere", shapes.sphere(0.18).moved(_ring(42, 0.6, 0.18)), Material(COPPER, 0.15, 1.0)),
        Thing("matte cone", cone.moved(_ring(205, 0.6)), vertical_gradient(orange, magenta, 0.9)),
        Thing(
            "striped cylinder",
            cylinder.moved(_ring(153, 0.6)),
            spiral_stripes(3, color(24, 44, 110), color(238, 238, 232), (0.15, 0.6)),
        ),
        Thing(
            "blue knot",
            shapes.trefoil(0.24, 0.055).moved(_ring(-22, 0.6, 0.135)),
            Material(color(70, 120, 220), 0.45, 1.0),
        ),
        Thing(
            "violet ball",
            shapes.sphere(0.13).moved(_ring(-125, 0.61, 0.13), (25, -35, 0)),
            vertical_gradient(violet, violet, (0.1, 0.9)),
        ),
    ]


@dataclass(frozen=True)
class Lamp:
    """A soft round lamp: radiance * exp(-(1 - cos(angle)) / (1 - cos(width)))."""

    azimuth: float
    elevation: float
    width: float
    radiance: tuple[float, float, float]


@dataclass(frozen=True)
class Light:
    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    floor: tuple[float, float, float]
    lamps: tuple[Lamp, ...]


LIGHTS = {
    "studio": Light(
        (0.32, 0.36, 0.42), (0.5, 0.48, 0.45), (0.16, 0.15, 0.14),
        (Lamp(35, 48, 11, (15, 13.2, 11)), Lamp(165, 32, 14, (2.6, 3.6, 5.2)), Lamp(-85, 22, 9, (5.2, 3.0, 2.6))),
    ),
    "sunset": Light(
        (0.10, 0.17, 0.36), (0.85, 0.42, 0.22), (0.10, 0.08, 0.07),
        (Lamp(-130, 19, 9, (38, 19, 7)), Lamp(60, 60, 25, (0.35, 0.5, 0.9))),
    ),
    "neon": Light(
        (0.03, 0.03, 0.05), (0.06, 0.05, 0.09), (0.03, 0.03, 0.03),
        (Lamp(100, 30, 12, (1.2, 9.5, 12.5)), Lamp(-30, 26, 12, (13, 1.6, 7.5)), Lamp(-160, 65, 10, (8, 7, 5))),
    ),
}  # fmt: skip
"""The first one lights the training views."""


def environment_directions(height: int, width: int) -> Array:
    """(H, W, 3) unit directions of texel centres: u = atan2(x, y) / 2 pi mod 1, v = acos(z) / pi."""
    u, v = _texture_grid(height, width)
    phi, theta = 2 * np.pi * u, np.pi * v
    return np.stack([np.sin(theta) * np.sin(phi), np.sin(theta) * np.cos(phi), np.cos(theta)], -1)


def environment(light: Light, height: int = 128, width: int = 256) -> Array:
    """(H, W, 3) linear radiance.  `azimuth` of lamps is counted from +x towards +y, in degrees."""
    directions = environment_directions(height, width)
    z = directions[..., 2:]
    sky = np.asarray(light.zenith) + (np.asarray(light.horizon) - light.zenith) * (1 - np.clip(z, 0, 1)) ** 3
    blend = 0.5 + 0.5 * np.tanh(z / 0.04)  # a horizon without a hard edge
    picture = blend * sky + (1 - blend) * np.asarray(light.floor)
    for lamp in light.lamps:
        azimuth, elevation = np.radians(lamp.azimuth), np.radians(lamp.elevation)
        axis = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
        softness = 1 - np.cos(np.radians(lamp.width))
        picture = picture + np.exp((directions @ axis - 1) / softness)[..., None] * lamp.radiance
    return picture


FOV = np.radians(40.0)
TARGET = np.array([0.0, 0.0, 0.13])
DISTANCE = 2.72


def cameras(count: int, lowest: float, highest: float, phase: float = 0.0) -> list[Array]:
    """(4, 4) OpenGL camera-to-world matrices on a spiral that covers a band of the sphere evenly.

    lowest, highest: elevation in degrees.  phase: turns the spiral, in turns.
    """
    golden = (np.sqrt(5) - 1) / 2
    heights = np.linspace(np.sin(np.radians(lowest)), np.sin(np.radians(highest)), count)
    result = []
    for i, z in enumerate(heights):
        azimuth = 2 * np.pi * (i * golden + phase)
        backward = np.array([np.sqrt(1 - z * z) * np.cos(azimuth), np.sqrt(1 - z * z) * np.sin(azimuth), z])
        right = np.cross([0.0, 0.0, 1.0], backward)
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, np.cross(backward, right), backward], 1)
        pose[:3, 3] = TARGET + DISTANCE * backward
        result.append(pose)
    return result
