"""Split a photograph into base colour, roughness, metallic and shading; a night into glow and what is behind it.

examples:
  relight decompose chair.jpg -o chair                         the prior that comes with relight
  relight decompose chair.png -o chair --zooms 2 --samples 16  finer, slower; alpha says what belongs to it
  relight decompose chair.jpg -o chair --normals n.png --depth d.png
  relight decompose street.jpg -o street --layers              first take the lamps' glow away
  relight decompose chair.jpg -o chair --model marigold-iid --weights models/marigold-iid
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from relight.cli.arguments import keep_folder

if TYPE_CHECKING:
    from torch import Tensor

    from relight.diffusion.pictures.decompose import Decomposition, Photograph

PUBLIC = "marigold-iid"
SHEET = 256
"""Pixels of the longer side of each picture of the sheet."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Picture, folder, model, options of the estimate."""
    parser.add_argument("photo", metavar="PHOTO", type=Path, help="picture; one with alpha has a cut-out object")
    parser.add_argument("-o", "--output", metavar="FOLDER", type=Path, required=True, help="where the maps go")
    parser.add_argument(
        "--model",
        default="material",
        help=f"a prior's name or file, or {PUBLIC} (public weights; default %(default)s)",
    )
    parser.add_argument("--weights", metavar="FOLDER", help=f"of {PUBLIC}; else the hub's copy on this machine")
    parser.add_argument("--download", action="store_true", help=f"let {PUBLIC}'s weights be fetched")
    parser.add_argument("--samples", type=int, help="of the prior, whose spread says how sure it is (default 4)")
    parser.add_argument("--steps", type=int, help="of each sample, averaged; 0: what is expected (default)")
    parser.add_argument("--zooms", type=int, help="times that crops of the picture are looked at closer (default 1)")
    parser.add_argument(
        "--upsampling", choices=("upscaler", "guided", "bicubic"), help="to the photograph's size (default guided)"
    )
    parser.add_argument(
        "--normals", metavar="MAP", type=Path, help="0.5 n + 0.5, x right, y up, z to the camera (OpenGL's)"
    )
    parser.add_argument(
        "--depth", metavar="MAP", type=Path, help="white near, black far; tells the prior with --normals"
    )
    parser.add_argument(
        "--layers", action="store_true", help="of a night: take light effects away first, and keep them"
    )
    parser.add_argument("--seed", type=int, default=0, help="(default %(default)s)")
    parser.add_argument("--force", action="store_true", help="replace maps of an earlier run")


def run(arguments: argparse.Namespace) -> int:
    """Read, separate, estimate, write."""
    import torch

    from relight.cli.progress import bar
    from relight.diffusion.pictures.night import separate
    from relight.errors import RelightError
    from relight.images import read_image
    from relight.shading.color import linear_to_srgb

    public = arguments.model == PUBLIC
    for name, least in (("samples", 1), ("steps", int(public))):
        if (value := getattr(arguments, name)) is not None and value < least:
            raise RelightError(f"--{name}: expected {least} or more, found {value}")
    if arguments.zooms is not None and not 0 <= arguments.zooms <= 4:
        raise RelightError(f"--zooms: expected 0 to 4, found {arguments.zooms}")
    if not public and (arguments.weights is not None or arguments.download):
        raise RelightError(
            f"--weights and --download are for --model {PUBLIC}; a prior of ours is a file: --model FILE"
        )
    if arguments.depth is not None and arguments.normals is None:
        raise RelightError("--depth: the prior knows depth together with normals only; name --normals too")
    folder: Path = arguments.output
    keep_folder(folder, arguments.force)
    seen = read_image(arguments.photo)
    picture = seen.srgb.permute(2, 0, 1).contiguous()
    layers = None
    if arguments.layers:
        with bar("light effects") as advance:
            layers = separate(picture, progress=lambda done, of: advance(1, total=of))
        picture = linear_to_srgb(layers.background)
    alpha = torch.ones(picture.shape[1:]) if seen.alpha is None else seen.alpha
    photo = _with_geometry(arguments, picture[None], (alpha > 0.5).float()[None, None])
    found = _public(arguments, photo) if public else _own(arguments, photo)
    files = {"base_color": found.base_color, "roughness": found.roughness, "metallic": found.metallic}
    if not public:  # which gives medians, and not of what
        files["confidence"] = found.confidence * photo.mask[0]
    if photo.normal is not None:
        files["normal"] = 0.5 + 0.5 * photo.normal[0] * torch.tensor([1.0, -1.0, -1.0]).view(3, 1, 1)
    if layers is not None:
        files |= {"background": picture, "light_effects": linear_to_srgb(layers.effects)}
    _write(folder, files, found, photo)
    print(f"wrote {folder} ({', '.join([*files, 'shading', 'sheet'])})")
    return 0


