"""Meshes as USD with UsdPreviewSurface: .usdz with everything in one file, .usdc and .usda with textures beside."""

from __future__ import annotations

# pyright: reportAttributeAccessIssue=false
# pxr has no stubs that know its classes.
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from relight.atomic import replacing
from relight.errors import BackendUnavailableError
from relight.export.images import encoded_bytes
from relight.export.runs import last_asset
from relight.export.texture_files import maps_of, upright
from relight.geometry.material import Material
from relight.geometry.mesh import Mesh

_INPUTS = {
    "base_color": ("diffuseColor", "rgb", "Color3f", "sRGB"), "roughness": ("roughness", "r", "Float", "raw"),
    "metallic": ("metallic", "r", "Float", "raw"), "occlusion": ("occlusion", "r", "Float", "raw"),
    "normal": ("normal", "rgb", "Normal3f", "raw"), "emissive": ("emissiveColor", "rgb", "Color3f", "sRGB"),
}  # fmt: skip
"""Map to the shader's input, the texture's output, USD's type and the colour space."""


def export_usd(run: Path, output: Path) -> None:
    """The run's asset, +Y up, a unit of the scene counting as a metre.

    Raises MissingPartError for a run without; BackendUnavailableError without usd-core.
    """
    write_usd(output, upright(last_asset(run)))


def write_usd(path: Path, mesh: Mesh) -> None:
    """One mesh, one subset a material.  .usdz is a package; beside .usdc and .usda lies NAME_textures.

    Occlusion, factors and wrap modes are kept; texture transforms and second coordinates have no place here.
    """
    try:
        from pxr import Usd, UsdUtils
    except ImportError as error:
        raise BackendUnavailableError(f'{path}: USD needs usd-core ({error}); pip install "relight[mesh]"') from None
    suffix = ".usdc" if path.suffix.lower() == ".usdz" else path.suffix.lower()
    with tempfile.TemporaryDirectory() as place:
        layer = Path(place) / f"{path.stem}{suffix}"
        stage: Any = Usd.Stage.CreateNew(str(layer))
        folder = f"{path.stem}_textures"
        _fill(stage, mesh, Path(place) / folder, folder)
        stage.GetRootLayer().Save()
        del stage
        if path.suffix.lower() == ".usdz":
            package = Path(place) / "package.usdz"
            if not UsdUtils.CreateNewUsdzPackage(str(layer), str(package)):
                raise BackendUnavailableError(f"{path}: usd-core could not make the package; write .usdc instead")
            layer = package
        else:
            for picture in sorted((Path(place) / folder).glob("*.png")):
                with replacing(path.parent / folder / picture.name) as temporary:
                    shutil.copyfile(picture, temporary)
        with replacing(path) as temporary:
            shutil.copyfile(layer, temporary)


def _fill(stage: Any, mesh: Mesh, place: Path, folder: str) -> None:
    from pxr import Gf, Sdf, UsdGeom, UsdShade, Vt

    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    root = UsdGeom.Xform.Define(stage, "/asset")
    stage.SetDefaultPrim(root.GetPrim())
    shape = UsdGeom.Mesh.Define(stage, "/asset/mesh")

    def array(kind: Any, values: torch.Tensor) -> Any:
        return kind.FromNumpy(np.ascontiguousarray(values.detach().cpu().numpy().astype(np.float32)))

    shape.CreatePointsAttr(array(Vt.Vec3fArray, mesh.vertices))
    faces = mesh.faces.cpu().numpy().astype(np.int32)
    shape.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(faces.reshape(-1)))
    shape.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(faces), 3, np.int32)))
    shape.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    low, high = mesh.vertices.detach().amin(0).tolist(), mesh.vertices.detach().amax(0).tolist()
    shape.CreateExtentAttr(Vt.Vec3fArray([Gf.Vec3f(*low), Gf.Vec3f(*high)]))
    if mesh.normals is not None:
        shape.CreateNormalsAttr(array(Vt.Vec3fArray, mesh.normals))
        shape.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    if mesh.uv is not None:
        st = UsdGeom.PrimvarsAPI(shape).CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.vertex)
        st.Set(array(Vt.Vec2fArray, torch.stack([mesh.uv[:, 0], 1 - mesh.uv[:, 1]], 1)))
    materials = mesh.materials or (Material(),)
    shape.CreateDoubleSidedAttr(any(m.double_sided for m in materials))
    made = [_material(stage, m, f"/asset/materials/material_{i}", place, folder) for i, m in enumerate(materials)]
    if len(made) == 1:
        UsdShade.MaterialBindingAPI.Apply(shape.GetPrim()).Bind(made[0])
        return
    ids = np.zeros(len(faces), np.int64) if mesh.material_ids is None else mesh.material_ids.cpu().numpy()
    for index, material in enumerate(made):
        some = Vt.IntArray.FromNumpy(np.flatnonzero(ids == index).astype(np.int32))
        subset = UsdShade.MaterialBindingAPI(shape.GetPrim()).CreateMaterialBindSubset(f"material_{index}", some)
        UsdShade.MaterialBindingAPI.Apply(subset.GetPrim()).Bind(material)


