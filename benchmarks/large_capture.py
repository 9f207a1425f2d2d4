"""2,000 photographs of 24 megapixels: the memory that reading a capture takes, whatever its number of photographs.

    python -m benchmarks.large_capture [--photos 2000] [--reads 40] [--lens]

One JPEG with 2,000 names (hard links), so that the disk stays small; a reader cannot tell.  Photographs are read in
random order, as a fit reads them, until the cache is full and for some time after.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.record import record
from relight.data import load
from relight.pipeline.keys import data_key
from relight.views import CACHE_VARIABLE

WIDTH, HEIGHT = 6000, 4000
MOST_GIB = 6.0


def write_capture(folder: Path, photos: int, lens: bool) -> int:
    """Cameras on a ring; bytes of the photograph."""
    grid = np.add.outer(np.arange(HEIGHT) // 7, np.arange(WIDTH) // 5)
    noise = np.random.default_rng(0).integers(0, 24, (HEIGHT, WIDTH, 1), np.uint8)
    values = (grid[..., None] * np.array([1, 2, 3]) % 200).astype(np.uint8) + noise
    (folder / "images").mkdir()
    first = folder / "images/0000.jpg"
    Image.fromarray(values).save(first, quality=85)
    frames = []
    for i in range(photos):
        if i:
            os.link(first, folder / f"images/{i:04d}.jpg")
        a = 2 * np.pi * i / photos
        pose = [[-np.sin(a), 0, np.cos(a), 4 * np.cos(a)], [np.cos(a), 0, np.sin(a), 4 * np.sin(a)],
                [0, 1, 0, 0], [0, 0, 0, 1]]  # fmt: skip
        frames.append({"file_path": f"images/{i:04d}.jpg", "transform_matrix": pose})
    head = {"fl_x": 5000, "w": WIDTH, "h": HEIGHT} | ({"k1": -0.05, "k2": 0.01} if lens else {})
    (folder / "transforms.json").write_text(json.dumps(head | {"frames": frames}))
    return first.stat().st_size


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--reads", type=int, default=40)
    parser.add_argument("--max-size", type=int, default=None, help="pixels; photographs are kept at this size")
    parser.add_argument("--lens", action="store_true", help="photographs have a lens to undo")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        size = write_capture(folder, options.photos, options.lens)
        written = peak_gib()
        begun = time.perf_counter()
        scene = load(folder, max_size=options.max_size)
        loaded = time.perf_counter()
        data_key(scene)
        keyed, after_load = time.perf_counter(), peak_gib()
        views = scene.views
        assert views is not None
        rng = random.Random(0)
        for _ in range(options.reads):
            views.photo(rng.randrange(len(views)))
        read = time.perf_counter()
    limit = views._cache.limit / 2**30
    record(
        "large_capture" + ("_lens" if options.lens else "") + (f"_{options.max_size}" if options.max_size else ""),
        peak_gib(),
        "GiB",
        detail={
            "title": f"Peak memory, {options.photos} photographs of 24 megapixels"
            + (", with a lens" if options.lens else ""),
            "photos": options.photos, "reads": options.reads, "max_size": options.max_size,
            "cache limit, GiB": limit, "in the cache, GiB": views._cache.size / 2**30, "of it by": CACHE_VARIABLE,
            "peak before any is decoded, GiB": after_load, "peak of writing the capture, GiB": written,
            "MB of a file": size / 1e6, "seconds to load": loaded - begun, "seconds for the key": keyed - loaded,
            "seconds a photograph": (read - keyed) / options.reads, "bound, GiB": MOST_GIB,
        },
    )  # fmt: skip
    if peak_gib() > MOST_GIB or views._cache.size > views._cache.limit:
        raise SystemExit("more memory than allowed")


if __name__ == "__main__":
    main()
