"""Draw the pictures of docs/gallery.md into docs/pictures/, from a fit of the sample and what comes with relight.

relight fit docs/gallery.yaml                         minutes on two CPU cores
python -m docs.gallery runs/gallery
python -m docs.gallery runs/gallery --only relit edit

portrait needs no fit, but a photograph and a map of RELIGHT_DATA (people_video, hdri).
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from relight.atomic import replacing
from relight.cli import main as relight
from relight.data.environments import load_environment
from relight.diffusion.surroundings.framing import Frame, photographed
from relight.export.images import pillow, write_image
from relight.geometry.camera import Camera
from relight.geometry.mesh import Mesh
from relight.images import read_image
from relight.render.meshes import create_mesh_rasterizer
from relight.scene import Scene
from relight.scene_io import load_scene, save_scene
from relight.shading.color import linear_to_srgb, luminance
from relight.stages.base import Stage
from relight.stages.edits import Delete, Duplicate, Recolour, SetMaterial
from relight.stages.select import Select
from relight.testing.job import MemoryJob

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs/pictures"
SAMPLE = ROOT / "scenes/sample"
DATA = Path(os.environ.get("RELIGHT_DATA", ROOT.parent / "shared/data"))
VIEW = "003"
"""Of the sample's test views."""
BUNNY = f"test/{VIEW},100,80"
"""A pixel of it."""
BESIDE = (0.67, 0.16, 0.0)
"""World units: from the bunny to where the plinth is empty."""
HEAD = (slice(0, 400), slice(60, 380))
"""Rows and columns of the portrait that are shown."""
LARGE = ("--size", "400x400")
"""Of what is drawn without a photograph beside it to be compared with, pixel by pixel."""

SAMPLES = 128
"""A pixel, of light and of material."""
KEY = 0.25
"""Mean linear luminance of a photograph."""

WIDTH, GAP, MARGIN = 1200, 8, 4
"""Pixels: of a figure, between its pictures, and of a photograph (of 200) around what it shows."""
LETTERS, INK = 22, (70, 70, 70)
QUALITY, MOST = (90, 86, 82, 78), 200_000
"""Of the JPEG: tried in this order until it has at most so many bytes."""

Panel = tuple[str, Tensor]
"""What it says below a picture, and the (H, W, 3 or 4) picture."""


def figure(rows: Sequence[Sequence[Panel]]) -> Tensor:
    """(H, WIDTH, 3): rows of pictures as high as makes each row as wide as the figure, and words below them."""
    out: list[Tensor] = []
    for row in rows:
        wide = WIDTH - GAP * (len(row) - 1)
        high = round(wide / sum(picture.shape[1] / picture.shape[0] for _, picture in row))
        left, line = 0, torch.ones(high + 2 * LETTERS, WIDTH, 3)
        for i, (words, picture) in enumerate(row):
            across = round(high * picture.shape[1] / picture.shape[0]) if i + 1 < len(row) else WIDTH - left
            line[:high, left : left + across] = resized(over_white(picture), high, across)
            line[high:, left : left + across] = written(words, across)
            left += across + GAP
        out.append(line)
    return torch.cat(out)


def over_white(picture: Tensor) -> Tensor:
    """(H, W, 3) of (H, W, 3 or 4)."""
    return picture if picture.shape[-1] == 3 else picture[..., :3] * picture[..., 3:] + 1 - picture[..., 3:]


def resized(picture: Tensor, height: int, width: int) -> Tensor:
    """(height, width, 3) of (H, W, 3)."""
    planes = interpolate(picture.permute(2, 0, 1)[None], (height, width), mode="bicubic", antialias=True)
    return planes[0].permute(1, 2, 0).clamp(0, 1)


