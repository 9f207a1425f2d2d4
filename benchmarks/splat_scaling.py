"""How the cost of forward + backward grows with Gaussians, pixels and channels: a table and a plot.

python -m benchmarks.splat_scaling
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.record import record
from benchmarks.workloads import random_splat, seconds, step
from relight.render.backends.splat_cpu import SplatCpu

COUNT, SIZE, CHANNELS = 30_000, 400, 3
AXES = {
    "gaussians": [3_000, 10_000, 30_000, 100_000, 300_000],
    "size": [100, 200, 400, 800],
    "channels": [1, 3, 16, 64, 256],
}


def milliseconds(gaussians: int, size: int, channels: int) -> float:
    """Fastest of a few runs.  Gaussians keep a screen size of 2 px whatever the picture's size."""
    return seconds(step(SplatCpu(), *random_splat(gaussians, size, size), channels), repeats=5)[0] * 1e3


def main() -> None:
    base = {"gaussians": COUNT, "size": SIZE, "channels": CHANNELS}
    table = {
        axis: {str(value): milliseconds(**{**base, axis: value}) for value in values} for axis, values in AXES.items()
    }
    record(
        "splat_scaling",
        table["channels"]["256"] / table["channels"]["3"],
        "times the cost of 3 channels for 256",
        peer="256 / 3 passes of 3 channels",
        ratio=256 / 3 / (table["channels"]["256"] / table["channels"]["3"]),
        detail={"milliseconds": table, "base": base},
    )
    plot(table, Path(__file__).parent / "results" / "splat_scaling.svg")


def plot(table: dict[str, dict[str, float]], path: Path) -> None:
    """One panel an axis, logarithmic both ways."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(table), figsize=(10, 3), sharey=True, layout="constrained")
    for panel, (axis, row) in zip(panels, table.items(), strict=True):
        panel.loglog([float(v) for v in row], list(row.values()), "o-", color="#3b6ea5")
        panel.set_xlabel({"gaussians": "Gaussians", "size": "picture side, pixels", "channels": "channels"}[axis])
        panel.grid(True, which="both", alpha=0.25)
    panels[0].set_ylabel("forward + backward, ms")
    figure.savefig(path)


if __name__ == "__main__":
    main()
