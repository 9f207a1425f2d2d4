"""read(write(x)) of every format is within what the format's quantisation declares."""

from __future__ import annotations

import json
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from splat_cases import angles, make, with_materials
from torch import Tensor

from relight import formats
from relight.errors import DataError, RelightError
from relight.formats import FORMATS, detect, lost, morton, read_splat, write_splat
from relight.formats.common import PART, half_turn, plain
from relight.geometry import sh as harmonics
from relight.geometry.gaussians import Gaussians

C0 = harmonics.C0
BYTE = 0.5 / 255
WRITTEN = ("a.ply", "a.compressed.ply", "a.splat", "a.spz", "a.sog", "meta.json", "a.glb", "a.usdc")


def close(name: str, found: Tensor, expected: Tensor, bound: Tensor | float, rounding: float = 3e-6) -> None:
    """Within `bound`, and what float32 adds."""
    assert found.shape == expected.shape
    if not found.numel():
        return
    error = (found.double() - expected.double()).abs()
    worst = float((error - torch.as_tensor(bound).double() - rounding * (1 + expected.double().abs())).max())
    assert worst <= 0, f"{name}: {worst} beyond its bound"


def opacity_bound(found: Gaussians, expected: Gaussians, bound: float) -> None:
    close("opacity", torch.sigmoid(found.logit_opacity.double()), torch.sigmoid(expected.logit_opacity.double()), bound)


def gaps(codebook: list[float]) -> float:
    """The farthest that a value within a codebook's range is from an entry."""
    return float(np.diff(np.asarray(codebook, np.float64)).max(initial=0)) / 2


def material_bounds(found: Gaussians, expected: Gaussians, exact: bool) -> None:
    assert found.channels.keys() == expected.channels.keys()
    for name, value in expected.channels.items():
        if name == "normal":
            cosine = (found.channels[name].double() * value.double()).sum(1)
            assert float(torch.rad2deg(torch.acos(cosine.clamp(-1, 1))).max()) < (0.05 if exact else 1.0)
        else:
            root = torch.sqrt if name == "base_color" and not exact else torch.Tensor.double
            close(name, root(found.channels[name]), root(value), 0 if exact else BYTE)


