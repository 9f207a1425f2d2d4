"""Spheres and planes: mesh, rays, lights, materials and bounces against Mitsuba's path tracer, pixel by pixel.

Both draw the same triangles; a pixel may differ by noise only, which Mitsuba's second moments and ours tell.  Mitsuba's
metals have separable shadowing and lose what is scattered twice, so ours are made so for the comparison.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from relight.geometry.material import Material, Texture
from relight.geometry.mesh import Mesh, merge
from relight.render import tracing
from relight.render.monte_carlo import FastMonteCarlo
from relight.shading import bsdf, shade
from relight.shading.environment import Environment
from relight.shading.lights import Light, Point, Rectangle, Sun
from relight.shading.microfacet import smith_g1
from relight.testing.statistics import Estimate, same_expectation

SIZE, FOV = 48, 40.0
EYE, TARGET = torch.tensor([0.5, 3.0, 7.0]), torch.tensor([0.0, 0.6, 0.0])
SIGNIFICANCE = 1e-3
XYZ = torch.tensor([[0.412453, 0.35758, 0.180423], [0.212671, 0.71516, 0.072169], [0.019334, 0.119193, 0.950227]])
"""Mitsuba keeps second moments in CIE XYZ, so that is where pictures are compared."""


def lambert(r: float, g: float, b: float) -> Material:
    return Material(
        base_color=torch.tensor([r, g, b, 1.0]), metallic=torch.tensor(0.0), roughness=torch.tensor(1.0),
        specular=torch.tensor(0.0), double_sided=True,
    )  # fmt: skip


def metal(roughness: float, r: float, g: float, b: float) -> Material:
    return Material(
        base_color=torch.tensor([r, g, b, 1.0]), metallic=torch.tensor(1.0), roughness=torch.tensor(roughness),
        double_sided=True,
    )  # fmt: skip


CLAY = (lambert(0.7, 0.7, 0.7), lambert(0.8, 0.3, 0.2), lambert(0.2, 0.6, 0.3), lambert(0.3, 0.4, 0.8))


def texels(seed: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(8, 8, 3, generator=torch.Generator().manual_seed(seed))


def bumps() -> Tensor:
    """Normals that lean by up to 7 degrees: farther, and some would mirror the eye into the floor, which ours don't."""
    normals = normalize(torch.cat([texels(1, -0.12, 0.12)[..., :2], torch.ones(8, 8, 1)], -1), dim=-1)
    return (normals + 1) / 2


METALS = (lambert(0.5, 0.5, 0.5), metal(0.4, 0.9, 0.6, 0.3), metal(0.6, 0.9, 0.9, 0.9), metal(0.9, 0.5, 0.6, 0.9))
METAL_FLOOR = (metal(0.5, 0.8, 0.8, 0.8), lambert(0.8, 0.3, 0.2), metal(0.7, 0.9, 0.7, 0.3), lambert(0.3, 0.4, 0.8))
TILES = (replace(lambert(1, 1, 1), base_color_texture=Texture(texels(0, 0.1, 0.9))), *METALS[1:])
BUMPS = (replace(lambert(0.7, 0.6, 0.5), normal_texture=Texture(bumps())), *CLAY[1:])
RUST = Texture(texels(2, 0.3, 0.9).index_fill(2, torch.tensor([2]), 1))
WORN = (replace(metal(1, 0.9, 0.8, 0.6), metallic_roughness_texture=RUST), *CLAY[1:])
"""Of the floor and the three spheres.  Mitsuba's roughness is ours, and textures have the same texels."""


def sky(directions: Tensor) -> Tensor:
    """(..., 3) unit to radiance: a soft bright lamp, a small coloured one, and a gradient.  Smooth, so that both ways
    of placing texels on the sphere give the same light."""
    d = directions
    lamp = normalize(torch.tensor([0.6, 0.7, 0.5]), dim=0).to(d)
    blue = normalize(torch.tensor([-0.8, 0.3, -0.2]), dim=0).to(d)
    up = 0.15 + 0.1 * d[..., 1:2]
    return (
        up * d.new_tensor([1.0, 0.9, 0.8])
        + 8 * torch.exp(30 * ((d * lamp).sum(-1, keepdim=True) - 1)) * d.new_tensor([1.0, 0.8, 0.6])
        + 3 * torch.exp(60 * ((d * blue).sum(-1, keepdim=True) - 1)) * d.new_tensor([0.2, 0.5, 1.0])
    )


def hdr() -> Environment:
    empty = Environment(torch.zeros(128, 256, 3))
    v, u = torch.meshgrid((torch.arange(128) + 0.5) / 128, (torch.arange(256) + 0.5) / 256, indexing="ij")
    return Environment(sky(empty.directions(torch.stack([u, v], -1))))


