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
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from relight.atomic import replacing
from relight.errors import DataError, MissingPartError
from relight.export.ply_container import Header, read_element, read_header
from relight.export.ply_materials import PBR_COMMENT, material_channels
from relight.export.runs import last_stage
from relight.geometry.gaussians import CHANNELS, Gaussians
from relight.scene_io import load_scene

SURFEL_THICKNESS = 1e-3
"""A surfel has no third axis, but viewers draw ellipsoids and invert their covariance: the written third scale is this
fraction of the smaller of the other two.  Thin enough to look flat, thick enough for float32."""
LOG_SCALE_ZERO = -40.0
"""Read in place of ln(0): its square, e^-80, is still a normal float32."""
LOGIT_ONE = 30.0
"""Read in place of an infinite logit: the sigmoid rounds to exactly 1 in float32 well before."""

_CHANNEL_COMMENT = "relight channel "
_MODE_COMMENT = "SplatRenderMode: "


def write_ply(gaussians: Gaussians, path: str | Path) -> None:
    """Write binary little endian float32, atomically, with the 3D filter baked into scales and opacities.

    Normals: the `normal` channel if there is one, else the shortest axis, turned away from the splat's centre (no
    viewer uses them; mesh tools show them).
    Channels of more than two dimensions are flattened to (N, F).
    Raises `DataError` if a value is not finite or a rotation is zero.
    """
    g = gaussians.detach().to("cpu")
    n, k = g.sh.shape[:2]
    center = g.means.median(0).values if n else g.means.new_zeros(3)
    normals = g.channels["normal"] if "normal" in g.channels else -g.normals(center)
    columns: dict[str, Tensor] = {}
    _put(columns, ("x", "y", "z"), g.means)
    _put(columns, ("nx", "ny", "nz"), normals)
    _put(columns, _names("f_dc", 3), g.sh[:, 0])
    _put(columns, _names("f_rest", 3 * (k - 1)), g.sh[:, 1:].mT.flatten(1))
    _put(columns, ("opacity",), _filtered_logit_opacity(g)[:, None])
    _put(columns, _names("scale", 3), _filtered_log_scales(g))
    _put(columns, _names("rot", 4), _unit_quats(g.quats_wxyz))
    comments = [PBR_COMMENT] if any(name in CHANNELS for name in g.channels) else []
    for name, value in g.channels.items():
        if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            raise DataError(f"{path}: channel {name!r} cannot be a PLY property; expected letters, digits and _")
        if name not in CHANNELS:
            comments.append(_CHANNEL_COMMENT + name)
        flat = value.flatten(1) if value.ndim > 1 else value[:, None]
        _put(columns, (name,) if value.ndim == 1 else _names(name, flat.shape[1]), flat)
    if g.surfels or g.antialiased:
        comments.append(_MODE_COMMENT + ("2dgs" if g.surfels else "mip"))
    table = torch.stack([c.to(torch.float32) for c in columns.values()], 1)
    if not bool(torch.isfinite(table).all()):
        bad = ~torch.isfinite(table)
        names = [name for name, column in zip(columns, bad.any(0).tolist(), strict=True) if column]
        raise DataError(
            f"{path}: not written: {int(bad.any(1).sum())} of {n} Gaussians have a value that is not finite "
            f"(or a zero rotation) in {', '.join(names[:8])}; remove them or fit again"
        )
    lines = ["ply", "format binary_little_endian 1.0", *(f"comment {c}" for c in comments), f"element vertex {n}"]
    lines += [*(f"property float {name}" for name in columns), "end_header\n"]
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write("\n".join(lines).encode("ascii"))
        table.numpy().astype("<f4", copy=False).tofile(file)


def read_ply(path: str | Path, *, drop_invalid: bool = False) -> Gaussians:
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
            raise DataError(
                f"{path}: a PlayCanvas compressed .ply; expected float columns. Convert it first, for instance with "
                f"`npx @playcanvas/splat-transform {path.name} plain.ply`"
            )
        columns = read_element(path, header, "vertex")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    return _interpret(path, header, columns, drop_invalid)


