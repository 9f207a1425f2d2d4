"""The light, base colour and roughness of a sphere, recovered from eight pictures.

    python -m benchmarks.sphere_recovery [--start 150] [--steps 1000] [--pictures FOLDER]

The pictures are Monte Carlo's, under a real environment (hdri/512 in RELIGHT_DATA, default ../shared/data) averaged to
16x32 texels.  The fit sees the pictures, the shape, and where the sphere is metal.  No scale is fitted before errors
are taken: what a dielectric reflects, 4 %, tells how bright the light is.

The fit begins with split-sum, which has no noise, and ends with Monte Carlo.  Split-sum alone cannot find the
roughness: it finds it in pictures of its own, so its gradients are right, but its lobes differ from true ones by more
than most changes of roughness do.  The three fits with light and colour known show that.

Noise of an estimate makes its squared error larger, the more so the sharper the lobe, and the fit would take that for
light that is not there.  So each pixel is estimated twice, from other samples, and the loss is the product of the two
errors: its mean is the squared error of the noiseless picture, and so are its gradients'.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import DATA
from benchmarks.record import record
from relight.export.images import write_image
from relight.geometry.camera import Camera
from relight.geometry.material import Material, Texture
from relight.geometry.mesh import Mesh
from relight.images import read_image
from relight.render.meshes import create_mesh_rasterizer, surface
from relight.render.monte_carlo import FastMonteCarlo
from relight.shading.environment import Environment
from relight.shading.learnable import LearnableEnvironment
from relight.shading.shade import Estimator, MonteCarlo, SplitSum, shade
from relight.shading.surface import Surface

ROWS = 16
"""Of the environment and of the textures."""
DARK = 0.05
"""Errors are relative to the picture plus this."""


def sphere(rows: int = 32) -> Mesh:
    """Unit sphere, +y up, with v from pole to pole."""
    v, u = torch.meshgrid(torch.linspace(0, 1, rows + 1), torch.linspace(0, 1, 2 * rows + 1), indexing="ij")
    theta, phi = v * math.pi, u * 2 * math.pi
    points = torch.stack([theta.sin() * phi.cos(), theta.cos(), -theta.sin() * phi.sin()], -1).reshape(-1, 3)
    a = (torch.arange(rows)[:, None] * (2 * rows + 1) + torch.arange(2 * rows)).reshape(-1)
    b, c, d = a + 1, a + 2 * rows + 1, a + 2 * rows + 2
    faces = torch.cat([torch.stack([a, c, d], -1), torch.stack([a, d, b], -1)])
    return Mesh(points, faces, normals=points, uv=torch.stack([u, v], -1).reshape(-1, 2))


def around(count: int, size: int) -> list[Camera]:
    """Cameras at distance 4, in turn from above and from below."""
    cameras = []
    for k in range(count):
        angle, up = 2 * math.pi * k / count, 0.6 * (-1) ** k
        eye = functional.normalize(torch.tensor([math.cos(angle), up, math.sin(angle)]), dim=0)
        forward = -eye
        right = functional.normalize(torch.linalg.cross(forward, torch.tensor([0.0, 1.0, 0.0])), dim=0)
        pose = torch.eye(4)
        pose[:3] = torch.stack([right, torch.linalg.cross(forward, right), forward, 4 * eye], -1)
        cameras.append(Camera.from_fov(pose, 0.56, size, size))
    return cameras


def truth() -> tuple[Environment, Tensor, Tensor, Tensor]:
    """Light, base colour (H, 2H, 3), roughness (H, 2H, 1) and metallic (H, 2H, 1)."""
    picture = read_image(DATA / "hdri" / "512" / "phalzer_forest_01_512.hdr").rgb.permute(2, 0, 1)[None]
    light = Environment(functional.adaptive_avg_pool2d(picture, (ROWS, 2 * ROWS))[0].permute(1, 2, 0))
    v, u = torch.meshgrid((torch.arange(ROWS) + 0.5) / ROWS, (torch.arange(2 * ROWS) + 0.5) / ROWS / 2, indexing="ij")
    waves = torch.stack([(2 * math.pi * (f * u + g * v)).sin() for f, g in ((2, 1), (1, -2), (3, 1))], -1)
    roughness = 0.4 + 0.2 * (2 * math.pi * (2 * u - v)).cos()[..., None]
    metallic = ((u * 4).floor() % 2)[..., None]
    return light, 0.5 + 0.3 * waves, roughness, metallic


def clothed(mesh: Mesh, color: Tensor, roughness: Tensor, metallic: Tensor) -> Mesh:
    packed = Texture(torch.cat([torch.zeros_like(roughness), roughness, metallic], -1), ("repeat", "clamp"))
    material = Material(base_color_texture=Texture(color, ("repeat", "clamp")), metallic_roughness_texture=packed)
    return replace(mesh, materials=(material,))


class Recovery:
    """A fit to pictures.  What is known (the light, the colour) is given; all else starts from grey and one half."""

    def __init__(self, cameras: list[Camera], metallic: Tensor, brightness: float, light: Environment | None = None,
                 color: Tensor | None = None):  # fmt: skip
        self.cameras, self.metallic, self.known_light, self.known_color = cameras, metallic, light, color
        self.shape, self.rasterizer = sphere(), create_mesh_rasterizer()
        self.sky = LearnableEnvironment.constant(ROWS, brightness)
        self.raw_color = nn.Parameter(torch.zeros(*metallic.shape[:2], 3))
        self.raw_roughness = nn.Parameter(torch.zeros_like(metallic))

    def light(self) -> Environment:
        return self.known_light or self.sky.light()

    def color(self) -> Tensor:
        return self.raw_color.sigmoid() if self.known_color is None else self.known_color

    def roughness(self) -> Tensor:
        return self.raw_roughness.sigmoid()

    def seen(self, camera: Camera) -> Surface:
        return surface(
            clothed(self.shape, self.color(), self.roughness(), self.metallic), camera, self.rasterizer
        ).surface

    def fit(self, pictures: list[Tensor], steps: int, estimator: Estimator, rate: float) -> Recovery:
        """Two pictures a step."""
        noisy = isinstance(estimator, MonteCarlo)
        optimiser = torch.optim.Adam([*self.sky.parameters(), self.raw_color, self.raw_roughness], rate, (0.9, 0.99))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for step in range(steps):
            optimiser.zero_grad()
            now, loss = self.light(), torch.zeros(())
            for k in (2 * step % len(pictures), (2 * step + 1) % len(pictures)):
                points, picture = self.seen(self.cameras[k]), pictures[k]
                # Seeds that no picture was made with.
                seed = 1_000_000 + 16 * step + 2 * k
                off = (shade(points, now, estimator, seed=seed) - picture) / (picture + DARK)
                again = (shade(points, now, estimator, seed=seed + 1) - picture) / (picture + DARK) if noisy else off
                loss = loss + (off * again).mean()
            loss.backward()
            optimiser.step()
            schedule.step()
        return self


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=256, help="of each strategy, in the pictures")
    parser.add_argument("--start", type=int, default=150, help="steps by split-sum")
    parser.add_argument("--steps", type=int, default=1000, help="steps by Monte Carlo")
    parser.add_argument("--few", type=int, default=8, help="samples of each strategy in a step, twice")
    parser.add_argument("--size", type=int, default=48, help="of the pictures, pixels")
    parser.add_argument("--pictures", type=Path, help="folder for true and recovered maps, side by side")
    options = parser.parse_args()
    light, color, roughness, metallic = truth()
    cameras, rasterizer, shape = around(8, options.size), create_mesh_rasterizer(), sphere()
    real = clothed(shape, color, roughness, metallic)

    def taken(lights: Environment, estimator: Estimator, mesh: Mesh = real) -> list[Tensor]:
        with torch.no_grad():
            points = [surface(mesh, camera, rasterizer).surface for camera in cameras]
            return [shade(p, lights, estimator, seed=k) for k, p in enumerate(points)]

    exact, few = FastMonteCarlo(options.samples), FastMonteCarlo(options.few)
    pictures, brightness = taken(light, exact), float(light.radiance.mean())
    other = Environment(light.radiance.roll(11, 1).flip(-1))
    relit = taken(other, exact)
    metal = metallic[..., 0] > 0.5

    @torch.no_grad()
    def errors(found: Recovery) -> dict[str, float]:
        def rms(off: Tensor) -> float:
            return float(off.square().mean().sqrt())

        def apart(lights: Environment, wanted: list[Tensor]) -> float:
            shown = taken(lights, exact, clothed(shape, found.color(), found.roughness(), metallic))
            pairs = zip(shown, wanted, strict=True)
            return sum(float(((a + 0.01) / (b + 0.01)).log().abs().mean()) for a, b in pairs) / len(wanted)

        off = found.roughness() - roughness
        sky, normals = found.light(), shape.vertices
        return {
            "base colour": rms(found.color() - color),
            "roughness": rms(off),
            "roughness, metal": rms(off[metal]),
            "roughness, dielectric": rms(off[~metal]),
            "irradiance, relative": rms(sky.irradiance(normals) / light.irradiance(normals) - 1),
            "radiance, log": float((sky.radiance / light.radiance.clamp_min(1e-4)).log().abs().median()),
            "pictures, log": apart(sky, pictures),
            "under another light, log": apart(other, relit),
        }

    found = Recovery(cameras, metallic, brightness)
    rows = {"at the start": errors(found)}
    found.fit(pictures, options.start, SplitSum(), 0.05)
    rows["after split-sum"] = errors(found)
    print(rows, flush=True)
    found.fit(pictures, options.steps, few, 0.03)
    rows["recovered"] = errors(found)
    print(rows["recovered"], flush=True)

    known = {}
    for name, shown, estimator in (
        ("split-sum, of its own pictures", taken(light, SplitSum()), SplitSum()),
        ("split-sum", pictures, SplitSum()),
        ("Monte Carlo", pictures, few),
    ):
        fitted = errors(Recovery(cameras, metallic, brightness, light, color).fit(shown, 200, estimator, 0.05))
        known[name] = {key: fitted[key] for key in ("roughness", "roughness, metal", "roughness, dielectric")}
    if options.pictures:
        maps = [(light.radiance, found.light().radiance), (color, found.color()), (roughness, found.roughness())]
        rows_shown = [torch.cat([x.detach().expand(-1, -1, 3).clamp(0, 1) for x in pair], 1) for pair in maps]
        large = torch.cat(rows_shown).repeat_interleave(8, 0).repeat_interleave(8, 1)
        write_image(options.pictures / "sphere_recovery.png", large)
    record(
        "sphere_recovery",
        rows["recovered"]["roughness"],
        "RMS error of roughness",
        detail={
            "title": "sphere from eight pictures",
            "samples": options.samples,
            "steps": f"{options.start} of split-sum, {options.steps} of Monte Carlo, {options.few} samples",
            "errors (RMS; median for radiance, mean for pictures)": rows,
            "RMS error of roughness, light and colour known, 200 steps": known,
        },
    )


if __name__ == "__main__":
    main()
