"""Seconds of shading, beside Mitsuba 3, Open3D and trimesh with Embree in the same run.

    python -m benchmarks.shading_speed [--repeats 3] [--size 512]

A dented ball of 100,352 triangles fills the picture.  *Direct light* is one picture under an environment of 256x512
texels with 64 samples of the light and 64 of the BSDF a pixel, each with a shadow ray: ours rasterises, then shades;
Mitsuba's `direct` integrator in `llvm_ad_rgb` traces one ray a pixel and as many samples of each kind.  The material is
rough gold in both (Mitsuba's `principled`).  The twin is the same estimator in plain torch, without kernels.
*Rasterising* is depth and barycentrics of the same ball against rays cast by Open3D, and nearest faces by trimesh with
Embree.  Runs take turns; medians; compiling is left out.  Forward and backward: of the radiance to base colour and
roughness, of every point in ours, of the whole ball in Mitsuba's; and of positions in the picture, looked up with all
attributes, to the vertices.
That both draw the same picture is held by tests/shading/test_against_mitsuba_scenes.py.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.record import record
from relight.export.images import write_exr
from relight.geometry.camera import Camera
from relight.geometry.mesh import Mesh
from relight.render.meshes import create_mesh_rasterizer, surface
from relight.render.monte_carlo import FastMonteCarlo
from relight.render.tracing import create_tracer, load_open3d
from relight.shading.environment import Environment
from relight.shading.shade import Estimator, MonteCarlo, SplitSum, shade
from relight.shading.surface import Surface

SAMPLES = 64
PART = 1 << 15
GOLD, ROUGHNESS = (0.9, 0.7, 0.35), 0.35


def ball(rows: int = 224) -> Mesh:
    """rows x 2 rows x 2 triangles, radius about 1, +y up."""
    v, u = torch.meshgrid(torch.linspace(0, 1, rows + 1), torch.linspace(0, 1, rows + 1), indexing="ij")
    theta, phi = v * math.pi, u * 2 * math.pi
    radius = 1 + 0.08 * (9 * theta).sin() * (9 * phi).sin() * theta.sin()
    points = torch.stack([theta.sin() * phi.cos(), theta.cos(), -theta.sin() * phi.sin()], -1) * radius[..., None]
    a = (torch.arange(rows)[:, None] * (rows + 1) + torch.arange(rows)).reshape(-1)
    b, c, d = a + 1, a + rows + 1, a + rows + 2
    faces = torch.cat([torch.stack([a, c, d], -1), torch.stack([a, d, b], -1)])
    return Mesh(points.reshape(-1, 3), faces.int()).with_smooth_normals()


def sky(rows: int = 256) -> Environment:
    v = torch.linspace(0, 1, rows)[:, None, None]
    light = (0.3 + 0.7 * (1 - v)) * torch.tensor([0.8, 0.9, 1.0]).expand(rows, 2 * rows, 3)
    light[rows // 5 : rows // 5 + 12, rows // 2 : rows // 2 + 12] = 60.0
    return Environment(light.contiguous())


def taking_turns(tasks: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, after one unmeasured round."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(repeats + 1):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def mitsuba_picture(
    mesh: Mesh, light: Environment, size: int, folder: Path
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Draw the ball from +z, as `camera` sees it; the same, and the way back to its colour and roughness."""
    import drjit as dr
    import mitsuba as mi

    mi.set_variant("llvm_ad_rgb")
    shape = mi.Mesh("ball", len(mesh.vertices), len(mesh.faces), has_vertex_normals=True)
    values = mi.traverse(shape)
    assert mesh.normals is not None
    values["vertex_positions"] = mesh.vertices.numpy().ravel()
    values["vertex_normals"] = mesh.normals.numpy().ravel()
    values["faces"] = mesh.faces.numpy().astype(np.uint32).ravel()
    values.update()
    shape.write_ply(str(folder / "ball.ply"))
    write_exr(folder / "sky.exr", {"RGB": light.radiance})
    scene = mi.load_dict({
        "type": "scene",
        "integrator": {"type": "direct", "emitter_samples": SAMPLES, "bsdf_samples": SAMPLES, "hide_emitters": True},
        "sensor": {
            "type": "perspective", "fov": 30,
            "to_world": mi.ScalarTransform4f().look_at(origin=[0, 0, 4.2], target=[0, 0, 0], up=[0, 1, 0]),
            "film": {"type": "hdrfilm", "width": size, "height": size, "rfilter": {"type": "box"}},
        },
        "light": {"type": "envmap", "filename": str(folder / "sky.exr")},
        "ball": {
            "type": "ply", "filename": str(folder / "ball.ply"),
            "bsdf": {
                "type": "principled", "base_color": {"type": "rgb", "value": list(GOLD)},
                "roughness": ROUGHNESS, "metallic": 1.0,
            },
        },
    })  # fmt: skip
    turn, material = iter(range(1 << 30)), mi.traverse(scene)
    names = "ball.bsdf.base_color.value", "ball.bsdf.roughness.value"

    def backward() -> list[np.ndarray]:
        for name in names:
            dr.enable_grad(material[name])
        seed = next(turn)
        dr.backward(
            dr.sum(mi.render(scene, material, spp=1, seed=mi.UInt32(seed), seed_grad=mi.UInt32(seed + 1 << 20)))
        )
        found = [np.array(dr.grad(material[name])) for name in names]
        for name in names:
            dr.disable_grad(material[name])
        return found

    return lambda: np.array(mi.render(scene, spp=1, seed=mi.UInt32(next(turn)))), backward


