"""Splats as .ply in the layout of the 3DGS authors, which every splat viewer opens.

Columns, float32: `x y z nx ny nz f_dc_0..2 f_rest_0.. opacity scale_0..2 rot_0..3`; `f_rest` is channel-major (all
red coefficients, then green, then blue), opacity is a logit, scales are natural logarithms, rotations are wxyz.
Source: Kerbl et al., 3D Gaussian Splatting (SIGGRAPH 2023), and their `point_cloud.ply`.

Ours on top, ignored by other readers:

* `base_color_0..2 roughness metallic normal_0..2 progress` with the comment `relight pbr 1 linear activated`: values
  with glTF's meaning, never logits (see `relight.geometry.gaussians.CHANNELS`);
* any other channel as `NAME` or `NAME_0..`, named by a comment `relight channel NAME`;
* the comment `SplatRenderMode: 2dgs` for surfels and `SplatRenderMode: mip` for splats fitted with antialiasing, a
  spelling that other tools write and read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from relight.atomic import replacing
from relight.errors import DataError
from relight.formats.common import check_finite, checked, parts, surfel_log_thickness
from relight.formats.ply_container import Header, element_bytes, read_element, read_header
from relight.formats.ply_materials import PBR_COMMENT, material_channels
from relight.geometry.gaussians import CHANNELS, Gaussians

_CHANNEL_COMMENT = "relight channel "
_MODE_COMMENT = "SplatRenderMode: "
_GROUPS = {
    "x": "position", "y": "position", "z": "position", "rot": "rotation", "scale": "scale", "opacity": "opacity",
    "f_dc": "color", "f_rest": "sh", "nx": "normal", "ny": "normal", "nz": "normal",
}  # fmt: skip
"""What properties belong to, by name without number."""


def sniff(path: Path, head: bytes) -> bool:
    """Whether a file that begins with `head` is one: any .ply without the chunks of PlayCanvas' compressed kind."""
    return head.startswith((b"ply\n", b"ply\r")) and b"element chunk " not in head and b"f_dc_0" in head


def write(gaussians: Gaussians, path: str | Path) -> None:
    """Write binary little endian float32, atomically, with the 3D filter baked into scales and opacities.

    Normals: the `normal` channel if there is one, else the shortest axis, turned away from the splat's centre (no
    viewer uses them; mesh tools show them).
    Channels of more than two dimensions are flattened to (N, F).
    Raises `DataError` if a value is not finite or a rotation is zero.
    """
    comments = [PBR_COMMENT] if any(name in CHANNELS for name in gaussians.channels) else []
    for name in gaussians.channels:
        if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            raise DataError(f"{path}: channel {name!r} cannot be a PLY property; expected letters, digits and _")
        if name not in CHANNELS:
            comments.append(_CHANNEL_COMMENT + name)
    comments += mode_comments(gaussians)
    check_finite(path, gaussians)
    center = gaussians.means.detach().cpu().median(0).values if len(gaussians) else torch.zeros(3)
    names = list(_columns(next(parts(gaussians), gaussians), center))
    lines = ["ply", "format binary_little_endian 1.0", *(f"comment {c}" for c in comments)]
    lines += [f"element vertex {len(gaussians)}", *(f"property float {name}" for name in names), "end_header\n"]
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write("\n".join(lines).encode("ascii"))
        for part in parts(gaussians):
            table = torch.stack([c.to(torch.float32) for c in _columns(part, center).values()], 1)
            table.numpy().astype("<f4", copy=False).tofile(file)


def _columns(g: Gaussians, center: Tensor) -> dict[str, Tensor]:
    """Every property by name, (N,) each, in the order of the file."""
    k = g.sh.shape[1]
    columns: dict[str, Tensor] = {}
    _put(columns, ("x", "y", "z"), g.means)
    _put(columns, ("nx", "ny", "nz"), g.channels["normal"] if "normal" in g.channels else -g.normals(center))
    _put(columns, _names("f_dc", 3), g.sh[:, 0])
    _put(columns, _names("f_rest", 3 * (k - 1)), g.sh[:, 1:].mT.flatten(1))
    _put(columns, ("opacity",), g.logit_opacity[:, None])
    _put(columns, _names("scale", 3), g.log_scales)
    _put(columns, _names("rot", 4), g.quats_wxyz)
    for name, value in g.channels.items():
        flat = value.flatten(1) if value.ndim > 1 else value[:, None]
        _put(columns, (name,) if value.ndim == 1 else _names(name, flat.shape[1]), flat)
    return columns


