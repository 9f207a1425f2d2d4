"""The splat .ply: read(write(x)), other people's files, and files that lie."""

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from splat_cases import make, with_materials

from relight.errors import DataError, RelightError
from relight.formats.common import LOG_SCALE_ZERO, SURFEL_THICKNESS
from relight.formats.ply import read as read_ply
from relight.formats.ply import write as write_ply
from relight.formats.ply_container import read_header
from relight.geometry.gaussians import Gaussians

DATA = Path(os.environ.get("RELIGHT_DATA", Path(__file__).parents[3] / "shared" / "data"))


def assert_same_splat(read: Gaussians, written: Gaussians) -> None:
    """Equal as pictures: what the 3D filter does is expected in scales and opacity, computed here in float64."""
    exact = written.map(torch.Tensor.double)
    axes = 2 if written.surfels else 3
    assert read.flags == written.flags and read.filter_3d is None
    torch.testing.assert_close(read.means, written.means, rtol=0, atol=0)
    torch.testing.assert_close(read.sh, written.sh, rtol=0, atol=0)
    torch.testing.assert_close(read.log_scales[:, :axes].double(), exact.scales[:, :axes].log(), rtol=1e-6, atol=1e-6)
    log_opacity = torch.nn.functional.logsigmoid(read.logit_opacity.double())
    expected = torch.nn.functional.logsigmoid(exact.logit_opacity)
    if written.filter_3d is not None:
        expected = expected + (exact.log_scales - exact.scales.log())[:, :axes].sum(-1)
    torch.testing.assert_close(log_opacity, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(read.map(torch.Tensor.double).rotations, exact.rotations, rtol=0, atol=1e-6)
    assert read.channels.keys() == written.channels.keys()
    for name, value in written.channels.items():
        torch.testing.assert_close(read.channels[name], value, rtol=0, atol=0)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n=st.integers(0, 7),
    degree=st.integers(0, 3),
    seed=st.integers(0, 2**31),
    surfels=st.booleans(),
    filtered=st.booleans(),
    materials=st.booleans(),
    extent=st.sampled_from([1e-30, 1.0, 1e4, 1e30]),
    log_scales=st.sampled_from([0.0, 5.0, 80.0]),
    logit=st.sampled_from([0.0, 10.0, 80.0]),
)
def test_round_trip(tmp_path, n, degree, seed, surfels, filtered, materials, extent, log_scales, logit):
    g = make(
        n, degree, seed, surfels=surfels, filtered=filtered, means=extent, log_scales=log_scales, logit_opacity=logit,
        sh=extent, log_filter=log_scales,
    )  # fmt: skip
    g = with_materials(g) if materials else g
    write_ply(g, tmp_path / "a.ply")
    assert_same_splat(read_ply(tmp_path / "a.ply"), g)


def test_layout_is_the_authors(tmp_path):
    """Byte for byte where a reader that knows nothing of us would look."""
    g = make(3, degree=1, seed=4)
    write_ply(g, tmp_path / "a.ply")
    raw = (tmp_path / "a.ply").read_bytes()
    header, body = raw.split(b"end_header\n", 1)
    names = [line.split()[2].decode() for line in header.splitlines() if line.startswith(b"property float")]
    rest, rot = [f"f_rest_{i}" for i in range(9)], [f"rot_{i}" for i in range(4)]
    first = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    assert names == [*first, *rest, "opacity", "scale_0", "scale_1", "scale_2", *rot]
    assert header.startswith(b"ply\nformat binary_little_endian 1.0\nelement vertex 3\n")
    table = np.frombuffer(body, "<f4").reshape(3, len(names))
    column = dict(zip(names, table.T, strict=True))
    for channel in range(3):
        for i in range(3):  # channel-major: all of red, then green, then blue
            np.testing.assert_array_equal(column[f"f_rest_{3 * channel + i}"], g.sh[:, 1 + i, channel].numpy())
    normals = table[:, 3:6]
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
    outward = ((g.means - g.means.median(0).values).numpy() * normals).sum(1)
    assert (outward >= 0).all()


