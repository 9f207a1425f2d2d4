"""Pages that commands write, and `--check`, which only looks whether they are as the commands would write them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path


def rewrite(pages: Mapping[Path, str], command: str, check: bool) -> int:
    """Write what differs, or with `check` name it and the command that would; the exit code."""
    stale = {p: text for p, text in pages.items() if not p.exists() or p.read_text(encoding="utf-8") != text}
    for page, text in stale.items():
        if check:
            print(f"{page} is out of date; run: python -m {command}", file=sys.stderr)
        else:
            page.write_text(text, encoding="utf-8")
    return int(check and bool(stale))
