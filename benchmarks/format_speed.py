"""Seconds to write and read a million Gaussians in every format, and splat-transform's CPU path to .sog and .spz.

    python -m benchmarks.format_speed [--count 1000000] [--node FOLDER]

--node: a folder with node_modules of @playcanvas/splat-transform 3.7; without it only our own are timed.  The splat is
made up: clusters of SH, as fits have them, of degree 3.  Peers start node and read our .ply, which is timed apart, as
writing it to .ply, and taken off.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import torch

from benchmarks.record import record
from relight.formats import read_splat, write_splat
from relight.geometry.gaussians import Gaussians

FILES = ("a.ply", "a.compressed.ply", "a.splat", "a.spz", "a.sog", "a.glb", "a.usdc")


def scene(count: int) -> Gaussians:
    """On a few hundred curved sheets, with SH around 4096 centres."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    sheet = torch.randint(300, (count,), generator=generator)
    centers, axes = normal(300, 3) * 2, normal(300, 2, 3)
    kind = torch.randint(4096, (count,), generator=generator)
    sh = torch.cat([normal(4096, 1, 3), 0.12 * normal(4096, 15, 3)], 1)[kind] + 0.03 * normal(count, 16, 3)
    return Gaussians(
        means=centers[sheet] + torch.einsum("ni,nij->nj", normal(count, 2), axes[sheet]) + 0.01 * normal(count, 3),
        quats_wxyz=normal(count, 4),
        log_scales=-5 + 0.8 * normal(count, 3),
        logit_opacity=1 + 2 * normal(count),
        sh=sh,
    )


def peer(node: Path, source: Path, target: Path, limit: float) -> float | None:
    """Seconds of splat-transform; None if it isn't done within the limit."""
    command = [
        "node",
        str(node / "node_modules/.bin/splat-transform"),
        "-q",
        "-w",
        "-g",
        "cpu",
        str(source),
        str(target),
    ]
    start = time.perf_counter()
    try:
        subprocess.run(command, capture_output=True, timeout=limit, check=True)
    except subprocess.TimeoutExpired:
        return None
    return time.perf_counter() - start


def main() -> None:
    """One result: seconds to write .sog, and a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--node", type=Path)
    parser.add_argument("--limit", type=float, default=400.0, help="seconds after which a peer is stopped")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows: dict[str, dict[str, float]] = {}
    detail: dict[str, object] = {"title": f"Writing {arguments.count} Gaussians as .sog", "formats": rows}
    with tempfile.TemporaryDirectory() as place:
        folder, g = Path(place), scene(arguments.count)
        small = g[:2000]
        for file in FILES:  # imports and first calls
            write_splat(small, folder / file)
        for file in FILES:
            start = time.perf_counter()
            write_splat(g, folder / file)
            middle = time.perf_counter()
            read = read_splat(folder / file)
            rows[file.partition(".")[2]] = {
                "write_s": round(middle - start, 2),
                "read_s": round(time.perf_counter() - middle, 2),
                "bytes_each": round((folder / file).stat().st_size / len(read), 1),
            }
            print(file, rows[file.partition(".")[2]], flush=True)
        ours, theirs = rows["sog"]["write_s"], None
        if arguments.node is not None:
            base = peer(arguments.node, folder / "a.ply", folder / "b.ply", arguments.limit)
            for kind in ("spz", "sog"):
                seconds = peer(arguments.node, folder / "a.ply", folder / f"b.{kind}", arguments.limit)
                row = {"limit_s": arguments.limit} if seconds is None else {
                    "write_s": round(seconds - (base or 0), 2),
                    "bytes_each": round((folder / f"b.{kind}").stat().st_size / arguments.count, 1),
                }  # fmt: skip
                rows[f"{kind} by splat-transform"] = row
                print(kind, row, flush=True)
                if kind == "sog":
                    # Stopped: at least so much.
                    theirs = arguments.limit if seconds is None else seconds - (base or 0)
                    detail["peer_finished"] = seconds is not None
    record(
        "format_speed", ours, "s", peer=None if theirs is None else "splat-transform 3.7, -g cpu",
        ratio=None if theirs is None else theirs / ours, detail=detail,
    )  # fmt: skip


if __name__ == "__main__":
    main()