def test_other_channels_and_modes(tmp_path):
    g = make(4, surfels=True)
    extra = {"feature": torch.randn(4, 5), "object_id": torch.arange(4.0), "single": torch.rand(4, 1)}
    g = Gaussians.from_tensors(g.tensors() | {f"channels.{k}": v for k, v in extra.items()}, surfels=True)
    write_ply(g, tmp_path / "a.ply")
    back = read_ply(tmp_path / "a.ply")
    assert_same_splat(back, g)
    thickness = back.log_scales[:, 2] - back.log_scales[:, :2].amin(1)
    torch.testing.assert_close(thickness, torch.full((4,), float(np.log(SURFEL_THICKNESS))))
    write_ply(make(2, antialiased=True), tmp_path / "b.ply")
    assert_same_splat(read_ply(tmp_path / "b.ply"), make(2, antialiased=True))


def test_writes_nothing_when_values_are_not_finite(tmp_path):
    for name, value in {"means": torch.nan, "quats_wxyz": 0.0, "sh": torch.inf}.items():
        g = make(3)
        getattr(g, name)[1] = value
        with pytest.raises(DataError, match="1 of 3"):
            write_ply(g, tmp_path / "a.ply")
    clash = Gaussians.from_tensors(make(2).tensors() | {"channels.x": torch.zeros(2)})
    with pytest.raises(DataError, match="'x'"):
        write_ply(clash, tmp_path / "a.ply")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(RelightError, match="cannot be written"):
        write_ply(make(2), tmp_path / "file" / "a.ply")


# --- other people's files --------------------------------------------------------------------------------------------


def rewrite(
    source: Path, target: Path, kind: str, number: str = "float", extra: dict | None = None, order=None
) -> None:
    """Write the columns of `source` again with another format, number type, order or more columns."""
    code = {"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"}[number]
    header = read_header(source)
    names = [name for name, _ in header.elements[0].properties]
    table = np.fromfile(source, "<f4", offset=header.size).reshape(-1, len(names))
    columns = dict(zip(names, table.T, strict=True)) | (extra or {})
    names = order(list(columns)) if order else list(columns)
    lines = ["ply", f"format {kind} 1.0", f"element vertex {len(table)}"]
    lines += [f"property {number} {name}" for name in names]
    body = np.stack([columns[name] for name in names], 1).astype({"binary_big_endian": ">"}.get(kind, "<") + code)
    end = "\r\n" if kind == "ascii" else "\n"
    with target.open("wb") as file:
        file.write((end.join([*lines, "end_header"]) + end).encode())
        if kind == "ascii":
            np.savetxt(file, body, fmt="%.9g", newline=end)
        else:
            file.write(body.tobytes())


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("number", ["float", "double"])
@pytest.mark.parametrize("degree", [0, 2])
def test_any_encoding(tmp_path, kind, number, degree):
    g = make(5, degree)
    write_ply(g, tmp_path / "a.ply")
    extra = {"red": np.arange(5), "roughness": np.full(5, -3.0), "f_rest": np.ones(5)}
    rewrite(tmp_path / "a.ply", tmp_path / "b.ply", kind, number, extra, lambda names: sorted(names, reverse=True))
    assert_same_splat(read_ply(tmp_path / "b.ply"), g)


def test_elements_before_and_after_are_skipped(tmp_path):
    g = make(3, 0)
    write_ply(g, tmp_path / "a.ply")
    raw = (tmp_path / "a.ply").read_bytes()
    head, body = raw.split(b"end_header\n")
    first = b"element camera 2\nproperty double t\nproperty uchar id\nelement vertex"
    tail = b"element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    head = head.replace(b"element vertex", first) + tail
    (tmp_path / "b.ply").write_bytes(head + bytes(18) + body + bytes(13))
    assert_same_splat(read_ply(tmp_path / "b.ply"), g)


def test_two_scales_or_the_mode_comment_mean_surfels(tmp_path):
    write_ply(make(3, 0), tmp_path / "a.ply")
    rewrite(tmp_path / "a.ply", tmp_path / "b.ply", "ascii", order=lambda ns: [n for n in ns if n != "scale_2"])
    assert read_ply(tmp_path / "b.ply").surfels
    assert not read_ply(tmp_path / "a.ply").surfels


