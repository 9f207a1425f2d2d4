"""Light a photograph or a film anew: by words, an environment map, a background or a lamp that you place.

examples:
  relight relight photo.jpg --direction left -o left.png
  relight relight photo.jpg --text "soft warm light from the top left, dim lamp" -o evening.png
  relight relight photo.png --env sunset.hdr --rotate 90 -o sunset.png
  relight relight photo.png --background beach.jpg -o beach.png     in front of it, in its light
  relight relight photo.jpg --point 0.2,0.3,0.5 -o lamp.png         x and y in the picture, 0 to 1; nearer to you by z
  relight relight photo.jpg --point 0,0.3,0.5 --point 1,0.3,0.5 --sweep lamp.mp4
  relight relight photo.jpg --direction left --sweep turn.mp4       the light goes around
  relight relight photo.png --mask cut.png --normals normals.png --env studio.exr -o studio.png
  relight relight photo.png --direction back --model shading --keep-colours -o back.png
  relight relight clip.mp4 --text "soft warm light from the left, moving" -o relit.mp4             a film, sound kept
  relight relight clip.mp4 --mask cut.mp4 --background street.mp4 -o street.mp4
  relight relight fox/0012.jpg --scene runs/fox --view 0012.jpg --env sunset.hdr -o sunset.png    its own shape

The shape is estimated from the subject's outline if neither --normals nor --depth says it: give them if you can. The
subject is what isn't transparent, what --mask shows white, or what stands out from a plain background.
Environment maps are seen with their middle straight ahead; --rotate turns them.
For films --mask, --normals, --depth and --background may be pictures or films.  A film that was stopped, by anything,
goes on where it was when the same is asked again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from relight.cli.arguments import STILLS, count, keep_files, positive, share, whole
from relight.cli.picture_light import add_light

if TYPE_CHECKING:
    from torch import Tensor

    from relight.diffusion.pictures.geometry import Geometry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Picture, light, shape, model, output."""
    parser.add_argument(
        "picture", metavar="PICTURE", type=Path, help=".png, .jpg, .webp, .tif or .exr; films: .mp4, .mov and others"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="still: .png, .jpg, .exr; of a film: .mp4")
    parser.add_argument("--sweep", type=Path, metavar="FILE", help="film (.mp4) of a light that moves or varies")
    parser.add_argument("--seconds", type=positive, default=4.0, help="of the film (default: 4)")
    parser.add_argument("--fps", type=positive, default=15.0, help="pictures a second of the film (default: 15)")
    parser.add_argument("--force", action="store_true", help="replace existing files")
    how = add_light(parser)
    how.add_argument("--ambient", type=share, metavar="SHARE",
                     help="of the photograph's light that stays, 0 to 1 (default: 0; sweeps of lamps 0.2)")  # fmt: skip
    shape = parser.add_argument_group("shape")
    shape.add_argument("--mask", type=Path, metavar="FILE", help="white where the subject is")
    shape.add_argument("--normals", type=Path, metavar="FILE", help="0.5 n + 0.5, +x right, +y up, +z towards you")
    shape.add_argument("--depth", type=Path, metavar="FILE", help="grey, brighter is nearer; .exr: metres or any unit")
    shape.add_argument("--scene", type=Path, metavar="RUN", help="run with materials that the picture shows")
    shape.add_argument("--view", metavar="NAME", help="of --scene: the photograph whose camera took the picture")
    shape.add_argument("--fov", type=positive, default=40.0, metavar="DEGREES", help="of the longer side (default: 40)")
    film = parser.add_argument_group("films")
    film.add_argument("--window", type=count, default=24, metavar="FRAMES", help="relit together (default: 24)")
    film.add_argument("--overlap", type=whole, default=6, metavar="FRAMES",
                      help="that windows share and fade over (default: 6)")  # fmt: skip
    film.add_argument("--reach", type=whole, default=4, metavar="FRAMES",
                      help="before and after that the change of light is averaged over (default: 4)")  # fmt: skip
    film.add_argument("--attention", type=share, metavar="SHARE",
                      help="of the network's attention that goes to the whole window (default: 0.5)")  # fmt: skip
    film.add_argument("--hold-geometry", type=share, default=0.0, metavar="SRGB", help="strength of feedback "
                      "that holds shapes in what is sampled to the film's; 0.02 is much (default: 0)")  # fmt: skip
    film.add_argument("--frame-by-frame", action="store_true", help="each frame by itself, which flickers")
    film.add_argument("--video-model", metavar="NAME", help="animatediff, wan or cogvideox: a video diffusion model "
                      "that keeps an ic-light model consistent (weights of others)")  # fmt: skip
    film.add_argument("--video-weights", metavar="PLACE", help="of it; default: the model's own")
    model = parser.add_argument_group("model")
    model.add_argument("--model", default="prior", metavar="NAME",
                       help="prior (ours, the default), shading (no network), ic-light-fc, ic-light-fbc, dilightnet, "
                       "neural-gaffer; of films also unilumos, lumen (weights of others)")  # fmt: skip
    model.add_argument("--weights", metavar="PLACE", help="file, folder or a hub's name; default: the model's own")
    model.add_argument("--base", metavar="PLACE", help="of the model that a public one adds to")
    model.add_argument(
        "--steps", type=count, default=0, help="of sampling by the prior (default: none, the mean of what could be)"
    )
    model.add_argument("--seed", type=int, default=0)
    model.add_argument("--detail", type=share, default=1.0, metavar="SHARE", help="of fine detail that comes from the "
                       "photograph, not from the model (default: 1)")  # fmt: skip
    model.add_argument("--keep-colours", nargs="?", type=share, const=1.0, default=0.0, metavar="SHARE",
                       help="of hues from the photograph, tinted by the light (default: 0; no number: 1)")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Relight and write."""
    import torch

    from relight.cli.picture_light import chosen
    from relight.cli.progress import counted
    from relight.diffusion.pictures.relighters import create_relighter
    from relight.errors import RelightError
    from relight.export.clips import SUFFIXES as FILMS
    from relight.export.images import write_film, write_image

    if arguments.picture.suffix.lower() in FILMS:
        from relight.cli.relight_clip import relight_clip

        return relight_clip(arguments)
    outputs = [path for path in (arguments.output, arguments.sweep) if path is not None]
    if not outputs:
        raise RelightError("relight: no output; -o FILE.png for a still, --sweep FILE.mp4 for a film")
    if arguments.output is not None and arguments.output.suffix.lower() not in STILLS:
        raise RelightError(f"-o {arguments.output}: expected {', '.join(STILLS)}; films are asked for by --sweep")
    if arguments.sweep is not None and arguments.sweep.suffix.lower() != ".mp4":
        raise RelightError(f"--sweep {arguments.sweep}: expected .mp4")
    keep_files(outputs, arguments.force)
    picture, alpha, geometry = read(arguments)
    light = chosen(arguments, picture, geometry)
    relighter = create_relighter(
        arguments.model, arguments.weights, base=arguments.base, steps=arguments.steps, detail=arguments.detail
    )

    def drawn(seconds: float, share: float, ambient: float) -> Tensor:
        return finished(relighter, picture, geometry, light, arguments, seconds, share, ambient)

    if arguments.output is not None:
        still = drawn(0.0, 0.0, arguments.ambient or 0.0)
        if alpha is not None and light.background is None:
            still = torch.cat([still, alpha[..., None]], -1)
        write_image(arguments.output, still)
        print(f"wrote {arguments.output}")
    if arguments.sweep is not None:
        frames = max(2, round(arguments.seconds * arguments.fps))
        kept = arguments.ambient if arguments.ambient is not None else light.film_ambient

        def film():
            for i in range(frames):
                # The photograph's own light goes out while the new one comes up.
                left = max(0.0, 1 - i / min(4, frames - 1)) if kept else 0.0
                frame = drawn(i / arguments.fps, i / frames, kept + (1 - kept) * left)
                yield frame if alpha is None or light.background is not None else frame * alpha[..., None]

        write_film(arguments.sweep, counted("frames", frames, film()), arguments.fps)
        print(f"wrote {arguments.sweep} ({frames} frames)")
    return 0


def finished(relighter, picture, geometry, light, arguments, seconds, share, ambient) -> Tensor:
    """(H, W, 3) sRGB: relit, and see `completed`."""
    made = relighter.relit(picture, geometry, light.at(seconds, share), seed=arguments.seed)
    return completed(made, picture, geometry, light.background, arguments, ambient)


def completed(made, picture, geometry, background, arguments, ambient) -> Tensor:
    """(H, W, 3) sRGB: the photograph's own light added to what was made, colours kept, the background behind."""
    from relight.diffusion.pictures.detail import blended, colours_kept
    from relight.shading.color import linear_to_srgb, srgb_to_linear

    source, relit = srgb_to_linear(picture), srgb_to_linear(made)
    if arguments.keep_colours:
        kept = colours_kept(source, relit, geometry.mask, arguments.keep_colours)
        relit = kept.where(geometry.mask[..., None], relit)
    # Light adds up: under both at once a thing sends what it sends under each.
    shown = linear_to_srgb((ambient * source + (1 - ambient) * relit).clamp(0, 1)) if ambient else linear_to_srgb(relit)
    return shown if background is None else blended(shown, background, geometry.mask)


