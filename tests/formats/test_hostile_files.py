"""Bombs, names that lead elsewhere, and some of what `benchmarks.fuzz_readers` does for longer."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.fuzz_readers import fuzz
from benchmarks.fuzz_samples import READERS, SPLATS
from relight.errors import DataError
from relight.formats import read_splat


@pytest.mark.parametrize("name", SPLATS)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_read_or_refused(name):
    found = fuzz(name, 0.8, seed=1, keep=None)
    assert found["failures"] == []
    assert found["read"] and found["refused"]


def good(name: str, folder: Path) -> bytes:
    """A file of that format."""
    READERS[name].make(folder)
    return (folder / READERS[name].files[0]).read_bytes()


def rezipped(data: bytes, change) -> bytes:
    """A .sog with its files changed."""
    with zipfile.ZipFile(io.BytesIO(data)) as bundle:
        files = {name: bundle.read(name) for name in bundle.namelist()}
    change(files)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in files.items():
            bundle.writestr(name, content)
    return out.getvalue()


def with_meta(files: dict[str, bytes], change) -> None:
    meta = json.loads(files["meta.json"])
    change(meta)
    files["meta.json"] = json.dumps(meta).encode()


def huge_picture(files: dict[str, bytes]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4096, 4096, 4), np.uint8)).save(buffer, "WEBP", lossless=True, exact=True)
    files["quats.webp"] = buffer.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.update({"meta.json": b" " * (2 << 20)}), "more than the"),
        (lambda f: f.update({"scales.webp": bytes(64 << 20)}), "more than the"),
        (huge_picture, "4096x4096 pixels"),
        (lambda f: with_meta(f, lambda m: m.update(count=10**9)), "claims 1000000000 Gaussians"),
        (lambda f: with_meta(f, lambda m: m["quats"].update(files=["../../etc/passwd"])), "not beside its meta.json"),
        (lambda f: with_meta(f, lambda m: m["quats"].update(files=["/etc/passwd"])), "not beside its meta.json"),
        (lambda f: with_meta(f, lambda m: m["quats"].update(files=["none.webp"])), "has no none.webp"),
        (lambda f: with_meta(f, lambda m: m.pop("version")), "SOG of version 1; version 2 is read"),
        (lambda f: f.update({"quats.webp": b"RIFF"}), "cannot be decoded"),
        (lambda f: f.update({"meta.json": b"[" * 100_000}), "cannot be parsed"),
    ],
)
def test_hostile_sog(tmp_path, change, message):
    data = good("sog", tmp_path)
    (tmp_path / "bad.sog").write_bytes(rezipped(data, change))
    with pytest.raises(DataError, match=message):
        read_splat(tmp_path / "bad.sog")


def test_names_of_loose_files_stay_in_their_folder(tmp_path):
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(io.BytesIO(good("sog", tmp_path))) as bundle:
        bundle.extractall(tmp_path / "in")
    meta = json.loads((tmp_path / "in/meta.json").read_text())
    (tmp_path / "in/quats.webp").rename(tmp_path / "quats.webp")
    meta["quats"]["files"] = ["../quats.webp"]
    (tmp_path / "in/meta.json").write_text(json.dumps(meta))
    with pytest.raises(DataError, match=r"not beside its meta\.json"):
        read_splat(tmp_path / "in")


def test_bombs_of_spz(tmp_path):
    def refused(data: bytes, message: str) -> None:
        (tmp_path / "bad.spz").write_bytes(data)
        with pytest.raises(DataError, match=message):
            read_splat(tmp_path / "bad.spz")

    header = struct.pack("<4sIIBBBB", b"NGSP", 3, 20_000_000, 3, 12, 0, 0)
    refused(gzip.compress(header + bytes(100 << 20), 1), "claims 20000000 Gaussians")
    data = bytearray(good("spz", tmp_path))
    table = struct.unpack_from("<I", data, 16)[0]
    struct.pack_into("<Q", data, table + 8, 1 << 40)
    refused(bytes(data), "truncated or damaged")
    data = bytearray(good("spz", tmp_path))
    struct.pack_into("<I", data, 8, 1 << 31)
    refused(bytes(data), "claims 2147483648 Gaussians")
