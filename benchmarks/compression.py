"""Splats compressed to lose at most 0.3 dB, against splat-transform's .sog and plain .spz of the same file.

    python -m benchmarks.compression plant [biker inria NAME=STAGE_FOLDER] [--node FOLDER] [--minutes N] [--keep FOLDER]
                                     [key=value ...]

plant, biker and inria are splats of RELIGHT_DATA that came without photographs; they are judged by generated views,
over the pixels that show something.  A stage folder has photographs, and those held out judge.  Materials are relit by
the lights of its capture where those are known.  --node (or SPLAT_TRANSFORM): a folder with node_modules of
@playcanvas/splat-transform 3.7, which has no place for surfels.  --minutes: of each search, after which the best file
found so far counts.  --keep: for what searches find, by name; what is found there is compared, not searched again.
key=value: options of the stage compress.

Peers drop no Gaussian and are nearly lossless; "ours, as good as ..." is our file of all that is ever seen, with as few
bits as keep that file's PSNR.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import tempfile
import time
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch

from benchmarks import DATA
from benchmarks.record import record
from benchmarks.relightable import folder_of
from relight.cli.truth import find_truth
from relight.compress import codec, curve
from relight.compress.score import HIGHEST
from relight.config import stage_alone
from relight.fit.relighting import measure
from relight.formats import FORMATS, read_splat, write_splat
from relight.formats.common import plain
from relight.geometry.gaussians import Gaussians
from relight.render.monte_carlo import FastMonteCarlo
from relight.render.relit import Relit, has_materials
from relight.render.splats import render
from relight.render.trajectory import subject
from relight.scene import Frame, Scene
from relight.scene_io import load_scene
from relight.stages.compress import Compress, Compression
from relight.testing.job import MemoryJob

SPLATS = {
    "plant": "padilla/plant/plant.splat",
    "biker": "playcanvas/biker.spz",
    "inria": "inria_style_ply/point_cloud_iter7000_9080g.ply",
}
RELIT_EVERY, RELIT_SAMPLES = 8, 16


class TimedJob(MemoryJob):
    """Wants no more after so many minutes."""

    def __init__(self, folder: Path, minutes: float):
        super().__init__(folder)
        self.end = time.monotonic() + 60 * minutes

    def enough(self) -> bool:
        return time.monotonic() > self.end


def opened(word: str) -> tuple[str, Scene]:
    """A name, and a scene of a splat of ours or of a stage folder."""
    name, _, folder = word.partition("=")
    if folder:
        return name, load_scene(Path(folder))
    splat = read_splat(DATA / "splats" / SPLATS[name])
    center, radius = subject(splat)
    x, y, z = center.tolist()
    return name, Scene(Frame((x, y, z), radius), gaussians=splat)


def splat_transform(node: Path, source: Path, target: Path) -> None:
    command = ["node", str(node / "node_modules/.bin/splat-transform"), "-q", "-w", "-g", "cpu"]
    subprocess.run([*command, str(source), str(target)], capture_output=True, timeout=3000, check=True)


def peers(name: str, splat: Gaussians, folder: Path, node: Path | None) -> dict[str, tuple[Gaussians, int]]:
    """What is read from files of others, and their bytes."""
    found = {}
    write_splat(splat, folder / "peer.ply")
    if node is not None and not splat.surfels:
        splat_transform(node, folder / "peer.ply", folder / "peer.sog")
        found["splat-transform .sog"] = folder / "peer.sog"
    write_splat(splat, folder / "peer.spz")
    found["plain .spz"] = folder / "peer.spz"
    return {what: (read_splat(path), path.stat().st_size) for what, path in found.items()}


def as_good(state: Compression, psnr: float, folder: Path) -> tuple[int, Gaussians]:
    """Bytes of all that is seen, with as few bits as still have this PSNR against the splat as it was; what is read."""
    counts_for = state.importance(state.original)[:, 1]
    splat, counts_for = state.original[counts_for > 0], counts_for[counts_for > 0]
    assert state.budget.table is not None
    expected, path = state.judge.pictures(state.original), folder / "as_good.sog"
    wanted, slack = 10 ** (-psnr / 10), 1.0
    while True:
        recipe = state.budget.table.within_error(slack * wanted, len(splat), splat.sh.shape[1] - 1)
        found = codec.encode(splat, recipe, FORMATS["sog"], path, counts_for)
        if state.judge.distance(found, expected) <= wanted or slack < 0.02:
            return path.stat().st_size, found
        slack *= 0.7


def decibels(error: float) -> float:
    """PSNR of a mean squared error."""
    return -10 * math.log10(max(error, 10 ** (-HIGHEST / 10)))


def milliseconds(state: Compression, splat: Gaussians) -> float:
    """Of a picture, the fastest of three rounds over the judge's views."""
    times = []
    with torch.no_grad():
        for _ in range(3):
            start = time.perf_counter()
            for camera in state.judge.cameras:
                render(state.looks.rasterizer, splat, camera, options=state.looks.options)
            times.append(time.perf_counter() - start)
    return 1000 * min(times) / len(state.judge.cameras)


