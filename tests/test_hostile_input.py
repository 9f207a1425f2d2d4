"""What a file from a stranger may not do: reach outside its folder, fill memory, run code, or call the network."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.fuzz_readers import fuzz
from benchmarks.fuzz_samples import MODELS, READERS
from relight.config import load_config
from relight.data.models import load_model
from relight.errors import ConfigError, DataError, RelightError
from relight.formats import read_splat
from relight.images import image_size, read_image
from relight.scene_io import load_scene
from relight.testing.capture import write_capture

TESTS = Path(__file__).parent


@pytest.fixture
def secret(tmp_path) -> Path:
    """A picture beside the folder of the model, which the model has no business with."""
    path = tmp_path / "secret.png"
    Image.new("RGB", (4, 4), (255, 0, 255)).save(path)
    (tmp_path / "model").mkdir()
    return path


def outside(kind: str, secret: Path) -> str:
    """Ways to name it."""
    if kind == "symlink":
        (secret.parent / "model/link.png").symlink_to(secret)
        return "link.png"
    return {"above": "../secret.png", "absolute": str(secret), "encoded": "%2e%2e/secret.png",
            "file": f"file://{secret}"}[kind]  # fmt: skip


@pytest.mark.parametrize("kind", ["above", "absolute", "encoded", "file", "symlink"])
def test_gltf_reads_nothing_outside_its_folder(secret, kind):
    folder = secret.parent / "model"
    MODELS["model_gltf"].make(folder)
    load_model(folder / "a.gltf")
    document = json.loads((folder / "a.gltf").read_text())
    for part in ("images", "buffers"):
        changed = {**document, part: [{**document[part][0], "uri": outside(kind, secret)}]}
        (folder / "a.gltf").write_text(json.dumps(changed))
        with pytest.raises(DataError, match=r"outside its own folder|nothing is fetched"):
            load_model(folder / "a.gltf")
        (folder / "link.png").unlink(missing_ok=True)


@pytest.mark.parametrize("kind", ["above", "absolute", "symlink"])
@pytest.mark.filterwarnings("ignore")
def test_obj_reads_nothing_outside_its_folder(secret, kind):
    folder = secret.parent / "model"
    MODELS["obj"].make(folder)
    assert load_model(folder / "a.obj").materials[0].base_color_texture is not None
    (folder / "a.mtl").write_text(f"newmtl m\nKd 0.5 0.4 0.3\nmap_Kd {outside(kind, secret)}\n")
    try:
        found = load_model(folder / "a.obj").materials[0].base_color_texture
    except DataError:
        return
    assert found is None


@pytest.mark.parametrize("name", ["/dev/zero", "../secret.png", "/etc/hostname", "", "."])
def test_scene_folders_read_nothing_outside(secret, name):
    folder = secret.parent / "model"
    READERS["scene"].make(folder)
    load_scene(folder)
    document = json.loads((folder / "scene.json").read_text())
    for part in document["parts"]:
        changed = {**document["parts"], part: {**document["parts"][part], "file": name}}
        (folder / "scene.json").write_text(json.dumps({**document, "parts": changed}))
        with pytest.raises(DataError, match="no file of this folder"):
            load_scene(folder)


@pytest.mark.parametrize("extensions", ["x", 3, {"KHR_gaussian_splatting": "x"}, {"KHR_gaussian_splatting": 3}])
def test_splats_of_gltf_with_values_of_other_types_are_refused(tmp_path, extensions):
    document = {
        "asset": {"version": "2.0"}, "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "extensions": extensions}]}],
    }  # fmt: skip
    (tmp_path / "a.gltf").write_text(json.dumps(document))
    with pytest.raises(DataError):
        read_splat(tmp_path / "a.gltf", format="gltf")


def png(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def test_claims_of_pictures_are_refused_before_they_are_decoded(tmp_path):
    claims = {
        "a.png": png(1 << 20, 1 << 20, b""),
        "a.hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 900000 +X 900000\n",
    }
    READERS["exr"].make(tmp_path)
    whole = (tmp_path / "a.exr").read_bytes()
    window = struct.pack("<4i", 0, 0, 23, 23)
    assert window in whole
    claims["b.exr"] = whole.replace(window, struct.pack("<4i", 0, 0, 10**6, 10**6))
    for name, data in claims.items():
        (tmp_path / name).write_bytes(data)
        for read in (read_image, image_size):
            with pytest.raises(DataError, match="claims"):
                read(tmp_path / name)


def test_a_small_png_takes_no_gigabytes(tmp_path):
    for bits in (8, 16):
        data = bytearray(png(12_000, 12_000, bytes(1000)))
        data[24] = bits
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(DataError, match="more than it can hold"):
            read_image(tmp_path / "a.png")
    READERS["png16"].make(tmp_path)
    whole = (tmp_path / "deep.png").read_bytes()
    at = whole.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(whole[:at] + struct.pack(">I", 3 << 30) + whole[at + 4 :])
    with pytest.raises(DataError, match="longer than the file"):
        read_image(tmp_path / "a.png")
    # The most that zlib packs is still read.
    (tmp_path / "a.png").write_bytes(png(2000, 2000, bytes(2000 * 6001)))
    assert read_image(tmp_path / "a.png").rgb.shape == (2000, 2000, 3)


def test_text_chunks_that_unpack_to_gigabytes_are_refused(tmp_path):
    whole = png(1, 1, b"\0\1\2\3")
    body = b"Comment\0\0" + zlib.compress(bytes(200 << 20), 9)
    text = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    (tmp_path / "a.png").write_bytes(whole[:33] + text + whole[33:])
    with pytest.raises(DataError, match="cannot be decoded"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    "text",
    [
        "data: !!python/object/apply:os.system ['touch {0}']",
        "data: !!python/name:os.system",
        "data: {{path: x}}\nseed: !!python/object/new:os.system ['touch {0}']",
    ],
)
def test_yaml_runs_nothing(tmp_path, text):
    (tmp_path / "scene.yaml").write_text(text.format(tmp_path / "ran") + "\nstages: [radiance]\n")
    with pytest.raises(ConfigError):
        load_config(tmp_path / "scene.yaml")
    assert not (tmp_path / "ran").exists()


def test_yaml_that_grows_is_refused(tmp_path):
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{n}: &{n} [{', '.join([f'*{p}'] * 10)}]" for p, n in zip("abcdefgh", "bcdefghi", strict=True)]
    (tmp_path / "scene.yaml").write_text("\n".join(lines) + "\ndata: x\nstages: [radiance]\n")
    with pytest.raises(RelightError):
        load_config(tmp_path / "scene.yaml")


def test_a_pickle_that_calls_itself_an_array_is_not_opened(tmp_path):
    READERS["llff"].make(tmp_path)
    import pickle

    (tmp_path / "poses_bounds.npy").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(DataError, match="not a NumPy array"):
        READERS["llff"].read(tmp_path / "poses_bounds.npy")


@pytest.mark.parametrize("name", ["yaml", "transforms", "scene", "model_gltf", "obj", "png"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_input_is_read_or_refused(name):
    found = fuzz(name, 60.0, seed=1, keep=None, files=100)  # a number, so that every machine reads the same ones
    assert found["failures"] == []
    assert found["refused"]


NO_NETWORK = """
import socket, sys
def refuse(self, address, *rest):
    if self.family != socket.AF_UNIX:
        raise SystemExit(f"the network was used: {address}")
socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = refuse
socket.getaddrinfo = lambda host, *rest, **more: sys.exit(f"the network was used: {host}")
from relight.cli import main
for words in WORDS:
    code = main(words)
    assert code == 0, (words, code)
"""


@pytest.mark.slow
def test_fit_compress_and_export_call_nobody(tmp_path):
    write_capture(tmp_path / "photos", views=4)
    (tmp_path / "scene.yaml").write_text(
        "data: photos\noutput: run\nstages:\n  - radiance: {iterations: 20, initial_gaussians: 100}\n"
    )
    words = [
        ["fit", "scene.yaml", "--quiet"], ["export", "run", "-o", "a.ply"],
        ["compress", "a.ply", "-o", "small.spz", "--count", "60", "iterations=0", "--quiet"],
    ]  # fmt: skip
    code = f"WORDS = {words!r}\n{NO_NETWORK}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "a.ply").is_file() and (tmp_path / "small.spz").is_file()


def test_the_test_of_the_network_would_notice(tmp_path):
    call = 'import urllib.request; main = lambda words: urllib.request.urlopen("http://127.0.0.1:9/")'
    code = "WORDS = [[]]\n" + NO_NETWORK.replace("from relight.cli import main", call)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0 and "the network was used" in done.stderr
    assert socket.socket.connect  # of this process, untouched
