"""`relight render` for a run: the captured look, or its materials under another light."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from relight.cli.arguments import keep_files
from relight.cli.shown import CHANNELS, channel_painter
from relight.errors import BackendUnavailableError, RelightError

if TYPE_CHECKING:
    from torch import Tensor

    from relight.geometry.camera import Camera
    from relight.geometry.gaussians import Gaussians
    from relight.render.relit import Relit
    from relight.render.relit_mesh import RelitMesh
    from relight.scene import Scene

SHOWN = ("base_color", "roughness", "metallic", "normal", "progress", "features", "selection")
CHANGED = {"base_color": 3, "roughness": 1, "metallic": 1}
"""Materials that --set changes, and how many numbers each takes."""


def painter(arguments: argparse.Namespace, scene: Scene) -> Callable[[Camera], Tensor]:
    """What draws the picture of a camera: (H, W, 3), or (H, W, 4) straight if transparent; sRGB-encoded.

    Raises RelightError for options that do not go together or that this run has nothing for.
    """
    from relight.render.protocol import RasterOptions
    from relight.render.relit import has_materials
    from relight.render.splats import create_rasterizer, render

    background = arguments.background or "black"
    wanted = [name for name in ("env", "show", "set") if getattr(arguments, name)]
    if background == "surroundings" and not arguments.env:
        raise RelightError("--background surroundings: for a light that is given; add --env FILE")
    if arguments.show in CHANNELS:
        return _channel_painter(arguments, scene, background)
    if scene.asset is not None and arguments.renderer != "splat":
        return _mesh_painter(arguments, scene, background)
    if arguments.renderer == "mesh":
        raise RelightError(f"--renderer mesh: {arguments.source} has no mesh; run the stage mesh first")
    if scene.gaussians is None:
        raise RelightError(f"{arguments.source}: holds no splat; run a stage that fits one")
    if wanted and not has_materials(scene.gaussians):
        raise RelightError(f"--{wanted[0]}: {arguments.source} has no materials; run the stage distill first")
    if not has_materials(scene.gaussians) or (not wanted and (scene.light is None or scene.light.main is None)):
        gaussians, rasterizer = scene.gaussians, create_rasterizer()
        options = RasterOptions.for_extent(scene.frame.radius)

        def captured(camera: Camera) -> Tensor:
            image = render(rasterizer, gaussians, camera, options=options)
            return _over(image.color, image.alpha, background)

        return captured
    relit = _relit(scene, _changed(scene.gaussians, arguments.set or []))
    if arguments.show:
        return lambda camera: _over(*relit.material(camera, arguments.show), background)
    if arguments.env:
        # Light by way of other surfaces needs materials where rays end; the proxy has only the captured look.
        return _lit(arguments, scene, relit, background, bounces=0)
    if arguments.set:
        raise RelightError("--set: needs a light to show changed materials under; add --env FILE")
    return lambda camera: _over(*relit.photographed(camera), background)


def _channel_painter(arguments: argparse.Namespace, scene: Scene, background: str) -> Callable[[Camera], Tensor]:
    from relight.render.protocol import RasterOptions
    from relight.render.splats import create_rasterizer

    if scene.gaussians is None:
        raise RelightError(f"--show {arguments.show}: {arguments.source} holds no splat")
    if arguments.env or arguments.set or arguments.renderer == "mesh":
        raise RelightError(f"--show {arguments.show}: is of the splat, without --env, --set and --renderer mesh")
    options = RasterOptions.for_extent(scene.frame.radius)
    paint = channel_painter(arguments.show, scene.gaussians, create_rasterizer(), options)
    return lambda camera: _over(*paint(camera), background)


def _mesh_painter(arguments: argparse.Namespace, scene: Scene, background: str) -> Callable[[Camera], Tensor]:
    from relight.render.relit_mesh import RelitMesh

    if arguments.set or arguments.show == "progress":
        option = "--set" if arguments.set else "--show progress"
        raise RelightError(f"{option}: for splats; add --renderer splat, or change the mesh's textures")
    relit = RelitMesh(scene.asset, scene.light)
    if relit.no_shadows:
        print(f"warning: no shadows: {relit.no_shadows}", file=sys.stderr)
    if arguments.show:
        return lambda camera: _over(*relit.material(camera, arguments.show), background)
    if arguments.env:
        return _lit(arguments, scene, relit, background, bounces=arguments.bounces)
    if relit.lighting.main is None:
        raise RelightError(f"{arguments.source}: its light is not known; add --env FILE, or --renderer splat")
    return lambda camera: _over(*relit.photographed(camera), background)


def _relit(scene: Scene, gaussians: Gaussians) -> Relit:
    from relight.render.relit import Relit

    try:
        return Relit(gaussians, scene.mesh, scene.light, extent=scene.frame.radius)
    except BackendUnavailableError as error:
        print(f"warning: no shadows: {error}", file=sys.stderr)
        return Relit(gaussians, None, scene.light, extent=scene.frame.radius)


def _lit(
    arguments: argparse.Namespace, scene: Scene, relit: Relit | RelitMesh, background: str, *, bounces: int
) -> Callable[[Camera], Tensor]:
    from relight.cli.render_model import estimator_of
    from relight.data.environments import load_environment
    from relight.shading.look import Look

    light = load_environment(arguments.env).turned(math.radians(arguments.rotate)).upright(scene.frame.up)
    estimator = estimator_of(arguments, bounces=bounces)
    look = Look(arguments.exposure, arguments.curve or "clip", background)

    def picture(camera: Camera) -> Tensor:
        behind = light.eval(camera.ray_directions()) if background == "surroundings" else None
        return look.encoded(relit.under(camera, light, estimator), behind)

    return picture


def _over(color: Tensor, alpha: Tensor, background: str) -> Tensor:
    import torch

    if background == "transparent":
        return torch.cat([(color / alpha.clamp_min(1e-6)[..., None]).clamp(0, 1), alpha[..., None]], -1)
    return color + (1 - alpha)[..., None] * float(background == "white")


def _changed(gaussians: Gaussians, changes: list[str]) -> Gaussians:
    """With materials that are the same everywhere."""
    import torch

    channels = dict(gaussians.channels)
    for change in changes:
        name, _, text = change.partition("=")
        try:
            numbers = [float(x) for x in text.split(",")]
        except ValueError:
            numbers = []
        if len(numbers) != CHANGED.get(name) or not all(0 <= x <= 1 for x in numbers):
            known = ", ".join(f"{n}={','.join('X' * count)}" for n, count in CHANGED.items())
            raise RelightError(f"--set {change}: expected one of {known}, numbers from 0 to 1")
        channels[name] = torch.tensor(numbers).expand_as(channels[name]).contiguous() if len(numbers) == 3 else (
            torch.full_like(channels[name], numbers[0])
        )  # fmt: skip
    return replace(gaussians, channels=channels)


def draw_run(arguments: argparse.Namespace, size: tuple[int, int] | None) -> None:
    """Render and write a film or stills."""
    import torch

    from relight.cli.progress import counted
    from relight.export.images import write_film, write_image
    from relight.export.runs import last_stage
    from relight.render.trajectory import orbit, with_size
    from relight.scene_io import load_scene

    scene = load_scene(last_stage(arguments.source))
    if scene.views is None:
        raise RelightError(f"{arguments.source}: holds no cameras; run a stage that fits a splat")
    if arguments.orbit and arguments.background == "transparent":
        raise RelightError("--background transparent: films have no alpha; choose another, or draw stills")
    views, paint = scene.views, painter(arguments, scene)

    def picture(camera: Camera) -> Tensor:
        with torch.no_grad():
            return paint(with_size(camera, *size) if size else camera)

    output = arguments.output or Path("orbit.mp4" if arguments.orbit else "stills")
    if arguments.orbit:
        keep_files([output], arguments.force)
        cameras = [views.train.camera(i) for i in range(len(views.train))]
        up = torch.tensor(scene.frame.up) if scene.frame.up else None
        count = max(2, round(arguments.orbit * arguments.fps))
        path = orbit(cameras, torch.tensor(scene.frame.center), up, frames=count)
        written = write_film(output, counted("frames", count, map(picture, path)), arguments.fps)
        print(f"wrote {output} ({written} frames)")
        return
    split = arguments.views or "test"
    chosen = views.split(split)
    if len(chosen) == 0:
        raise RelightError(f"--views {split}: no such views; the run has splits train and test")
    stills = [output / name for name in still_names([view.name for view in chosen])]
    keep_files(stills, arguments.force)
    for i, still in counted("stills", len(stills), enumerate(stills)):
        write_image(still, picture(chosen.camera(i)))
    print(f"wrote {len(chosen)} stills to {output}")


def still_names(views: list[str]) -> list[str]:
    """Names of files in one folder, all different: of the views, without their suffixes if they differ without."""
    from relight.images import SUFFIXES

    full = [re.sub(r"[^\w.-]+", "_", name).strip("._") for name in views]
    short = [name if (at := Path(name)).suffix.lower() not in SUFFIXES else at.stem for name in full]
    numbered = [f"{i:04d}_{name}" for i, name in enumerate(full)]
    chosen = next(names for names in (short, full, numbered) if len(set(names)) == len(names))
    return [f"{name}.png" for name in chosen]
