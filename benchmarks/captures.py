"""Fits real captures and measures held-out photographs, in the time given to each.

    python -m benchmarks.captures fox_10min [fox_30min cape fountain sample]

The captures are found in RELIGHT_DATA (default ../shared/data).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks import DATA
from benchmarks.record import PICTURES, record
from relight.config import load_config
from relight.export.report import write_report
from relight.pipeline import run

CAPTURES: dict[str, tuple[str, str, list[str]]] = {
    "fox_10min": (
        "ngp_fox", "fox photographs, 225x400, within 10 minutes",
        ["data.max_size=400", "radiance.iterations=7000", "radiance.max_gaussians=40000"],
    ),
    "fox_30min": (
        "ngp_fox", "fox photographs, 225x400, within 30 minutes",
        ["data.max_size=400", "radiance.iterations=15000", "radiance.max_gaussians=60000"],
    ),
    "cape": (
        "nerd_gold_cape", "gold cape photographs with masks, 400x400",
        ["data.max_size=400", "radiance.iterations=5000", "radiance.max_gaussians=30000"],
    ),
    "fountain": (
        "strecha_fountain_p11", "fountain photographs (11 views), 600x400",
        ["data.max_size=600", "radiance.iterations=4000", "radiance.max_gaussians=60000"],
    ),
}  # fmt: skip
"""Name to folder, title and options."""


def measure(name: str, folder: Path) -> None:
    """Fit, judge, keep the picture."""
    source, title, overrides = CAPTURES[name]
    scene = folder / "scene.yaml"
    scene.write_text(f"data: {{path: {DATA / 'multiview' / source}}}\nstages:\n  - radiance: {{}}\n")
    result = run(load_config(scene, [*overrides, f"output={folder / 'run'}"]))
    page = write_report(result.folder, folder / "report.html")
    PICTURES.mkdir(parents=True, exist_ok=True)
    with Image.open(page.with_suffix(".png")) as picture:
        picture.save(PICTURES / f"{name}.jpg", quality=85)
    done = result.scene.history[-1]
    detail = {"title": title, "minutes": done.seconds / 60, "ssim": done.metrics["test_ssim"]}
    detail |= {"gaussians": done.metrics["gaussians"], "iterations": done.steps}
    record(f"capture_{name}", done.metrics["test_psnr"], "dB PSNR, held-out views", detail=detail)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=CAPTURES)
    for name in parser.parse_args().names:
        with tempfile.TemporaryDirectory() as folder:
            measure(name, Path(folder))


if __name__ == "__main__":
    main()
