"""Measure how well a run predicts photographs it has not seen, and its materials where their truth is known.

examples:
  relight eval runs/fox
  relight eval runs/fox --split train --json scores.json
  relight eval runs/sample --materials                         truth beside the photographs
  relight eval runs/spot --materials data/spot --lights hdri/512 --json scores.json

--materials looks in the capture's folder for test_albedo, test_roughness, test_metallic, test_normal and relight_NAME,
each with one picture for every test view, of the same name; for lights see scenes/sample/README.md.
--lpips takes weights as .safetensors; relight/fit/lpips.py says how to save them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from relight.cli.arguments import keep_files

if TYPE_CHECKING:
    from relight.scene import Scene


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Run folder, split, JSON output."""
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="run folder or stage folder")
    parser.add_argument("--split", choices=("test", "train"), default="test")
    parser.add_argument(
        "--materials", nargs="?", type=Path, const=Path(), metavar="FOLDER", help="also score materials and relighting"
    )
    parser.add_argument("--lights", type=Path, metavar="FOLDER", help="where lights are that aren't in the capture")
    parser.add_argument("--rotate", type=float, default=0.0, metavar="DEGREES", help="turn of the lights, see render")
    parser.add_argument("--samples", type=int, default=32, help="of relighting, a point (default: 32)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="relight each N-th test view only")
    parser.add_argument("--lpips", type=Path, metavar="FILE", help="LPIPS's weights, to score by it too; see below")
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
    from relight.fit.relighting import baked_as_found
    from relight.render.relit import Relit, has_materials
    from relight.render.splats import create_rasterizer
    from relight.scene_io import load_scene

    if arguments.json is not None:
        keep_files([arguments.json], arguments.force)
    if arguments.samples < 1 or arguments.every < 1:
        raise RelightError(f"--samples {arguments.samples}, --every {arguments.every}: expected 1 or more")
    scene = load_scene(last_stage(arguments.run_folder))
    scores = evaluate(scene, create_rasterizer(), arguments.split)
    assert scene.views is not None and scene.gaussians is not None  # or evaluate had raised
    if not scores:
        raise RelightError(f"{arguments.run_folder}: no {arguments.split} views; set data.test_every and fit again")
    width = max(len(s.name) for s in scores)
    print(f"{'view':<{width}}   PSNR    SSIM")
    for s in scores:
        print(f"{s.name:<{width}}  {s.psnr:6.2f}  {s.ssim:.4f}")
    mean = means(scores)
    print(f"{'mean':<{width}}  {mean['psnr']:6.2f}  {mean['ssim']:.4f}")
    document: dict[str, object] = {"mean": mean, "views": [asdict(s) for s in scores]}
    if arguments.materials is not None:
        document["materials"] = found = _materials(arguments, scene)
        _print(found)
    elif has_materials(scene.gaussians) and scene.light is not None and scene.light.of_world is not None:
        relit = Relit(scene.gaussians, scene.mesh, scene.light, extent=scene.frame.radius)
        baked = baked_as_found(relit, scene.views.split(arguments.split))
        document["baked light"] = asdict(baked)
        print(f"light baked into base colour: correlation {baked.correlation:.3f}, share {baked.slope:.3f} (0: none)")
    if arguments.json is not None:
        with replacing(arguments.json) as temporary:
            temporary.write_text(json.dumps(document, indent=1))
    return 0


def _materials(arguments: argparse.Namespace, scene: Scene) -> dict[str, object]:
    from relight.cli.progress import bar
    from relight.cli.truth import capture_folder, check_folder, find_truth, read_lpips
    from relight.errors import RelightError
    from relight.fit.relighting import ALIGNMENTS, measure
    from relight.render.monte_carlo import FastMonteCarlo
    from relight.render.relit import Relit

    if scene.views is None or len(scene.views.test) == 0:
        raise RelightError(f"{arguments.run_folder}: no test views, which truth about materials is given for")
    views = scene.views.test
    folder = arguments.materials if arguments.materials != Path() else capture_folder(views)
    if folder is None:
        raise RelightError("--materials: no test_albedo or relight_NAME beside the photographs; name their folder")
    check_folder(folder)
    truth = find_truth(folder, views, arguments.lights, scene.frame.up, arguments.rotate)
    lpips = None if arguments.lpips is None else read_lpips(arguments.lpips)
    relit = Relit(scene.gaussians, scene.mesh, scene.light, extent=scene.frame.radius)
    total = len(truth.relit) * len(ALIGNMENTS) * len(range(0, len(views), arguments.every))
    with bar("relit pictures", total) as advance:
        return measure(
            relit, views, truth, FastMonteCarlo(arguments.samples), every=arguments.every, lpips=lpips, advance=advance
        )


def _print(scores: Mapping[str, object], indent: str = "") -> None:
    for name, value in scores.items():
        if isinstance(value, Mapping):
            print(f"{indent}{name}")
            _print(value, indent + "  ")
        else:
            print(f"{indent}{name:<{40 - len(indent)}} {f'{value:.3f}' if isinstance(value, float) else value}")
