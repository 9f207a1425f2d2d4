"""Models: glTF written here by hand, others' files, broken files."""

from __future__ import annotations

import base64
import io
import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from relight.data.models import load_model
from relight.errors import DataError
from relight.geometry.camera import Camera
from relight.geometry.mesh import Mesh
from relight.images import read_image
from relight.render.backends.mesh_cpu import MeshCpu
from relight.render.meshes import surface

CORNERS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)


class Writer:
    """A glTF document and its buffer, grown piece by piece."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.json: dict[str, Any] = {
            "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
            "meshes": [{"primitives": [{"attributes": {}}]}], "bufferViews": [], "accessors": [],
        }  # fmt: skip

    @property
    def primitive(self) -> dict[str, Any]:
        return self.json["meshes"][0]["primitives"][0]

    def view(self, data: bytes) -> int:
        self.buffer += b"\0" * (-len(self.buffer) % 4)
        self.json["bufferViews"].append({"buffer": 0, "byteOffset": len(self.buffer), "byteLength": len(data)})
        self.buffer += data
        return len(self.json["bufferViews"]) - 1

    def accessor(self, values: np.ndarray, **more: Any) -> int:
        kinds = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
        width = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}[values.shape[1] if values.ndim > 1 else 1]
        self.json["accessors"].append({"bufferView": self.view(values.tobytes()), "count": len(values), "type": width,
                                       "componentType": kinds[values.dtype.str[1:]], **more})  # fmt: skip
        return len(self.json["accessors"]) - 1

    def quad(self) -> Writer:
        self.primitive["attributes"]["POSITION"] = self.accessor(CORNERS)
        self.primitive["indices"] = self.accessor(np.array([0, 1, 2, 0, 2, 3], np.uint16))
        return self

    def gltf(self, folder: Path) -> Path:
        uri = "data:application/octet-stream;base64," + base64.b64encode(self.buffer).decode()
        document = self.json | {"buffers": [{"uri": uri, "byteLength": len(self.buffer)}]}
        path = folder / "model.gltf"
        path.write_text(json.dumps(document))
        return path

    def glb(self, folder: Path) -> Path:
        text = json.dumps(self.json | {"buffers": [{"byteLength": len(self.buffer)}]}).encode()
        text += b" " * (-len(text) % 4)
        binary = bytes(self.buffer) + b"\0" * (-len(self.buffer) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
        path = folder / "model.glb"
        path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
        return path


def png(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "png")
    return file.getvalue()


def textured(info: dict[str, Any] | None = None, sampler: dict[str, Any] | None = None) -> Writer:
    w = Writer().quad()
    w.primitive["attributes"]["TEXCOORD_0"] = w.accessor(np.array([[0, 255], [255, 255], [255, 0], [0, 0]], np.uint8),
                                                        normalized=True)  # fmt: skip
    w.primitive["material"] = 0
    w.json["images"] = [{"bufferView": w.view(png(np.full((2, 3, 3), 188, np.uint8))), "mimeType": "image/png"}]
    w.json["samplers"] = [sampler or {}]
    w.json["textures"] = [{"source": 0, "sampler": 0}]
    texture = {"index": 0, **(info or {})}
    w.json["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": texture, "metallicRoughnessTexture": texture}}]
    return w


@pytest.mark.parametrize("container", ["gltf", "glb"])
def test_both_containers_are_read(tmp_path, container):
    mesh = load_model(getattr(Writer().quad(), container)(tmp_path))
    assert mesh.faces.shape == (2, 3)
    # No normals: glTF wants flat ones, so faces share no vertices.
    assert len(mesh.vertices) == 6
    assert mesh.normals is not None
    torch.testing.assert_close(mesh.normals, torch.tensor([0.0, 0.0, 1.0]).expand(6, 3))
    assert mesh.materials[int(mesh.material_ids[0])].roughness == 1  # type: ignore[index]


@pytest.mark.parametrize(
    ("mode", "indices", "faces"),
    [
        (4, [0, 1, 2, 0, 2, 3], [[0, 1, 2], [0, 2, 3]]),
        (5, [1, 2, 0, 3], [[1, 2, 0], [2, 3, 0]]),
        (6, [0, 1, 2, 3], [[1, 2, 0], [2, 3, 0]]),
    ],
)
def test_lists_strips_and_fans_turn_the_same_way(tmp_path, mode, indices, faces):
    w = Writer().quad()
    w.primitive.update(mode=mode, indices=w.accessor(np.array(indices, np.uint8)))
    w.primitive["attributes"]["NORMAL"] = w.accessor(np.tile(np.array([0, 0, 1], np.float32), (4, 1)))
    mesh = load_model(w.gltf(tmp_path))
    assert mesh.faces.tolist() == faces
    assert (mesh.face_normals()[:, 2] > 0).all()


def test_interleaved_and_sparse_accessors(tmp_path):
    w = Writer().quad()
    both = np.concatenate([CORNERS, CORNERS + 5], 1)
    view = w.view(both.tobytes())
    w.json["bufferViews"][view]["byteStride"] = 24
    where, values = w.view(np.array([2], np.uint16).tobytes()), w.view(np.array([[9, 9, 9]], np.float32).tobytes())
    sparse = {"count": 1, "indices": {"bufferView": where, "componentType": 5123}, "values": {"bufferView": values}}
    w.json["accessors"].append(
        {"bufferView": view, "byteOffset": 12, "count": 4, "type": "VEC3", "componentType": 5126, "sparse": sparse}
    )
    w.primitive["attributes"] = {"POSITION": len(w.json["accessors"]) - 1}
    expected = CORNERS + 5
    expected[2] = 9
    mesh = load_model(w.gltf(tmp_path))
    torch.testing.assert_close(mesh.vertices, torch.from_numpy(expected[[0, 1, 2, 0, 2, 3]]))


def test_nodes_are_placed_and_mirrors_keep_the_outside_out(tmp_path):
    w = Writer().quad()
    half = math.sin(math.pi / 4)
    w.json["nodes"] = [
        {"children": [1, 2], "translation": [10, 0, 0]},
        {"mesh": 0, "rotation": [0, 0, half, half], "scale": [2, 1, 1]},
        {"mesh": 0, "matrix": [-1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 3, 1]},
    ]
    mesh = load_model(w.gltf(tmp_path))
    assert len(mesh.faces) == 4
    # Scaled along x, then turned by 90 degrees about z, then moved.
    torch.testing.assert_close(mesh.vertices[1], torch.tensor([10.0, 2.0, 0.0]))
    mirrored = mesh.vertices[6:]
    assert mirrored[:, 0].min() == 9 and mirrored[:, 2].min() == 3
    assert (mesh.face_normals()[:, 2] > 0.99).all()
    assert (mesh.normals[:, 2] > 0.99).all()  # type: ignore[index]


def test_textures_are_decoded_by_what_they_mean(tmp_path):
    material = load_model(textured(sampler={"wrapS": 33071, "wrapT": 33648}).glb(tmp_path)).materials[0]
    color, rough = material.base_color_texture, material.metallic_roughness_texture
    assert color is not None and rough is not None
    assert color.image.shape == (2, 3, 3)
    assert float(rough.image[0, 0, 1]) == pytest.approx(188 / 255)
    assert float(color.image[0, 0, 1]) == pytest.approx(((188 / 255 + 0.055) / 1.055) ** 2.4, rel=1e-5)
    assert color.wrap == ("clamp", "mirror")


def test_factors_are_not_rounded(tmp_path):
    w = textured()
    w.json["materials"][0]["pbrMetallicRoughness"].update(
        baseColorFactor=[0.001, 0.2, 0.3, 0.4], roughnessFactor=0.123456
    )
    w.json["materials"][0].update(
        alphaMode="MASK", alphaCutoff=0.3, doubleSided=True, emissiveFactor=[1, 0.5, 0],
        normalTexture={"index": 0, "scale": 0.7}, occlusionTexture={"index": 0, "strength": 0.2},
        extensions={"KHR_materials_emissive_strength": {"emissiveStrength": 4}, "KHR_materials_ior": {"ior": 1.3},
                    "KHR_materials_specular": {"specularFactor": 0.25, "specularColorFactor": [2, 1, 0]}},
    )  # fmt: skip
    mesh = load_model(w.glb(tmp_path))
    m = mesh.materials[0]
    torch.testing.assert_close(m.base_color, torch.tensor([0.001, 0.2, 0.3, 0.4]))
    assert float(m.roughness) == pytest.approx(0.123456)
    assert (m.alpha_mode, m.alpha_cutoff, m.double_sided, m.normal_scale, m.ior) == ("mask", 0.3, True, 0.7, 1.3)
    assert m.occlusion_strength == 0.2 and float(m.specular) == 0.25
    assert m.emissive.tolist() == [4, 2, 0] and m.specular_color.tolist() == [2, 1, 0]
    # A normal map asks for tangents: +x is right in the picture.
    assert mesh.tangents is not None
    torch.testing.assert_close(mesh.tangents, torch.tensor([1.0, 0.0, 0.0, 1.0]).expand(len(mesh.vertices), 4))


def test_texture_transform_scales_then_turns_then_shifts(tmp_path):
    moved = {"offset": [0.1, 0.2], "rotation": math.pi / 2, "scale": [2, 3]}
    mesh = load_model(textured({"extensions": {"KHR_texture_transform": moved}}).glb(tmp_path))
    texture = mesh.materials[0].base_color_texture
    assert texture is not None
    # With v downwards a quarter turn counter-clockwise takes +u to -v and +v to +u.
    found = texture.coordinates(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.1, 0.2 - 2], [0.1 + 3, 0.2]]))


def test_extensions_that_are_left_out_are_named(tmp_path):
    w = textured()
    w.json["extensionsUsed"] = ["KHR_materials_ior", "KHR_materials_transmission", "KHR_materials_clearcoat"]
    with pytest.warns(UserWarning, match=": KHR_materials_clearcoat, KHR_materials_transmission left") as caught:
        mesh = load_model(w.glb(tmp_path))
    assert len(caught) == 1 and len(mesh.faces) == 2
    w.json["extensionsUsed"] = ["KHR_materials_ior", "KHR_texture_transform"]
    load_model(w.glb(tmp_path))


@pytest.mark.parametrize("container", ["gltf", "glb"])
def test_a_file_cut_anywhere_is_told(tmp_path, container):
    path = getattr(textured(), container)(tmp_path)
    whole = path.read_bytes()
    cut = tmp_path / f"cut.{container}"
    for end in [*range(0, len(whole) - 1, max(1, len(whole) // 60)), len(whole) - 4]:
        cut.write_bytes(whole[:end])
        with pytest.raises(DataError, match="cut"):
            load_model(cut)


def _edited(edit) -> Writer:
    w = textured()
    edit(w.json)
    return w


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda j: j["asset"].update(version="1.0"), "version 2"),
        (lambda j: j.update(extensionsRequired=["KHR_draco_mesh_compression"]), "draco"),
        (lambda j: j.update(extensionsRequired=3), "malformed"),
        (lambda j: j["nodes"][0].update(children=[0]), "circle"),
        (lambda j: j["nodes"][0].update(mesh=7), r"meshes\[7\]"),
        (lambda j: j["accessors"][0].update(count=10**6), "truncated"),
        (lambda j: j["accessors"][0].update(count=10**12), "claims"),
        (lambda j: j["accessors"][0].update(componentType=1), "unknown type"),
        (lambda j: j["accessors"][1].update(count=-1), "unknown type"),
        (lambda j: j["bufferViews"][0].update(byteLength=10**9), "truncated"),
        (lambda j: j["bufferViews"][1].update(byteOffset=-4), "truncated"),
        (lambda j: j["images"][0].update(uri="https://example.org/a.png"), "network"),
        (lambda j: j["images"][0].update(uri="gone.png"), "gone.png"),
        (lambda j: j["images"][0].update(bufferView=0), "images"),
        (lambda j: j["materials"][0].update(alphaMode="SOMETIMES"), "alphaMode"),
        (lambda j: j["materials"][0].update(emissiveFactor=[1]), "3 numbers"),
        (lambda j: j["nodes"][0].update(rotation="round"), "malformed"),
        (lambda j: j.update(meshes="none"), "list of objects"),
        (lambda j: j["meshes"][0]["primitives"][0].update(mode=0), "no triangles"),
        (lambda j: j["meshes"][0]["primitives"][0].update(material=3), r"materials\[3\]"),
        (lambda j: j["meshes"][0]["primitives"][0].update(indices=0), "unsigned"),
    ],
)
def test_broken_documents_are_told(tmp_path, edit, message):
    path = _edited(edit).glb(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        load_model(path)
    assert "model.glb" in str(caught.value)


def test_wrong_files_are_told(tmp_path):
    with pytest.raises(DataError, match="no such model"):
        load_model(tmp_path / "a.glb")
    (tmp_path / "a.blend").write_bytes(b"")
    with pytest.raises(DataError, match="not a model format"):
        load_model(tmp_path / "a.blend")
    (tmp_path / "b.glb").write_bytes(b"not at all")
    with pytest.raises(DataError, match="not glTF"):
        load_model(tmp_path / "b.glb")


def test_an_obj_brings_its_material(tmp_path):
    Image.new("RGB", (4, 4), (188, 0, 255)).save(tmp_path / "skin.png")
    (tmp_path / "m.mtl").write_text("newmtl skin\nKd 1 1 1\nNs 98\nmap_Kd skin.png\n")
    (tmp_path / "m.obj").write_text(
        "mtllib m.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl skin\nf 1/1 2/2 3/3\n"
    )
    mesh = load_model(tmp_path / "m.obj")
    texture = mesh.materials[0].base_color_texture
    assert texture is not None and mesh.uv is not None
    assert float(texture.image[0, 0, 0]) == pytest.approx(0.5029, abs=1e-3)
    # OBJ's v grows upwards.
    by_position = {tuple(p): tuple(c) for p, c in zip(mesh.vertices.tolist(), mesh.uv.tolist(), strict=True)}
    assert by_position == {(0, 0, 0): (0, 1), (1, 0, 0): (1, 1), (0, 1, 0): (0, 0)}
    assert float(mesh.materials[0].roughness) == pytest.approx((2 / 100) ** 0.25)
    (tmp_path / "empty.obj").write_text("v 0 0 0\n")
    with pytest.raises(DataError, match=r"empty\.obj"):
        load_model(tmp_path / "empty.obj")


def test_stored_tangents_are_the_ones_we_make(data_dir):
    from dataclasses import replace

    mesh = load_model(data_dir / "pbr" / "WaterBottle" / "WaterBottle.gltf")
    made = replace(mesh, tangents=None).with_tangents()
    assert mesh.tangents is not None and made.tangents is not None
    a, b = (m.tangents[m.faces.flatten().long()] for m in (mesh, made))  # type: ignore[index]
    assert torch.equal(a[:, 3], b[:, 3])
    assert set(a[:, 3].tolist()) == {-1.0, 1.0}
    assert float(((a[:, :3] * b[:, :3]).sum(-1) > 0.999).float().mean()) > 0.98


SCENES = ("Box", "Cube", "Duck", "OrientationTest", "SpecularTest")


@pytest.mark.parametrize("name", SCENES)
def test_models_cover_what_they_cover_in_a_path_tracer(data_dir, name):
    """Transforms, winding, camera: silhouettes against Blender Cycles'."""
    folder = data_dir / "references" / "gltf_render_fidelity"
    scene = json.loads((folder / "scenes.json").read_text())["scenes"][f"khronos-{name}"]
    mesh = load_model(data_dir / scene["model"])
    pose = torch.tensor(scene["camera_to_world_opengl"]) * torch.tensor([1.0, -1.0, -1.0, 1.0])
    picture = read_image(folder / f"khronos-{name}" / "blender-cycles.webp")
    assert picture.alpha is not None
    height, width = picture.alpha.shape
    camera = Camera.from_fov(pose, math.radians(scene["vertical_fov_deg"]), width, height).resized(
        width // 2, height // 2
    )
    mask = surface(mesh, camera, MeshCpu()).mask
    expected = torch.nn.functional.avg_pool2d(picture.alpha[None], 2)[0] > 0.5
    overlap = (mask & expected).sum() / (mask | expected).sum()
    assert float(overlap) > 0.98


@pytest.mark.filterwarnings("ignore:.* left out")
@pytest.mark.parametrize("name", ["ChairDamaskPurplegold", "SunglassesKhronos", "Fox", "pmndrs_suzi", "spot"])
def test_others_models_are_sound(data_dir, name):
    path = next(p for p in sorted((data_dir / "pbr" / name).iterdir()) if p.suffix in (".glb", ".gltf", ".obj"))
    mesh: Mesh = load_model(path).check_indices()
    assert mesh.normals is not None
    lengths = mesh.normals.norm(dim=-1)
    assert ((lengths - 1).abs() < 1e-3).all()
    centre = (mesh.vertices.min(0).values + mesh.vertices.max(0).values) / 2
    outward = ((mesh.corner_positions().mean(1) - centre) * mesh.face_normals()).sum(-1)
    assert float((outward > 0).float().mean()) > 0.5
    if name == "ChairDamaskPurplegold":
        wood = mesh.materials[0]
        assert mesh.uv1 is not None and wood.occlusion_texture is not None and wood.base_color_texture is not None
        assert wood.occlusion_texture.uv_set == 1 and wood.base_color_texture.transform is not None
