"""How a benchmark says what it measured: one JSON line on the terminal, one file under results/."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.machine import commit, machine, versions
from relight.atomic import replacing

SCHEMA = 1
RESULTS = ROOT / "benchmarks" / "results"
ELSEWHERE = "RELIGHT_BENCH_RESULTS"
"""Environment variable that names another folder for what is recorded: runs at a small size, say."""


def record(
    name: str,
    value: float,
    unit: str,
    *,
    peer: str | None = None,
    ratio: float | None = None,
    detail: Mapping[str, object] | None = None,
    folder: Path | None = None,
) -> dict[str, object]:
    """Print one JSON line and write `folder/NAME.json`, replacing an earlier result; return what was written.

    folder: results/, or where RELIGHT_BENCH_RESULTS says.

    name: lower-case words joined by `_`.  value: in `unit`.  peer: what it was measured against, in the same run.
    ratio: how many times better than the peer.  detail: further JSON values; `title` is what the README's table
    shows instead of the name, and a mapping of mappings to numbers becomes a table of its own.
    Raises `ValueError` for anything that would make an invalid result.
    """
    result = {
        "schema": SCHEMA,
        "name": name,
        "value": float(value),
        "unit": unit,
        "peer": peer,
        "ratio": None if ratio is None else float(ratio),
        "detail": dict(detail or {}),
        "machine": machine(),
        "versions": versions(),
        "commit": commit(ROOT),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    if found := problems(result):
        raise ValueError(f"benchmark {name!r}: {'; '.join(found)}")
    print(json.dumps({key: result[key] for key in ("name", "value", "unit", "peer", "ratio", "detail")}), flush=True)
    folder = folder or _folder()
    with replacing(folder / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return result


def earlier(name: str) -> dict[str, Any]:
    """The detail of the last result of that name; empty without one."""
    try:
        return json.loads((_folder() / f"{name}.json").read_text(encoding="utf-8"))["detail"]
    except (OSError, ValueError, KeyError):
        return {}


def _folder() -> Path:
    return Path(os.environ.get(ELSEWHERE) or RESULTS)


PICTURES = _folder() / "pictures"
"""Of results."""


def with_mean(rows: Mapping[str, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
    """The rows, all of the same columns, and behind them one named mean."""
    columns = next(iter(rows.values()))
    return {**rows, "mean": {key: sum(row[key] for row in rows.values()) / len(rows) for key in columns}}


def problems(result: object) -> list[str]:
    """What is wrong with a result; empty if nothing is."""
    if not isinstance(result, dict):
        return ["expected a JSON object"]
    fields = {
        "schema": int, "name": str, "value": float, "unit": str, "peer": (str, type(None)),
        "ratio": (float, type(None)), "detail": dict, "machine": dict, "versions": dict,
        "commit": (str, type(None)), "date": str,
    }  # fmt: skip
    found = [f"{key}: missing" for key in fields if key not in result]
    found += [f"{key}: unknown field" for key in result if key not in fields]
    found += [
        f"{key}: {result[key]!r} has the wrong type"
        for key, kind in fields.items()
        if key in result and not isinstance(result[key], kind)
    ]
    if found:
        return found
    if result["schema"] != SCHEMA:
        found.append(f"schema: expected {SCHEMA}, found {result['schema']}")
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", result["name"]):
        found.append("name: expected lower-case words joined by _")
    if not math.isfinite(result["value"]):
        found.append("value: not finite")
    if result["ratio"] is not None and not (math.isfinite(result["ratio"]) and result["ratio"] > 0):
        found.append("ratio: expected a positive finite number")
    if result["ratio"] is not None and result["peer"] is None:
        found.append("ratio: a ratio needs a peer")
    if not result["unit"].strip():
        found.append("unit: empty")
    found += [f"machine.{key}: missing" for key in ("cpu", "cores", "simd") if key not in result["machine"]]
    found += [f"versions.{key}: missing" for key in ("python", "torch") if key not in result["versions"]]
    try:
        datetime.fromisoformat(result["date"])
    except ValueError:
        found.append(f"date: {result['date']!r} is not ISO 8601")
    try:
        json.dumps(result["detail"], allow_nan=False)
    except (TypeError, ValueError) as error:
        found.append(f"detail: {error}")
    return found
