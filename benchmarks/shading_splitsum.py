"""Split-sum against Monte Carlo on a sphere, by roughness, under real environments: relative RMS error.

    python -m benchmarks.shading_splitsum [--samples 1024]

The maps are found in RELIGHT_DATA (default ../shared/data).  Errors are relative to the sphere's RMS radiance; the
second half of the samples against the first says how much of it is the reference's own noise.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from benchmarks import DATA
from benchmarks.record import record
from relight.images import read_image
from relight.render.monte_carlo import FastMonteCarlo
from relight.shading.environment import Environment
from relight.shading.shade import Harmonics, SplitSum, shade
from relight.shading.surface import Surface

MAPS = ("studio_small_03", "venice_sunset", "phalzer_forest_01", "noon_grass")
ROUGHNESS = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0)
ESTIMATORS = {"split-sum": SplitSum(), "harmonics, degree 5": Harmonics(5)}


def sphere(size: int, roughness: float, metallic: float) -> Surface:
    """The visible half of a unit sphere as an orthographic camera on +z sees it; (N,) points."""
    grid = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(-grid, grid, indexing="ij")
    inside = x * x + y * y < 0.98
    normal = torch.stack([x, y, (1 - x * x - y * y).clamp_min(0).sqrt()], -1)[inside]
    one = torch.ones(len(normal))
    view = torch.tensor([0.0, 0.0, 1.0]).expand_as(normal)
    color = torch.tensor([0.9, 0.7, 0.5]).expand_as(normal)
    return Surface(normal, normal, view, color, roughness * one, metallic * one)


def relative(a: Tensor, b: Tensor) -> float:
    """Per cent: RMS of the difference over RMS of the reference b."""
    return 100 * float((a - b).square().mean().sqrt() / b.square().mean().sqrt())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1024, help="of each strategy, for each half of the reference")
    parser.add_argument("--size", type=int, default=32, help="the sphere's diameter in pixels")
    options = parser.parse_args()
    folder = DATA / "hdri" / "512"
    tables: dict[str, dict[str, dict[str, float]]] = {}
    for name in MAPS:
        light = Environment(read_image(folder / f"{name}_512.hdr").rgb.contiguous())
        for kind, metallic in (("metal", 1.0), ("dielectric", 0.0)):
            for roughness in ROUGHNESS:
                points = sphere(options.size, roughness, metallic)
                with torch.no_grad():
                    halves = [shade(points, light, FastMonteCarlo(options.samples), seed=seed) for seed in (0, 1)]
                    exact = (halves[0] + halves[1]) / 2
                    found = {k: relative(shade(points, light, e), exact) for k, e in ESTIMATORS.items()}
                # Half the difference of the halves has the same spread as the error of their mean.
                found["noise of the reference"] = relative(halves[0], halves[1]) / 2
                for estimator, error in found.items():
                    row = tables.setdefault(f"{estimator}, {kind}: error percent", {}).setdefault(name, {})
                    row[f"roughness {roughness:g}"] = error
    split_sum = tables["split-sum, metal: error percent"]
    record(
        "shading_splitsum",
        max(error for row in split_sum.values() for error in row.values()),
        "% of RMS radiance, worst",
        peer=f"Monte Carlo, {2 * options.samples} samples of each strategy",
        detail={"title": "split-sum", "size": options.size, **tables},
    )


if __name__ == "__main__":
    main()