def check(path: Path, g: Gaussians) -> None:
    """Read it and compare with what the format declares.  g: what was written."""
    name = FORMATS[detect(path).name].name  # type: ignore[union-attr]
    found = read_splat(path)
    keeps = FORMATS[name].keeps
    x = plain(g)
    if name in ("compressed_ply", "sog"):
        x = x[morton.order(g.means)]
    dc, rest = x.sh[:, 0].double(), x.sh[:, 1:].double()
    assert len(found) == len(x)
    assert found.sh_degree == (x.sh_degree if "sh" in keeps else 0)
    assert found.flags == {flag: value and flag in keeps for flag, value in x.flags.items()}
    if name in ("ply", "gltf", "usd"):
        close("means", found.means, x.means, 0)
        close("scales", found.log_scales, x.log_scales.clamp(-87, 88) if name != "ply" else x.log_scales, 0)
        opacity_bound(found, x, 1e-6)
        assert float(angles(found, x).max()) < 1e-3
        close("sh", found.sh, x.sh, 0)
        if name == "ply":
            assert torch.equal(found.sh, x.sh)
    elif name == "splat":
        close("means", found.means, x.means, 0)
        close("scales", found.log_scales, x.log_scales, 1e-5)
        opacity_bound(found, x, BYTE)
        assert float(angles(found, x).max()) < 0.9
        close("color", found.sh[:, 0], dc.clamp(-0.5 / C0, 0.5 / C0), BYTE / C0)
    elif name == "compressed_ply":
        chunk = torch.arange(len(x)) // 256

        def extent(v: Tensor) -> Tensor:
            """(N, 3) of the chunk that a Gaussian is in."""
            parts = [v[chunk == c] for c in range(int(chunk.max()) + 1)]
            return torch.stack([p.amax(0) - p.amin(0) for p in parts])[chunk]

        steps = torch.tensor([2047.0, 1023.0, 2047.0])
        scales = x.log_scales.clamp(-20, 20)
        close("means", found.means, x.means, extent(x.means) / steps / 2)
        close("scales", found.log_scales, scales, extent(scales) / steps / 2)
        close("color", found.sh[:, 0], dc, extent(dc) * BYTE)
        opacity_bound(found, x, BYTE)
        assert float(angles(found, x).max()) < 0.26
        close("sh", found.sh[:, 1:], rest.clamp(-4, 4), 1 / 32)
    elif name == "spz":
        fraction = path.read_bytes()[13]
        close("means", found.means, x.means, 2.0 ** -(fraction + 1))
        close("scales", found.log_scales, x.log_scales.clamp(-10, 5.9375), 1 / 32)
        close("color", found.sh[:, 0], dc.clamp(-0.5 / 0.15, 0.5 / 0.15), BYTE / 0.15)
        opacity_bound(found, x, BYTE)
        assert float(angles(found, x).max()) < 0.26
        bound = torch.full((rest.shape[1], 1), 8.5 / 128)
        bound[:3] = 4.5 / 128
        close("sh", found.sh[:, 1:], rest.clamp(-1, 1), bound)
    elif name == "sog":
        meta = json.loads(path.read_bytes() if path.name == "meta.json" else zipfile.ZipFile(path).read("meta.json"))
        span = torch.tensor(meta["means"]["maxs"]).double() - torch.tensor(meta["means"]["mins"]).double()
        t, expected = (v.double().sign() * v.double().abs().log1p() for v in (found.means, x.means))
        close("means", t, expected, span / 65535 / 2)
        axes = 2 if x.surfels else 3  # the third of a surfel is not read
        scales = found.log_scales[:, :axes], x.log_scales[:, :axes]
        close("scales", *scales, gaps(meta["scales"]["codebook"]))
        close("color", found.sh[:, 0], dc, gaps(meta["sh0"]["codebook"]))
        opacity_bound(found, x, BYTE)
        assert float(angles(found, x).max()) < 0.95
        if rest.shape[1] and len(x) <= 1024:  # as many entries as Gaussians
            close("sh", found.sh[:, 1:], rest, gaps(meta["shN"]["codebook"]))
    if "materials" in keeps:
        material_bounds(found, x, exact=name in ("ply", "gltf", "usd"))
    else:
        assert not found.channels


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("file", WRITTEN)
@pytest.mark.filterwarnings("ignore:.*has no place for")
@given(
    n=st.sampled_from([1, 2, 5, 255, 256, 257, 600]),
    degree=st.integers(0, 3),
    seed=st.integers(0, 1 << 20),
    extent=st.sampled_from([1e-4, 1.0, 300.0, 2e5]),
    log_scales=st.sampled_from([0.1, 4.0, 30.0]),
    logit=st.sampled_from([1.0, 40.0]),
    sh=st.sampled_from([0.0, 0.9, 10.0]),
    materials=st.booleans(),
    filtered=st.booleans(),
    flag=st.sampled_from(["", "surfels", "antialiased"]),
)
def test_within_the_declared_quantisation(
    tmp_path, file, n, degree, seed, extent, log_scales, logit, sh, materials, filtered, flag
):
    if file == "a.usdc":
        pytest.importorskip("pxr", reason="usd-core is not installed")
    g = make(
        n, degree, seed, means=extent, log_scales=log_scales, logit_opacity=logit, sh=sh, filtered=filtered,
        surfels=flag == "surfels", antialiased=flag == "antialiased",
    )  # fmt: skip
    g = with_materials(g) if materials else g
    write_splat(g, tmp_path / file)
    check(tmp_path / file, g)


