"""The report of a run: one HTML page that needs nothing else, and one picture."""

from __future__ import annotations

import base64
import html
import io
import json
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor

from relight.atomic import replacing
from relight.errors import MissingPartError
from relight.export.images import encoded_bytes, write_image
from relight.geometry.camera import Camera
from relight.render.monte_carlo import FastMonteCarlo
from relight.render.relit import Relit, has_materials
from relight.shading.color import linear_to_srgb
from relight.shading.look import Look
from relight.shading.studio import studio

PICTURES = 8
"""Most views shown."""
STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-weight: 600; } h2 { margin-top: 2.5rem; font-weight: 500; }
.numbers { display: flex; flex-wrap: wrap; gap: 2rem; }
.numbers b { display: block; font-size: 1.9rem; font-weight: 600; }
.row { display: grid; gap: 6px; margin-bottom: 4px; }
.row img, .curves img { width: 100%; border-radius: 4px; } figcaption, td, th { font-size: .85rem; }
td, th { text-align: left; padding: .15rem 1rem .15rem 0; } pre { overflow-x: auto; font-size: .8rem; }
"""


def export_report(run: Path, output: Path) -> None:
    """`write_report` as an export format: the page alone."""
    write_report(run, output, picture=False)


def write_report(run: Path, path: Path, *, picture: bool = True) -> Path:
    """Write a page about the last finished stage; returns its path.

    picture: also write the first four rows of its pictures as a .png beside it.
    Raises MissingPartError for a stage without a splat or views.
    Pictures: photograph, render and absolute error x 4 of held-out views (training views if none are held out).
    """
    from relight.export.runs import last_stage
    from relight.fit.evaluate import evaluate, means, target
    from relight.render.splats import create_rasterizer
    from relight.scene_io import load_scene

    stage = last_stage(run)
    scene = load_scene(stage)
    rows: list[tuple[str, list[Tensor]]] = []
    materials: list[tuple[str, list[Tensor]]] = []
    relit = None
    if scene.gaussians is not None and has_materials(scene.gaussians):
        relit = Relit(scene.gaussians, scene.mesh, scene.light, extent=scene.frame.radius)

    def keep(view, photo, found) -> None:
        if relit is not None and len(materials) < PICTURES // 2:
            materials.append((view.name, _materials(relit, view.camera_at(max(found.shape[:2])), scene.frame.up)))
        if len(rows) < PICTURES:
            expected = target(photo).clamp(0, 1)
            rows.append((view.name, [expected, found, (4 * (found - expected).abs()).clamp(0, 1)]))

    split = "test" if scene.views is not None and len(scene.views.test) else "train"
    scores = evaluate(scene, create_rasterizer(), split, keep)
    if not rows:
        raise MissingPartError(f"{stage}: has no views, so there is nothing to report on")
    record = scene.history[-1]
    count = len(scene.gaussians) if scene.gaussians is not None else 0
    numbers = {k.upper(): f"{v:.2f} dB" if k == "psnr" else f"{v:.3f}" for k, v in means(scores).items()}
    numbers |= {"Gaussians": f"{count:,}", "time": f"{record.seconds:.0f} s"}
    small = _compression(stage)
    numbers |= {} if small is None else small.numbers
    page = _page(run.resolve().name, split, numbers, rows, materials, scores, _curves(stage), scene.history, small)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="xmlcharrefreplace")
    if picture:
        tiles = [images + more for (_, images), (_, more) in zip_longest(rows[:4], materials, fillvalue=("", []))]
        write_image(path.with_suffix(".png"), _sheet(tiles))
    return path


def _materials(relit: Relit, camera: Camera, up: tuple[float, float, float] | None) -> list[Tensor]:
    """Base colour, roughness, metallic, and the splat under a studio's light, over white."""
    buffer = relit.buffer(camera)
    surface, alpha = buffer.surface, (buffer.splat.alpha * buffer.mask)[..., None]
    values = (linear_to_srgb(surface.base_color), surface.roughness[:, None], surface.metallic[:, None])
    shown = [buffer.spread(v.expand(-1, 3)) * alpha + 1 - alpha for v in values]
    return [*shown, Look(curve="clip").encoded(relit.under(camera, studio().upright(up), FastMonteCarlo(32)))]