def test_material_layouts_of_other_projects(tmp_path):
    write_ply(make(2, 0), tmp_path / "a.ply")
    raw = np.array([-1.0, 2.0])
    sigmoid = 1 / (1 + np.exp(-raw))
    base = {f"base_color_{i}": raw for i in range(3)} | {"roughness": raw}

    def read(extra, order=None):
        rewrite(tmp_path / "a.ply", tmp_path / "b.ply", "binary_little_endian", "double", extra, order)
        return {k: v.numpy() for k, v in read_ply(tmp_path / "b.ply").channels.items()}

    assert read(base) == {}, "raw values of an unknown project are not guessed at"
    activated = read({k: sigmoid for k in base})  # ours, after a tool that drops comments
    np.testing.assert_allclose(activated["roughness"], sigmoid, rtol=1e-6)
    r3dg = read(base | {"incidents_dc_0": raw})
    np.testing.assert_allclose(r3dg["base_color"][:, 1], 0.77 * sigmoid + 0.03, rtol=1e-5)
    np.testing.assert_allclose(r3dg["roughness"], 0.9 * sigmoid + 0.09, rtol=1e-5)
    assert r3dg["normal"].shape == (2, 3)
    gsir = {f"albedo_{i}": raw for i in range(3)} | {f"normal_{i}": raw for i in range(3)} | {"metallic": raw}
    gsir = read(gsir, lambda names: [n for n in names if n not in ("nx", "ny", "nz")])
    np.testing.assert_allclose(gsir["base_color"][:, 2], sigmoid, rtol=1e-5)
    np.testing.assert_allclose(gsir["metallic"], sigmoid, rtol=1e-5)
    np.testing.assert_allclose(np.abs(gsir["normal"]), 3**-0.5, rtol=1e-5)
    shader = read({"nx2": raw, "specular0": raw, "roughness": raw})
    np.testing.assert_allclose(shader["roughness"], sigmoid, rtol=1e-5)


def test_converters_zeros_and_ones_become_finite(tmp_path):
    write_ply(make(2, 0), tmp_path / "a.ply")
    extra = {"opacity": np.array([np.inf, -np.inf]), "scale_0": np.array([-np.inf, 0.0])}
    rewrite(tmp_path / "a.ply", tmp_path / "b.ply", "binary_little_endian", extra=extra)
    g = read_ply(tmp_path / "b.ply")
    assert g.opacities[0] == 1.0 and 0 < g.opacities[1] < 1e-12
    assert g.log_scales[0, 0] == LOG_SCALE_ZERO and bool(g.covariances.isfinite().all())


