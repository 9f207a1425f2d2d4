"""The light, base colour and roughness of a sphere, recovered from eight pictures.

    python -m benchmarks.sphere_recovery [--samples 256] [--steps 400]

The pictures are Monte Carlo's, under a real environment (hdri/512 in RELIGHT_DATA, default ../shared/data) averaged to
16x32 texels.  The fit sees the pictures, the shape, and where the sphere is metal; it shades by split-sum, so what it
cannot explain is that estimator's own error and the pictures' noise.  Texels that no picture sees are left out.
"""

from __future__ import annotations

import argparse
import math
import os
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.record import record
from relight.geometry.camera import Camera
from relight.geometry.material import Material, Texture
from relight.geometry.mesh import Mesh
from relight.images import read_image
from relight.render.meshes import create_mesh_rasterizer, surface
from relight.shading.environment import Environment
from relight.shading.learnable import LearnableEnvironment
from relight.shading.shade import MonteCarlo, SplitSum, shade

ROWS = 16
"""Of the environment and of the textures."""


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


def truth(folder: Path) -> tuple[Environment, Tensor, Tensor, Tensor]:
    """Light, base colour (H, 2H, 3), roughness (H, 2H, 1) and metallic (H, 2H, 1)."""
    picture = read_image(folder / "hdri" / "512" / "phalzer_forest_01_512.hdr").rgb.permute(2, 0, 1)[None]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=256, help="of each strategy, in the pictures")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--size", type=int, default=48, help="of the pictures, pixels")
    options = parser.parse_args()
    folder = Path(os.environ.get("RELIGHT_DATA", Path(__file__).parents[2] / "shared" / "data"))
    light, color, roughness, metallic = truth(folder)
    cameras, rasterizer, shape = around(8, options.size), create_mesh_rasterizer(), sphere()
    real = clothed(shape, color, roughness, metallic)
    seen_by = torch.zeros_like(color, requires_grad=True)
    with torch.no_grad():
        pictures = [
            shade(surface(real, camera, rasterizer).surface, light, MonteCarlo(options.samples), seed=k)
            for k, camera in enumerate(cameras)
        ]
    marked = clothed(shape, seen_by, roughness, metallic)
    sum(surface(marked, camera, rasterizer).surface.base_color.sum() for camera in cameras).backward()  # type: ignore[union-attr]
    assert seen_by.grad is not None
    seen = seen_by.grad.sum(-1) > 0.5

    sky = LearnableEnvironment.constant(ROWS, float(light.radiance.mean()))
    raw_color, raw_roughness = nn.Parameter(torch.zeros_like(color)), nn.Parameter(torch.zeros_like(roughness))
    optimiser = torch.optim.Adam([*sky.parameters(), raw_color, raw_roughness], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.steps)
    losses = []
    for step in range(options.steps):
        optimiser.zero_grad()
        fitted = clothed(shape, raw_color.sigmoid(), raw_roughness.sigmoid(), metallic)
        now, loss = sky.light(), torch.zeros(())
        for k in (2 * step % 8, (2 * step + 1) % 8):
            shown = shade(surface(fitted, cameras[k], rasterizer).surface, now, SplitSum())
            loss = loss + ((shown + 0.01).log() - (pictures[k] + 0.01).log()).abs().mean()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()) / 2)
    with torch.no_grad():
        away = raw_color.sigmoid() - color
        found, wanted = sky.light().radiance, light.radiance
        normals = shape.vertices
        bright = sky.light().irradiance(normals) / light.irradiance(normals) - 1
        errors = {
            "base colour": float(away[seen].square().mean().sqrt()),
            "roughness": float((raw_roughness.sigmoid() - roughness)[seen].square().mean().sqrt()),
            "irradiance, relative": float(bright.square().mean().sqrt()),
            "radiance, log": float((found.log() - wanted.clamp_min(1e-4).log()).abs().median()),
            "pictures, log": sum(losses[-8:]) / 8,
        }
        begun = {
            "base colour": float((0.5 - color)[seen].square().mean().sqrt()),
            "roughness": float((0.5 - roughness)[seen].square().mean().sqrt()),
            "irradiance, relative": float((wanted.mean() / light.irradiance(normals) - 1).square().mean().sqrt()),
            "radiance, log": float((wanted.mean().log() - wanted.clamp_min(1e-4).log()).abs().median()),
            "pictures, log": losses[0],
        }
    record(
        "sphere_recovery",
        errors["base colour"],
        "RMS error of base colour",
        detail={
            "title": "sphere from eight pictures",
            "samples": options.samples,
            "steps": options.steps,
            "errors (RMS; median for radiance, mean for pictures)": {"at the start": begun, "recovered": errors},
        },
    )


if __name__ == "__main__":
    main()