def export_ply(run: Path, output: Path) -> None:
    """Write the splat of a run's last stage, or of a stage folder.  Raises `MissingPartError` if there is none."""
    stage = last_stage(run)
    gaussians = load_scene(stage).gaussians
    if gaussians is None:
        raise MissingPartError(f"{stage}: holds no splat to export; run a stage that fits one first")
    write_ply(gaussians, output)


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
        log_scales = torch.cat([log_scales, _surfel_log_thickness(log_scales)], 1)
    modes = [c.removeprefix(_MODE_COMMENT).strip() for c in header.comments if c.startswith(_MODE_COMMENT)]
    gaussians = Gaussians(
        means=means,
        quats_wxyz=_of_usable_length(quats),
        log_scales=torch.where(log_scales == -torch.inf, LOG_SCALE_ZERO, log_scales),
        logit_opacity=torch.where(logit.isinf(), LOGIT_ONE * logit.sign(), logit),
        sh=torch.cat([dc[:, None], ac], 1),
        channels=material_channels(header.comments, columns) | _own_channels(path, header, columns),
        surfels=surfels or "2dgs" in modes,
        antialiased="mip" in modes,
    )
    return _checked(path, gaussians, drop_invalid)


def _checked(path: Path, gaussians: Gaussians, drop_invalid: bool) -> Gaussians:
    valid = gaussians.quats_wxyz.abs().amax(1) > 0
    for value in gaussians.tensors().values():
        valid &= value.flatten(1).isfinite().all(1) if value.ndim > 1 else value.isfinite()
    if bool(valid.all()):
        return gaussians
    if drop_invalid:
        return gaussians[valid]
    first = int((~valid).nonzero()[0])
    raise DataError(
        f"{path}: {int((~valid).sum())} of {len(gaussians)} Gaussians have NaN, infinite or zero-rotation values "
        f"(the first is row {first}); clean the file, or read it with drop_invalid (--drop-invalid) to leave them out"
    )


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


def _filtered_log_scales(g: Gaussians) -> Tensor:
    """ln of `Gaussians.scales` in float64, exact also where the scale itself underflows."""
    log_scales = g.log_scales.double()
    if g.filter_3d is not None:
        log_scales = 0.5 * torch.logaddexp(2 * log_scales, 2 * g.filter_3d.double().log()[:, None])
    if g.surfels:
        log_scales = torch.cat([log_scales[:, :2], _surfel_log_thickness(log_scales)], 1)
    return log_scales


def _filtered_logit_opacity(g: Gaussians) -> Tensor:
    """logit of `Gaussians.opacities` in float64, without the cancellation of 1 - opacity."""
    logit = g.logit_opacity.double()
    if g.filter_3d is None:
        return logit
    axes = 2 if g.surfels else 3
    log_factor = (g.log_scales.double() - _filtered_log_scales(g))[:, :axes].sum(-1)
    log_opacity = torch.nn.functional.logsigmoid(logit) + log_factor
    filtered = log_opacity - torch.log(-torch.expm1(log_opacity))
    return torch.where(log_factor < 0, filtered, logit)


def _surfel_log_thickness(log_scales: Tensor) -> Tensor:
    return log_scales[:, :2].amin(1, keepdim=True) + float(np.log(SURFEL_THICKNESS))


def _unit_quats(quats: Tensor) -> Tensor:
    """Unit length in float64; NaN where the length is zero, so that the check of the table finds it."""
    quats = quats.double()
    return quats / quats.norm(dim=-1, keepdim=True)


def _of_usable_length(quats: Tensor) -> Tensor:
    """Leave ordinary quaternions as stored; bring absurdly long or short ones to a length float32 can square."""
    size = quats.abs().amax(1, keepdim=True)
    ordinary = (size > 1e-6) & (size < 1e6)
    return torch.where(ordinary | (size == 0), quats, quats / size)


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