def _material(stage: Any, m: Material, where: str, place: Path, folder: str) -> Any:
    from pxr import Gf, Sdf, UsdShade

    types = Sdf.ValueTypeNames
    material = UsdShade.Material.Define(stage, where)
    shader = UsdShade.Shader.Define(stage, f"{where}/surface")
    shader.CreateIdAttr("UsdPreviewSurface")
    shader.CreateInput("useSpecularWorkflow", types.Int).Set(0)
    shader.CreateInput("ior", types.Float).Set(m.ior)
    factors = {
        "base_color": m.base_color[:3].tolist(), "roughness": float(m.roughness), "metallic": float(m.metallic),
        "emissive": m.emissive.tolist(),
    }  # fmt: skip
    reader = UsdShade.Shader.Define(stage, f"{where}/st")
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", types.String).Set("st")
    maps = maps_of(m)
    for name, (target, output, kind, space) in _INPUTS.items():
        value = factors.get(name)
        socket = shader.CreateInput(target, getattr(types, kind))
        if name not in maps:
            if value is not None:
                socket.Set(Gf.Vec3f(*value) if isinstance(value, list) else value)
            continue
        place.mkdir(parents=True, exist_ok=True)
        file = f"{where.rpartition('/')[2]}_{name}.png"
        image = maps[name]
        (place / file).write_bytes(encoded_bytes(image[..., 0] if image.shape[2] == 1 else image[..., :3]))
        texture = UsdShade.Shader.Define(stage, f"{where}/{name}")
        texture.CreateIdAttr("UsdUVTexture")
        texture.CreateInput("file", types.Asset).Set(f"./{folder}/{file}")
        texture.CreateInput("sourceColorSpace", types.Token).Set(space)
        texture.CreateInput("st", types.Float2).ConnectToSource(reader.ConnectableAPI(), "result")
        wrap = next(t.wrap for t in m.textures.values())
        for axis, mode in zip("ST", wrap, strict=True):
            texture.CreateInput(f"wrap{axis}", types.Token).Set(mode)  # its words are ours
        if name == "normal":
            x = 2 * m.normal_scale
            texture.CreateInput("scale", types.Float4).Set(Gf.Vec4f(x, x, 2, 1))
            texture.CreateInput("bias", types.Float4).Set(Gf.Vec4f(-x / 2, -x / 2, -1, 0))
        elif value is not None:
            scale = Gf.Vec4f(*value, 1) if isinstance(value, list) else Gf.Vec4f(value)
            texture.CreateInput("scale", types.Float4).Set(scale)
        texture.CreateOutput(output, types.Float if output == "r" else types.Float3)
        socket.ConnectToSource(texture.ConnectableAPI(), output)
    material.CreateSurfaceOutput().ConnectToSource(shader.ConnectableAPI(), "surface")
    return material
