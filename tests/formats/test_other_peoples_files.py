"""Files that others made, and files packed here byte by byte as the formats' authors say."""

from __future__ import annotations

import gzip
import json
import struct

import numpy as np
import pytest
import torch
from splat_cases import make

from relight.errors import DataError
from relight.formats import detect, read_splat, write_splat
from relight.formats.common import half_turn
from relight.formats.spz import AXES
from relight.geometry.sh import to_constant


@pytest.mark.parametrize(
    ("file", "format", "count", "degree"),
    [
        ("inria_style_ply/point_cloud_iter7000_9080g.ply", "ply", 9080, 3),
        ("padilla/plant/plant.splat", "splat", 113648, 0),
        ("padilla/spot/spot_10k.splat", "splat", 10000, 0),
        ("playcanvas/biker.compressed.ply", "compressed_ply", 152746, 0),
        ("playcanvas/biker.spz", "spz", 152746, 0),
        ("playcanvas/playbot-sog-lod3/meta.json", "sog", 31000, 2),
        ("playcanvas/playbot-sog-lod3", "sog", 31000, 2),
    ],
)
def test_real_files(data_dir, file, format, count, degree):
    found = detect(data_dir / "splats" / file)
    assert found is not None and found.name == format
    g = read_splat(data_dir / "splats" / file)
    assert (len(g), g.sh_degree) == (count, degree)
    assert all(bool(t.isfinite().all()) for t in g.tensors().values())


def test_one_scene_in_two_formats_is_one_scene(data_dir):
    """The .spz has the format's own axes, y up; the .ply those of a capture."""
    spz, ply = (read_splat(data_dir / "splats/playcanvas" / f) for f in ("biker.spz", "biker.compressed.ply"))
    for of in (torch.Tensor.mean, torch.Tensor.std):
        torch.testing.assert_close(of(spz.means, 0), of(ply.means, 0), rtol=0, atol=1e-4)
        torch.testing.assert_close(
            of(to_constant(spz.sh[:, 0]), 0), of(to_constant(ply.sh[:, 0]), 0), rtol=0, atol=1e-3
        )
    nearest = torch.cdist(spz.means[:500], ply.means).min(1).values
    assert float(nearest.max()) < 0.003


# --- .ksplat, which nothing here writes


