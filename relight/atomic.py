"""Files that are either complete or absent."""

from __future__ import annotations

import errno
import os
import re
import secrets
import socket
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from relight.errors import RelightError

ADVICE: Mapping[int, str] = MappingProxyType({
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EROFS: "choose another place",
    errno.EACCES: "choose another place, or change its permissions",
    errno.EPERM: "choose another place, or change its permissions",
    errno.EIO: "check the disk",
})  # fmt: skip
"""What the user can do about an error of the file system."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` with the same suffix; it becomes `path` if the block succeeds.

    Missing parent folders are made.  On any exception, also Ctrl-C, the temporary file is removed and an earlier
    `path` is left as it was.  Raises `RelightError` when the place cannot be written.
    """
    path = Path(path)
    # The name keeps its suffix because encoders choose a format by it; a dot hides it from `ls` and globs.
    temporary = path.with_name(f".{path.stem}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        advice = ADVICE.get(error.errno or 0, "choose another place")
        raise RelightError(f"{path}: cannot be written ({error.strerror or error}); {advice}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def remove_leftovers(path: Path) -> None:
    """Remove the temporary siblings of `path` that killed processes of this machine left."""
    form = re.compile(rf"\.{re.escape(path.stem)}\.{_host()}-(\d+)-[0-9a-f]{{8}}{re.escape(path.suffix)}")
    with suppress(OSError):
        for name in os.listdir(path.parent):
            match = form.fullmatch(name)
            if match and not _is_alive(int(match[1])):
                (path.parent / name).unlink()


def _host() -> str:
    """Of the machine, because a process number means nothing on another one that shares the disk."""
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # asking there ends the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
