"""Energy of the BSDF: what a white surface reflects under uniform light, by roughness, worst over viewing angles.

python -m benchmarks.shading_furnace
"""

from __future__ import annotations

import argparse
from functools import partial

from benchmarks.record import record
from relight.shading.bsdf import Bsdf
from relight.testing.laws import furnace_error

ROUGHNESS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
COSINES = (1.0, 0.8, 0.6, 0.4, 0.2, 0.1, 0.05)
MATERIALS = {
    "metal": (1.0, Bsdf),
    "half metal": (0.5, Bsdf),
    "dielectric": (0.0, Bsdf),
    "metal, single scattering": (1.0, partial(Bsdf, compensate=False)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1 << 16, help="Sobol points for each integral")
    options = parser.parse_args()
    table: dict[str, dict[str, float]] = {}
    for name, (metallic, model) in MATERIALS.items():
        errors = {
            r: furnace_error(r, metallic, cosines=COSINES, samples=options.samples, bsdf=model) for r in ROUGHNESS
        }
        table[name] = {f"{r:g}": 100 * float(e[e.abs().argmax()]) for r, e in errors.items()}
    record(
        "shading_furnace",
        max(abs(value) for value in table["metal"].values()),
        "% of the light, worst metal",
        detail={
            "title": "white furnace",
            "error_by_roughness_percent": table,
            "cosines": list(COSINES),
            "samples": options.samples,
        },
    )


if __name__ == "__main__":
    main()