def ksplat(level: int, degree: int, buckets: list[int], place: int) -> tuple[bytes, np.ndarray, np.ndarray]:
    """A file of one empty and one full section; positions and SH (N, K - 1, 3) that it should be read as."""
    rng = np.random.default_rng(level + degree)
    n, rest = sum(buckets), (0, 3, 8, 15)[degree]
    full, capacity = 1, buckets[0]
    sh = rng.uniform(-1, 1, (n, rest, 3)).astype(np.float16 if level == 1 else np.float32)
    centers = rng.uniform(-5, 5, (len(buckets), 3)).astype("<f4")
    bucket = np.repeat(np.arange(len(buckets)), buckets)
    fixed = rng.integers(0, 65535, (n, 3)).astype("<u2")
    means = (fixed.astype(np.float32) - 32767) * (5.0 / 2 / 32767) + centers[bucket]
    real = "<f4" if level == 0 else "<f2"
    rows = b""
    for i in range(n):
        rows += means[i].astype("<f4").tobytes() if level == 0 else fixed[i].tobytes()
        rows += np.array([0.1, 0.2, 0.3, 1, 0, 0, 0], real).tobytes() + bytes([255, 0, 51, 204])
        for band, first in ((1, 0), (2, 3), (3, 8)):
            if band <= degree:
                values = sh[i, first : first + 2 * band + 1].T.ravel()  # a band's reds, greens, blues
                rows += {
                    0: values.astype("<f4"),
                    1: values.astype("<f2"),
                    2: np.rint((values + 1) / 2 * 255).astype("u1"),
                }[level].tobytes()
    row = len(rows) // n
    rows += bytes(row * (place - n))
    main = struct.pack("<2s2xIIIIH", b"\0\1", 2, 2, n, n, level).ljust(36, b"\0") + struct.pack("<ff", -1, 1)
    partial = buckets[full:]
    section = struct.pack("<IIIIfH", n, place, capacity, len(buckets), 5.0, 12).ljust(24, b"\0")
    section += struct.pack("<IIIIH", 32767, 0, full, len(partial), degree)
    empty = struct.pack("<IIIIfH", 0, 0, 256, 0, 5.0, 12)
    headers = main.ljust(4096, b"\0") + empty.ljust(1024, b"\0") + section.ljust(1024, b"\0")
    return headers + np.array(partial, "<u4").tobytes() + centers.tobytes() + rows, means, sh.astype(np.float32)


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_ksplat(tmp_path, level, degree):
    data, means, sh = ksplat(level, degree, [4, 3, 1], place=10)
    (tmp_path / "a.ksplat").write_bytes(data)
    found = detect(tmp_path / "a.ksplat")
    assert found is not None and found.name == "ksplat"
    g = read_splat(tmp_path / "a.ksplat")
    np.testing.assert_allclose(g.means.numpy(), means, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(g.sh[:, 1:].numpy(), sh, atol=0.004 if level == 2 else 1e-6)
    np.testing.assert_allclose(g.scales[0].numpy(), [0.1, 0.2, 0.3], rtol=1e-3)
    np.testing.assert_allclose(to_constant(g.sh[0, 0]).numpy(), [1, 0, 0.2], atol=1e-6)
    np.testing.assert_allclose(g.opacities.numpy(), 0.8, rtol=1e-5)
    assert g.quats_wxyz[0].tolist() == [1, 0, 0, 0]
    for cut in (100, 5000, 6200):
        (tmp_path / "a.ksplat").write_bytes(data[:cut])
        with pytest.raises(DataError):
            read_splat(tmp_path / "a.ksplat", format="ksplat")


# --- .spz that we don't write


def test_spz_of_version_1_and_of_degree_4(tmp_path):
    means = np.array([[1, 2, 3], [-4, 5.5, 0.25]], "<f2")
    body = means.tobytes() + bytes([128, 255]) + bytes(6) + bytes([160] * 6) + bytes([128, 255, 128] * 2)
    header = struct.pack("<4sIIBBBB", b"NGSP", 1, 2, 0, 0, 1, 0)
    (tmp_path / "a.spz").write_bytes(gzip.compress(header + body))
    g = read_splat(tmp_path / "a.spz")
    np.testing.assert_array_equal(g.means.numpy(), means.astype(np.float32) * [1, -1, -1])
    assert g.antialiased and float(g.log_scales.abs().max()) == 0
    sh = np.arange(72, dtype=np.uint8)
    body = bytes(9) + bytes([128]) + bytes(3) + bytes(3) + bytes([0, 0, 0, 192]) + sh.tobytes()
    (tmp_path / "b.spz").write_bytes(gzip.compress(struct.pack("<4sIIBBBB", b"NGSP", 3, 1, 4, 12, 0, 0) + body))
    with pytest.warns(UserWarning, match="degree 4; degree 3 is kept"):
        g = half_turn(read_splat(tmp_path / "b.spz"), "x")
    assert g.quats_wxyz.abs().tolist() == [[1, 0, 0, 0]]
    np.testing.assert_allclose(g.sh[0, 1:].numpy().ravel() * 128 + 128, sh[:45], atol=1e-4)


def test_spz_that_says_its_axes(tmp_path):
    g = make(5, 1, sh=0.5)
    write_splat(g, tmp_path / "a.spz", axes="capture")
    data = bytearray((tmp_path / "a.spz").read_bytes())
    at = data.index(struct.pack("<II", AXES, 4)) + 8
    for value, turn in ((4, "x"), (7, "z"), (1, "y")):
        data[at] = value
        (tmp_path / "b.spz").write_bytes(data)
        torch.testing.assert_close(read_splat(tmp_path / "b.spz").means, half_turn(g, turn).means, rtol=0, atol=2e-4)
    data[at] = 12
    (tmp_path / "b.spz").write_bytes(data)
    with pytest.warns(UserWarning, match="axes of kind 12"):
        read_splat(tmp_path / "b.spz")


# --- glTF that we don't write


def gltf_of(tmp_path, g, change):
    """Our .glb with its JSON changed by `change`."""
    write_splat(g, tmp_path / "a.glb")
    data = (tmp_path / "a.glb").read_bytes()
    size = struct.unpack_from("<I", data, 12)[0]
    document = json.loads(data[20 : 20 + size])
    change(document)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + size :]
    (tmp_path / "b.glb").write_bytes(
        struct.pack("<4sIIII", b"glTF", 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A) + text + rest
    )
    return tmp_path / "b.glb"