def trimesh_rays(mesh: Mesh, origins: Tensor, directions: Tensor) -> Callable[[], object]:
    """Nearest faces, by trimesh with Embree."""
    from trimesh import Trimesh
    from trimesh.ray import ray_pyembree

    caster = ray_pyembree.RayMeshIntersector(Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False))
    start, along = origins.numpy(), directions.numpy()
    return lambda: caster.intersects_first(start, along)


def gold(points: Surface) -> Surface:
    return replace(
        points,
        base_color=torch.tensor(GOLD).expand_as(points.base_color).contiguous(),
        roughness=torch.full_like(points.roughness, ROUGHNESS),
        metallic=torch.ones_like(points.metallic),
    )


def camera(size: int) -> Camera:
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    pose[2, 3] = 4.2
    return Camera.from_fov(pose, math.radians(30), size, size)


def shading_backward(points: Surface, run: Callable[[Surface], Tensor]) -> None:
    """In parts, as what is kept for the way back would fill memory."""
    for start in range(0, points.shape[0], PART):
        part = points[start : start + PART]
        color, rough = part.base_color.clone().requires_grad_(), part.roughness.clone().requires_grad_()
        run(replace(part, base_color=color, roughness=rough)).sum().backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", type=int, default=512)
    options = parser.parse_args()
    mesh, light, view, rasterizer = ball(), sky(), camera(options.size), create_mesh_rasterizer()
    tracer, fast = create_tracer(mesh), FastMonteCarlo(SAMPLES)

    def direct(estimator: Estimator = fast) -> Tensor:
        with torch.no_grad():
            seen = surface(mesh, view, rasterizer)
            return shade(gold(seen.surface), light, estimator, tracer=tracer)

    with torch.no_grad():
        points = gold(surface(mesh, view, rasterizer).surface)
    many = points[torch.randint(points.shape[0], (1 << 20,), generator=torch.Generator().manual_seed(0))]
    open3d = load_open3d()
    scene = open3d.t.geometry.RaycastingScene()
    scene.add_triangles(
        open3d.core.Tensor(mesh.vertices.numpy()), open3d.core.Tensor(mesh.faces.numpy().astype(np.uint32))
    )
    along = view.ray_directions().reshape(-1, 3)
    rays = open3d.core.Tensor(torch.cat([view.position.expand_as(along), along], 1).numpy())
    bent = mesh.vertices.clone().requires_grad_()

    def rasterized_backward() -> None:
        surface(mesh.with_vertices(bent), view, rasterizer).surface.position.sum().backward()  # looked up, too

    def split_sum() -> Tensor:
        with torch.no_grad():
            return shade(many, light, SplitSum())

    with tempfile.TemporaryDirectory() as folder:
        mitsuba, mitsuba_backward = mitsuba_picture(mesh, light, options.size, Path(folder))
        seconds = taking_turns(
            {
                "direct light, ours": direct,
                "direct light, Mitsuba llvm_ad_rgb": mitsuba,
                "direct light, our twin in torch": lambda: direct(MonteCarlo(SAMPLES)),
                "direct light, ours, forward and backward": lambda: shading_backward(
                    points, lambda some: shade(some, light, fast, tracer=tracer)
                ),
                "direct light, Mitsuba llvm_ad_rgb, forward and backward": mitsuba_backward,
                "split-sum of 1,048,576 points, ours": split_sum,
                "split-sum of 1,048,576 points, ours, forward and backward": lambda: shading_backward(
                    many, lambda some: shade(some, light, SplitSum())
                ),
                "100,352 triangles, ours": lambda: rasterizer.rasterize(mesh.vertices, mesh.faces, view),
                "100,352 triangles, Open3D rays": lambda: scene.cast_rays(rays),
                "100,352 triangles, trimesh + Embree": trimesh_rays(mesh, view.position.expand_as(along), along),
                "100,352 triangles, ours, forward and backward": rasterized_backward,
            },
            options.repeats,
        )
    ratio = seconds["direct light, Mitsuba llvm_ad_rgb"] / seconds["direct light, ours"]
    record(
        "shading_speed",
        seconds["direct light, ours"],
        "s, a picture with 64 + 64 samples and shadows",
        peer="Mitsuba llvm_ad_rgb, direct",
        ratio=ratio,
        detail={
            "title": f"direct light at {options.size}x{options.size}",
            "points shaded": points.shape[0],
            "goal": "ahead of Mitsuba for direct light",
            "seconds": {name: {"median": value} for name, value in seconds.items()},
        },
    )


if __name__ == "__main__":
    main()
