"""Files that are either complete or absent."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from relight.errors import RelightError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` with the same suffix; it becomes `path` if the block succeeds.

    Missing parent folders are made.  On any exception, also Ctrl-C, the temporary file is removed and an earlier
    `path` is left as it was.  Raises `RelightError` when the place cannot be written.
    """
    path = Path(path)
    # The name keeps its suffix because encoders choose a format by it; a dot hides it from `ls` and globs.
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise RelightError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