def _with_geometry(arguments: argparse.Namespace, picture: Tensor, mask: Tensor) -> Photograph:
    """With the maps that --normals and --depth name, in the camera frame of OpenCV."""
    import torch

    from relight.diffusion.pictures.decompose import Photograph
    from relight.errors import DataError
    from relight.images import read_image
    from relight.resize import bicubic

    size = (picture.shape[2], picture.shape[3])

    def read(path: Path, channels: int) -> Tensor:
        values = read_image(path).rgb[..., :channels].permute(2, 0, 1)[None]
        if abs(values.shape[3] / values.shape[2] - size[1] / size[0]) > 0.02 * size[1] / size[0]:
            raise DataError(
                f"{path}: {values.shape[3]}x{values.shape[2]} px, of another shape than the photograph's "
                f"{size[1]}x{size[0]}"
            )
        return bicubic(values, size)

    normal = depth = None
    if arguments.normals is not None:
        turned = (2 * read(arguments.normals, 3) - 1) * torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1)
        normal = torch.nn.functional.normalize(turned, dim=1) * mask
    if arguments.depth is not None:
        near = read(arguments.depth, 1)
        inside = near[mask > 0]
        if len(inside) == 0:
            raise DataError(f"{arguments.photo}: its alpha leaves nothing")
        low, high = inside.min(), inside.max()
        depth = ((near - low) / (high - low).clamp_min(1e-3) * 0.9 + 0.1).clamp(0, 1) * mask
    return Photograph(picture, mask, normal, depth)


def _own(arguments: argparse.Namespace, photo: Photograph) -> Decomposition:
    """By a prior of ours."""
    import torch

    from relight.cli.progress import bar
    from relight.diffusion.own.prior import Prior
    from relight.diffusion.pictures.decompose import Options, decompose
    from relight.diffusion.pictures.upscale import Upscaler

    given = {name: getattr(arguments, name) for name in ("samples", "steps", "zooms", "upsampling")}
    options = Options(**{name: value for name, value in given.items() if value is not None})
    prior = Prior.load(arguments.model)
    upscaler = Upscaler.load("upscale-material") if options.upsampling == "upscaler" else None
    generator = torch.Generator().manual_seed(arguments.seed)
    with bar("materials") as advance:
        before = 0

        def progress(done: int, of: int) -> None:
            nonlocal before
            advance(done - before, total=of)
            before = done

        return decompose(photo, prior, upscaler, options, generator, progress)


def _public(arguments: argparse.Namespace, photo: Photograph) -> Decomposition:
    """By Marigold-IID's published weights."""
    from importlib import import_module

    import torch

    from relight.diffusion.pictures.decompose import layered
    from relight.errors import RelightError
    from relight.shading.color import linear_to_srgb

    given = [f"--{n}" for n in ("zooms", "upsampling", "depth") if getattr(arguments, n) is not None]
    if given:
        raise RelightError(f"{', '.join(given)}: of our own priors only; leave out for --model {PUBLIC}")
    try:
        public = import_module("relight.diffusion.public")
    except ImportError as error:
        raise RelightError(f"--model {PUBLIC}: this relight has no loaders of public weights ({error})") from error
    model = public.load("marigold-iid-appearance", arguments.weights, download=arguments.download)
    generator = torch.Generator().manual_seed(arguments.seed)
    found = model.decompose(2 * photo.picture - 1, arguments.samples or 3, arguments.steps, generator)
    names = ("albedo", "roughness", "metallicity")
    if missing := [name for name in names if name not in found]:
        raise RelightError(f"--model {PUBLIC}: makes {', '.join(found)}, and no {', '.join(missing)}")
    albedo = found["albedo"]
    if model.properties.get("albedo", {}).get("prediction_space") == "linear":
        albedo = linear_to_srgb(albedo)
    maps = torch.cat([albedo, found["roughness"][:, :1], found["metallicity"][:, :1]], 1).float()
    return layered(photo, maps, torch.zeros_like(photo.mask))


def _write(folder: Path, files: dict[str, Tensor], found: Decomposition, photo: Photograph) -> None:
    """PNGs, shading as EXR, and a sheet of all."""
    import torch

    from relight.export.images import write_exr, write_image
    from relight.resize import bicubic, within
    from relight.shading.color import linear_to_srgb
    from relight.shading.tonemap import reinhard

    # Bright as it may be, half of it is grey on the sheet.
    inside = found.shading[:, photo.mask[0, 0] > 0]
    middle = inside.median().clamp_min(1e-3) if inside.numel() else torch.tensor(1.0)
    shown = {"photo": photo.picture[0], **files, "shading": linear_to_srgb(reinhard(found.shading * (0.25 / middle)))}
    height, width = photo.picture.shape[2:]
    size = within((height, width), SHEET, 1)
    small = [
        bicubic(p.expand(3, -1, -1)[None].clamp(0, 1), size)[0].clamp(0, 1).permute(1, 2, 0) for p in shown.values()
    ]
    small += [torch.ones_like(small[0])] * (-len(small) % 3)
    rows = [torch.cat(small[i : i + 3], 1) for i in range(0, len(small), 3)]
    for name, picture in files.items():
        write_image(folder / f"{name}.png", picture.permute(1, 2, 0) if len(picture) == 3 else picture[0])
    write_exr(folder / "shading.exr", {"RGB": found.shading.permute(1, 2, 0)})
    write_image(folder / "sheet.png", torch.cat(rows, 0))
