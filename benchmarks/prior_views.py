"""Whether the material prior helps inverse rendering where photographs are few.

    python -m benchmarks.prior_views [spot ...] [--views 8 20 80] [--seeds 3] [--iterations 150] [--prior material]

The shape is known (see benchmarks.mesh_known); the stage `materials` finds materials and light by split-sum with baked
shadows, from the first N photographs spread evenly over the training views, with and without the prior.  Rows that are
kept in results/prior_views.json from the same options are not made again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

from benchmarks.mesh_known import bare
from benchmarks.record import earlier, record
from benchmarks.relightable import EVERY, folder_of
from relight.cli.truth import find_truth
from relight.data import load
from relight.diffusion.own.prior import Prior
from relight.fit.relighting import measure
from relight.render.monte_carlo import FastMonteCarlo
from relight.render.relit_mesh import RelitMesh
from relight.stages.materials import MeshMaterials
from relight.testing.job import MemoryJob
from relight.views import Views

SAMPLES = 8
"""Of Monte Carlo, in the pictures that are scored."""


def spread(views: Views, count: int) -> Views:
    """`count` of the training views, evenly."""
    train = [i for i in range(len(views)) if views[i].split == "train"]
    kept = {train[round(i * (len(train) - 1) / max(count - 1, 1))] for i in range(count)}
    chosen = [v for i, v in enumerate(views) if i in kept or v.split != "train"]
    return replace(views, views=tuple(chosen))


def fitted(name: str, count: int, seed: int, options: dict[str, object]) -> dict[str, float]:
    """Scores of one fit."""
    scene = load(folder_of(name))
    assert scene.views is not None
    scene = replace(scene, asset=bare(name), views=spread(scene.views, count))
    assert scene.views is not None
    folder, test = folder_of(name), scene.views.test
    truth = find_truth(folder, test, folder.parents[1] / "hdri" / "512", scene.frame.up, 0.0)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        found = MeshMaterials(**options).run(scene, MemoryJob(Path(place), seed=seed))  # type: ignore[arg-type]
    minutes = (time.perf_counter() - start) / 60
    score = measure(RelitMesh(found.asset, found.light), test, truth, FastMonteCarlo(SAMPLES), every=EVERY)
    return {
        "base colour, dB": score["albedo"]["per channel"]["sRGB, picture"],
        "roughness MAE": score["roughness MAE"]["foreground"],
        "metallic MAE": score["metallic MAE"]["foreground"],
        "relit, dB": score["relit, mean"]["per channel"]["PSNR"],
        "minutes": minutes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["spot"])
    parser.add_argument("--views", type=int, nargs="*", default=[8, 20, 80])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=150)
    parser.add_argument("--prior", default="material")
    parser.add_argument("--weight", type=float, default=MeshMaterials.prior_weight)
    arguments = parser.parse_args()
    shared = {"iterations": arguments.iterations, "sampled_iterations": 0, "max_texture": 512, "occlusion_rays": 0}
    trained = Prior.load(arguments.prior).info
    settings = {**shared, "weight": arguments.weight, "trained": trained}
    rows = kept(settings)
    for name in arguments.names:
        for count in arguments.views:
            for seed in range(arguments.seeds):
                for prior in ("", arguments.prior):
                    key = f"{name}, {count} views, seed {seed}, {'with' if prior else 'without'}"
                    if key not in rows:
                        options = {**shared, "prior": prior, "prior_weight": arguments.weight}
                        rows[key] = fitted(name, count, seed, options)
                        print(key, {k: round(v, 3) for k, v in rows[key].items()}, flush=True)
                        write(rows, settings)


def write(rows: dict[str, dict[str, float]], settings: dict[str, object]) -> None:
    """Means over seeds, and what the prior adds."""
    groups: dict[str, list[dict[str, float]]] = {}
    for key, row in rows.items():
        name, count, _, which = key.split(", ")
        groups.setdefault(f"{name}, {count}, {which} the prior", []).append(row)
    table = {g: {k: fmean(r[k] for r in some) for k in some[0]} for g, some in groups.items()}
    for group, some in groups.items():
        if len(some) > 1:
            table[group]["base colour, spread over seeds"] = stdev(r["base colour, dB"] for r in some)
    few = [g for g in table if ", 8 views, with the prior" in g]
    gain = [
        table[g]["base colour, dB"] - table[p]["base colour, dB"]
        for g in few
        if (p := g.replace("with the", "without the")) in table
    ]
    record(
        "prior_views", fmean(gain) if gain else 0.0, "dB", peer="without the prior",
        detail={
            "title": "material prior at 8 views of a known shape: base colour gains",
            "settings": settings, "scores": table, "fits": rows,
        },
    )  # fmt: skip


def kept(settings: dict[str, object]) -> dict[str, dict[str, float]]:
    """Fits of the last result with the same settings."""
    detail = earlier("prior_views")
    return detail["fits"] if detail.get("settings") == settings else {}


if __name__ == "__main__":
    main()
