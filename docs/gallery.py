"""Draw the pictures of docs/gallery.md into docs/pictures/, from a fitted sample and what comes with relight.

python -m docs.gallery runs/sample                    after relight fit scenes/sample/scene.yaml
python -m docs.gallery runs/sample --only relit edit
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from relight.atomic import replacing
from relight.cli import main as relight
from relight.export.images import pillow
from relight.images import read_image
from relight.scene import Scene
from relight.scene_io import load_scene, save_scene
from relight.stages.base import Stage
from relight.stages.edits import Duplicate, SetMaterial
from relight.stages.select import Select
from relight.testing.job import MemoryJob

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs/pictures"
SAMPLE = ROOT / "scenes/sample"
VIEW = "005"
"""Of the sample's test views."""
BUNNY = f"test/{VIEW},103,95"
"""A pixel of it."""
SIDE, GAP, QUALITY = 300, 4, 86


def panels(pictures: Sequence[Tensor], side: int = SIDE) -> Tensor:
    """(side, ..., 3) of (H, W, 3 or 4) pictures beside each other; alpha over white."""
    row = []
    for picture in pictures:
        if picture.shape[-1] == 4:
            picture = picture[..., :3] * picture[..., 3:] + 1 - picture[..., 3:]
        width = round(side * picture.shape[1] / picture.shape[0])
        planes = picture.float().permute(2, 0, 1)[None]
        planes = interpolate(planes, (side, width), mode="bicubic", antialias=True).clamp(0, 1)
        row += [planes[0].permute(1, 2, 0), torch.ones(side, GAP, 3)]
    return torch.cat(row[:-1], 1)


def shown(path: Path) -> Tensor:
    """(H, W, 3 or 4) of a picture on disk."""
    picture = read_image(path)
    return picture.rgb if picture.alpha is None else torch.cat([picture.rgb, picture.alpha[..., None]], -1)


def command(*words: object) -> None:
    """What a user would type.  Raises RuntimeError if it fails."""
    if code := relight([str(word) for word in words]):
        raise RuntimeError(f"relight {' '.join(map(str, words))}: exit code {code}")


def drawn(source: Path, work: Path, name: str, *options: object) -> Tensor:
    """The view of a run, as `relight render` draws it."""
    command("render", source, "--views", "test", "--background", "white", "-o", work / name, *options)
    return shown(next(p for p in sorted((work / name).glob("*.png")) if VIEW in p.stem))


def result_of(run: Path, stage: str) -> Path:
    """The folder of the run's stage.  Raises RuntimeError."""
    found = sorted(run.glob(f"[0-9]*-{stage}"))
    if not found:
        raise RuntimeError(f"{run}: has no stage {stage}; relight fit {SAMPLE / 'scene.yaml'} makes one")
    return found[-1]


def one_view(run: Path, work: Path, stages: Sequence[Stage] = ()) -> Path:
    """A stage folder with the splat of the run's distill, changed by stages and left with one test view."""
    scene = replace(load_scene(result_of(run, "distill")), asset=None)
    for stage in stages:
        scene = stage.run(scene, MemoryJob(work))
    folder = work / f"scene{len(list(work.iterdir()))}"
    save_scene(_with_one_view(scene), folder, key="gallery")
    return folder


def _with_one_view(scene: Scene) -> Scene:
    assert scene.views is not None
    kept = tuple(view for view in scene.views.views if view.split == "train" or VIEW in view.name)
    return replace(scene, views=replace(scene.views, views=kept))


def held_out(run: Path, work: Path) -> list[Tensor]:
    """Photograph, splat, four times the difference."""
    photo, made = shown(SAMPLE / "test" / f"{VIEW}.png"), drawn(one_view(run, work), work, "captured")
    white = panels([photo], photo.shape[0])
    return [white, made, ((white - made[..., :3]).abs() * 4).clamp(0, 1)]


def relit(run: Path, work: Path) -> list[Tensor]:
    """Under two lights that no photograph shows, each beside the path tracer's picture."""
    scene, out = one_view(run, work), []
    for light in ("sunset", "neon"):
        out.append(drawn(scene, work, light, "--env", SAMPLE / f"lights/{light}.exr", "--samples", 64))
        out.append(shown(SAMPLE / f"relight_{light}" / f"{VIEW}.png"))
    return out


def materials(run: Path, work: Path) -> list[Tensor]:
    """What was found of the surface."""
    scene = one_view(run, work)
    return [drawn(scene, work, name, "--show", name) for name in ("base_color", "roughness", "metallic", "normal")]


def mesh(run: Path, work: Path) -> list[Tensor]:
    """The asset, written to a file and drawn like anybody's."""
    command("export", result_of(run, "mesh"), "-o", work / "sample.glb")
    out = []
    for light in ("sunset", "neon"):
        picture = work / f"{light}.png"
        lit = ("--env", SAMPLE / f"lights/{light}.exr", "--estimator", "monte-carlo", "--samples", 32)
        command("render", work / "sample.glb", *lit, "--elevation", 30, "--size", "400x300", "-o", picture)
        out.append(shown(picture))
    return out


def edit(run: Path, work: Path) -> list[Tensor]:
    """One click, gold, a copy."""
    click = Select(point=BUNNY)
    gold = [click, SetMaterial(metal="gold", roughness=0.25)]
    selected = drawn(one_view(run, work, [click]), work, "selection", "--show", "selection")
    light = ("--env", SAMPLE / "lights/studio.exr", "--samples", 64)
    changed = drawn(one_view(run, work, gold), work, "gold", *light)
    copied = drawn(one_view(run, work, [*gold, Duplicate(move=(0.0, 0.0, 0.5), scale=0.6)]), work, "copy", *light)
    return [shown(SAMPLE / "test" / f"{VIEW}.png"), selected, changed, copied]


def photograph(run: Path, work: Path) -> list[Tensor]:
    """One picture lit anew by the bundled prior, which never saw the capture."""
    photo, out = SAMPLE / "test" / f"{VIEW}.png", []
    for side in ("left", "right", "back"):
        command("relight", photo, "--direction", side, "-o", work / f"{side}.png")
        out.append(shown(work / f"{side}.png"))
    return [shown(photo), *out]


PARTS: dict[str, Callable[[Path, Path], list[Tensor]]] = {
    part.__name__: part for part in (held_out, relit, materials, mesh, edit, photograph)
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="of scenes/sample, with the stages distill and mesh")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args(arguments)
    for name in options.only:
        with TemporaryDirectory() as work:
            row = panels(PARTS[name](options.run, Path(work)))
        with replacing(PICTURES / f"{name}.jpg") as temporary:
            pillow(row).save(temporary, quality=QUALITY, optimize=True)
        print(PICTURES / f"{name}.jpg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
