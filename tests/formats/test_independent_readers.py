"""What others make of our files, and we of theirs.

RELIGHT_NODE: a folder in which `npm install @playcanvas/splat-transform@3.7.0 three@0.187.0 gltf-validator` was done.
gaussforge and gsply: Python packages.  Each test is skipped with a reason where its reader is absent.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from splat_cases import angles, make, with_materials

from relight.formats import read_splat, write_splat
from relight.formats.common import half_turn, plain
from relight.geometry.gaussians import Gaussians

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def node() -> Path:
    folder = os.environ.get("RELIGHT_NODE")
    if folder is None or shutil.which("node") is None:
        pytest.skip("set RELIGHT_NODE to a folder with node_modules of three, splat-transform and gltf-validator")
    return Path(folder)


def with_node(node: Path, verb: str, file: Path) -> dict:
    script = Path(__file__).with_name("with_node.mjs")
    done = subprocess.run(
        ["node", str(script), str(node), verb, str(file)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def splat_transform(node: Path, source: Path, target: Path) -> None:
    command = ["node", str(node / "node_modules/.bin/splat-transform"), "-w", "-g", "cpu", str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "error" not in (done.stdout + done.stderr).lower()


def gaussforge_ply(source: Path, kind: str, target: Path) -> None:
    gaussforge = pytest.importorskip("gaussforge")
    found = gaussforge.GaussForge().convert(source.read_bytes(), kind, "ply")
    assert "error" not in found, found["error"]
    target.write_bytes(found["data"])


def assert_alike(found: Gaussians, expected: Gaussians, sh: float, degrees: float, scale: float, place: float) -> None:
    assert len(found) == len(expected) and found.sh_degree == expected.sh_degree
    # Gaussians are far apart compared with what the format does to them, so the nearest one is the same one.
    order = torch.cdist(found.means, expected.means).argmin(1)
    assert len(order.unique()) == len(order)
    expected = expected[order]
    assert float((found.means - expected.means).abs().max()) <= place
    assert float(angles(found, expected).max()) <= degrees
    assert float((found.log_scales - expected.log_scales).abs().max()) <= scale
    assert float((found.opacities - expected.opacities).abs().max()) <= 1.2 / 255
    assert float((found.sh[:, 0] - expected.sh[:, 0]).abs().max()) <= 0.03
    assert float((found.sh - expected.sh).pow(2).mean().sqrt()) <= sh


def spread(n: int = 600, degree: int = 3) -> Gaussians:
    """Gaussians that stay apart, with colours and SH that every format holds."""
    g = make(n, degree, seed=degree, log_scales=2.0, sh=0.9)
    grid = torch.stack(torch.meshgrid(*[torch.arange(10.0)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n]
    return replace(g, means=(grid - 4.5) * 0.4 + 0.05 * g.means, log_scales=g.log_scales - 3)


# SH rms, degrees, ln scale, position: what the format or the other's reader adds.
TOLERANCE = {
    "a.ply": (1e-6, 0.1, 1e-6, 1e-6),
    "a.compressed.ply": (0.01, 0.3, 0.004, 0.004),
    "a.splat": (0.01, 1.8, 1e-5, 1e-6),
    "a.spz": (0.04, 0.3, 0.032, 2e-4),
    "a.sog": (0.02, 1.0, 0.02, 2e-4),
}


@pytest.mark.parametrize("file", TOLERANCE)
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("reader", ["splat-transform", "gaussforge"])
@pytest.mark.filterwarnings("ignore:.*has no place for")
def test_others_read_ours(tmp_path, request, reader, file, degree):
    g = with_materials(spread(degree=degree))
    options = {"axes": "capture"} if file == "a.spz" else {}  # both leave axes as they are
    write_splat(g, tmp_path / file, **options)
    theirs = tmp_path / "theirs.ply"
    if reader == "gaussforge":
        gaussforge_ply(tmp_path / file, file.partition(".")[2], theirs)
    else:
        splat_transform(request.getfixturevalue("node"), tmp_path / file, theirs)
    expected = replace(plain(g), sh=g.sh[:, :1]) if file == "a.splat" else plain(g)
    assert_alike(read_splat(theirs), expected, *TOLERANCE[file])


@pytest.mark.parametrize("version", [2, 3])
def test_others_read_older_spz(tmp_path, node, version):
    g = spread()
    write_splat(g, tmp_path / "a.spz", version=version, axes="capture")
    splat_transform(node, tmp_path / "a.spz", tmp_path / "theirs.ply")
    assert_alike(read_splat(tmp_path / "theirs.ply"), plain(g), 0.04, 13 if version == 2 else 0.3, 0.032, 2e-4)


def test_others_read_unbundled_sog(tmp_path, node):
    g = spread()
    write_splat(with_materials(g), tmp_path / "sog" / "meta.json")
    splat_transform(node, tmp_path / "sog" / "meta.json", tmp_path / "theirs.ply")
    assert_alike(read_splat(tmp_path / "theirs.ply"), plain(g), *TOLERANCE["a.sog"])


@pytest.mark.parametrize("file", ["a.compressed.ply", "a.spz", "a.sog", "a.glb", "a.ksplat"])
@pytest.mark.parametrize("writer", ["splat-transform", "gaussforge"])
def test_we_read_theirs(tmp_path, request, writer, file):
    if (file == "a.ksplat" and writer == "splat-transform") or (file == "a.glb" and writer == "gaussforge"):
        pytest.skip("it doesn't write this format")
    # gaussforge 0.6 mixes up SH in these two; splat-transform reads what it wrote as we do.
    scrambled = writer == "gaussforge" and file in ("a.ksplat", "a.compressed.ply")
    g = plain(spread(degree=0 if scrambled else 3))
    write_splat(g, tmp_path / "ours.ply")
    if writer == "gaussforge":
        gaussforge = pytest.importorskip("gaussforge")
        found = gaussforge.GaussForge().convert((tmp_path / "ours.ply").read_bytes(), "ply", file.partition(".")[2])
        assert "error" not in found, found["error"]
        (tmp_path / file).write_bytes(found["data"])
    else:
        splat_transform(request.getfixturevalue("node"), tmp_path / "ours.ply", tmp_path / file)
    found = read_splat(tmp_path / file)
    if file == "a.spz":
        found = half_turn(found, "x")
    # Random SH doesn't take well to splat-transform's smaller palette.
    tolerance = {
        "a.glb": (1e-4, 0.1, 1e-4, 1e-5),
        "a.sog": (0.2, 1.9, 0.03, 4e-4),
        "a.ksplat": (0.02, 0.3, 0.01, 2e-3),
    }
    assert_alike(found, g, *(tolerance | {k: v for k, v in TOLERANCE.items() if k not in tolerance})[file])


def test_gsply_reads_ours(tmp_path):
    gsply = pytest.importorskip("gsply")
    g = spread()
    write_splat(g, tmp_path / "a.spz", axes="capture")
    write_splat(g, tmp_path / "a.compressed.ply")
    for file, read in (("a.spz", gsply.read_spz), ("a.compressed.ply", gsply.plyread)):
        found = read(str(tmp_path / file))
        means = torch.from_numpy(np.array(found.means, np.float32))
        distance, order = torch.cdist(means, g.means).min(1)
        assert float(distance.max()) < 0.005
        sh0 = torch.from_numpy(np.array(found.sh0, np.float32)).reshape(-1, 3)
        assert float((sh0 - g.sh[order, 0]).abs().max()) < 0.03
        rest = torch.from_numpy(np.array(found.shN, np.float32)).reshape(len(g), 15, 3)
        assert float((rest - g.sh[order, 1:]).pow(2).mean().sqrt()) < 0.04


def upper(covariances: torch.Tensor) -> torch.Tensor:
    return covariances[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]]


@pytest.mark.parametrize("file", ["a.glb", "a.spz", "b.spz"])
def test_three_js_reads_ours(tmp_path, node, file):
    """Positions, covariances, colours and SH, in the axes that the format is said to have."""
    g = with_materials(spread()) if file != "b.spz" else spread()
    options: dict[str, Any] = {"version": 3} if file == "b.spz" else {}
    write_splat(g, tmp_path / file, **options)
    found = with_node(node, "gltf" if file == "a.glb" else "spz", tmp_path / file)
    x = half_turn(plain(g), "z" if file == "a.glb" else "x")
    exact = file == "a.glb"
    positions = torch.tensor(found["positions"]).reshape(-1, 3)
    torch.testing.assert_close(positions, x.means, rtol=0, atol=1e-6 if exact else 2e-4)
    covariances, expected = torch.tensor(found["covariances"]).reshape(-1, 6), upper(x.covariances)
    size = x.scales.amax(1, keepdim=True) ** 2
    assert float(((covariances - expected) / size).abs().max()) < (1e-4 if exact else 0.08)
    colors = torch.tensor(found["colors"], dtype=torch.float32).reshape(-1, 4) / 255
    torch.testing.assert_close(colors[:, 3], x.opacities, rtol=0, atol=1 / 255)
    torch.testing.assert_close(colors[:, :3], (x.sh[:, 0] * 0.2820948 + 0.5).clamp(0, 1), rtol=0, atol=2 / 255)
    assert found["bands"] == 3
    words = np.array(found["harmonics"], np.uint32).view(np.uint8).reshape(len(g), -1)[:, :9].reshape(-1, 3, 3)
    harmonics = (torch.from_numpy(words.astype(np.float32)) - 128) / 128
    torch.testing.assert_close(harmonics, x.sh[:, 1:4], rtol=0, atol=0.009 if exact else 0.04)


def test_khronos_validator_has_nothing_else_to_say(tmp_path, node):
    """It doesn't know the extension yet: it takes each of its attributes' names for an error, and says that accessors
    inside ours may be unused.  All the rest of the file, bounds and all, is checked."""
    write_splat(with_materials(spread()), tmp_path / "a.glb")
    report = with_node(node, "validate", tmp_path / "a.glb")
    assert report["info"]["totalVertexCount"] == 600
    known = {"MESH_PRIMITIVE_INVALID_ATTRIBUTE": "KHR_gaussian_splatting:", "UNSUPPORTED_EXTENSION": "/extensionsUsed/",
             "UNUSED_OBJECT": "/accessors/"}  # fmt: skip
    other = [m for m in report["issues"]["messages"] if known.get(m["code"], "none") not in m["pointer"]]
    assert other == []
    codes = [m["code"] for m in report["issues"]["messages"]]
    assert codes.count("MESH_PRIMITIVE_INVALID_ATTRIBUTE") == 3 + 16 and codes.count("UNUSED_OBJECT") == 5
    write_splat(spread(degree=0), tmp_path / "a.glb")
    codes = [m["code"] for m in with_node(node, "validate", tmp_path / "a.glb")["issues"]["messages"]]
    assert sorted(set(codes)) == ["MESH_PRIMITIVE_INVALID_ATTRIBUTE", "UNSUPPORTED_EXTENSION"]