def test_gltf_nodes_place_splats(tmp_path):
    g = make(6, 2)
    turn = [0.5, 0.5, 0.5, 0.5]  # x to y to z to x

    def place(document):
        document["nodes"] = [
            {"children": [1, 2], "scale": [2, 2, 2]},
            {"mesh": 0, "rotation": turn, "translation": [1, 0, 0]},
            {"mesh": 0},
        ]

    found = half_turn(read_splat(gltf_of(tmp_path, g, place)), "z")
    own = half_turn(g, "z")
    rotation = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    first = own.transformed(rotation, torch.tensor([1.0, 0, 0])).transformed(torch.eye(3), torch.zeros(3), 2.0)
    second = own.transformed(torch.eye(3), torch.zeros(3), 2.0)
    for part, expected in ((found[:6], first), (found[6:], second)):
        torch.testing.assert_close(part.means, expected.means)
        torch.testing.assert_close(part.covariances, expected.covariances, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(part.sh, expected.sh, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["nodes"][0].update(scale=[1, 2, 1]), "sheared or stretched"),
        (lambda d: d["nodes"][0].update(scale=[-1, 1, 1]), "mirrored|stretched"),
        (lambda d: d["nodes"][0].update(children=[0]), "in a circle"),
        (lambda d: d["nodes"][0].pop("mesh"), "no primitive with KHR_gaussian_splatting in its scene"),
        (lambda d: d["meshes"][0]["primitives"][0]["attributes"].pop("KHR_gaussian_splatting:SCALE"), "SCALE"),
        (
            lambda d: d["meshes"][0]["primitives"][0]["extensions"]["KHR_gaussian_splatting"].update(
                extensions={"KHR_gaussian_splatting_compression_spz_2": {}}
            ),
            "compressed by KHR_gaussian_splatting_compression_spz_2",
        ),
        (lambda d: d["accessors"][3].update(count=3), "different lengths"),
        (lambda d: d["accessors"][0].update(count=1 << 29), "claims"),
        (lambda d: d["buffers"][0].update(uri="../outside.bin"), "outside its own folder"),
        (lambda d: d["buffers"][0].update(uri="/etc/hostname"), "outside its own folder"),
        (lambda d: d["buffers"][0].update(uri="https://example.org/a.bin"), "nothing is fetched"),
    ],
)
def test_hostile_gltf(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        read_splat(gltf_of(tmp_path, make(6, 1), change))


def test_gltf_in_linear_light(tmp_path):
    def linear(document):
        document["meshes"][0]["primitives"][0]["extensions"]["KHR_gaussian_splatting"]["colorSpace"] = (
            "lin_rec709_display"
        )

    g = make(50, 1, sh=0.3)
    found = read_splat(gltf_of(tmp_path, g, linear))
    color = to_constant(g.sh[:, 0]).clamp_min(0)
    encoded = torch.where(color <= 0.0031308, 12.92 * color, 1.055 * color ** (1 / 2.4) - 0.055)
    torch.testing.assert_close(to_constant(found.sh[:, 0]), encoded, rtol=1e-4, atol=1e-4)