def written(words: str, width: int) -> Tensor:
    """(2 LETTERS, width, 3): words in the middle, on white."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    strip = Image.new("RGB", (width, 2 * LETTERS), "white")
    font = ImageFont.load_default(LETTERS)
    ImageDraw.Draw(strip).text((width / 2, 0.7 * LETTERS), words, INK, font, anchor="mm")
    return torch.from_numpy(np.array(strip)).float() / 255


def saved(path: Path, picture: Tensor) -> None:
    """As the best JPEG that is small enough.  Raises RuntimeError if none is."""
    encoded = [encoded_at(picture, quality) for quality in QUALITY]
    small = [data for data in encoded if len(data) <= MOST]
    if not small:
        raise RuntimeError(f"{path}: {len(encoded[-1])} bytes at quality {QUALITY[-1]}, more than {MOST}")
    with replacing(path) as temporary:
        temporary.write_bytes(small[0])


def encoded_at(picture: Tensor, quality: int) -> bytes:
    """A JPEG in memory."""
    buffer = io.BytesIO()
    pillow(picture).save(buffer, "JPEG", quality=quality, optimize=True, progressive=True)
    return buffer.getvalue()


def shown(path: Path) -> Tensor:
    """(H, W, 3 or 4) of a picture on disk."""
    picture = read_image(path)
    return picture.rgb if picture.alpha is None else torch.cat([picture.rgb, picture.alpha[..., None]], -1)


def framed(picture: Tensor) -> Tensor:
    """The part of a square picture from VIEW's camera in which there is something."""
    seen = shown(SAMPLE / "test" / f"{VIEW}.png")[..., 3] > 0
    size, scale = len(seen), len(picture) // len(seen)
    rows, columns = (seen.any(1 - axis).nonzero()[:, 0] for axis in (0, 1))
    top, left = (max(0, int(found[0]) - MARGIN) * scale for found in (rows, columns))
    bottom, right = (min(size, int(found[-1]) + 1 + MARGIN) * scale for found in (rows, columns))
    return picture[top:bottom, left:right]


def of_sample(folder: str) -> Tensor:
    """VIEW as the path tracer drew it, cut out."""
    alpha = shown(SAMPLE / "test" / f"{VIEW}.png")[..., 3:]
    return framed(torch.cat([shown(SAMPLE / folder / f"{VIEW}.png")[..., :3], alpha], -1))


def command(*words: object) -> None:
    """What a user would type.  Raises RuntimeError if it fails."""
    if code := relight([str(word) for word in words]):
        raise RuntimeError(f"relight {' '.join(map(str, words))}: exit code {code}")


def drawn(source: Path, work: Path, name: str, *options: object) -> Tensor:
    """VIEW of a run, as `relight render` draws it."""
    command("render", source, "--views", "test", "--background", "white", "-o", work / name, *options)
    return framed(shown(next(p for p in sorted((work / name).glob("*.png")) if VIEW in p.stem)))


def result_of(run: Path, stage: str) -> Path:
    """The folder of the run's stage.  Raises RuntimeError."""
    found = sorted(run.glob(f"[0-9]*-{stage}"))
    if not found:
        raise RuntimeError(f"{run}: has no stage {stage}; relight fit {ROOT / 'docs/gallery.yaml'} makes one")
    return found[-1]


def of_stage(run: Path, stage: str) -> Scene:
    """What the run's stage made."""
    return load_scene(result_of(run, stage))


def one_view(scene: Scene, work: Path, captured: bool = False) -> Path:
    """A stage folder with the scene, left with one test view.

    captured: and without light and mesh, so that it is drawn as the photographs look, not shaded.
    """
    assert scene.views is not None
    kept = tuple(view for view in scene.views.views if view.split == "train" or VIEW in view.name)
    scene = replace(scene, views=replace(scene.views, views=kept))
    folder = work / f"scene{len(list(work.iterdir()))}"
    save_scene(replace(scene, light=None, asset=None) if captured else scene, folder, key="gallery")
    return folder


def held_out(run: Path, work: Path) -> Iterator[list[Panel]]:
    """Photograph, splat, four times the difference."""
    photograph, splat = over_white(of_sample("test")), drawn(one_view(of_stage(run, "distill"), work), work, "shaded")
    difference = ((photograph - splat).abs() * 4).clamp(0, 1)
    yield [("photograph, held out", photograph), ("splat", splat), ("four times the difference", difference)]


def relit(run: Path, work: Path) -> Iterator[list[Panel]]:
    """Under two lights that no photograph shows, each beside the path tracer's picture."""
    scene = one_view(of_stage(run, "distill"), work)
    for light in ("sunset", "neon"):
        made = drawn(scene, work, light, "--env", SAMPLE / f"lights/{light}.exr", "--samples", SAMPLES, *LARGE)
        yield [(f"{light}: splat", made), (f"{light}: path tracer, true materials", of_sample(f"relight_{light}"))]


def materials(run: Path, work: Path) -> Iterator[list[Panel]]:
    """What was found of the surface, and the truth."""
    scene = one_view(of_stage(run, "distill"), work)
    for row in (("base_color", "albedo"), ("roughness", "roughness")), (("metallic", "metallic"), ("normal", "normal")):
        panels = []
        for name, truth in row:
            label = name.replace("_", " ").replace("color", "colour")
            panels += [(label, drawn(scene, work, name, "--show", name, *LARGE)), ("truth", of_sample(f"test_{truth}"))]
        yield panels


