"""Pictures and numbers of Mitsuba 3, an independent path tracer: its regression scenes, and its BSDFs if installed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from relight.images import read_image
from relight.shading.bsdf import Bsdf
from relight.shading.environment import Environment
from relight.shading.lights import Point, Rectangle
from relight.shading.microfacet import alpha_of, smith_g1, smith_v
from relight.shading.shade import MonteCarlo, shade
from relight.shading.surface import Surface

DOUBLE = torch.float64
SCENES = "references/mitsuba_bsdf_spheres"
Y_UP = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
"""env_from_world for Mitsuba's lookup, u = atan2(x, -z) / 2 pi, v = acos(y) / pi."""
PLASTIC = torch.tensor([[4.0, 1.2, 1.2], [4.0, -1.2, 1.2], [4.0, 1.2, -1.2], [4.0, -1.2, -1.2]])
GRID = torch.tensor([[0.0, y, z] for z in (0.0, 3.0) for y in (-6.0, -3.0, 0.0, 3.0, 6.0)])
SIZE, SUBPIXELS = 48, 3
# Half the width of the picture at distance 1: a 50 mm lens, and a film with the diagonal of 36 x 24 mm.
HALF_WIDTH = math.hypot(36, 24) / 100 / math.sqrt(2)


class Spheres:
    """A tracer: unit spheres, and a rectangle if there is one."""

    def __init__(self, centres: torch.Tensor, panel: Rectangle | None = None):
        self.centres, self.panel = centres, panel

    def distances(self, origins: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """(..., K), infinite for a miss."""
        offset = origins[..., None, :] - self.centres
        along = (offset * directions[..., None, :]).sum(-1)
        root = along * along - (offset * offset).sum(-1) + 1
        near = -along - root.clamp_min(0).sqrt()
        return torch.where((root > 0) & (near > 1e-3), near, torch.inf)

    def occluded(self, origins, directions, far):
        blocked = (self.distances(origins, directions) < far[:, None]).any(1)
        if self.panel is None:
            return blocked
        panel = self.panel.hit(origins, directions)
        return blocked | ((panel.pdf > 0) & (panel.distance < far - 1e-3))

    def trace(self, origins, directions):
        raise NotImplementedError("these scenes have direct light only")


def rays() -> torch.Tensor:
    """(S, H, W, 3) unit directions through regular subpixels: along +x, +z up, so that +y is to the left."""
    grid = (torch.arange(SIZE * SUBPIXELS) + 0.5) / (SIZE * SUBPIXELS) * 2 - 1
    down, right = torch.meshgrid(grid, grid, indexing="ij")
    d = torch.stack([torch.ones_like(right), -right * HALF_WIDTH, -down * HALF_WIDTH], -1)
    d = torch.nn.functional.normalize(d, dim=-1)
    return d.reshape(SIZE, SUBPIXELS, SIZE, SUBPIXELS, 3).permute(1, 3, 0, 2, 4).flatten(0, 1)


def seen(centres: torch.Tensor, which: int, eye_x: float, color, facing: float) -> tuple[torch.Tensor, Surface]:
    """Pixels (H, W) that show sphere `which` and nothing else, seen steeper than `facing`, and its surface there."""
    d = rays()
    eye = torch.tensor([eye_x, 0.0, 0.0])
    distance, index = Spheres(centres).distances(eye.expand_as(d), d).min(-1)
    distance = torch.where(index == which, distance, torch.inf)
    normal = eye + d * torch.where(distance.isinf(), 0.0, distance)[..., None] - centres[which]
    solid = (distance.isfinite() & (-(normal * d).sum(-1) > facing)).all(0)
    normal = torch.nn.functional.normalize(normal[:, solid], dim=-1)
    one = torch.ones(normal.shape[:-1])
    return solid, Surface(
        normal + centres[which], normal, -d[:, solid], torch.tensor(color).expand_as(normal), one, 0 * one
    )


@pytest.fixture(scope="module")
def folder(data_dir) -> Path:
    found = data_dir / SCENES
    if not found.is_dir():
        pytest.skip(f"no {SCENES} in the test data")
    return found


def reference(folder: Path, name: str) -> torch.Tensor:
    return read_image(folder / f"tests/scenes/bsdf_spheres/refs/test_{name}_ref_rgb.exr").rgb


def museum(folder: Path) -> Environment:
    return Environment(read_image(folder / "common/textures/museum.exr").rgb.contiguous(), Y_UP)


def panel() -> Rectangle:
    """The area light of the scenes; its radiance is Mitsuba's conversion of the spectrum given there."""
    c, s = math.cos(math.radians(120)), math.sin(math.radians(120))
    turn = torch.tensor([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    return Rectangle(
        turn @ torch.tensor([-2.0, -2.0, 0.0]) + torch.tensor([-4.0, 0.0, 6.0]),
        turn @ torch.tensor([4.0, 0.0, 0.0]),
        turn @ torch.tensor([0.0, 4.0, 0.0]),
        torch.tensor([20.7108, 10.8546, 2.77115]),
    )


def bulb(z: float) -> Point:
    return Point(torch.tensor([-4.0, 0.0, z]), torch.full((3,), 300.0))


def test_the_background_is_mitsubas(folder):
    """Orientation of the camera and of the environment, where no sphere is."""
    d = rays()
    eye = torch.tensor([-4.0, 0.0, 0.0]).expand_as(d)
    clear = Spheres(PLASTIC).distances(eye, d).isinf().all(-1).all(0)
    expected = reference(folder, "roughplastic_linear")[clear]
    found = museum(folder).eval(d).mean(0)[clear]
    assert int(clear.sum()) > 500
    assert float((found - expected).abs().mean()) < 2e-3
    assert float((museum(folder).turned(math.pi).eval(d).mean(0)[clear] - expected).abs().mean()) > 0.05


@pytest.mark.parametrize(
    ("light", "bound"), [("pointlight", 0.002), ("arealight", 0.008), ("constant", 0.015), ("envmap", 0.02)]
)
def test_a_diffuse_sphere_among_others_is_mitsubas(folder, light, bound):
    """Shadows included.  The scene's leaves, below, are left out here: they hide a little of the surroundings."""
    lamp = {
        "pointlight": lambda: bulb(6.0),
        "arealight": panel,
        "constant": lambda: Environment(torch.ones(8, 16, 3)),
        "envmap": lambda: museum(folder),
    }[light]()
    solid, surface = seen(GRID, 0, -24.0, (0.2, 0.5, 0.3), 0.5)
    surface = replace(surface, specular=torch.zeros_like(surface.metallic))  # Lambert, nothing on top
    tracer = Spheres(GRID, panel() if light == "arealight" else None)
    found = shade(surface, lamp, MonteCarlo(128), tracer=tracer).mean(0)
    expected = reference(folder, light)[solid]
    assert int(solid.sum()) >= 12
    # Over all pixels: one pixel of the reference carries its own noise.
    assert torch.allclose(found.mean(0), expected.mean(0), rtol=bound)
    assert torch.allclose(found, expected, rtol=0.15, atol=0.02 * float(expected.max()))


@pytest.mark.parametrize(("which", "alpha", "bound"), [(0, 0.01, 0.1), (1, 0.1, 0.1)])
def test_plastic_spheres_are_close_to_mitsubas(folder, which, alpha, bound):
    """Under three kinds of light at once.  Mitsuba's rough plastic has the exact Fresnel equations, and loses what is
    scattered twice, so that it darkens with roughness: the scene's two rougher spheres say nothing about ours.
    """
    lamps = [museum(folder), panel(), bulb(-6.0)]
    solid, surface = seen(PLASTIC, which, -4.0, (0.02, 0.2, 0.1), 0.35)
    surface = replace(surface, roughness=torch.full_like(surface.metallic, alpha**0.5))
    found = shade(surface, lamps, MonteCarlo(32), tracer=Spheres(PLASTIC, panel())).mean(0)
    expected = reference(folder, "roughplastic_linear")[solid]
    assert torch.allclose(found.mean(0), expected.mean(0), rtol=bound)
    assert float(((found - expected).abs() / expected).median()) < bound


@pytest.fixture(scope="module")
def mitsuba():
    module = pytest.importorskip("mitsuba")
    module.set_variant("scalar_rgb")
    return module


def evaluated(mitsuba, description: dict, view: torch.Tensor, light: torch.Tensor) -> torch.Tensor:
    """(N, 3) f cos of a Mitsuba BSDF in the frame of the normal."""
    bsdf, context = mitsuba.load_dict(description), mitsuba.BSDFContext()
    found = []
    for v, d in zip(view.tolist(), light.tolist(), strict=True):
        interaction = mitsuba.SurfaceInteraction3f()
        interaction.wi = v
        found.append(list(bsdf.eval(context, interaction, d)))
    return torch.tensor(found, dtype=DOUBLE)


def above(n: int, seed: int) -> torch.Tensor:
    d = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    d[:, 2] = d[:, 2].abs() + 0.05
    return torch.nn.functional.normalize(d, dim=-1)


@pytest.mark.parametrize("kind", ["principled", "roughconductor"])
@pytest.mark.parametrize("roughness", [0.2, 0.5, 1.0])
def test_metal_is_mitsubas_but_for_correlated_shadowing(mitsuba, kind, roughness):
    """Mitsuba's shadowing is G1 G1, ours height-correlated; all else must agree to rounding."""
    view, light, color = above(200, 1), above(200, 2), (0.9, 0.6, 0.3)
    one = torch.ones(200, dtype=DOUBLE)
    # The conductor without a material reflects its factor at all angles; the principled metal has Schlick's Fresnel.
    description = {
        "principled": {
            "type": "principled", "base_color": {"type": "rgb", "value": list(color)}, "metallic": 1.0,
            "roughness": roughness,
        },
        "roughconductor": {
            "type": "roughconductor", "distribution": "ggx", "alpha": roughness**2, "material": "none",
        },
    }[kind]  # fmt: skip
    base = torch.tensor(color if kind == "principled" else (1.0, 1.0, 1.0), dtype=DOUBLE).expand(200, 3)
    normal = torch.tensor([0.0, 0.0, 1.0], dtype=DOUBLE).expand(200, 3)
    ours = Bsdf(Surface(normal, normal, view, base, roughness * one, one), compensate=False).eval(light)
    alpha, v, d = alpha_of(roughness * one), view[:, 2], light[:, 2]
    separable = smith_g1(v, alpha) * smith_g1(d, alpha) / (4 * v * d) / smith_v(v, d, alpha)
    expected = evaluated(mitsuba, description, view, light)
    assert torch.allclose(ours * separable[:, None], expected, rtol=2e-4, atol=1e-6)
    assert not torch.allclose(1.02 * ours * separable[:, None], expected, rtol=2e-4, atol=1e-6)
