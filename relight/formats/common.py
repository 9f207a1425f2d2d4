"""What readers and writers of all splat formats share: plain values, parts of bounded size, checks, half turns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from relight.errors import DataError, RelightError
from relight.geometry import sh as _sh
from relight.geometry.gaussians import CHANNELS, Gaussians

PART = 1 << 16
"""Gaussians that a writer holds unpacked at a time: its memory beyond the input doesn't grow with the scene."""
SURFEL_THICKNESS = 1e-3
"""A surfel has no third axis, but viewers draw ellipsoids and invert their covariance: the written third scale is this
fraction of the smaller of the other two.  Thin enough to look flat, thick enough for float32."""
LOG_SCALE_ZERO = -40.0
"""Read in place of ln(0): its square, e^-80, is still a normal float32."""
LOGIT_ONE = 30.0
"""Read in place of an infinite logit: the sigmoid rounds to exactly 1 in float32 well before."""
FREE = 1 << 16
"""A compressed file may hold this many Gaussians whatever its size; beyond, each must take up a byte of it.  Real ones
take five and more; a few kilobytes that claim gigabytes are a trap."""


def parts(gaussians: Gaussians, order: Tensor | None = None) -> Iterator[Gaussians]:
    """`plain` Gaussians in float32 on the CPU, at most `PART` at a time, in `order` (N,) or their own."""
    for start in range(0, len(gaussians), PART):
        index = slice(start, start + PART) if order is None else order[start : start + PART].to(gaussians.means.device)
        yield plain(gaussians[index].detach().to("cpu"))


def plain(g: Gaussians) -> Gaussians:
    """As files mean them: the 3D filter baked into scales and opacities, unit rotations, surfels of some thickness.

    float32, computed in float64; NaN for the rotation of a zero quaternion.
    """
    quats = g.quats_wxyz.double()
    out = replace(
        g,
        quats_wxyz=quats / quats.norm(dim=-1, keepdim=True),
        log_scales=_filtered_log_scales(g),
        logit_opacity=_filtered_logit_opacity(g),
        filter_3d=None,
    )
    return out.map(lambda t: t.to(torch.float32) if t.is_floating_point() else t)


def check_finite(path: str | Path, gaussians: Gaussians) -> None:
    """Raise `DataError` if a value to be written is not finite or a rotation is zero."""
    count, names = 0, {}
    for part in parts(gaussians):
        bad = torch.zeros(len(part), dtype=torch.bool)
        for name, value in part.tensors().items():
            found = ~value.flatten(1).isfinite().all(1) if value.ndim > 1 else ~value.isfinite()
            if bool(found.any()):
                names[name] = None
                bad |= found
        count += int(bad.sum())
    if count:
        raise DataError(
            f"{path}: not written: {count} of {len(gaussians)} Gaussians have a value that is not finite "
            f"(or a zero rotation) in {', '.join(names)}; remove them or fit again"
        )


def checked(path: str | Path, gaussians: Gaussians, drop_invalid: bool) -> Gaussians:
    """What was read, without what only breaks: ln(0) and infinite logits become finite values.

    Gaussians with other values that are not finite or a zero rotation are left out or, unless `drop_invalid`, a
    `DataError`.
    """
    gaussians = replace(
        gaussians,
        quats_wxyz=_of_usable_length(gaussians.quats_wxyz),
        log_scales=torch.where(gaussians.log_scales == -torch.inf, LOG_SCALE_ZERO, gaussians.log_scales),
        logit_opacity=torch.where(
            gaussians.logit_opacity.isinf(), LOGIT_ONE * gaussians.logit_opacity.sign(), gaussians.logit_opacity
        ),
    )
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


def check_count(path: str | Path, count: int, size: int) -> None:
    """Raise `DataError` for a number of Gaussians that a compressed file of `size` bytes can't hold in earnest."""
    if count > max(FREE, size):
        raise DataError(f"{path}: claims {count} Gaussians in {size} bytes; damaged or hostile, and not read")


def half_turn(gaussians: Gaussians, axis: str) -> Gaussians:
    """Turned by 180 degrees about the world's axis "x", "y" or "z".  Exact: only signs change.

    About x: between COLMAP's axes (x right, y down, z forward) and OpenGL's (right, up, back).  About z: between
    COLMAP's and glTF's (left, up, forward).
    """
    signs = torch.tensor([1.0 if a == axis else -1.0 for a in "xyz"])
    bands = _sh.rotation_matrix(torch.diag(signs), gaussians.sh_degree).diagonal().round()
    w, x, y, z = gaussians.quats_wxyz.unbind(1)
    # The quaternion of the turn is i, j or k.
    turned = {"x": (-x, w, -z, y), "y": (-y, z, w, -x), "z": (-z, -y, x, w)}[axis]
    channels = dict(gaussians.channels)
    if "normal" in channels:
        channels["normal"] = channels["normal"] * signs
    return replace(
        gaussians, means=gaussians.means * signs, quats_wxyz=torch.stack(turned, 1),
        sh=gaussians.sh * bands[:, None], channels=channels,
    )  # fmt: skip


def logit(opacity: Tensor) -> Tensor:
    """Inverse sigmoid of values from 0 to 1, which are first kept 1e-6 away from both ends, as other readers do."""
    return torch.logit(opacity.double(), eps=1e-6).to(torch.float32)


def to_numpy(t: Tensor) -> np.ndarray:
    """Without a copy where there can be none."""
    return t.detach().cpu().numpy()


def known_channels(gaussians: Gaussians) -> list[str]:
    """Names of its channels that have a meaning everywhere (`CHANNELS`), in that table's order."""
    return [name for name in CHANNELS if name in gaussians.channels]


def option_error(path: str | Path, name: str, value: object, expected: str) -> RelightError:
    """For a writer's option of a wrong value."""
    return RelightError(f"{path}: {name}={value}: expected {expected}")


def sh_degree(path: str | Path, rest: int, found: str, counts: Iterable[int] = (0, 3, 8, 15)) -> int:
    """Degree of `rest` coefficients a channel beyond the constant.  Raises `DataError` for another number of them."""
    counts = tuple(counts)
    if rest not in counts:
        raise DataError(f"{path}: expected spherical harmonics of degree 0 to {len(counts) - 1}, found {found}")
    return counts.index(rest)


def _filtered_log_scales(g: Gaussians) -> Tensor:
    """ln of `Gaussians.scales` in float64, exact also where the scale itself underflows."""
    log_scales = g.log_scales.double()
    if g.filter_3d is not None:
        log_scales = 0.5 * torch.logaddexp(2 * log_scales, 2 * g.filter_3d.double().log()[:, None])
    if g.surfels:
        log_scales = torch.cat([log_scales[:, :2], surfel_log_thickness(log_scales)], 1)
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


def surfel_log_thickness(log_scales: Tensor) -> Tensor:
    """(N, 1) ln of the third scale that stands for a surfel's none."""
    return log_scales[:, :2].amin(1, keepdim=True) + float(np.log(SURFEL_THICKNESS))


def _of_usable_length(quats: Tensor) -> Tensor:
    """Leave ordinary quaternions as stored; bring absurdly long or short ones to a length float32 can square."""
    size = quats.abs().amax(1, keepdim=True)
    ordinary = (size > 1e-6) & (size < 1e6)
    return torch.where(ordinary | (size == 0), quats, quats / size)
