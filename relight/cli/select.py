"""Select a thing of a run by a click, a box, a Gaussian or words, look at it, and keep it.

examples:
  relight select runs/fox --point 0007,210,340 -o fox.png        the click, and what it means there
  relight select runs/fox --box 0007,120,200,330,500 --save ear
  relight select runs/fox --like 4711 --by similarity --whole
  relight select runs/fox --text "a fox" -o fox.png              where features are of a teacher that knows words
  relight select runs/fox --point 0007,210,340 --splat ear.ply   that thing alone, as a splat

Views are named as `relight eval` names them; folder and suffix may go.  What is printed at the end are the lines of a
scene file that do the same as a stage, before extract, delete, recolour, set_material, transform or duplicate.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from relight.cli.arguments import keep_files

if TYPE_CHECKING:
    from torch import Tensor

    from relight.fit.select import Selector

FOLDER = "selections"
HOW = {"by": "object", "threshold": 0.6, "whole": False, "step": 0}
"""Options of the stage `select` besides its prompt, and their defaults."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Run folder, prompt, how far, output."""
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="run folder or stage folder")
    prompt = parser.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--point", metavar="view,x,y", help="pixels from the corner of a photograph")
    prompt.add_argument("--box", metavar="view,x0,y0,x1,y1", help="around the thing that is meant")
    prompt.add_argument("--like", type=int, metavar="GAUSSIAN", help="number of a Gaussian of it")
    prompt.add_argument("--text", help="words, where features are of a teacher that knows words")
    parser.add_argument("--by", choices=("object", "similarity"), default="object",
                        help="object: what ends at borders; similarity: by features alone")  # fmt: skip
    parser.add_argument("--threshold", type=float, default=0.6, help="of similarity: least cosine (default: 0.6)")
    parser.add_argument("--whole", action="store_true", help="of similarity: also like things that don't touch it")
    parser.add_argument("--step", type=int, default=0,
                        help="of object: 1, 2... the next larger things; -1, -2... parts (default: 0)")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="picture of the selection (.png)")
    parser.add_argument("--view", help="photograph whose camera draws it; default: the prompt's, or the first")
    parser.add_argument("--save", metavar="NAME", help=f"keep it as RUN/{FOLDER}/NAME.safetensors")
    parser.add_argument("--splat", type=Path, metavar="FILE", help="write what is selected as a splat of any format")
    parser.add_argument("--force", action="store_true", help="replace existing files")


def run(arguments: argparse.Namespace) -> int:
    """Select, say how much, write what was asked for."""
    from relight.errors import RelightError
    from relight.export.runs import last_stage
    from relight.fit.select import Prompt, Selector
    from relight.formats import write_splat
    from relight.scene_io import load_scene

    stage = last_stage(arguments.run_folder)
    saved = None if arguments.save is None else _place(arguments.run_folder, stage, arguments.save)
    keep_files([file for file in (arguments.output, arguments.splat, saved) if file is not None], arguments.force)
    if arguments.output is not None and arguments.output.suffix.lower() != ".png":
        raise RelightError(f"{arguments.output}: expected a .png")
    for name, low, high in (("threshold", -1, 1), ("step", -20, 20)):
        if not low <= getattr(arguments, name) <= high:
            raise RelightError(f"--{name} {getattr(arguments, name)}: expected {low:g} to {high:g}")
    selector = Selector(load_scene(stage))
    prompt = Prompt(arguments.point, arguments.box, arguments.like, arguments.text)
    how = {name: getattr(arguments, name) for name in HOW}
    selection = selector.select(prompt, **how)
    chosen = selection.share > 0.5
    if not bool(chosen.any()):
        raise RelightError("nothing is selected; lower --threshold, or choose another place")
    seed = int(selection.seeds.argmax())
    print(f"selected {int(chosen.sum()):,} of {len(chosen):,} Gaussians; the strongest seed is {seed}")
    if arguments.output is not None:
        _draw(selector, selection.share, arguments)
    if saved is not None:
        _save(saved, selection.share, arguments, stage)
    if arguments.splat is not None:
        write_splat(selector.gaussians[chosen], arguments.splat)
        print(f"wrote {arguments.splat}")
    print("as a stage:\n" + _lines(arguments))
    return 0


def _draw(selector: Selector, share: Tensor, arguments: argparse.Namespace) -> None:
    """The captured look, grey and fainter where it isn't selected."""
    from dataclasses import replace

    import torch

    from relight.cli.shown import channel_painter
    from relight.export.images import write_image
    from relight.fit.select import find_view

    place = arguments.point or arguments.box
    name = arguments.view or (place.rsplit(",", 2 if arguments.point else 4)[0] if place else selector.views[0].name)
    camera = find_view(selector.scene, name).camera_at(selector.views.max_size)
    marked = replace(selector.gaussians, channels={"selection": share.float()})
    with torch.no_grad():
        color, alpha = channel_painter("selection", marked, selector.rasterizer, selector.options)(camera)
    write_image(arguments.output, (color + 1 - alpha[..., None]).clamp(0, 1))
    print(f"wrote {arguments.output}")


def _place(run: Path, stage: Path, name: str) -> Path:
    from relight.errors import RelightError

    if not name or Path(name).name != name:
        raise RelightError(f"--save {name!r}: expected a name, not a path")
    # A stage folder is never written into: the selection belongs to its run.
    return (stage.parent if run == stage else run) / FOLDER / f"{name}.safetensors"


def _save(path: Path, share: Tensor, arguments: argparse.Namespace, stage: Path) -> None:
    import json

    from relight.atomic import replacing
    from relight.scene_io import read_manifest, write_tensors

    path.parent.mkdir(exist_ok=True)
    with replacing(path) as temporary:
        about = {"stage": stage.name, "key": read_manifest(stage)["key"], "options": json.dumps(_options(arguments))}
        write_tensors(temporary, {"selection": share.float()}, about)
    print(f"wrote {path}")


def _options(arguments: argparse.Namespace) -> dict[str, object]:
    """Those of the stage `select` that aren't its defaults."""
    given = {name: getattr(arguments, name) for name in ("point", "box", "like", "text", *HOW)}
    return {name: value for name, value in given.items() if value is not None and value != HOW.get(name)}


def _lines(arguments: argparse.Namespace) -> str:
    import json

    # JSON's strings and numbers are YAML's too.
    return "\n".join(["  - select:", *(f"      {k}: {json.dumps(v)}" for k, v in _options(arguments).items())])