def read(arguments: argparse.Namespace) -> tuple[Tensor, Tensor | None, Geometry]:
    """(H, W, 3) sRGB, (H, W) alpha if the file has any, and its shape: as given, or estimated.  Raises RelightError."""
    from relight.diffusion.pictures.outline import subject
    from relight.errors import RelightError
    from relight.images import read_image

    stored = read_image(arguments.picture)
    picture = stored.srgb
    size = tuple(picture.shape[:2])

    def beside(path: Path) -> Tensor:
        found = read_image(path)
        if tuple(found.values.shape[:2]) != size:
            rows, columns = found.values.shape[:2]
            raise RelightError(
                f"{path}: is {columns}x{rows}, the picture {size[1]}x{size[0]}; expected one value for each pixel"
            )
        return found.rgb

    if arguments.scene is not None:
        return picture, stored.alpha, _of_scene(arguments, size[0], size[1])
    if arguments.mask is not None:
        mask = beside(arguments.mask).mean(-1) > 0.5
    elif stored.alpha is not None and bool((stored.alpha < 0.5).any()):
        mask = stored.alpha > 0.5
    else:
        mask = subject(picture)
    if not bool(mask.any()):
        raise RelightError(f"{arguments.mask or arguments.picture}: shows no subject; the mask should be white there")
    normals, depth = (None if path is None else beside(path) for path in (arguments.normals, arguments.depth))
    return picture, stored.alpha, shaped(arguments, picture, mask, normals, depth)


