"""Tables of the field's data sets in the papers' layout: each number by our protocol and by the one the field uses.

    python -m benchmarks.datasets tensoir FOLDER --lights FOLDER/hdrs
    python -m benchmarks.datasets synthetic4relight FOLDER --scenes hotdog --set radiance.iterations=7000
    python -m benchmarks.datasets shiny FOLDER
    python -m benchmarks.datasets orb FOLDER --size 256 --lpips vgg.safetensors

FOLDER holds the scenes as their authors ship them.  Fits go to --runs and are kept: what is there isn't fitted again.
benchmarks/protocols.py says what is compared with what in each set, and where the conventions come from.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks.protocols import DATASETS, Row, Settings
from relight.atomic import replacing
from relight.cli.truth import read_lpips
from relight.config import load_config
from relight.errors import RelightError
from relight.pipeline import run
from relight.scene import Scene

MARGIN = 26


def fitted(capture: Path, runs: Path, size: int, overrides: list[str]) -> Scene:
    """The distilled scene, from `runs` if it is there."""
    runs.mkdir(parents=True, exist_ok=True)
    path = runs / f"{capture.name}.yaml"
    text = f"data: {{path: {json.dumps(str(capture.resolve()))}, max_size: {size}}}\nstages:\n"
    with replacing(path) as temporary:
        temporary.write_text(text + "  - radiance: {primitive: surfel, normal_weight: 0.2}\n  - distill: {}\n")
    return run(load_config(path, [*overrides, f"output={runs / capture.name}"])).scene


def table(columns: tuple[str, ...], rows: Mapping[str, Mapping[str, Row]]) -> str:
    """rows: by scene, then by protocol.  The mean over scenes comes last; `-` is what a set doesn't tell."""
    width = max(12, *(len(c) + 2 for c in columns))
    lines = [" " * MARGIN + "".join(f"{c:>{width}}" for c in columns)]
    protocols = list(next(iter(rows.values())))
    mean = {
        protocol: {
            c: sum(cells) / len(cells)
            for c in columns
            if (cells := [scene[protocol][c] for scene in rows.values() if c in scene[protocol]])
        }
        for protocol in protocols
    }
    for name, scene in {**rows, "mean": mean}.items():
        lines.append(name)
        for protocol in protocols:
            cells = [f"{scene[protocol][c]:.4f}" if c in scene[protocol] else "-" for c in columns]
            lines.append(f"  {protocol:<{MARGIN - 2}}" + "".join(f"{c:>{width}}" for c in cells))
    return "\n".join(lines)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=sorted(DATASETS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scenes", nargs="+", metavar="NAME", help="default: all that are there")
    parser.add_argument("--lights", type=Path, help="folder of the test lights' maps (default: beside the scenes)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where fits are kept")
    parser.add_argument("--size", type=int, help="longest side of pictures, pixels (default: the set's)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="options of the fits")
    parser.add_argument("--samples", type=int, default=64, help="of relighting, a point")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="relight each N-th test view only")
    parser.add_argument("--lpips", type=Path, metavar="FILE", help="weights, see relight/fit/lpips.py")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args(words)
    dataset = DATASETS[options.dataset]
    try:
        captures = dataset.captures(options.folder, options.scenes)
        lpips = None if options.lpips is None else read_lpips(options.lpips)
        if lpips is None:
            print("no LPIPS: its weights aren't ours to ship; --lpips FILE")
        settings = Settings(options.lights or options.folder, options.samples, options.every, lpips)
        rows = {}
        for capture in captures:
            scene = fitted(capture, options.runs / options.dataset, options.size or dataset.size, options.set)
            rows[capture.name] = dataset.score(scene, capture, settings)
            print(table(dataset.columns, {capture.name: rows[capture.name]}), flush=True)
    except RelightError as error:
        parser.exit(2, f"{error}\n")
    print(f"\n{dataset.title}\n{table(dataset.columns, rows)}\n{dataset.note}")
    if options.json is not None:
        with replacing(options.json) as temporary:
            temporary.write_text(json.dumps({"dataset": options.dataset, "note": dataset.note, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
