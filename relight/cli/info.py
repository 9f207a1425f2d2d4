"""Say what a Gaussian splat file holds: count, extents, materials, bytes by attribute, what is lossy.

examples:
  relight info scene.spz
  relight info scene.sog --json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file."""
    parser.add_argument("source", metavar="FILE", type=Path, help="splat file, or folder of an unbundled SOG")
    parser.add_argument("--from", dest="source_format", metavar="FORMAT", help="where it can't be told")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Print it."""
    found = describe(arguments.source, arguments.source_format)
    if arguments.json:
        print(json.dumps(found, indent=1))
        return 0
    sizes: dict[str, int] = found.pop("bytes_by_attribute")
    for name, value in found.items():
        if isinstance(value, dict):
            value = "  ".join(f"{k} {v[0]:.4g} to {v[1]:.4g}" for k, v in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value)) or "none"
        print(f"{name.replace('_', ' '):<16} {value}")
    total = sum(sizes.values()) or 1
    print("bytes by attribute")
    for name, size in sizes.items():
        each = size / max(found["gaussians"], 1)
        print(f"  {name:<14} {size:>12,}  {each:7.2f} a Gaussian  {100 * size / total:5.1f} %")
    return 0


def describe(path: Path, format: str | None = None) -> dict[str, Any]:
    """What `relight info` says, for --json.  Extents: lowest and highest of the middle 99.8 percent on each axis."""
    import torch

    from relight.formats import FORMATS, detect, find, read_splat

    g = read_splat(path, format=format, drop_invalid=True)
    target = detect(path) if format is None else find(path, format)
    assert target is not None and target in FORMATS.values()
    file = path / "meta.json" if path.is_dir() else path
    sizes = target.module.sizes(file)
    size = file.stat().st_size + (sum(sizes.values()) if file.name == "meta.json" else 0)
    ranges = {}
    if len(g):
        low, high = (g.means.kthvalue(k, dim=0).values.tolist() for k in _middle(len(g)))
        ranges = {a: (low[i], high[i]) for i, a in enumerate("xyz")}
    sample = g.scales[:: max(1, len(g) // (1 << 16))].flatten()
    return {
        "format": target.what,
        "bytes": size,
        "bytes_each": round(size / max(len(g), 1), 2),
        "gaussians": len(g),
        "sh_degree": g.sh_degree,
        "extents": ranges,
        "median_scale": float(torch.median(sample)) if len(g) else 0.0,
        "channels": list(g.channels),
        "kind": [name for name, is_set in g.flags.items() if is_set],
        "lossy": target.lossy,
        "bytes_by_attribute": sizes,
    }


def _middle(count: int) -> tuple[int, int]:
    """Ranks, from 1, of the ends of the middle 99.8 percent."""
    return max(1, round(0.001 * count)), min(count, max(1, round(0.999 * count)))