def test_extreme_quaternions_are_brought_to_usable_length(tmp_path):
    write_ply(make(2, 0), tmp_path / "a.ply")
    before = read_ply(tmp_path / "a.ply").rotations
    columns = read_ply(tmp_path / "a.ply").quats_wxyz.double().numpy() * np.array([[1e-30], [1e30]])
    rewrite(tmp_path / "a.ply", tmp_path / "b.ply", "ascii", extra={f"rot_{i}": columns[:, i] for i in range(4)})
    torch.testing.assert_close(read_ply(tmp_path / "b.ply").rotations, before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("column", ["x", "f_dc_1", "scale_1", "rot"])
def test_invalid_gaussians_are_reported_or_dropped(tmp_path, column):
    write_ply(make(4, 0), tmp_path / "a.ply")
    values = np.array([0.5, 0.5, np.nan, 1e300])
    extra = {column: values}
    if column == "rot":
        extra = {f"rot_{i}": np.array([1.0, 1.0, 0.0, 0.0]) for i in range(4)}
    rewrite(tmp_path / "a.ply", tmp_path / "b.ply", "binary_little_endian", "double", extra)
    with pytest.raises(DataError, match=r"2 of 4 .*row 2.*drop"):
        read_ply(tmp_path / "b.ply")
    kept = read_ply(tmp_path / "b.ply", drop_invalid=True)
    torch.testing.assert_close(kept.logit_opacity, read_ply(tmp_path / "a.ply").logit_opacity[:2])


# --- files that lie --------------------------------------------------------------------------------------------------

NAMES = [
    "x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2",
    "rot_3",
]  # fmt: skip
GOOD = "ply\nformat ascii 1.0\nelement vertex 1\n" + "".join(f"property float {n}\n" for n in NAMES)
ROW = "0 0 0 0 0 0 0 0 0 0 1 0 0 0\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a PLY"),
        ("solid cube\n", "not a PLY"),
        (GOOD, "no `end_header`"),
        (GOOD.replace("ascii", "binary_middle_endian") + "end_header\n" + ROW, "unknown format"),
        ("ply\nelement vertex 1\nproperty float x\nend_header\n0\n", "no `format`"),
        (GOOD.replace("vertex 1", "vertex -1") + "end_header\n" + ROW, "impossible number"),
        (GOOD.replace("vertex 1", "vertex ١") + "end_header\n" + ROW, "impossible number"),
        (GOOD.replace("vertex 1", f"vertex {10**30}") + "end_header\n" + ROW, "impossible number"),
        (GOOD.replace("vertex 1", "vertex 999999999999999") + "end_header\n" + ROW, "truncated"),
        (GOOD.replace("vertex 1", "vertex 3") + "end_header\n" + ROW * 2 + "0" * 60, "truncated.* 2 are there"),
        (GOOD.replace("ascii", "binary_little_endian") + "end_header\n" + ROW, "truncated"),
        (GOOD.replace("element vertex", "element point") + "end_header\n" + ROW, "expected an element 'vertex'"),
        (GOOD + "property float x\nend_header\n" + ROW, "appears twice"),
        (GOOD + "property quad q\nend_header\n" + ROW, "unknown type"),
        (GOOD + "property list uchar int i\nend_header\n" + ROW, "list properties"),
        (GOOD + "nonsense here\nend_header\n" + ROW, "cannot be understood"),
        (GOOD + "property float f_rest_0\nend_header\n" + ROW + "0\n", "f_rest columns"),
        (GOOD.replace("property float opacity\n", "") + "end_header\n" + ROW, "missing: opacity"),
        ("ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n0\n", "point cloud"),
        (GOOD + "end_header\n" + ROW.replace("1", "one"), "not a number"),
        (GOOD.replace("element vertex", "element chunk 0\nelement vertex") + "end_header\n" + ROW, "compressed"),
        ("ply\nformat ascii 1.0\nelement vertex 5\nend_header\n" + ROW, "no properties"),
        ("ply\n" + "comment x\n" * 200_000, "no `end_header`"),
    ],
)
def test_hostile_files(tmp_path, text, message):
    path = tmp_path / "bad.ply"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        read_ply(path)
    assert str(path) in str(caught.value)


def test_good_is_good(tmp_path):
    """The base of the hostile files is itself readable, so each of them fails for its own reason."""
    (tmp_path / "good.ply").write_text(GOOD + "end_header\n" + ROW)
    assert len(read_ply(tmp_path / "good.ply")) == 1


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.ply", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_ply(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_raise_data_errors_only(tmp_path, data):
    path = tmp_path / "a.ply"
    write_ply(with_materials(make(3, 1)), path)
    raw = bytearray(path.read_bytes())
    raw = raw[: data.draw(st.integers(0, len(raw)))]
    for _ in range(data.draw(st.integers(0, 4))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    with contextlib.suppress(DataError):
        read_ply(path)


# --- real files and an independent reader ----------------------------------------------------------------------------


def test_real_capture(tmp_path):
    path = DATA / "splats" / "inria_style_ply" / "point_cloud_iter7000_9080g.ply"
    if not path.exists():
        pytest.skip(f"no test data at {DATA} (set RELIGHT_DATA)")
    g = read_ply(path)
    assert (len(g), g.sh_degree, g.surfels, dict(g.channels)) == (9080, 3, False, {})
    write_ply(g, tmp_path / "again.ply")
    assert_same_splat(read_ply(tmp_path / "again.ply"), g)
    compressed = DATA / "splats" / "playcanvas" / "biker.compressed.ply"
    with pytest.raises(DataError, match="compressed"):
        read_ply(compressed)
