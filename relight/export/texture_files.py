"""Textures of a mesh as picture files, alone or beside an .obj."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from relight.atomic import replacing
from relight.errors import RelightError
from relight.export.gltf import stored
from relight.export.images import encoded_bytes, write_exr, write_image
from relight.export.runs import Asset, last_asset
from relight.geometry.material import Material
from relight.geometry.mesh import Mesh
from relight.shading.color import linear_to_srgb

MAPS = {
    "base_color": ("base_color_texture", slice(0, 4), True),
    "occlusion": ("occlusion_texture", slice(0, 1), False),
    "roughness": ("metallic_roughness_texture", slice(1, 2), False),
    "metallic": ("metallic_roughness_texture", slice(2, 3), False),
    "normal": ("normal_texture", slice(0, 3), False),
    "emissive": ("emissive_texture", slice(0, 3), True),
}
"""Name to the material's texture, its channels, and whether it is a colour."""


def maps_of(material: Material) -> dict[str, Tensor]:
    """(H, W, C) by name, as stored in pictures: colours encoded in sRGB, numbers as they are.  Without factors."""
    found = {}
    for name, (attribute, channels, color) in MAPS.items():
        texture = getattr(material, attribute)
        if texture is not None:
            image = texture.image.detach()[..., channels]
            found[name] = stored(image, color) if color else image
    base = material.base_color_texture
    if base is not None and base.confidence is not None:
        found["confidence"] = base.confidence[..., None]
    return found


def export_textures(run: Path, output: Path) -> None:
    """A folder of PNG, one file a map and the packed occlusion-roughness-metallic; colours also as linear EXR, the
    light of the photographs as environment.exr, +Y up.

    Raises MissingPartError for a run without an asset; RelightError for an output that is a file.
    """
    asset = last_asset(run)
    if output.is_file():
        raise RelightError(f"{output}: is a file; name a folder for textures")
    for number, material in enumerate(asset.mesh.materials):
        prefix = f"{number}_" if len(asset.mesh.materials) > 1 else ""
        for name, image in maps_of(material).items():
            _write_png(output / f"{prefix}{name}.png", image)
        if material.metallic_roughness_texture is not None:
            packed = material.metallic_roughness_texture.image.detach()[..., :3]
            _write_png(output / f"{prefix}occlusion_roughness_metallic.png", packed)
        if material.base_color_texture is not None:
            write_exr(output / f"{prefix}base_color.exr", {"RGB": material.base_color_texture.image[..., :3]})
    light = asset.light
    if light is not None:
        write_exr(output / "environment.exr", {"RGB": light.radiance})


def export_obj(run: Path, output: Path) -> None:
    """Positions, normals and coordinates, +Y up, with a .mtl and textures beside: NAME.obj, NAME.mtl, NAME_MAP.png.

    The .mtl has the physically based extension (Pr, Pm, norm) that Blender and others read, and Kd for all else.
    Raises MissingPartError for a run without an asset.
    """
    asset = last_asset(run)
    write_obj(output, upright(asset))


def upright(asset: Asset) -> Mesh:
    """The mesh turned into a world with +Y up."""
    turn = torch.eye(4)
    turn[:3, :3] = asset.y_up
    return asset.mesh.transformed(turn)


def write_obj(path: Path, mesh: Mesh) -> None:
    """See `export_obj`; the mesh as it stands.  The .obj comes last, so it never refers to what is not there."""
    lines = [f"mtllib {path.stem}.mtl"]
    mtl: list[str] = []
    materials = mesh.materials or (Material(name="default"),)
    for number, material in enumerate(materials):
        prefix = f"{path.stem}_{number}" if len(materials) > 1 else path.stem
        mtl += _mtl(path, f"material_{number}", prefix, material)
    with replacing(path.with_suffix(".mtl")) as temporary:
        temporary.write_text("\n".join(mtl) + "\n", encoding="utf-8")
    lines += [f"v {x:.7g} {y:.7g} {z:.7g}" for x, y, z in mesh.vertices.detach().tolist()]
    corner = "{0}"
    if mesh.uv is not None:
        # From the bottom, unlike glTF's.
        lines += [f"vt {u:.7g} {1 - v:.7g}" for u, v in mesh.uv.detach().tolist()]
        corner = "{0}/{0}"
    if mesh.normals is not None:
        lines += [f"vn {x:.6g} {y:.6g} {z:.6g}" for x, y, z in mesh.normals.detach().tolist()]
        corner = "{0}/{0}/{0}" if mesh.uv is not None else "{0}//{0}"
    ids = torch.zeros(len(mesh.faces), dtype=torch.int64) if mesh.material_ids is None else mesh.material_ids
    for index in ids.unique().tolist():
        lines.append(f"usemtl material_{index}")
        lines += ["f " + " ".join(corner.format(i + 1) for i in face) for face in mesh.faces[ids == index].tolist()]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _mtl(path: Path, name: str, prefix: str, m: Material) -> list[str]:
    red, green, blue = linear_to_srgb(m.base_color[:3].clamp(0, 1)).tolist()
    roughness, metallic = float(m.roughness), float(m.metallic)
    lines = [
        f"newmtl {name}", "illum 2", f"Kd {red:.6g} {green:.6g} {blue:.6g}", "Ks 0.04 0.04 0.04",
        # The Blinn-Phong exponent of the same width, which `relight.data.models` turns back.
        f"Ns {max(2 / max(roughness, 0.1) ** 4 - 2, 0):.6g}", f"Pr {roughness:.6g}", f"Pm {metallic:.6g}",
    ]  # fmt: skip
    options = {"base_color": "map_Kd", "roughness": "map_Pr", "metallic": "map_Pm", "normal": "norm"}
    maps = maps_of(m)
    for kind, option in options.items():
        if kind in maps:
            file = f"{prefix}_{kind}.png"
            _write_png(path.with_name(file), maps[kind])
            lines.append(f"{option} {file}")
    return lines


def _write_png(path: Path, image: Tensor) -> None:
    if image.shape[2] == 1:
        with replacing(path) as temporary:
            temporary.write_bytes(encoded_bytes(image[..., 0]))
    else:
        write_image(path, image)
