"""The rate-distortion curve of a compression: as a table, a drawing, and JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from relight.atomic import replacing
from relight.compress.search import Rung

JSON, DRAWING = "compression.json", "compression.svg"


def table(rungs: Sequence[Rung], chosen: int) -> str:
    """One line a trial, largest first."""
    lines = [f"{'Gaussians':>10} {'SH':>3} {'bytes':>11} {'PSNR':>7} {'SSIM':>7} {'lost, dB':>9}"]
    for r in sorted(rungs, key=lambda r: -r.size):
        mark = "  <- chosen" if r.index == chosen else ""
        lines.append(
            f"{r.count:>10,} {r.degree:>3} {r.size:>11,} {r.packed.psnr:>7.2f} {r.packed.ssim:>7.4f} "
            f"{r.packed.drop:>9.3f}{mark}"
        )
    return "\n".join(lines)


def write_curve(folder: Path, rungs: Sequence[Rung], chosen: int, summary: dict[str, object]) -> None:
    """`JSON`, with all trials, and `DRAWING`, into a folder."""
    document = {**summary, "chosen": chosen, "trials": [asdict(r) for r in rungs]}
    with replacing(folder / JSON) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    with replacing(folder / DRAWING) as temporary:
        temporary.write_bytes(drawing(rungs, chosen))


def read(folder: Path) -> tuple[list[Rung], dict[str, Any]]:
    """What `write_curve` wrote: the trials, and the rest."""
    document = json.loads((folder / JSON).read_text(encoding="utf-8"))
    return [Rung.from_json(r) for r in document.pop("trials")], document


def compressed_file(folder: Path, format: str) -> Path | None:
    """The file of a stage folder, if it is a compression's and of this format."""
    if not (folder / JSON).is_file():
        return None
    _, summary = read(folder)
    return folder / summary["file"] if summary["format"] == format else None


def drawing(rungs: Sequence[Rung], chosen: int) -> bytes:
    """SVG: bytes against decibels lost, for Gaussians as fitted and as the file has them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    ordered = sorted(rungs, key=lambda r: r.size)
    kilobytes = [r.size / 1000 for r in ordered]
    axes.plot(kilobytes, [r.fitted.drop for r in ordered], "o:", color="#9aa5b1", ms=4, label="before the file")
    axes.plot(kilobytes, [r.packed.drop for r in ordered], "o-", color="#3b6ea5", ms=5, label="as the file has it")
    best = rungs[chosen]
    axes.plot([best.size / 1000], [best.packed.drop], "o", color="#c8553d", ms=9, label="chosen")
    for r in ordered:
        axes.annotate(f"{r.count:,}", (r.size / 1000, r.packed.drop), xytext=(3, 5), textcoords="offset points", size=7)
    axes.set(xscale="log", xlabel="kilobytes", ylabel="decibels lost")
    axes.grid(alpha=0.25, which="both")
    axes.legend(frameon=False, loc="upper right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