@pytest.mark.parametrize("file", WRITTEN)
@pytest.mark.filterwarnings("ignore:.*has no place for")
def test_more_than_one_part(tmp_path, file, monkeypatch):
    """Writers work on parts; where one ends, nothing shows."""
    if file == "a.usdc":
        pytest.importorskip("pxr", reason="usd-core is not installed")
    g = with_materials(make(700, 1, antialiased=True))
    write_splat(g, tmp_path / file)
    whole = read_splat(tmp_path / file)
    monkeypatch.setattr("relight.formats.common.PART", 256)
    write_splat(g, tmp_path / file)
    parts = read_splat(tmp_path / file)
    for name, value in whole.tensors().items():
        torch.testing.assert_close(parts.tensors()[name], value, rtol=0, atol=0, msg=name)
    assert PART % 256 == 0, "chunks of compressed .ply don't straddle parts"


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_a_half_turn_is_the_rotation(axis):
    g = with_materials(make(20, 3))
    rotation = torch.diag(torch.tensor([1.0 if a == axis else -1.0 for a in "xyz"]))
    expected, found = g.transformed(rotation, torch.zeros(3)), half_turn(g, axis)
    for name in ("means", "covariances", "sh"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.channels["normal"], expected.channels["normal"])
    back = half_turn(found, axis)
    assert torch.equal(back.means, g.means) and torch.equal(back.sh, g.sh)
    # As a picture: what is seen from a direction before is seen from the turned one after.
    d = torch.nn.functional.normalize(torch.randn(20, 3), dim=1)
    torch.testing.assert_close(
        harmonics.evaluate(found.sh, d @ rotation, 3), harmonics.evaluate(g.sh, d, 3), rtol=1e-4, atol=1e-4
    )


def test_axes_of_the_files_are_the_formats(tmp_path):
    """Numbers in the file: y is down in a capture, up in .spz (right, up, back) and glTF (left, up, forward)."""
    g = replace(make(1, 0), means=torch.tensor([[1.0, 2.0, 3.0]]))
    write_splat(g, tmp_path / "a.spz", version=3)
    raw = zlib_of(tmp_path / "a.spz")[16:25]
    stored = [
        int.from_bytes(raw[i : i + 3], "little", signed=True) / 2 ** zlib_of(tmp_path / "a.spz")[13] for i in (0, 3, 6)
    ]
    assert stored == [1, -2, -3]
    write_splat(g, tmp_path / "a.glb")
    data = (tmp_path / "a.glb").read_bytes()
    start = 28 + struct.unpack_from("<I", data, 12)[0]
    assert struct.unpack_from("<3f", data, start) == (-1, -2, 3)
    for file in ("a.spz", "a.glb"):
        torch.testing.assert_close(read_splat(tmp_path / file).means, g.means)


def zlib_of(path: Path) -> bytes:
    import gzip

    return gzip.decompress(path.read_bytes())


@pytest.mark.parametrize("version", [2, 3, 4])
def test_versions_and_options_of_spz(tmp_path, version):
    g = make(300, 3, sh=0.9)
    path = tmp_path / "a.spz"
    write_splat(g, path, version=version, sh1_bits=8, sh_bits=8, fractional_bits=16, axes="capture")
    found = read_splat(path)
    if version < 4:  # it can't say that its axes are a capture's
        found = half_turn(found, "x")
    close("means", found.means, g.means, 2.0**-17)
    close("sh", found.sh[:, 1:], g.sh[:, 1:], 0.5 / 128)
    worst = angles(found, g).max()
    assert worst < (13 if version == 2 else 0.26)
    with pytest.raises(RelightError, match="fractional_bits=23: expected at most 22"):
        write_splat(g, path, fractional_bits=23)
    for option, value in {"version": 5, "sh_bits": 0, "axes": "up"}.items():
        with pytest.raises(RelightError, match=f"{option}={value}: expected"):
            write_splat(g, path, **{option: value})
    with pytest.raises(RelightError, match=r"unknown option 'versoin', did you mean 'version'"):
        write_splat(g, path, versoin=3)
    with pytest.warns(UserWarning, match="version 3 has no place for base_color"):
        write_splat(with_materials(g), path, version=3)


