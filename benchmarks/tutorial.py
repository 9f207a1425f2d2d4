"""The tutorial (docs/tutorial.md) as it is written, on 50 phone photos: seconds of each command, and what comes out.

    python -m benchmarks.tutorial [--sfm] [--out FOLDER]

The scene file is the one that the page shows, its photographs those of multiview/ngp_fox in RELIGHT_DATA (default
../shared/data), whose own cameras stand in for step 2 unless --sfm.  A client moves in the viewer all through the fit.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from benchmarks import DATA, ROOT
from benchmarks.record import record
from benchmarks.viewer_client import WatchedFit
from relight.scene_io import load_scene

PAGE = ROOT / "docs" / "tutorial.md"
CAPTURE = DATA / "multiview" / "ngp_fox"
GOAL = 15.0
"""Minutes."""


def scene_text() -> str:
    """The page's scene file."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (text,) = [block for block in blocks if "stages:" in block]
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sfm", action="store_true", help="find the cameras too (pip install 'relight[sfm]')")
    parser.add_argument("--out", type=Path, help="a folder for what comes out, which stays")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs, and theirs, ignore it
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() if options.out is None else nullcontext(options.out) as place:
        folder = Path(place)
        photos, run, page = folder / "photos", folder / "runs" / "fox", folder / "fox.html"
        shutil.copytree(CAPTURE / "images", photos if options.sfm else photos / "images")

        def timed(name: str, *words: object) -> None:
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-m", "relight", *map(str, words)], check=True)
            seconds[name] = time.perf_counter() - begun

        if options.sfm:
            timed("new --sfm", "new", "--sfm", photos)
        else:
            shutil.copy(CAPTURE / "transforms.json", photos)
        (photos / "scene.yaml").write_text(scene_text())
        timed("check", "check", photos / "scene.yaml")
        begun = time.perf_counter()
        fit = WatchedFit(photos / "scene.yaml", f"output={run}")
        if not fit.complete():
            raise SystemExit("".join(fit.lines[-20:]))
        seconds["fit --view"] = time.perf_counter() - begun
        timed("eval", "eval", run)
        timed("export", "export", run, "-o", page, "--format", "web")
        scene = load_scene(run / "02-distill")
        minutes = sum(seconds.values()) / 60
        record(
            "tutorial", minutes, "minutes", peer=f"{GOAL:g} minutes", ratio=GOAL / minutes,
            detail={
                "title": "from 50 photos to a web page, as the tutorial says",
                "seconds": seconds, "pictures seen in the viewer": fit.pictures,
                "held-out PSNR": scene.history[0].metrics["test_psnr"], "page MiB": page.stat().st_size / 2**20,
                "cameras": "found" if options.sfm else "of the capture",
            },
        )  # fmt: skip


if __name__ == "__main__":
    main()