def wires(mesh: Mesh, camera: Camera, fine: int = 4) -> Tensor:
    """(H, W, 3): faces in grey by how they face the camera, their edges dark; `fine` squared points a pixel."""
    large = camera.resized(fine * camera.width, fine * camera.height)
    seen = create_mesh_rasterizer().rasterize(mesh.vertices, mesh.faces, large)
    slope = torch.hypot(seen.barycentrics_dx, seen.barycentrics_dy).clamp_min(1e-9)
    edge = (seen.barycentrics / slope).amin(-1) < fine / 3
    a, b, c = mesh.vertices[mesh.faces].unbind(1)
    normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
    towards = (normal @ large.world_from_camera[:3, 2]).abs()
    grey = (0.35 + 0.6 * towards)[seen.face.clamp_min(0).long()]
    picture = torch.where(seen.mask, torch.where(edge, 0.25 * grey, grey), 1.0)
    return avg_pool2d(picture[None, None], fine)[0, 0, :, :, None].expand(-1, -1, 3)


def mesh(run: Path, work: Path) -> Iterator[list[Panel]]:
    """The asset's triangles, and the asset lit."""
    scene = of_stage(run, "mesh")
    assert scene.asset is not None and scene.views is not None
    folder = one_view(scene, work)
    camera = next(view.camera for view in scene.views.views if VIEW in view.name and view.split == "test")
    edges = framed(wires(scene.asset, camera.resized(600, 600)))
    light = ("--env", SAMPLE / "lights/studio.exr", "--samples", SAMPLES // 4)
    yield [(f"{len(scene.asset.faces):,} triangles", edges), ("studio", drawn(folder, work, "studio", *light, *LARGE))]


def edit(run: Path, work: Path) -> Iterator[list[Panel]]:
    """A click on the bunny, and what can be done with what it selects."""
    gold = SetMaterial(metal="gold", roughness=0.25)
    copy = Duplicate(move=BESIDE, scale=0.55, degrees=60)
    chosen = Select(point=BUNNY).run(of_stage(run, "distill"), MemoryJob(work))

    def changed(name: str, *changes: Stage, options: Sequence[object] = ()) -> Tensor:
        scene = chosen
        for change in changes:
            scene = change.run(scene, MemoryJob(work))
        return drawn(one_view(scene, work, captured=not options), work, name, *LARGE, *options)

    light = ("--env", SAMPLE / "lights/studio.exr", "--samples", SAMPLES)
    yield [
        ("photograph", of_sample("test")),
        ("selected by a click", changed("selection", options=("--show", "selection"))),
        ("recoloured", changed("recoloured", Recolour(color=(0.85, 0.3, 0.5)))),
    ]
    yield [
        ("removed", changed("removed", Delete())),
        ("gold", changed("gold", gold, options=light)),
        ("gold, and a copy", changed("copy", gold, copy, options=light)),
    ]


def photograph(run: Path, work: Path) -> Iterator[list[Panel]]:
    """One picture lit anew by the bundled prior, which never saw the capture."""
    photo, out = SAMPLE / "test" / f"{VIEW}.png", [("photograph", of_sample("test"))]
    for light in ("light from the left", "cool light from the right", "warm light from the top left"):
        command("relight", photo, "--text", light, "--keep-colours", "-o", work / f"{len(out)}.png")
        out.append((light, framed(shown(work / f"{len(out)}.png"))))
    yield out[:2]
    yield out[2:]


def portrait(run: Path, work: Path) -> Iterator[list[Panel]]:
    """A public-domain photograph under other light and before another background."""
    photo = DATA / "people_video/skimage/astronaut.png"
    sunset = load_environment(DATA / "hdri/512/venice_sunset_512.hdr").radiance
    place = photographed(sunset, Frame.of(60), 512, 512)[0]
    write_image(work / "place.png", linear_to_srgb(place / luminance(place).mean() * KEY))
    ways = {
        "warm light from the left": ("--text", "soft warm light from the left"),
        "a lamp at the right": ("--point", "0.9,0.2,1.2"),
        "another background": ("--background", work / "place.png"),
    }
    out = [("photograph", shown(photo)[HEAD])]
    for i, (label, light) in enumerate(ways.items()):
        command("portrait", photo, *light, "-o", work / f"{i}.png")
        out.append((label, shown(work / f"{i}.png")[HEAD]))
    yield out


PARTS: dict[str, Callable[[Path, Path], Iterator[list[Panel]]]] = {
    part.__name__: part for part in (held_out, relit, materials, mesh, edit, photograph, portrait)
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="of docs/gallery.yaml")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    options = parser.parse_args(arguments)
    for name in options.only:
        with TemporaryDirectory() as work:
            saved(PICTURES / f"{name}.jpg", figure(list(PARTS[name](options.run, Path(work)))))
        print(PICTURES / f"{name}.jpg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
