"""Fetches the captures named in scenes/*/source.json from where their authors publish them.

    python scenes/fetch.py                      lists them
    python scenes/fetch.py nerf_synthetic lego  fetches one item into scenes/nerf_synthetic/data/lego
    python scenes/fetch.py nerf_synthetic       fetches all its items

Standard library only.  An item that is there is left alone, a stopped download is continued, and archives are
deleted once unpacked (not with --keep).
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import shutil
import stat
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

SCENES = Path(__file__).resolve().parent
CHUNK = 1 << 20


class FetchError(Exception):
    """What could not be fetched, why, and what to do."""


@dataclass(frozen=True)
class Item:
    """One folder of a capture and the archive it comes from.

    members: folder inside the archive that becomes the item; "" for its only folder, or all of it.
    sha256: of the archive, if known.
    """

    name: str
    url: str
    members: str = ""
    sha256: str | None = None


def items(scene: Path) -> dict[str, Item]:
    """What source.json of a capture's folder lists."""
    file = scene / "source.json"
    if not file.is_file():
        known = ", ".join(sorted(p.parent.name for p in SCENES.glob("*/source.json")))
        raise FetchError(f"{scene.name}: no such capture to fetch; known: {known}")
    return {name: Item(name, **entry) for name, entry in json.loads(file.read_text("utf-8"))["items"].items()}


def fetch(wanted: Iterable[Item], into: Path, *, keep: bool = False, say: Callable[[str], None] = print) -> list[Path]:
    """Make every item a folder in `into`.  Items of the same archive are unpacked from one download."""
    missing = [item for item in wanted if not (into / item.name).exists()]
    into.mkdir(parents=True, exist_ok=True)
    done = []
    for url in dict.fromkeys(item.url for item in missing):
        together = [item for item in missing if item.url == url]
        archive = download(url, into / ".download", together[0].sha256, say)
        for item in together:
            say(f"unpacking {item.name}")
            try:
                unpack(archive, into / item.name, item.members)
            except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
                archive.unlink()
                raise FetchError(f"{url}: the archive is damaged ({error}); it was deleted, try again") from error
            done.append(into / item.name)
        if not keep:
            archive.unlink()
    if (into / ".download").is_dir() and not any((into / ".download").iterdir()):
        (into / ".download").rmdir()
    return done


def download(url: str, folder: Path, sha256: str | None = None, say: Callable[[str], None] = print) -> Path:
    """The file at `url`, in `folder`.  Continues an earlier attempt if the server's copy is still the same one."""
    folder.mkdir(parents=True, exist_ok=True)
    name = url.split("?")[0].rstrip("/").rsplit("/", 1)[-1] or "file"
    target, part, mark = folder / name, folder / (name + ".part"), folder / (name + ".mark")
    if not target.exists():
        _transfer(url, part, mark, say)
        os.replace(part, target)
        mark.unlink(missing_ok=True)
    if sha256 is not None and (found := _digest(target)) != sha256:
        target.unlink()
        raise FetchError(f"{url}: the file has sha256 {found}, expected {sha256}; it was deleted, try again")
    return target


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _transfer(url: str, part: Path, mark: Path, say: Callable[[str], None]) -> None:
    """Download to `part`; `mark` keeps the server's version tag, without which nothing is appended."""
    have = part.stat().st_size if part.exists() and mark.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "relight-fetch"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", mark.read_text("utf-8"))
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            if response.status != 206:
                have = 0
            version = response.headers.get("ETag") or response.headers.get("Last-Modified")
            mark.write_text(version, "utf-8") if version else mark.unlink(missing_ok=True)
            length = response.headers.get("Content-Length")
            total = have + int(length) if length else None
            if total and total - have > shutil.disk_usage(part.parent).free:
                raise FetchError(f"{url}: {total / 1e9:.1f} GB, more than is free at {part.parent}")
            with part.open("ab" if have else "wb") as file:
                have = _copy(response, file, have, total, say)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            part.unlink(missing_ok=True)
            text = "the stored part does not fit the server's file; it was deleted, try again"
            raise FetchError(f"{url}: {text}") from error
        raise FetchError(f"{url}: the server answered {error.code} {error.reason}; has the file moved?") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise FetchError(f"{url}: the connection failed ({reason!s}); run again when online, it continues") from error
    if total is not None and have != total:
        raise FetchError(f"{url}: the connection ended after {have} of {total} bytes; run again, it continues")


