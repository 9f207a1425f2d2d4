"""Make a material that tiles, from words or like a photograph of a surface.

examples:
  relight texture bricks red matte -o bricks                  words of the prior that comes with relight
  relight texture what -o words                               a word it doesn't know: lists those that it knows
  relight texture --like wall.jpg -o wall --size 512          what fills the photograph, in any size, without its light
  relight texture gold satin -o gold --count 4 --seed 7       four to choose from
  relight texture "old oak planks" -o oak --model stable-materials --weights models/stable-materials
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from relight.cli.arguments import keep_folder

if TYPE_CHECKING:
    from torch import Generator, Tensor

PUBLIC = ("stable-materials", "stable-materials-lcm")
MOST = 4096
"""Pixels a side; of photographs that are followed, more are shrunk."""
EXAMPLE = 256
"""Pixels of the shorter side of a photograph that is followed, at most."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Words or photograph, model, size, folder."""
    parser.add_argument("words", metavar="WORD", nargs="*", help="a pattern, colours or metals, a finish")
    parser.add_argument("--like", metavar="PHOTO", type=Path, help="a flat surface, seen from straight ahead")
    parser.add_argument("-o", "--output", metavar="FOLDER", type=Path, required=True, help="where the maps go")
    parser.add_argument("--size", type=int, help="pixels a side (default 256; that of the photograph with --like)")
    parser.add_argument("--count", type=int, default=1, help="variants, in folders of their own (default %(default)s)")
    parser.add_argument(
        "--model",
        default="material",
        help=f"a prior's name or file, or {' or '.join(PUBLIC)} (public weights; default %(default)s)",
    )
    parser.add_argument("--weights", metavar="FOLDER", help="of public weights; else the hub's copy on this machine")
    parser.add_argument("--download", action="store_true", help="let public weights be fetched")
    parser.add_argument("--steps", type=int, help="of sampling (default 20), or at each scale with --like (default 80)")
    parser.add_argument("--scale", type=float, default=2.0, help="of guidance by words (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default %(default)s)")
    parser.add_argument("--force", action="store_true", help="replace maps of an earlier run")


def run(arguments: argparse.Namespace) -> int:
    """Make, write, and a sheet that shows it tiled and lit."""
    import torch

    from relight.errors import RelightError

    if bool(arguments.words) == (arguments.like is not None):
        raise RelightError("texture: name words, or a photograph with --like; one of the two")
    if arguments.count < 1:
        raise RelightError(f"--count: expected 1 or more, found {arguments.count}")
    if arguments.size is not None and not 16 <= arguments.size <= MOST:
        raise RelightError(f"--size: expected 16 to {MOST}, found {arguments.size}")
    if arguments.steps is not None and arguments.steps < 1:
        raise RelightError(f"--steps: expected 1 or more, found {arguments.steps}")
    public = arguments.model in PUBLIC
    if not public and (arguments.weights is not None or arguments.download):
        raise RelightError(
            f"--weights and --download are for --model {' or '.join(PUBLIC)}; ours is a file: --model FILE"
        )
    folder: Path = arguments.output
    keep_folder(folder, arguments.force)
    generator = torch.Generator().manual_seed(arguments.seed)
    for index in range(arguments.count):
        maps = _public(arguments, generator) if public else _own(arguments, generator)
        _write(folder if arguments.count == 1 else folder / f"{index + 1:02d}", maps)
    return 0


def _own(arguments: argparse.Namespace, generator: Generator) -> dict[str, Tensor]:
    """By a prior of ours: (C, H, W) by name."""
    from relight.cli.progress import bar
    from relight.diffusion.own.prior import Prior
    from relight.diffusion.pictures.textures import enlarged, from_photograph, from_words, surface_photograph
    from relight.diffusion.pictures.upscale import Upscaler

    prior = Prior.load(arguments.model)
    if arguments.like is not None:
        photo = surface_photograph(arguments.like, EXAMPLE)
        side = arguments.size
        size = (side, side) if side else (photo.shape[2], photo.shape[3])
        with bar("patches") as advance:
            steps = arguments.steps or 80
            made = from_photograph(
                photo, prior, size, generator, steps=steps, progress=lambda done, of: advance(1, total=of)
            )
    else:
        words = [w for text in arguments.words for w in text.split()]
        made = from_words(prior, words, generator, steps=arguments.steps or 20, scale=arguments.scale)
        side = arguments.size or 256
        made = enlarged(made, Upscaler.load("upscale"), (side, side))
    return {"base_color": made[0, :3], "roughness": made[0, 3:4], "metallic": made[0, 4:5]}


def _public(arguments: argparse.Namespace, generator: Generator) -> dict[str, Tensor]:
    """By StableMaterials' published weights."""
    from dataclasses import replace

    from relight.diffusion import public
    from relight.diffusion.pictures.textures import surface_photograph

    model = public.load(arguments.model, arguments.weights, download=arguments.download)
    prompt = (
        " ".join(arguments.words) if arguments.like is None else 2 * surface_photograph(arguments.like, EXAMPLE) - 1
    )
    sampling = replace(model.sampling, steps=arguments.steps) if arguments.steps else None
    made = model.make(prompt, arguments.size or 512, sampling=sampling, generator=generator)
    return {name: picture[0] for name, picture in made.items()}


def _write(folder: Path, maps: dict[str, Tensor]) -> None:
    """PNGs, and sheet.png: two by two tiles of the base colour, the maps, and a ball of it in a studio."""
    import torch

    from relight.diffusion.pictures.textures import ball
    from relight.export.images import write_image
    from relight.resize import bicubic

    small = {n: bicubic(m[None].expand(-1, 3, -1, -1), (128, 128))[0].clamp(0, 1) for n, m in maps.items()}
    tiled = small["base_color"].repeat(1, 2, 2)
    flat = torch.cat([small["roughness"], small["metallic"]], 1)
    sheet = torch.cat([tiled, flat, ball(maps, 256)], 2)
    for name, picture in maps.items():
        write_image(folder / f"{name}.png", picture.permute(1, 2, 0) if len(picture) == 3 else picture[0])
    write_image(folder / "sheet.png", sheet.permute(1, 2, 0))
    print(f"wrote {folder} ({', '.join([*maps, 'sheet'])})")