def _sheet(rows: list[list[Tensor]]) -> Tensor:
    """One picture of all, at a common height of a row."""
    height = max(images[0].shape[0] for images in rows)
    width = max(images[0].shape[1] for images in rows)

    def padded(image: Tensor) -> Tensor:
        out = torch.ones(height, width, 3)
        out[: image.shape[0], : image.shape[1]] = image
        return out

    return torch.cat([torch.cat([padded(i) for i in images], 1) for images in rows], 0)


def _inline(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _grid(rows: list[tuple[str, list[Tensor]]], columns: int) -> str:
    return "".join(
        f"<figure style='margin:0 0 1rem'><div class=row style='grid-template-columns: repeat({columns}, 1fr)'>"
        + "".join(f"<img alt='' src='{_inline(encoded_bytes(i, 'jpeg'), 'jpeg')}'>" for i in images)
        + f"</div><figcaption>{html.escape(view)}</figcaption></figure>"
        for view, images in rows
    )


@dataclass(frozen=True)
class _Compression:
    """What a stage that compressed says of it."""

    numbers: dict[str, str]
    drawing: str


def _compression(stage: Path) -> _Compression | None:
    """None of a stage that did not."""
    from relight.compress.curve import DRAWING, JSON, read

    if not (stage / JSON).is_file() or not (stage / DRAWING).is_file():
        return None
    rungs, summary = read(stage)
    chosen = rungs[summary["chosen"]]
    numbers = {f"bytes of {summary['file']}": f"{chosen.size:,}", "lost": f"{chosen.packed.drop:.2f} dB"}
    return _Compression(numbers, _inline((stage / DRAWING).read_bytes(), "svg+xml"))


def _page(name: str, split: str, numbers: dict[str, str], rows, materials, scores, curves: str, history, small) -> str:
    shown = "".join(f"<div><b>{v}</b>{html.escape(k)}</div>" for k, v in numbers.items())
    grid, more = _grid(rows, 3), ""
    if materials:
        more = f"<h2>Base colour, roughness, metallic, under a studio's light</h2>{_grid(materials, 4)}"
    if small is not None:
        more += f"<h2>Size against quality</h2><div class=curves><img alt='' src='{small.drawing}'></div>"
    table = "".join(f"<tr><td>{html.escape(s.name)}<td>{s.psnr:.2f}<td>{s.ssim:.4f}</tr>" for s in scores)
    stages = "".join(
        f"<h3>{html.escape(r.name)}{f', ended early after {r.steps} steps' if r.ended_early else ''}</h3>"
        f"<pre>{html.escape(json.dumps(r.options, indent=1))}</pre>"
        for r in history
    )
    return f"""<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>{html.escape(name)}</title><style>{STYLE}</style>
<h1>{html.escape(name)}</h1><div class=numbers>{shown}</div>
<h2>Photograph, render, error &times; 4 ({split} views)</h2>{grid}{more}
<h2>Curves</h2><div class=curves><img alt="loss, PSNR and number of Gaussians" src="{curves}"></div>
<h2>Views</h2><table><tr><th>view<th>PSNR, dB<th>SSIM</tr>{table}</table>
<h2>Options</h2>{stages}</html>"""


def _curves(stage: Path) -> str:
    """Loss, PSNR and count against seconds, as an inline picture."""
    from matplotlib.figure import Figure

    from relight.export.runs import read_metrics

    metrics = read_metrics(stage)
    labels = {"loss": "loss", "train_psnr": "training PSNR, dB", "gaussians": "Gaussians"}
    figure = Figure(figsize=(10, 2.8), layout="constrained")
    for panel, (key, label) in zip(figure.subplots(1, len(labels)), labels.items(), strict=True):
        points = metrics.get(key, [])
        panel.plot([seconds for _, seconds, _ in points], [value for *_, value in points], color="#3b6ea5")
        panel.set(title=label, xlabel="seconds")
        panel.grid(alpha=0.25)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _inline(buffer.getvalue(), "svg+xml")
