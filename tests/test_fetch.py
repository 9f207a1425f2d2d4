"""The fetch helper against a server on this machine."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import io
import json
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

SCENES = Path(__file__).resolve().parents[1] / "scenes"


def _load():
    spec = importlib.util.spec_from_file_location("scenes_fetch", SCENES / "fetch.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["scenes_fetch"] = module
    spec.loader.exec_module(module)
    return module


fetch = _load()


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder with ranges and version tags; `cut` bytes end each answer early."""

    protocol_version = "HTTP/1.0"
    tag, cut = '"one"', 0
    ranges: list[str]

    def do_GET(self):
        body = Path(self.translate_path(self.path)).read_bytes()
        asked = self.headers.get("Range")
        start = 0
        if asked and self.headers.get("If-Range") == self.server.tag:  # type: ignore[attr-defined]
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            self.server.resumed.append(start)  # type: ignore[attr-defined]
            if start >= len(body):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        self.send_header("ETag", self.server.tag)  # type: ignore[attr-defined]
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = self.server.cut or len(body)  # type: ignore[attr-defined]
        self.wfile.write(body[start:end])

    def log_message(self, format, *args):
        pass


@pytest.fixture
def server(tmp_path):
    (tmp_path / "www").mkdir()
    handler = functools.partial(Handler, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.tag, running.cut, running.resumed = '"one"', 0, []  # type: ignore[attr-defined]
        running.root = tmp_path / "www"  # type: ignore[attr-defined]
        running.url = f"http://127.0.0.1:{running.server_address[1]}"  # type: ignore[attr-defined]
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as z:
        for name, content in files.items():
            z.writestr(name, content)
    return path


def tree(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def quiet(_: str) -> None:
    pass


def test_items_of_one_archive_are_unpacked_from_one_download(server, tmp_path):
    make_zip(server.root / "both.zip", {"set/a/1.png": b"one", "set/b/sub/2.png": b"two", "set/c/3.png": b"three"})
    wanted = [fetch.Item(n, f"{server.url}/both.zip?download=1", f"set/{n}") for n in "ab"]
    done = fetch.fetch(wanted, tmp_path / "data", say=quiet)
    assert [p.name for p in done] == ["a", "b"]
    assert tree(tmp_path / "data") == {"a/1.png", "b/sub/2.png"}
    assert (tmp_path / "data/b/sub/2.png").read_bytes() == b"two"
    (server.root / "both.zip").unlink()
    assert fetch.fetch(wanted, tmp_path / "data", say=quiet) == [], "what is there is not fetched again"


def test_the_only_folder_of_an_archive_is_left_out(server, tmp_path):
    make_zip(server.root / "lego.zip", {"lego/train/0.png": b"x", "lego/t.json": b"{}", "__MACOSX/lego/._t": b"junk"})
    make_zip(server.root / "flat.zip", {"train/0.png": b"x", "t.json": b"{}"})
    items = [fetch.Item(n, f"{server.url}/{n}.zip") for n in ("lego", "flat")]
    fetch.fetch(items, tmp_path / "data", say=quiet)
    assert tree(tmp_path / "data/lego") == tree(tmp_path / "data/flat") == {"train/0.png", "t.json"}


def test_a_cut_download_continues_where_it_stopped(server, tmp_path):
    archive = make_zip(server.root / "big.zip", {"big/file.bin": bytes(range(256)) * 400})
    server.cut = 5000
    with pytest.raises(fetch.FetchError, match=r"run again, it continues"):
        fetch.fetch([fetch.Item("big", f"{server.url}/big.zip")], tmp_path / "data", say=quiet)
    assert not (tmp_path / "data/big").exists()
    server.cut = 0
    fetch.fetch([fetch.Item("big", f"{server.url}/big.zip")], tmp_path / "data", say=quiet)
    assert server.resumed == [5000]
    assert (tmp_path / "data/big/file.bin").stat().st_size == 256 * 400
    assert tree(tmp_path / "data") == {"big/file.bin"}, "no archive or mark is left behind"
    assert archive.stat().st_size > 5000


def test_a_part_of_an_older_version_is_not_continued(server, tmp_path):
    make_zip(server.root / "a.zip", {"a/file": b"old" * 3000})
    server.cut = 4000
    item = fetch.Item("a", f"{server.url}/a.zip")
    with pytest.raises(fetch.FetchError):
        fetch.fetch([item], tmp_path / "data", say=quiet)
    make_zip(server.root / "a.zip", {"a/file": b"new" * 3000})
    server.tag, server.cut = '"two"', 0
    fetch.fetch([item], tmp_path / "data", say=quiet)
    assert server.resumed == []
    assert (tmp_path / "data/a/file").read_bytes() == b"new" * 3000


def test_a_wrong_checksum_is_refused_and_the_file_deleted(server, tmp_path):
    import hashlib

    archive = make_zip(server.root / "a.zip", {"a/file": b"x"})
    good = hashlib.sha256(archive.read_bytes()).hexdigest()
    with pytest.raises(fetch.FetchError, match="sha256"):
        fetch.fetch([fetch.Item("a", f"{server.url}/a.zip", sha256="0" * 64)], tmp_path / "data", say=quiet)
    assert not any((tmp_path / "data/.download").iterdir())
    fetch.fetch([fetch.Item("a", f"{server.url}/a.zip", sha256=good)], tmp_path / "data", say=quiet)
    assert tree(tmp_path / "data") == {"a/file"}


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "C:/evil"])
def test_paths_that_leave_the_folder_are_refused(name, tmp_path):
    archive = make_zip(tmp_path / "evil.zip", {"a/fine": b"x", name: b"boo"})
    with pytest.raises(fetch.FetchError, match="unsafe path"):
        fetch.unpack(archive, tmp_path / "out" / "a")
    assert not list(tmp_path.rglob("evil")) and not (tmp_path / "out/a").exists()
    assert list((tmp_path / "out").iterdir()) == [], "nothing half-written"