def white() -> Environment:
    return Environment(torch.tensor([0.8, 0.9, 1.0]).expand(8, 16, 3).contiguous())


def panel() -> Rectangle:
    """Overhead, with nothing behind it."""
    return Rectangle(
        torch.tensor([-2.0, 4.0, -1.0]), torch.tensor([2.5, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.5]),
        torch.tensor([6.0, 5.0, 4.0]),
    )  # fmt: skip


def bulb() -> Point:
    return Point(torch.tensor([-1.5, 3.5, 2.5]), torch.tensor([20.0, 18.0, 15.0]))


def sun() -> Sun:
    return Sun(normalize(torch.tensor([1.0, 1.5, 0.8]), dim=0), torch.tensor([2.5, 2.3, 2.0]))


@dataclass(frozen=True)
class Setup:
    materials: Sequence[Material]
    lights: Sequence[Light]
    bounces: int


SETUPS = {
    "clay, white sky, direct": Setup(CLAY, [white()], 0),
    "clay, HDR sky, one bounce": Setup(CLAY, [hdr()], 1),
    "clay, panel, direct": Setup(CLAY, [panel()], 0),
    "clay, panel, one bounce": Setup(CLAY, [panel()], 1),
    "clay, bulb, one bounce": Setup(CLAY, [bulb()], 1),
    "clay, sun, one bounce": Setup(CLAY, [sun()], 1),
    "metals, white sky, direct": Setup(METALS, [white()], 0),
    "metals, HDR sky, direct": Setup(METALS, [hdr()], 0),
    "metals, HDR sky, one bounce": Setup(METALS, [hdr()], 1),
    "metals, bulb and sun, direct": Setup(METALS, [bulb(), sun()], 0),
    "metal floor, panel, one bounce": Setup(METAL_FLOOR, [panel()], 1),
    "metal floor, HDR sky and sun, one bounce": Setup(METAL_FLOOR, [hdr(), sun()], 1),
    "metal floor, panel, three bounces": Setup(METAL_FLOOR, [panel()], 3),
    "tiles and metals, HDR sky, one bounce": Setup(TILES, [hdr()], 1),
    "bumps, sun, direct": Setup(BUMPS, [sun()], 0),
    "bumps, panel, one bounce": Setup(BUMPS, [panel()], 1),
    "worn metal, HDR sky, direct": Setup(WORN, [hdr()], 0),
    "clay, white sky, four bounces": Setup(CLAY, [white()], 4),
}
FLOOR_UV = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
FLOOR_TANGENTS = torch.tensor([1.0, 0.0, 0.0, 1.0]).expand(4, 4)
FAST = ("clay, HDR sky, one bounce", "metals, HDR sky, direct", "clay, panel, one bounce", "bumps, sun, direct")


def flat(vertices: np.ndarray, faces: np.ndarray, material: Material) -> Mesh:
    return Mesh(
        torch.from_numpy(np.asarray(vertices, np.float32)), torch.from_numpy(np.asarray(faces, np.int64)),
        materials=(material,), material_ids=torch.zeros(len(faces), dtype=torch.int64),
    )  # fmt: skip


def parts(materials: Sequence[Material]) -> list[Mesh]:
    """A floor and three faceted spheres, one of them hovering."""
    from trimesh.creation import icosphere

    floor = np.array([[-4.0, 0, -4], [-4, 0, 4], [4, 0, 4], [4, 0, -4]])
    found = [replace(flat(floor, np.array([[0, 1, 2], [0, 2, 3]]), materials[0]), uv=FLOOR_UV, tangents=FLOOR_TANGENTS)]
    places = [((-1.6, 0.8, 0.0), 0.8), ((0.4, 1.0, -0.6), 1.0), ((1.7, 0.9, 0.9), 0.6)]
    for (place, radius), material in zip(places, materials[1:], strict=True):
        ball = icosphere(subdivisions=2, radius=radius)
        found.append(flat(ball.vertices + np.array(place), ball.faces, material))
    return found


def jittered(count: int, seed: int) -> Tensor:
    """(count, H, W, 3) unit directions, spread evenly over each pixel."""
    forward = normalize(TARGET - EYE, dim=0)
    right = normalize(torch.linalg.cross(forward, torch.tensor([0.0, 1.0, 0.0])), dim=0)
    down = torch.linalg.cross(forward, right)
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    place = torch.stack([x, y], -1) + torch.rand(count, SIZE, SIZE, 2, generator=generator)
    place = (2 * place / SIZE - 1) * math.tan(math.radians(FOV) / 2)
    return normalize(forward + place[..., :1] * right + place[..., 1:] * down, dim=-1)


