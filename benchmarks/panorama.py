"""Light from all around, from crops of real panoramas, against two baselines; and whether edits do what they say.

    python -m benchmarks.panorama [--prior PATH_OR_NAME] [--crops 4] [--fov 60] [--steps 4] [--draws 1]

Crops of the maps in RELIGHT_DATA/hdri, evenly around, exposed so that the geometric mean of light is 0.18, clipped, in
8 bits.  The real maps are never trained on; of procedural training data, ranges were compared with
their statistics.  Without --prior only the baselines are scored.
"""

from __future__ import annotations

import argparse
import math
import time

import torch
from torch import Tensor

from benchmarks import DATA
from benchmarks.record import record
from relight.data.environments import load_environment
from relight.diffusion.surroundings.framing import Frame, map_directions, photographed, resized_map
from relight.diffusion.surroundings.light_edit import LightEdit, find_lights, solid_angles
from relight.diffusion.surroundings.panorama import KEY, DiffusionPanorama, PanoramaEstimator
from relight.diffusion.surroundings.sphere_metrics import SPHERES, ConstantMean, MirroredCrop, peak, sphere_scores
from relight.shading.color import linear_to_srgb, luminance, srgb_to_linear

ASPECT = 4 / 3
WIDTH = 160
MOVED = 30.0
PEAK = "peak, median degrees"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prior", help="name of a bundled prior, or its file")
    parser.add_argument("--crops", type=int, default=4, help="of each map")
    parser.add_argument("--fov", type=float, default=60.0)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--draws", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    maps = real_maps()
    estimators: dict[str, PanoramaEstimator] = {"constant mean": ConstantMean(), "mirrored crop": MirroredCrop()}
    if arguments.prior:
        from relight.diffusion.own.prior import Prior

        prior = Prior.load(arguments.prior)
        estimators["prior"] = DiffusionPanorama(
            prior, prior.config.size[0], steps=arguments.steps, draws=arguments.draws
        )
    scores = {name: [] for name in estimators}
    seconds = dict.fromkeys(estimators, 0.0)
    for radiance in maps.values():
        for k in range(arguments.crops):
            truth, photo, frame = crop(radiance, k / arguments.crops, arguments.fov)
            for name, estimator in estimators.items():
                begun = time.perf_counter()
                found = estimator.estimate(photo, frame)
                seconds[name] += time.perf_counter() - begun
                scores[name].append(sphere_scores(found, truth))
    table = {name: summary(rows) for name, rows in scores.items()}
    del table["constant mean"][PEAK]  # it has none
    count = len(maps) * arguments.crops
    ours = "prior" if arguments.prior else "mirrored crop"
    best = min((n for n in table if n != ours), key=lambda n: table[n]["diffuse si-RMSE"])
    value = table[ours]["diffuse si-RMSE"]
    record(
        "panorama" if arguments.prior else "panorama_baselines",
        value,
        "si-RMSE",
        peer=best,
        ratio=table[best]["diffuse si-RMSE"] / value,
        detail={
            "title": f"Panorama from a {arguments.fov:g} degree crop, {ours}: si-RMSE of a diffuse sphere",
            "crops": count,
            "prior": arguments.prior,
            "steps": arguments.steps,
            "draws": arguments.draws,
            "scores": table,
            "seconds a panorama": {name: round(s / count, 4) for name, s in seconds.items()},
        },
    )
    record_edits(maps)


def record_edits(maps: dict[str, Tensor]) -> None:
    """The second figure."""
    peaks, shading = edit_errors(maps)
    errors = sorted(peaks.values())
    record(
        "panorama_edits",
        sum(e <= 3 for e in errors) / len(errors),
        "share",
        detail={
            "title": f"Strongest light of real panoramas moved by {MOVED:g} degrees: peak within 3 degrees of its goal",
            "median degrees": errors[len(errors) // 2],
            "largest degrees": errors[-1],
            "largest degrees of the light's vector irradiance": max(shading.values()),
            "peaks": peaks,
            "shading": shading,
        },
    )


def real_maps() -> dict[str, Tensor]:
    """Name to (128, 256, 3) radiance."""
    folder = DATA / "hdri"
    paths = sorted(folder.glob("*/*.hdr"))
    if not paths:
        raise SystemExit(f"{folder}: no panoramas; set RELIGHT_DATA")
    return {path.stem: resized_map(load_environment(path).radiance, 128) for path in paths}


def crop(radiance: Tensor, turn: float, fov: float) -> tuple[Tensor, Tensor, Frame]:
    """The map turned (0 to 1, all around) and exposed as its photograph is; the photograph, linear; where it looks."""
    truth = radiance.roll(round(turn * radiance.shape[1]), 1)
    frame = Frame.of(fov, ASPECT)
    seen = photographed(truth, frame, round(WIDTH / ASPECT), WIDTH)[0]
    scale = KEY / torch.exp(luminance(seen).clamp_min(1e-6).log().mean())
    encoded = (linear_to_srgb((seen * scale).clamp(0, 1)) * 255).round() / 255
    return truth * scale, srgb_to_linear(encoded), frame


def summary(rows: list[dict[str, dict[str, float]]]) -> dict[str, float]:
    """Means, and the median for the peak."""
    out = {}
    for sphere in SPHERES:
        for key, shown in (("si_rmse", "si-RMSE"), ("rmse", "RMSE"), ("angular", "angular, degrees")):
            out[f"{sphere} {shown}"] = round(sum(r[sphere][key] for r in rows) / len(rows), 4)
    peaks = sorted(r["peak"]["degrees"] for r in rows)
    out[PEAK] = round(peaks[len(peaks) // 2], 1)
    return out


@torch.enable_grad()
def edit_errors(maps: dict[str, Tensor]) -> tuple[dict[str, float], dict[str, float]]:
    """Of each map whose other lights were taken out, degrees between where its peak, and where the light's vector
    irradiance, went when the strongest light was moved, and 30 degrees to the right of where they were.
    """
    peaks, shading = {}, {}
    for name, radiance in maps.items():
        lights = find_lights(radiance)
        if not len(lights):
            continue
        others = [LightEdit(k, remove=True) for k in range(1, len(lights))]
        before, after = lights.edited(others), lights.edited([*others, LightEdit(0, right=MOVED)])
        peaks[name] = round(_degrees(_turned(peak(before)), peak(after)), 2)
        was, now = (_vector(picture - lights.background) for picture in (before, after))
        shading[name] = round(_degrees(_turned(was), now), 2)
    return peaks, shading


def _vector(radiance: Tensor) -> Tensor:
    rows = radiance.shape[0]
    weight = luminance(radiance) * solid_angles(rows)
    return (map_directions(rows) * weight[..., None]).sum((0, 1))


def _turned(direction: Tensor) -> Tensor:
    c, s = math.cos(math.radians(MOVED)), math.sin(math.radians(MOVED))
    x, y, z = direction.unbind()
    return torch.stack([c * x - s * z, y, s * x + c * z])


def _degrees(a: Tensor, b: Tensor) -> float:
    return math.degrees(math.acos(max(-1.0, min(1.0, float(a @ b / (a.norm() * b.norm()))))))


if __name__ == "__main__":
    main()