def relit(name: str, scene: Scene) -> dict[str, float]:
    """PSNR under lights of the capture that the fit never saw."""
    assert scene.views is not None
    views, folder = scene.views.test, folder_of(name.partition("_")[0])
    views = replace(views, views=views.views[::RELIT_EVERY])
    truth = find_truth(folder, views, folder.parents[1] / "hdri" / "512", scene.frame.up, 0.0)
    drawn = Relit(scene.gaussians, scene.mesh, scene.light, extent=scene.frame.radius)
    found = measure(drawn, views, truth, FastMonteCarlo(RELIT_SAMPLES))
    return {kind: found["relit, mean"][kind]["PSNR"] for kind in ("unscaled", "per channel")}


def searched(scene: Scene, options: list[str], minutes: float, folder: Path) -> tuple[Compression, float]:
    """Compress into `folder`, or take what is there: the state, and the minutes that it took."""
    assert scene.gaussians is not None
    kept, job = folder / "search.json", TimedJob(folder, minutes)
    if kept.is_file():
        found = json.loads(kept.read_text())
        state = Compression(Compress(**found["options"]), scene, scene.gaussians, job)
        state.budget.table = None if found["table"] is None else codec.Table.from_json(found["table"])
        return state, found["minutes"]
    state = Compression(cast(Compress, stage_alone("compress", options).stage), scene, scene.gaussians, job)
    begun = time.perf_counter()
    state.run()
    taken = (time.perf_counter() - begun) / 60
    table = None if state.budget.table is None else state.budget.table.to_json()
    kept.write_text(json.dumps({"minutes": taken, "options": asdict(state.options), "table": table}))
    return state, taken


def measured(name: str, scene: Scene, options: list[str], node: Path | None, minutes: float, folder: Path) -> None:
    """Compress, compare, record."""
    assert scene.gaussians is not None
    state, taken = searched(scene, options, minutes, folder)
    rungs, summary = curve.read(folder)
    chosen, original = rungs[summary["chosen"]], plain(scene.gaussians)
    result = read_splat(folder / summary["file"])
    print(curve.table(rungs, chosen.index), flush=True)
    write_splat(original, folder / "before.ply")
    size = (folder / "before.ply").stat().st_size
    rows: dict[str, dict[str, float]] = {}

    def row(bytes_: int, splat: Gaussians) -> dict[str, float]:
        score = state.judge.score(splat)
        error = state.judge.distance(splat, state.judge.pictures(state.original))
        found = {"bytes": bytes_, "times smaller": size / bytes_, "Gaussians": len(splat)}
        found |= {"bits of each": 8 * bytes_ / len(splat), "dB lost": score.drop}
        return found | {"dB to the original": decibels(error), "SSIM": score.ssim}

    rows["compressed"] = row(chosen.size, result)
    for what, (splat, bytes_) in peers(name, original, folder, node).items():
        rows[what] = row(bytes_, splat)
        if state.budget.table is not None:
            rows[f"ours, as good as {what}"] = row(*as_good(state, rows[what]["dB to the original"], folder))
    detail: dict[str, Any] = {
        "title": f"{name} compressed, against its .ply", "options": asdict(state.options),
        "minutes": taken, "bytes of the .ply": size, "bits of each in the .ply": 8 * size / len(original),
        "dB before": state.judge.before.psnr,
        "files": rows, "milliseconds of a picture": {
            "before": milliseconds(state, original), "after": milliseconds(state, result),
        },
        "trials": [asdict(r) for r in rungs],
    }  # fmt: skip
    if has_materials(original):
        detail["relit, dB"] = {"before": relit(name, scene), "after": relit(name, replace(scene, gaussians=result))}
    record(f"compression_{name}", size / chosen.size, "times smaller than .ply", detail=detail)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="+", metavar="NAME | NAME=FOLDER | key=value")
    parser.add_argument("--node", type=Path, default=os.environ.get("SPLAT_TRANSFORM"))
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_intermixed_args()
    warnings.simplefilter("ignore")
    names = [
        w for w in arguments.words if w in SPLATS or ("=" in w and (Path(w.partition("=")[2]) / "scene.json").is_file())
    ]
    options = [w for w in arguments.words if w not in names]
    node = None if arguments.node is None else Path(arguments.node)
    for word in names:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) if arguments.keep is None else arguments.keep / word.partition("=")[0]
            folder.mkdir(parents=True, exist_ok=True)
            measured(*opened(word), options, node, arguments.minutes, folder)


if __name__ == "__main__":
    main()
