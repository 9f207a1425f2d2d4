"""Light people anew: cut out, shaded by the shape of their faces, before the same background or another one.

examples:
  relight portrait photo.jpg --env studio.hdr -o studio.png
  relight portrait photo.jpg --text "soft warm light from the left" -o warm.png
  relight portrait photo.jpg --background beach.jpg -o beach.png      in front of it, in its light
  relight portrait photo.jpg --point 0.1,0.2,0.6 -o lamp.png          x and y in the picture, 0 to 1; nearer to you by z
  relight portrait photo.jpg --env sunset.hdr --cut-out -o sunset.png     transparent where nobody is
  relight portrait photo.jpg --matte matte.png --direction right -o right.png
  relight portrait photo.jpg --direction right --model prior -o right.png     refined by a network

People are found by a small network and cut out along their edges; a matte of yours, or a picture with transparency,
always wins. A face's shape is fitted to 468 points, the rest is guessed from the outline; where no face is found, all
of it is, and a warning says so. Everything that is needed comes with relight. Environment maps are seen with their
middle straight ahead; --rotate turns them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from relight.cli.arguments import STILLS, keep_files, positive, share
from relight.cli.picture_light import add_light

if TYPE_CHECKING:
    from torch import Tensor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Picture, light, cut, model, output."""
    parser.add_argument("picture", metavar="PICTURE", type=Path, help=".png, .jpg, .webp, .tif or .exr")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", required=True, help=".png, .jpg, .exr")
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    add_light(parser)
    parser.set_defaults(sweep=None)
    who = parser.add_argument_group("who")
    who.add_argument("--matte", type=Path, metavar="FILE", help="white where people are, grey where they are in part")
    who.add_argument("--cut-out", action="store_true", help="write transparency instead of a background")
    who.add_argument("--fov", type=positive, default=40.0, metavar="DEGREES", help="of the longer side (default: 40)")
    model = parser.add_argument_group("model")
    model.add_argument("--gloss", type=share, default=0.5, metavar="SHARE",
                       help="of what skin has; the photograph holds some already (default: 0.5)")  # fmt: skip
    model.add_argument("--model", metavar="NAME", help="that refines what was shaded: prior (ours), ic-light-fc, "
                       "ic-light-fbc, dilightnet, neural-gaffer (weights of others); default: none")  # fmt: skip
    model.add_argument("--share", type=share, default=0.5, metavar="SHARE",
                       help="of the change of light that the model has its way with (default: 0.5)")  # fmt: skip
    model.add_argument("--keep-colours", type=share, default=1.0, metavar="SHARE",
                       help="of hues that stay the photograph's, whatever the model makes (default: 1)")  # fmt: skip
    model.add_argument("--weights", metavar="PLACE", help="file, folder or a hub's name; default: the model's own")
    model.add_argument("--base", metavar="PLACE", help="of the model that a public one adds to")
    model.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace) -> int:
    """Relight and write."""
    import warnings

    import torch

    from relight.cli.picture_light import chosen
    from relight.diffusion.pictures.geometry import level_camera
    from relight.diffusion.pictures.relighters import create_relighter
    from relight.diffusion.portrait.sitting import Sitting
    from relight.errors import RelightError
    from relight.export.images import write_image

    if arguments.output.suffix.lower() not in STILLS:
        raise RelightError(f"-o {arguments.output}: expected {', '.join(STILLS)}")
    if arguments.cut_out and arguments.background is not None:
        raise RelightError("--cut-out, --background: one asks for no background, the other for one; leave one out")
    if arguments.cut_out and arguments.output.suffix.lower() in (".jpg", ".jpeg"):
        raise RelightError(f"-o {arguments.output}: JPEG has no transparency; --cut-out needs .png or .exr")
    keep_files([arguments.output], arguments.force)
    refiner = None
    if arguments.model is not None:
        refiner = create_relighter(arguments.model, arguments.weights, base=arguments.base)
    elif arguments.weights is not None or arguments.base is not None:
        raise RelightError("--weights, --base: of which model?  --model names it")
    picture, alpha = read(arguments.picture, arguments.matte)
    sitting = Sitting.of(picture, alpha, level_camera(picture.shape[0], picture.shape[1], arguments.fov))
    if not sitting.faces:
        warnings.warn(f"{arguments.picture}: no face found; the shape is guessed from the outline alone", stacklevel=1)
    light = chosen(arguments, sitting.cut.front, sitting.geometry).at(0.0, 0.0)
    made = sitting.lit(
        light, refiner=refiner, share=arguments.share, gloss=arguments.gloss, keep_colours=arguments.keep_colours,
        seed=arguments.seed, alone=arguments.cut_out,
    )  # fmt: skip
    write_image(arguments.output, torch.cat([made, sitting.cut.alpha[..., None]], -1) if arguments.cut_out else made)
    print(f"wrote {arguments.output}")
    return 0


def read(path: Path, matte: Path | None) -> tuple[Tensor, Tensor | None]:
    """(H, W, 3) sRGB, and (H, W) alpha: the matte's, else the picture's if it has holes, else None.

    Raises RelightError.
    """
    from relight.errors import RelightError
    from relight.images import read_image

    stored = read_image(path)
    picture = stored.srgb
    if matte is not None:
        found = read_image(matte)
        alpha = found.alpha if found.alpha is not None and bool((found.alpha < 1).any()) else found.rgb.mean(-1)
        if alpha.shape != picture.shape[:2]:
            size, own = ("x".join(map(str, reversed(x.shape[:2]))) for x in (alpha, picture))
            raise RelightError(f"{matte}: is {size}, the picture {own}; expected one value for each pixel")
        return picture, alpha
    holes = stored.alpha is not None and bool((stored.alpha < 0.5).any())
    return picture, stored.alpha if holes else None
