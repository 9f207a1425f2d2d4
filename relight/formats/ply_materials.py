"""Which columns of a splat .ply are material channels, and what their numbers mean.

No standard exists.  Our files hold activated values and say so in a comment.  Research code stores raw network
parameters under similar names, each project with its own activation, so a layout is recognised by columns that only
its project writes:

    R3DG             incidents_dc_*     base 0.77 s(x) + 0.03, roughness 0.9 s(x) + 0.09, normals in nx ny nz
    Ref-Gaussian     ind_dc_*           s(x), normals not stored
    GS-IR            albedo_*, no nx    s(x), normals in normal_*
    GaussianShader   specular0, nx2     roughness s(x); its f_dc is diffuse colour, read as captured look

where s is the sigmoid.  R3DG: Gao et al., ECCV 2024.  GS-IR: Liang et al., CVPR 2024.  GaussianShader: Jiang et al.,
CVPR 2024.  Ref-Gaussian: Yao et al., ICLR 2025.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from relight.geometry.gaussians import CHANNELS
from relight.vectors import unit

PBR_COMMENT = "relight pbr 1 linear activated"
_PBR_PREFIX = "relight pbr "
_ALIASES = {"base_color": ("base_color", "albedo")}


def material_channels(comments: Sequence[str], columns: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Channels named in `CHANNELS` that the columns hold, activated, float32.

    Files without our comment and without a known project's columns are taken as activated only if every material
    value is within 0 to 1 (tools drop comments and keep columns); otherwise their materials are left out, because
    raw parameters of an unknown activation mean nothing.
    """
    if any(c.startswith(_PBR_PREFIX) for c in comments):
        return _raw(columns, CHANNELS)
    if "incidents_dc_0" in columns:
        out = _raw(columns, ("base_color", "roughness"))
        for name, (scale, offset) in {"base_color": (0.77, 0.03), "roughness": (0.9, 0.09)}.items():
            if name in out:
                out[name] = scale * torch.sigmoid(out[name]) + offset
        normal = _stack(columns, ("nx", "ny", "nz"))
        return out if normal is None else out | {"normal": _unit(normal)}
    if "specular0" in columns and "nx2" in columns:
        return {k: torch.sigmoid(v) for k, v in _raw(columns, ("roughness",)).items()}
    if "ind_dc_0" in columns or ("albedo_0" in columns and "nx" not in columns):
        out = {k: torch.sigmoid(v) for k, v in _raw(columns, ("base_color", "roughness", "metallic")).items()}
        return out | {k: _unit(v) for k, v in _raw(columns, ("normal",)).items()}
    out = _raw(columns, CHANNELS)
    shares = [v for k, v in out.items() if k != "normal"]
    if "base_color" not in out or any(bool(((v < 0) | (v > 1)).any()) for v in shares):
        return {}
    return out


def _raw(columns: Mapping[str, np.ndarray], names) -> dict[str, Tensor]:
    out = {}
    for name in names:
        shape = CHANNELS[name][0]
        for stem in _ALIASES.get(name, (name,)):
            found = _stack(columns, [f"{stem}_{i}" for i in range(shape[0])] if shape else [stem])
            if found is not None:
                out[name] = found if shape else found.squeeze(1)
                break
    return out


def _stack(columns: Mapping[str, np.ndarray], names: Sequence[str]) -> Tensor | None:
    if any(name not in columns for name in names):
        return None
    with np.errstate(over="ignore"):
        return torch.from_numpy(np.stack([columns[name].astype(np.float32) for name in names], 1))


def _unit(v: Tensor) -> Tensor:
    return unit(v)