def read(path: str | Path, *, drop_invalid: bool = False) -> Gaussians:
    """Read a splat with its properties in any order and of any number type, SH degree 0 to 3, binary or ASCII.

    Properties that mean nothing here are ignored; material channels of other projects are recognised (see
    `ply_materials`).  A file with `SplatRenderMode: 2dgs` or without `scale_2` holds surfels.
    ln(0) in scales and infinite logits in opacities, which converters write, become finite values.
    drop_invalid: leave out Gaussians with other non-finite values or a zero quaternion instead of raising.

    Raises `DataError`: no such file, not a splat, truncated, impossible header, invalid values.
    """
    path = Path(path)
    try:
        header = read_header(path)
        if header.element("chunk") is not None:
            raise DataError(f"{path}: a PlayCanvas compressed .ply; expected float columns; read it by `read_splat`")
        columns = read_element(path, header, "vertex")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    return _interpret(path, header, columns, drop_invalid)


def sizes(path: Path) -> dict[str, int]:
    """Bytes by attribute; columns that are no part of a plain splat are "channels"."""
    header = read_header(path)
    out = dict.fromkeys(_GROUPS.values(), 0) | {"channels": 0}
    for name, size in element_bytes(path, header, "vertex").items():
        out[_GROUPS.get(re.sub(r"_?\d+$", "", name), "channels")] += size
    return {name: size for name, size in out.items() if size}


def mode_comments(gaussians: Gaussians) -> list[str]:
    """How the splat is to be drawn, if not as 3DGS draws; in the spelling that other tools use."""
    if not (gaussians.surfels or gaussians.antialiased):
        return []
    return [_MODE_COMMENT + ("2dgs" if gaussians.surfels else "mip")]


def modes(comments: Iterable[str]) -> set[str]:
    """Inverse of `mode_comments`: "2dgs", "mip", both or none."""
    return {c.removeprefix(_MODE_COMMENT).strip() for c in comments if c.startswith(_MODE_COMMENT)}


def _interpret(path: Path, header: Header, columns: dict[str, np.ndarray], drop_invalid: bool) -> Gaussians:
    rest = sum(bool(re.fullmatch(r"f_rest_\d+", name, re.ASCII)) for name in columns)
    if rest not in (0, 9, 24, 45):
        raise DataError(f"{path}: expected 0, 9, 24 or 45 f_rest columns (SH degree 0 to 3), found {rest}")
    surfels = "scale_2" not in columns
    means = _take(path, columns, ("x", "y", "z"))
    dc = _take(path, columns, _names("f_dc", 3))
    ac = _take(path, columns, _names("f_rest", rest)).unflatten(1, (3, rest // 3)).mT
    logit = _take(path, columns, ("opacity",)).squeeze(1)
    log_scales = _take(path, columns, _names("scale", 2 if surfels else 3))
    quats = _take(path, columns, _names("rot", 4))
    if surfels:
        log_scales = torch.cat([log_scales, surfel_log_thickness(log_scales)], 1)
    mode = modes(header.comments)
    gaussians = Gaussians(
        means=means,
        quats_wxyz=quats,
        log_scales=log_scales,
        logit_opacity=logit,
        sh=torch.cat([dc[:, None], ac], 1),
        channels=material_channels(header.comments, columns) | _own_channels(path, header, columns),
        surfels=surfels or "2dgs" in mode,
        antialiased="mip" in mode,
    )
    return checked(path, gaussians, drop_invalid)


def _own_channels(path: Path, header: Header, columns: dict[str, np.ndarray]) -> dict[str, Tensor]:
    channels = {}
    for comment in header.comments:
        name = comment.removeprefix(_CHANNEL_COMMENT)
        if name == comment or name in CHANNELS:
            continue
        if name in columns:
            channels[name] = _take(path, columns, (name,)).squeeze(1)
        else:
            count = 0
            while f"{name}_{count}" in columns:
                count += 1
            if count:  # Other tools drop columns and keep comments.
                channels[name] = _take(path, columns, _names(name, count))
    return channels


def _names(stem: str, count: int) -> tuple[str, ...]:
    return tuple(f"{stem}_{i}" for i in range(count))


def _put(columns: dict[str, Tensor], names: tuple[str, ...], values: Tensor) -> None:
    for name, column in zip(names, values.unbind(1), strict=True):
        if name in columns:
            raise DataError(f"two channels would both be the PLY property {name!r}; rename one")
        columns[name] = column


def _take(path: Path, columns: dict[str, np.ndarray], names: tuple[str, ...]) -> Tensor:
    """(N, len(names)) float32."""
    missing = [name for name in names if name not in columns]
    if missing:
        hint = "" if "f_dc_0" in columns else " (a point cloud or mesh, not a splat?)"
        raise DataError(f"{path}: expected the properties of a Gaussian splat; missing: {', '.join(missing)}{hint}")
    count = len(columns["x"]) if "x" in columns else 0
    out = np.empty((count, len(names)), np.float32)
    with np.errstate(over="ignore"):  # a double beyond float32 becomes infinite and is reported with the others
        for i, name in enumerate(names):
            out[:, i] = columns[name]
    return torch.from_numpy(out)