def _copy(source: IO[bytes], target: IO[bytes], have: int, total: int | None, say: Callable[[str], None]) -> int:
    told = time.monotonic()
    while chunk := source.read(CHUNK):
        target.write(chunk)
        have += len(chunk)
        if time.monotonic() - told > 5:
            told = time.monotonic()
            say(f"  {have / 1e6:.0f} MB" + (f" of {total / 1e6:.0f} ({100 * have / total:.0f} %)" if total else ""))
    return have


@dataclass(frozen=True)
class _Member:
    path: PurePosixPath
    size: int
    open: Callable[[], IO[bytes]]


@contextmanager
def _members(archive: Path) -> Iterator[list[_Member]]:
    """Regular files of a .zip or .tar*; links and devices are never unpacked."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as z:
            plain = [i for i in z.infolist() if not i.is_dir() and not stat.S_ISLNK(i.external_attr >> 16)]
            yield [_Member(PurePosixPath(i.filename), i.file_size, lambda i=i: z.open(i)) for i in plain]
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as t:
            plain = [i for i in t.getmembers() if i.isfile()]
            # extractfile is None only for what is not a regular file.
            yield [_Member(PurePosixPath(i.name), i.size, lambda i=i: t.extractfile(i)) for i in plain]  # type: ignore[return-value]
    else:
        raise tarfile.ReadError("neither a zip nor a tar archive; does the address lead to a page instead?")


def unpack(archive: Path, target: Path, members: str = "") -> None:
    """A folder of an archive (see `Item.members`) becomes `target`, which must not exist.  All or nothing.

    Refuses archives with a path that would leave the folder.  Damaged ones raise what zipfile and tarfile raise.
    """
    if target.exists():
        raise FetchError(f"{target}: exists already; move it away first")
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        _members(archive) as everything,
        tempfile.TemporaryDirectory(prefix=".unpack-", dir=target.parent) as temporary,
    ):
        for path in (member.path for member in everything):
            if path.is_absolute() or ".." in path.parts or any(c in str(path) for c in "\\:"):
                raise FetchError(f"{archive}: unsafe path {str(path)!r}; nothing was unpacked")
        everything = [m for m in everything if m.path.parts[0] != "__MACOSX"]
        tops = {member.path.parts[:1] if len(member.path.parts) > 1 else () for member in everything}
        only = next(iter(tops)) if len(tops) == 1 else ()
        prefix = PurePosixPath(members) if members else PurePosixPath(*only)
        chosen = [m for m in everything if m.path.is_relative_to(prefix)]
        if not chosen:
            raise FetchError(f"{archive}: has nothing under {members!r}; the archive's layout has changed")
        if sum(m.size for m in chosen) > shutil.disk_usage(target.parent).free:
            raise FetchError(f"{archive}: unpacked, it is larger than what is free at {target.parent}")
        root = Path(temporary) / "root"
        for member in chosen:
            file = root / member.path.relative_to(prefix)
            file.parent.mkdir(parents=True, exist_ok=True)
            with member.open() as source, file.open("wb") as sink:
                shutil.copyfileobj(source, sink, CHUNK)
        os.replace(root, target)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", nargs="?", help="a folder of scenes/ with a source.json")
    parser.add_argument("items", nargs="*", help="default: all")
    parser.add_argument("--keep", action="store_true", help="keep archives, for fetching more of the same later")
    options = parser.parse_args(arguments)
    if options.scene is None:
        for file in sorted(SCENES.glob("*/source.json")):
            source = json.loads(file.read_text("utf-8"))
            print(f"{file.parent.name}: {', '.join(source['items'])}\n    {source['page']}\n    {source['licence']}")
        return 0
    try:
        known = items(SCENES / options.scene)
        for name in options.items:
            if name not in known:
                raise FetchError(f"{options.scene}: no item {name!r}; known: {', '.join(known)}")
        folder = SCENES / options.scene / "data"
        fetch([known[name] for name in options.items or known], folder, keep=options.keep)
        print(f"ready: {folder}")
    except (FetchError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