def test_fine_gaussians_get_finer_positions(tmp_path):
    fine = replace(make(100, 0, means=0.1), log_scales=torch.full((100, 3), -9.0))
    write_splat(fine, tmp_path / "a.spz")
    assert (tmp_path / "a.spz").read_bytes()[13] >= 14
    far = replace(make(100, 0), means=torch.full((100, 3), 8e6))
    write_splat(far, tmp_path / "a.spz")
    assert (tmp_path / "a.spz").read_bytes()[13] == 0
    with pytest.raises(DataError, match="remove outliers"):
        write_splat(replace(far, means=far.means * 2), tmp_path / "b.spz")
    assert not (tmp_path / "b.spz").exists()


def test_what_a_format_has_no_place_for_is_said(tmp_path):
    g = with_materials(make(4, 2, surfels=True))
    g = replace(g, channels={**g.channels, "feature": torch.zeros(4, 7)})
    assert lost(g, FORMATS["ply"]) == []
    assert lost(g, FORMATS["sog"]) == ["feature"]
    with pytest.warns(
        UserWarning, match=r"no place for SH of degree 2, base_color, .*feature, that it is made of surfels"
    ):
        write_splat(g, tmp_path / "a.splat")


@pytest.mark.parametrize("file", WRITTEN)
@pytest.mark.parametrize("fault", ["means", "sh", "quats_wxyz"])
def test_nothing_is_written_that_is_not_finite(tmp_path, file, fault):
    if file == "a.usdc":
        pytest.importorskip("pxr", reason="usd-core is not installed")
    g = make(3, 0)
    getattr(g, fault)[1] = 0.0 if fault == "quats_wxyz" else torch.nan
    with pytest.raises(DataError, match=f"1 of 3 .*{fault}"):
        write_splat(g, tmp_path / file)
    assert list(tmp_path.iterdir()) == []


def test_names_and_suffixes(tmp_path):
    assert formats.find(Path("A.COMPRESSED.PLY")) is FORMATS["compressed_ply"]
    assert formats.find(Path("a.bin"), "glb") is FORMATS["gltf"]
    with pytest.raises(RelightError, match=r"not a splat format that is written; expected one of .*\.spz"):
        write_splat(make(1), tmp_path / "a.ksplat")
    with pytest.raises(DataError, match="no such file"):
        read_splat(tmp_path / "none.ply")
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(DataError, match="not a Gaussian splat that is recognised"):
        read_splat(tmp_path / "a.txt")
    for name in ("a.sog", "a.glb"):
        with pytest.raises(DataError, match="not written"):
            write_splat(make(0), tmp_path / name)


def test_an_unbundled_sog_is_found_by_its_folder(tmp_path):
    g = make(50, 1, sh=0.5)
    write_splat(g, tmp_path / "scene" / "meta.json")
    assert detect(tmp_path / "scene") is FORMATS["sog"]
    assert len(read_splat(tmp_path / "scene")) == 50


@pytest.mark.parametrize("file", ["a.ply", "a.compressed.ply", "a.splat", "a.spz", "a.sog", "a.glb"])
@pytest.mark.filterwarnings("ignore:.*has no place for")
def test_sizes_add_up_to_the_file(tmp_path, file):
    g = with_materials(make(3000, 2))
    write_splat(g, tmp_path / file)
    sizes = detect(tmp_path / file).module.sizes(tmp_path / file)  # type: ignore[union-attr]
    total = (tmp_path / file).stat().st_size
    assert 0.9 * total - 16384 < sum(sizes.values()) <= total, (sizes, total)