def ours(
    setup: Setup, *, count: int = 64, samples: int = 4, seed: int = 0, kind: type[shade.MonteCarlo] = shade.MonteCarlo
) -> Estimate:
    """`count` rays a pixel, each an estimate by itself."""
    tracer = tracing.EmbreeTracer(merge(parts(setup.materials)))
    directions = jittered(count, seed).reshape(-1, 3)
    hits, surface = tracer.trace(EYE.expand_as(directions), directions)
    radiance = torch.zeros_like(directions)
    with torch.no_grad():
        estimator = kind(samples=samples, bounces=setup.bounces)
        radiance[hits] = shade.shade(surface[hits], setup.lights, estimator, tracer=tracer, seed=seed)
    return Estimate.of((radiance @ XYZ.T).view(count, SIZE, SIZE, 3))


def rgb(color: Tensor) -> dict:
    return {"type": "rgb", "value": [float(c) for c in color[:3]]}


def bitmap(mi, image: Tensor) -> dict:
    return {"type": "bitmap", "bitmap": mi.Bitmap(image.contiguous().numpy()), "raw": True}


def mitsuba_material(mi, m: Material) -> dict:
    color = rgb(m.base_color) if m.base_color_texture is None else bitmap(mi, m.base_color_texture.image)
    kind: dict = {"type": "diffuse", "reflectance": color}
    if float(m.metallic) == 1:
        worn = m.metallic_roughness_texture
        roughness = float(m.roughness) if worn is None else bitmap(mi, worn.image[..., 1:2])
        kind = {"type": "principled", "base_color": color, "metallic": 1.0, "roughness": roughness}
    if m.normal_texture is not None:
        kind = {"type": "normalmap", "normalmap": bitmap(mi, m.normal_texture.image), "bsdf": kind}
    return {"type": "twosided", "bsdf": kind}


def mitsuba_light(mi, light: Light) -> dict:
    if isinstance(light, Point):
        return {"type": "point", "position": light.position.tolist(), "intensity": rgb(light.intensity)}
    if isinstance(light, Sun):
        return {"type": "directional", "direction": (-light.direction).tolist(), "irradiance": rgb(light.irradiance)}
    if isinstance(light, Rectangle):
        a, b = light.edge_a / 2, light.edge_b / 2
        columns = torch.stack([a, b, normalize(torch.linalg.cross(a, b), dim=0), light.corner + a + b], 1)
        matrix = torch.cat([columns, torch.tensor([[0.0, 0, 0, 1]])]).tolist()
        return {
            "type": "rectangle", "to_world": mi.ScalarTransform4f(matrix),
            "emitter": {"type": "area", "radiance": rgb(light.radiance)},
            "bsdf": {"type": "diffuse", "reflectance": {"type": "rgb", "value": 0.0}},
        }  # fmt: skip
    assert isinstance(light, Environment)
    if len(light.radiance) < 100:
        return {"type": "constant", "radiance": rgb(light.radiance[0, 0])}
    # Its rows go from pole to pole; ours are the middles of bands.
    theta, phi = torch.meshgrid(
        torch.arange(256) / 255 * math.pi, (torch.arange(512) + 0.5) / 512 * 2 * math.pi, indexing="ij"
    )
    s = theta.sin()
    texels = sky(torch.stack([s * phi.sin(), theta.cos(), -s * phi.cos()], -1))
    return {"type": "envmap", "bitmap": mi.Bitmap(texels.numpy())}


def theirs(mi, setup: Setup, folder: Path, *, samples: int = 1024, seed: int = 0) -> Estimate:
    camera = mi.ScalarTransform4f().look_at(origin=EYE.tolist(), target=TARGET.tolist(), up=[0, 1, 0])
    scene: dict = {
        "type": "scene",
        "integrator": {
            "type": "moment",
            "inner": {"type": "path", "max_depth": 2 + setup.bounces, "rr_depth": 100, "hide_emitters": True},
        },
        "sensor": {
            "type": "perspective", "fov": FOV, "to_world": camera,
            "sampler": {"type": "independent", "sample_count": samples},
            "film": {
                "type": "hdrfilm", "width": SIZE, "height": SIZE, "rfilter": {"type": "box"}, "pixel_format": "rgb",
                "component_format": "float32",
            },
        },
    }  # fmt: skip
    for i, (mesh, material) in enumerate(zip(parts(setup.materials), setup.materials, strict=True)):
        path = folder / f"{i}.obj"
        lines = [f"v {x} {y} {z}" for x, y, z in mesh.vertices.tolist()]
        if mesh.uv is not None:
            lines += [f"vt {u} {1 - v}" for u, v in mesh.uv.tolist()]
        corner = "{0}" if mesh.uv is None else "{0}/{0}"
        lines += ["f " + " ".join(corner.format(k + 1) for k in face) for face in mesh.faces.tolist()]
        path.write_text("\n".join(lines))
        scene[f"part{i}"] = {
            "type": "obj", "filename": str(path), "face_normals": True, "bsdf": mitsuba_material(mi, material),
        }  # fmt: skip
    for i, light in enumerate(setup.lights):
        scene[f"light{i}"] = mitsuba_light(mi, light)
    found = torch.from_numpy(np.array(mi.render(mi.load_dict(scene), seed=seed)).astype(np.float64))
    mean, square = found[..., 3:6], found[..., 6:9]
    return Estimate(mean, (square - mean * mean).clamp_min(0) * samples / (samples - 1), samples)


