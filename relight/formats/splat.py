"""The .splat of antimatter15's viewer: 32 bytes a Gaussian, no header, no view dependence.

float32 position and linear scale, then bytes: colour as it looks from everywhere, opacity, rotation wxyz as
128 + 128 q.  Kept in the order of the file; viewers that load progressively like large opaque Gaussians first, which
`sort=true` gives.  Source: the README and converter of antimatter15/splat (2023).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from relight.atomic import replacing
from relight.errors import DataError
from relight.formats.common import check_finite, checked, logit, parts, to_numpy
from relight.formats.quantize import to_byte
from relight.geometry.gaussians import Gaussians
from relight.geometry.sh import from_constant, to_constant

ROW = np.dtype([("means", "<f4", 3), ("scales", "<f4", 3), ("rgba", "u1", 4), ("quats", "u1", 4)])


def sniff(path: Path, head: bytes) -> bool:
    """There is no magic number: the right size, and the first rows make sense."""
    size = path.stat().st_size
    if (
        size == 0
        or size % ROW.itemsize
        or head.startswith((b"ply", b"NGSP", b"glTF", b"PK", b"\x1f\x8b", b"PXR", b"#"))
    ):
        return False
    if path.suffix.lower() == ".splat":
        return True
    rows = np.frombuffer(head[: len(head) // ROW.itemsize * ROW.itemsize], ROW)
    with np.errstate(all="ignore"):
        sane = np.isfinite(rows["means"]).all() and (np.abs(rows["means"]) < 1e6).all()
        return bool(
            sane and (rows["scales"] > 1e-9).all() and (rows["scales"] < 1e6).all() and rows["quats"].any(1).all()
        )


def read(path: str | Path, *, drop_invalid: bool = False) -> Gaussians:
    """Raises `DataError` for a size that is no multiple of 32 and for invalid values."""
    path = Path(path)
    size = path.stat().st_size
    if size % ROW.itemsize:
        raise DataError(f"{path}: {size} bytes; a .splat has 32 a Gaussian: truncated; copy or download it again")
    rows = np.fromfile(path, ROW)
    rgba = torch.from_numpy(rows["rgba"].astype(np.float32) / 255)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_scales = np.log(rows["scales"])
    return checked(
        path,
        Gaussians(
            means=torch.from_numpy(rows["means"].astype(np.float32)),
            quats_wxyz=torch.from_numpy((rows["quats"].astype(np.float32) - 128) / 128),
            log_scales=torch.from_numpy(log_scales),
            logit_opacity=logit(rgba[:, 3]),
            sh=from_constant(rgba[:, None, :3]),
        ),
        drop_invalid,
    )


def write(gaussians: Gaussians, path: str | Path, *, sort: bool = False) -> None:
    """Atomically.  sort: largest and most opaque first.  Raises `DataError` if a value is not finite."""
    check_finite(path, gaussians)
    order = _by_importance(gaussians) if sort else None
    with replacing(path) as temporary, temporary.open("wb") as file:
        for part in parts(gaussians, order):
            rows = np.zeros(len(part), ROW)
            rows["means"] = to_numpy(part.means)
            rows["scales"] = to_numpy(part.log_scales.clamp(-87, 88).exp())
            rows["rgba"][:, :3] = to_byte(to_numpy(to_constant(part.sh[:, 0])) * 255)
            rows["rgba"][:, 3] = to_byte(to_numpy(part.opacities) * 255)
            # 0 stands for a component of -1, which 255 cannot for +1: the sign with the smaller loss is free.
            quats = to_numpy(part.quats_wxyz)
            largest = np.take_along_axis(quats, np.abs(quats).argmax(1)[:, None], 1)
            rows["quats"] = to_byte(np.where(largest > 0, -quats, quats) * 128 + 128)
            rows.tofile(file)


def sizes(path: Path) -> dict[str, int]:
    """Bytes by attribute."""
    count = path.stat().st_size // ROW.itemsize
    return {"position": 12 * count, "scale": 12 * count, "color": 3 * count, "opacity": count, "rotation": 4 * count}


def _by_importance(gaussians: Gaussians) -> Tensor:
    log_volume = gaussians.log_scales.detach().sum(1)
    return (
        (log_volume + torch.nn.functional.logsigmoid(gaussians.logit_opacity.detach())).argsort(descending=True).cpu()
    )