def shaped(
    arguments: argparse.Namespace, picture: Tensor, mask: Tensor, normals: Tensor | None, depth: Tensor | None
) -> Geometry:
    """Of (H, W, 3) sRGB and what --normals and --depth show, (H, W, 3) each; estimated where both are missing.

    Raises RelightError.
    """
    import torch

    from relight.diffusion.pictures.geometry import from_maps, level_camera
    from relight.diffusion.pictures.outline import estimated
    from relight.errors import RelightError

    camera = level_camera(mask.shape[0], mask.shape[1], arguments.fov)
    normal = away = None
    if normals is not None:
        normal = normals * 2 - 1
        if bool(mask.any()) and float(normal[mask].norm(dim=-1).median()) < 0.5:
            raise RelightError(f"{arguments.normals}: not a normal map; expected 0.5 n + 0.5 of unit normals")
    if depth is not None:
        grey = depth[..., 0]
        # What is drawn brighter the nearer it is, is inverse depth in every common estimator.
        away = grey.clamp_min(1e-3) if arguments.depth.suffix.lower() == ".exr" else 1 / (0.35 + grey)
        away = away / away[mask].median() if bool(mask.any()) else away
    if normal is None and away is None:
        shape = estimated(picture, mask)
        return from_maps(mask, normal=shape.normal @ shape.world_from_viewer, depth=shape.depth, camera=camera)
    if not bool(torch.isfinite(torch.cat([x.flatten() for x in (normal, away) if x is not None])).all()):
        raise RelightError("--normals, --depth: hold NaN or infinity; export them again")
    return from_maps(mask, normal=normal, depth=away, camera=camera)


def _of_scene(arguments: argparse.Namespace, height: int, width: int) -> Geometry:
    """The shape of a run's splat, from the camera of one of its photographs."""
    from relight.diffusion.pictures.geometry import of_splat
    from relight.errors import RelightError
    from relight.export.runs import last_stage
    from relight.plugins import did_you_mean
    from relight.render.relit import Relit
    from relight.scene_io import load_scene

    given = [name for name in ("mask", "normals", "depth") if getattr(arguments, name) is not None]
    if given:
        raise RelightError(f"--scene, --{given[0]}: both say what the shape is; leave one out")
    scene = load_scene(last_stage(arguments.scene))
    views = scene.views
    names = [] if views is None else [view.name for view in views]
    if views is None or arguments.view not in names:
        raise RelightError(f"--view {arguments.view}: not a photograph of {arguments.scene}"
                           f"{did_you_mean(arguments.view or '', names)}")  # fmt: skip
    camera = views.camera(names.index(arguments.view)).resized(width, height)
    relit = Relit(scene.gaussians, scene.mesh, scene.light, extent=scene.frame.radius)
    shape = of_splat(relit.buffer(camera), camera, relit.proxy)
    if not bool(shape.mask.any()):
        raise RelightError(
            f"--view {arguments.view}: the run shows nothing there; was the picture taken by that camera?"
        )
    return shape
