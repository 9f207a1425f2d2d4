"""Measure how well a run predicts photographs it has not seen.

examples:
  relight eval runs/fox
  relight eval runs/fox --split train --json scores.json
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Run folder, split, JSON output."""
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="run folder or stage folder")
    parser.add_argument("--split", choices=("test", "train"), default="test")
    parser.add_argument("--json", type=Path, help="also write the scores to this file")
    parser.add_argument("--force", action="store_true", help="replace an existing file")


def run(arguments: argparse.Namespace) -> int:
    """Print one line a view and the mean."""
    import json
    from dataclasses import asdict

    from relight.atomic import replacing
    from relight.errors import RelightError
    from relight.export.runs import last_stage
    from relight.fit.evaluate import evaluate, means
    from relight.render.splats import create_rasterizer
    from relight.scene_io import load_scene

    if arguments.json is not None and arguments.json.exists() and not arguments.force:
        raise RelightError(f"{arguments.json}: exists; --force replaces it, --json writes another file")
    scores = evaluate(load_scene(last_stage(arguments.run_folder)), create_rasterizer(), arguments.split)
    if not scores:
        raise RelightError(f"{arguments.run_folder}: no {arguments.split} views; set data.test_every and fit again")
    width = max(len(s.name) for s in scores)
    print(f"{'view':<{width}}   PSNR    SSIM")
    for s in scores:
        print(f"{s.name:<{width}}  {s.psnr:6.2f}  {s.ssim:.4f}")
    mean = means(scores)
    print(f"{'mean':<{width}}  {mean['psnr']:6.2f}  {mean['ssim']:.4f}")
    if arguments.json is not None:
        with replacing(arguments.json) as temporary:
            temporary.write_text(json.dumps({"mean": mean, "views": [asdict(s) for s in scores]}, indent=1))
    return 0
