"""Splats in USD: `ParticleField3DGaussianSplat` of UsdVol (OpenUSD 26.03 and later), through usd-core.

Positions, orientations, linear scales, opacities, and SH with all coefficients of a particle together.  The stage is y
up; the splat's own numbers are those of the capture, and a transform on its prim turns them by 180 degrees about z.
Materials are primvars `relight:NAME`, one value a particle, in the units of `relight.geometry.gaussians.CHANNELS`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from relight.atomic import replacing
from relight.errors import BackendUnavailableError, DataError
from relight.formats.common import check_finite, checked, half_turn, known_channels, logit, plain, sh_degree, to_numpy
from relight.formats.gltf import LOG_SCALES
from relight.geometry.gaussians import CHANNELS, Gaussians

PRIMVAR = "relight:"
SCHEMA = "ParticleField3DGaussianSplat"


def sniff(path: Path, head: bytes) -> bool:
    """A USD file, whatever it holds."""
    if head.startswith(b"PK\x03\x04"):
        return path.suffix.lower() == ".usdz"
    return head.startswith((b"PXR-USDC", b"#usda"))


def read(path: str | Path, *, drop_invalid: bool = False) -> Gaussians:
    """The one splat of a stage, in the axes of a capture.  Raises `DataError`, `BackendUnavailableError`."""
    pxr = _pxr()
    path = Path(path)
    try:
        stage = pxr.Usd.Stage.Open(str(path))
    except Exception as error:  # Tf.ErrorException, which only exists with usd-core
        raise DataError(f"{path}: cannot be opened as USD ({str(error).splitlines()[0]})") from error
    found = [prim for prim in stage.Traverse() if prim.GetTypeName() == SCHEMA]
    if len(found) != 1:
        raise DataError(f"{path}: holds {len(found)} prims of type {SCHEMA}, expected one")
    prim = found[0]

    def value(name: str, width: int, half: str | None = None) -> np.ndarray:
        for attribute in filter(None, (name, half)):
            stored = prim.GetAttribute(attribute).Get() if prim.HasAttribute(attribute) else None
            if stored is not None:
                out = np.array(stored, np.float32)
                return out.reshape(-1, width)
        raise DataError(f"{path}: its splat has no {name}")

    means = value("positions", 3, "positionsh")
    n = len(means)
    quats = value("orientations", 4, "orientationsh")[:, [3, 0, 1, 2]]  # Vt gives the imaginary part first
    sh = value("radiance:sphericalHarmonicsCoefficients", 3, "radiance:sphericalHarmonicsCoefficientsh")
    if not n or len(sh) % n:
        raise DataError(f"{path}: {len(sh)} coefficients for {n} particles")
    sh_degree(path, len(sh) // n - 1, f"{len(sh) // n} coefficients")
    channels = {}
    for name, (shape, _) in CHANNELS.items():
        primvar = pxr.UsdGeom.PrimvarsAPI(prim).GetPrimvar(PRIMVAR + name)
        if primvar and primvar.Get() is not None:
            channels[name] = torch.from_numpy(np.array(primvar.Get(), np.float32).reshape(n, *shape))
    g = Gaussians(
        means=torch.from_numpy(means),
        quats_wxyz=torch.from_numpy(np.ascontiguousarray(quats)),
        log_scales=torch.from_numpy(value("scales", 3, "scalesh")).log(),
        logit_opacity=logit(torch.from_numpy(value("opacities", 1, "opacitiesh")[:, 0])),
        sh=torch.from_numpy(sh.reshape(n, -1, 3)),
        channels=channels,
    )
    world = torch.tensor(np.array(pxr.UsdGeom.XformCache().GetLocalToWorldTransform(prim))).T
    if torch.equal(world, _half_turn_matrix()):
        return checked(path, g, drop_invalid)
    scale = float(torch.linalg.det(world[:3, :3]).abs()) ** (1 / 3)
    rotation = world[:3, :3] / scale
    if float((rotation @ rotation.T - torch.eye(3)).abs().max()) > 1e-3 or float(torch.linalg.det(rotation)) < 0:
        raise DataError(f"{path}: its splat is sheared, stretched or mirrored by a transform; bake it first")
    return checked(path, half_turn(g.transformed(rotation.float(), world[:3, 3].float(), scale), "z"), drop_invalid)


def write(gaussians: Gaussians, path: str | Path) -> None:
    """.usdc, .usda, .usdz or .usd by suffix, atomically.  All of it is in memory at once.

    Raises `DataError` if a value is not finite, `BackendUnavailableError` without usd-core.
    """
    pxr = _pxr()
    check_finite(path, gaussians)
    path, g = Path(path), plain(gaussians.detach().to("cpu"))
    stage = pxr.Usd.Stage.CreateInMemory(".usda" if path.suffix.lower() == ".usda" else ".usdc")
    pxr.UsdGeom.SetStageUpAxis(stage, pxr.UsdGeom.Tokens.y)
    splat: Any = pxr.UsdVol.ParticleField3DGaussianSplat.Define(stage, "/splat")
    stage.SetDefaultPrim(splat.GetPrim())
    pxr.UsdGeom.Xformable(splat).AddTransformOp().Set(pxr.Gf.Matrix4d(*_half_turn_matrix().flatten().tolist()))

    def array(kind: Any, values: np.ndarray) -> Any:
        return kind.FromNumpy(np.ascontiguousarray(values, np.float32))

    means, scales = to_numpy(g.means), to_numpy(g.log_scales.clamp(*LOG_SCALES).exp())
    splat.CreatePositionsAttr(array(pxr.Vt.Vec3fArray, means))
    splat.CreateOrientationsAttr(array(pxr.Vt.QuatfArray, to_numpy(g.quats_wxyz)[:, [1, 2, 3, 0]]))
    splat.CreateScalesAttr(array(pxr.Vt.Vec3fArray, scales))
    splat.CreateOpacitiesAttr(array(pxr.Vt.FloatArray, to_numpy(g.opacities)))
    splat.CreateRadianceSphericalHarmonicsDegreeAttr(g.sh_degree)
    sh = splat.CreateRadianceSphericalHarmonicsCoefficientsAttr(array(pxr.Vt.Vec3fArray, to_numpy(g.sh).reshape(-1, 3)))
    sh.SetMetadata("elementSize", g.sh.shape[1])
    sh.SetMetadata("interpolation", pxr.UsdGeom.Tokens.vertex)
    primvars = pxr.UsdGeom.PrimvarsAPI(splat.GetPrim())
    if len(g):
        # Three standard deviations of the widest axis: nothing is drawn outside.
        reach = 3 * scales.max(1, keepdims=True)
        splat.CreateExtentAttr(array(pxr.Vt.Vec3fArray, np.stack([(means - reach).min(0), (means + reach).max(0)])))
    for name in known_channels(g):
        kind = {"base_color": "Color3fArray", "normal": "Normal3fArray"}.get(name, "FloatArray")
        values = array(pxr.Vt.Vec3fArray if kind != "FloatArray" else pxr.Vt.FloatArray, to_numpy(g.channels[name]))
        primvars.CreatePrimvar(PRIMVAR + name, getattr(pxr.Sdf.ValueTypeNames, kind), pxr.UsdGeom.Tokens.vertex).Set(
            values
        )
    with replacing(path) as temporary:
        if path.suffix.lower() != ".usdz":
            stage.GetRootLayer().Export(str(temporary))
            return
        with tempfile.TemporaryDirectory() as folder:
            inner = str(Path(folder) / "splat.usdc")
            stage.GetRootLayer().Export(inner)
            if not pxr.UsdUtils.CreateNewUsdzPackage(inner, str(temporary)):
                raise DataError(f"{path}: usd-core cannot write this package; write .usdc instead")


def sizes(path: Path) -> dict[str, int]:
    """Bytes by attribute as they are in memory; the file packs them together."""
    g = read(path)
    out = {"position": 12, "rotation": 16, "scale": 12, "opacity": 4, "color": 12, "sh": 12 * (g.sh.shape[1] - 1)}
    out["materials"] = sum(4 * max(1, v[:1].numel()) for v in g.channels.values())
    return {name: size * len(g) for name, size in out.items() if size}


def _half_turn_matrix() -> torch.Tensor:
    return torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64))


def _pxr() -> Any:
    """The package of usd-core, with the modules that are used."""
    try:
        import pxr
        from pxr import Gf, Sdf, Usd, UsdGeom, UsdUtils, UsdVol, Vt  # noqa: F401 - attributes of pxr from here on
    except ImportError:
        raise BackendUnavailableError("USD needs the package usd-core: pip install 'relight[usd]'") from None
    if not hasattr(UsdVol, SCHEMA):
        raise BackendUnavailableError(
            f"this usd-core has no {SCHEMA}; 26.3 or later is needed: pip install -U usd-core"
        )
    return pxr