def test_links_in_archives_are_not_made(tmp_path):
    archive = tmp_path / "links.tar.gz"
    with tarfile.open(archive, "w:gz") as t:
        for name, kind in (("a/link", tarfile.SYMTYPE), ("a/hard", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            t.addfile(info)
        info = tarfile.TarInfo("./a/file")
        info.size = 3
        t.addfile(info, io.BytesIO(b"abc"))
    fetch.unpack(archive, tmp_path / "out", "a")
    assert tree(tmp_path / "out") == {"file"}


def test_a_damaged_archive_is_deleted_so_that_the_next_run_can_work(server, tmp_path):
    good = make_zip(server.root / "a.zip", {"a/file": b"abc" * 500}).read_bytes()
    damaged = bytearray(good)
    damaged[60] ^= 255
    (server.root / "a.zip").write_bytes(bytes(damaged))
    item = fetch.Item("a", f"{server.url}/a.zip")
    with pytest.raises(fetch.FetchError, match="damaged"):
        fetch.fetch([item], tmp_path / "data", say=quiet)
    assert tree(tmp_path / "data") == set()
    (server.root / "a.zip").write_bytes(good)
    fetch.fetch([item], tmp_path / "data", say=quiet)
    assert tree(tmp_path / "data") == {"a/file"}


def test_a_page_instead_of_an_archive_is_explained(server, tmp_path):
    (server.root / "a.zip").write_text("<html>please sign in</html>")
    with pytest.raises(fetch.FetchError, match="neither a zip nor a tar"):
        fetch.fetch([fetch.Item("a", f"{server.url}/a.zip")], tmp_path / "data", say=quiet)


def test_no_server_is_one_clear_line_and_exit_code_2(server, tmp_path, monkeypatch, capsys):
    scene = tmp_path / "scenes" / "gone"
    scene.mkdir(parents=True)
    entry = {"page": "p", "licence": "l", "items": {"x": {"url": "http://127.0.0.1:9/x.zip"}}}
    (scene / "source.json").write_text(json.dumps(entry))
    monkeypatch.setattr(fetch, "SCENES", tmp_path / "scenes")
    assert fetch.main(["gone"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: http://127.0.0.1:9/x.zip") and "run again" in error and error.count("\n") == 1
    assert fetch.main(["gone", "y"]) == 2
    assert "known: x" in capsys.readouterr().err
    assert fetch.main(["nowhere"]) == 2
    assert "known: gone" in capsys.readouterr().err


def test_every_capture_has_a_source_a_scene_file_and_a_readme(capsys):
    assert fetch.main([]) == 0
    listed = capsys.readouterr().out
    for file in SCENES.glob("*/source.json"):
        assert file.parent.name in listed
        for item in fetch.items(file.parent).values():
            assert item.url.startswith("https://")
        for name in ("scene.yaml", "README.md"):
            assert (file.parent / name).is_file(), f"{file.parent.name} has no {name}"