@pytest.fixture(scope="module")
def mi():
    if (reason := tracing.unavailable()) is not None:
        pytest.skip(reason)
    mitsuba = pytest.importorskip("mitsuba")
    mitsuba.set_variant("scalar_rgb")
    return mitsuba


@pytest.fixture
def single_scattering(monkeypatch):
    """Metals as Mitsuba defines them."""

    def separable(n_v: Tensor, n_l: Tensor, alpha: Tensor) -> Tensor:
        return smith_g1(n_v, alpha) * smith_g1(n_l, alpha) / (4 * n_v * n_l)

    monkeypatch.setattr(bsdf, "smith_v", separable)
    monkeypatch.setattr(shade, "Bsdf", partial(bsdf.Bsdf, compensate=False))


def agreement(a: Estimate, b: Estimate) -> float:
    """The p-value, corrected for testing thrice: pixels, and tiles for what is small but everywhere."""
    # Mitsuba adds a pixel's samples up in float32.
    pixels = same_expectation(a, b, few=True, rounding=3e-4)
    tiles = [same_expectation(a.tiles(n), b.tiles(n), rounding=3e-4) for n in (8, 16)]
    return min(1.0, 3 * min(pixels, *tiles))


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in SETUPS])
def test_every_pixel_is_mitsubas(mi, single_scattering, tmp_path, name):
    setup = SETUPS[name]
    expected = theirs(mi, setup, tmp_path)
    assert agreement(ours(setup, count=48 if name in FAST else 96), expected) > SIGNIFICANCE


@pytest.mark.slow
def test_every_pixel_of_the_kernels_is_mitsubas(mi, single_scattering, tmp_path):
    """Without metals, whose shadowing the kernels can't be told to take from Mitsuba.  And a fault is noticed."""
    setup = SETUPS["clay, HDR sky, one bounce"]
    expected = theirs(mi, setup, tmp_path)
    assert agreement(ours(setup, count=48, kind=FastMonteCarlo), expected) > SIGNIFICANCE
    assert agreement(ours(redder(setup), count=48, kind=FastMonteCarlo), expected) < SIGNIFICANCE


def duller(setup: Setup) -> Setup:
    return replace(setup, materials=[*setup.materials[:2], metal(0.63, 0.9, 0.9, 0.9), setup.materials[3]])


def redder(setup: Setup) -> Setup:
    return replace(setup, materials=[lambert(0.53, 0.5, 0.5), *setup.materials[1:]])


def flattened(setup: Setup) -> Setup:
    return replace(setup, bounces=0)


def dented(setup: Setup) -> Setup:
    """Bumps with green downwards."""
    texture = setup.materials[0].normal_texture
    assert texture is not None
    image = torch.stack([texture.image[..., 0], 1 - texture.image[..., 1], texture.image[..., 2]], -1)
    floor = replace(setup.materials[0], normal_texture=Texture(image))
    return replace(setup, materials=[floor, *setup.materials[1:]])


def turned(setup: Setup) -> Setup:
    """Tiles upside down."""
    texture = setup.materials[0].base_color_texture
    assert texture is not None
    floor = replace(setup.materials[0], base_color_texture=Texture(texture.image.flip(0)))
    return replace(setup, materials=[floor, *setup.materials[1:]])


FAULTS = {
    redder: "metals, HDR sky, one bounce",
    duller: "metals, HDR sky, one bounce",
    flattened: "metals, HDR sky, one bounce",
    dented: "bumps, sun, direct",
    turned: "tiles and metals, HDR sky, one bounce",
}


@pytest.mark.parametrize("fault", [redder, *(pytest.param(f, marks=pytest.mark.slow) for f in FAULTS if f != redder)])
def test_faults_are_noticed(mi, single_scattering, tmp_path, fault):
    setup = SETUPS[FAULTS[fault]]
    expected = theirs(mi, setup, tmp_path, samples=512)
    assert agreement(ours(fault(setup), count=32), expected) < SIGNIFICANCE
