"""One page and one JSON file about all tasks of a batch."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote

from relight.atomic import replacing
from relight.batch.tasks import Outcome
from relight.errors import RelightError
from relight.export.report import STYLE

KIND = "relight batch"
SHOWN = ("test_psnr", "test_ssim", "train_psnr", "gaussians", "bytes")
"""Metrics that get a column."""


def keep_others(path: Path) -> None:
    """Raise RelightError if `path` (.html) or the .json beside it is no earlier report of ours, before work begins."""
    for file in (path, path.with_suffix(".json")):
        if file.exists() and KIND not in file.read_bytes()[:300].decode("utf-8", "replace"):
            raise RelightError(f"{file}: is no report of a batch and would be replaced; choose another with --report")


def write_batch_report(path: Path, outcomes: Sequence[Outcome], *, engine: str, seconds: float) -> Path:
    """`path` (.html), with links to each scene's own report, and the same beside it as .json; returns `path`.

    seconds: from start to end.  Replaces an earlier report of a batch.  Raises RelightError for another file.
    """
    keep_others(path)
    done, work = sum(o.done for o in outcomes), sum(o.seconds for o in outcomes)
    document = {
        "kind": KIND, "engine": engine, "seconds": seconds, "done": done, "tasks": len(outcomes),
        "outcomes": [asdict(o) for o in outcomes],
    }  # fmt: skip
    with replacing(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    numbers = {"done": f"{done} of {len(outcomes)}", "elapsed": f"{seconds:.0f} s", "work": f"{work:.0f} s"}
    shown = "".join(f"<div><b>{v}</b>{html.escape(k)}</div>" for k, v in numbers.items())
    columns = [name for name in SHOWN if any(name in o.ending.result.get("metrics", {}) for o in outcomes)]
    head = "".join(f"<th>{html.escape(c)}" for c in ("", "task", "status", "tries", "seconds", *columns))
    rows = "".join(_row(o, columns, path.parent) for o in outcomes)
    page = f"""<!doctype html><!-- {KIND} --><html lang=en><meta charset=utf-8>
<meta name=viewport content="width=device-width"><title>Batch of {len(outcomes)}</title><style>{STYLE}
td img {{ height: 5rem; display: block; border-radius: 4px; }} .bad {{ color: #b3261e; white-space: pre-wrap; }}</style>
<h1>Batch of {len(outcomes)}</h1><div class=numbers>{shown}</div>
<table><tr>{head}</tr>{rows}</table></html>"""
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="xmlcharrefreplace")
    return path


def _row(outcome: Outcome, columns: Sequence[str], folder: Path) -> str:
    result, picture, name = outcome.ending.result, "", html.escape(outcome.task.key)
    if result.get("report"):
        report = Path(result["report"])
        name = f"<a href='{_link(report, folder)}'>{name}</a>"
        picture = f"<img alt='' loading=lazy src='{_link(report.with_suffix('.png'), folder)}'>"
    metrics = result.get("metrics", {})
    cells = "".join(f"<td>{metrics[c]:,.5g}" if c in metrics else "<td>" for c in columns)
    why = f"<td class=bad>{html.escape(outcome.ending.message)}" if outcome.ending.message else ""
    status = f"{outcome.ending.status}<td>{outcome.tries}<td>{outcome.seconds:.0f}"
    return f"<tr><td>{picture}<td>{name}<td>{status}{cells}{why}</tr>"


def _link(target: Path, folder: Path) -> str:
    return quote(Path(os.path.relpath(target, folder)).as_posix())
