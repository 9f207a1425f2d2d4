"""Good files of every kind that relight reads, to be damaged by `benchmarks.fuzz_readers`."""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from relight.config import load_config
from relight.data import load
from relight.data.models import load_model
from relight.export.clips import open_clip
from relight.export.images import write_film, write_image
from relight.formats import read_splat, write_splat
from relight.geometry.gaussians import CHANNELS, Gaussians
from relight.images import exposure, image_size, read_image
from relight.scene import Frame, Scene
from relight.scene_io import load_scene, save_scene

Damage = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Reader:
    """make: writes good files into a folder.  files: those that are damaged, one at a time; the first is what is read.
    read: of the first one's path.  inside: damages what a container holds and leaves the container whole.
    """

    make: Callable[[Path], None]
    files: tuple[str, ...]
    read: Callable[[Path], object]
    inside: Callable[[bytes, Damage, random.Random], bytes] | None = None


def sample(count: int = 300) -> Gaussians:
    """A splat with SH of degree 2 and all materials."""
    generator = torch.Generator().manual_seed(1)
    g = Gaussians(
        means=torch.randn(count, 3, generator=generator),
        quats_wxyz=torch.randn(count, 4, generator=generator),
        log_scales=torch.randn(count, 3, generator=generator) - 3,
        logit_opacity=torch.randn(count, generator=generator),
        sh=0.3 * torch.randn(count, 9, 3, generator=generator),
        antialiased=True,
    )
    channels = {name: torch.rand(count, *shape, generator=generator) for name, (shape, _) in CHANNELS.items()}
    channels["normal"] = torch.nn.functional.normalize(channels["normal"] - 0.5, dim=1)
    return replace(g, channels=channels)


# --- splats


def _splat(name: str, **options: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        warnings.simplefilter("ignore")
        write_splat(sample(), folder / name, **options)

    return make


def _ksplat(folder: Path, count: int = 200) -> None:
    """Of level 1 and degree 1, in buckets of 64 and a partial one."""
    rng = random.Random(2)
    full, rest = divmod(count, 64)
    main = struct.pack("<2s2xIIIIH", b"\0\1", 1, 1, count, count, 1).ljust(4096, b"\0")
    section = struct.pack("<IIIIfH", count, count, 64, full + 1, 5.0, 12).ljust(24, b"\0")
    section = (section + struct.pack("<IIIIH", 32767, 0, full, 1, 1)).ljust(1024, b"\0")
    centers = struct.pack(f"<{3 * (full + 1)}f", *(rng.uniform(-1, 1) for _ in range(3 * (full + 1))))
    rows = bytes(rng.randrange(60) for _ in range(42 * count))
    (folder / "a.ksplat").write_bytes(main + section + struct.pack("<I", rest) + centers + rows)


def _in_gzip(data: bytes, damage: Damage, rng: random.Random) -> bytes:
    return gzip.compress(damage(gzip.decompress(data)), 1)


def _in_glb(data: bytes, damage: Damage, rng: random.Random) -> bytes:
    size = struct.unpack_from("<I", data, 12)[0]
    text = damage(data[20 : 20 + size])
    text += b" " * (-len(text) % 4)
    rest = data[20 + size :]
    return struct.pack("<4sIIII", b"glTF", 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A) + text + rest


def _in_zip(data: bytes, damage: Damage, rng: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as bundle:
        files = {entry: bundle.read(entry) for entry in bundle.namelist()}
    victim = "meta.json" if rng.random() < 0.6 else rng.choice(list(files))
    files[victim] = damage(files[victim])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as bundle:
        for entry, content in files.items():
            bundle.writestr(entry, content)
    return out.getvalue()


# --- pictures


def _noise(channels: int, size: int = 24) -> np.ndarray:
    """Smooth enough to compress and rough enough not to be flat."""
    values = np.random.default_rng(3).random((size, size, channels)) * 90
    return (values + 4 * np.arange(size)[:, None, None]).astype(np.uint8)


def _picture(name: str, channels: int = 3, **options: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        image = Image.fromarray(_noise(channels))
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(folder / name, **({"exif": exif} if "jpg" in name else {}), **options)

    return make


def _exr(folder: Path) -> None:
    write_image(folder / "a.exr", torch.from_numpy(_noise(3)).float() / 50)


def _hdr(folder: Path) -> None:
    import cv2

    cv2.imwrite(str(folder / "a.hdr"), _noise(3).astype(np.float32) / 50)


def _deep_picture(folder: Path) -> None:
    import cv2

    cv2.imwrite(str(folder / "deep.png"), _noise(3).astype(np.uint16) * 200)


def _read_picture(path: Path) -> object:
    exposure(path)
    return image_size(path), read_image(path)


# --- models


def _gltf(binary: bool) -> Callable[[Path], None]:
    """A triangle with all attributes, a texture, a node above a node."""

    def make(folder: Path) -> None:
        columns = [
            np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32), np.array([[0, 0, 1]] * 3, np.float32),
            np.array([[0, 0], [1, 0], [0, 1]], np.float32), np.array([[0], [1], [2], [0]], np.uint16),
        ]  # fmt: skip
        picture = io.BytesIO()
        Image.fromarray(_noise(3, 8)).save(picture, "PNG")
        blobs = [c.tobytes() for c in columns] + [picture.getvalue() + bytes(-picture.tell() % 4)]
        starts = np.cumsum([0, *(len(b) for b in blobs)]).tolist()
        data = b"".join(blobs)
        kinds = [(5126, "VEC3", 3), (5126, "VEC3", 3), (5126, "VEC2", 3), (5123, "SCALAR", 3)]
        document: dict[str, Any] = {
            "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}],
            "nodes": [{"children": [1], "rotation": [0, 0, 0, 1]}, {"mesh": 0, "translation": [0, 1, 0]}],
            "meshes": [{"primitives": [{
                "attributes": {"POSITION": 0, "NORMAL": 1, "TEXCOORD_0": 2}, "indices": 3, "material": 0, "mode": 4,
            }]}],
            "materials": [{
                "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "roughnessFactor": 0.5},
                "normalTexture": {"index": 0, "scale": 0.5}, "alphaMode": "MASK", "alphaCutoff": 0.3,
                "extensions": {"KHR_materials_ior": {"ior": 1.4}},
            }],
            "textures": [{"source": 0, "sampler": 0}], "samplers": [{"wrapS": 33071}],
            "images": [{"bufferView": 4, "mimeType": "image/png"} if binary else {"uri": "a.png"}],
            "accessors": [
                {"bufferView": i, "componentType": c, "type": t, "count": n} for i, (c, t, n) in enumerate(kinds)
            ],
            "bufferViews": [
                {"buffer": 0, "byteOffset": s, "byteLength": e - s}
                for s, e in pairwise(starts)
            ],
            "buffers": [{"byteLength": len(data)} | ({} if binary else {"uri": "a.bin"})],
        }  # fmt: skip
        if not binary:
            (folder / "a.gltf").write_text(json.dumps(document))
            (folder / "a.bin").write_bytes(data)
            (folder / "a.png").write_bytes(picture.getvalue())
            return
        text = json.dumps(document).encode()
        text, data = text + b" " * (-len(text) % 4), data + bytes(-len(data) % 4)
        head = struct.pack("<4sIIII", b"glTF", 2, 28 + len(text) + len(data), len(text), 0x4E4F534A)
        (folder / "a.glb").write_bytes(head + text + struct.pack("<II", len(data), 0x004E4942) + data)

    return make


def _obj(folder: Path) -> None:
    (folder / "a.obj").write_text(
        "mtllib a.mtl\nusemtl m\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nvn 0 0 1\n"
        "f 1/1/1 2/2/1 3/3/1\nf 1/1/1 3/3/1 4/4/1\n"
    )
    (folder / "a.mtl").write_text("newmtl m\nKd 0.5 0.4 0.3\nNs 40\nmap_Kd a.png\n")
    Image.fromarray(_noise(3, 8)).save(folder / "a.png")


def _by_trimesh(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        import trimesh

        trimesh.creation.icosphere(1).export(folder / name)

    return make


# --- captures, scenes, configurations


def _poses(count: int = 3) -> list[np.ndarray]:
    """Cameras on a half circle that look at the origin, OpenCV's axes."""
    poses = []
    for angle in np.linspace(0, np.pi, count):
        forward = -np.array([np.cos(angle), np.sin(angle), 0.3])
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = np.stack([right, np.cross(forward, right), forward], 1), -3 * forward
        poses.append(pose)
    return poses


def _pictures(folder: Path) -> None:
    (folder / "images").mkdir(exist_ok=True)
    for i in range(3):
        Image.fromarray(_noise(3)).save(folder / f"images/{i}.png")


def _transforms(folder: Path) -> None:
    _pictures(folder)
    head = {"fl_x": 30.0, "fl_y": 30.0, "cx": 12, "cy": 12, "w": 24, "h": 24, "k1": 0.01, "camera_model": "OPENCV"}
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    frames = [
        {"file_path": f"images/{i}.png", "transform_matrix": (pose @ flip).tolist()} for i, pose in enumerate(_poses())
    ]
    _splat("points.ply")(folder)
    more = {"ply_file_path": "points.ply", "train_filenames": ["images/0.png", "images/1.png"]}
    (folder / "transforms.json").write_text(json.dumps(head | more | {"frames": frames}))


def _colmap(binary: bool) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        _pictures(folder)
        place = folder / "sparse/0"
        place.mkdir(parents=True, exist_ok=True)
        turns = [((1.0, 0.0, 0.0, 0.0), (0.1 * i, 0.0, 2.0)) for i in range(3)]
        if not binary:
            (place / "cameras.txt").write_text("# c\n1 OPENCV 24 24 30 30 12 12 0.01 0 0 0\n")
            lines = "".join(
                f"{i + 1} {' '.join(map(str, [*q, *t]))} 1 {i}.png\n1.0 2.0 1 3 4 -1\n"
                for i, (q, t) in enumerate(turns)
            )
            (place / "images.txt").write_text("# i\n" + lines)
            (place / "points3D.txt").write_text("# p\n1 0 0 0 255 0 0 0.5 1 0 2 0\n2 1 0 0 0 255 0 0.5 1 1\n")
            return
        (place / "cameras.bin").write_bytes(struct.pack("<QIiQQ8d", 1, 1, 4, 24, 24, 30, 30, 12, 12, 0.01, 0, 0, 0))
        images = struct.pack("<Q", 3)
        for i, (q, t) in enumerate(turns):
            images += struct.pack("<I7dI", i + 1, *q, *t, 1) + f"{i}.png\0".encode()
            images += struct.pack("<Qddqddq", 2, 1.0, 2.0, 1, 3.0, 4.0, -1)
        (place / "images.bin").write_bytes(images)
        points = struct.pack("<Q", 2)
        for i in range(2):
            points += struct.pack("<QdddBBBdQII", i + 1, i, 0.0, 0.0, 255, 0, 0, 0.5, 1, 1, 0)
        (place / "points3D.bin").write_bytes(points)

    return make


def _llff(folder: Path) -> None:
    _pictures(folder)
    rows = []
    for pose in _poses():
        axes = np.stack([pose[:3, 1], pose[:3, 0], -pose[:3, 2], pose[:3, 3], np.array([24.0, 24.0, 30.0])], 1)
        rows.append([*axes.ravel(), 1.0, 9.0])
    np.save(folder / "poses_bounds.npy", np.array(rows), allow_pickle=False)


def _tensoir(folder: Path) -> None:
    for i, pose in enumerate(_poses()):
        place = folder / f"train_{i:03d}"
        place.mkdir(exist_ok=True)
        Image.fromarray(_noise(4)).save(place / "rgba.png")
        numbers = ",".join(map(str, (pose @ np.diag([1.0, -1, -1, 1])).ravel()))
        document = {"cam_transform_mat": numbers, "imw": 24, "imh": 24, "cam_angle_x": 0.7}
        (place / "metadata.json").write_text(json.dumps(document))


def _scene(folder: Path) -> None:
    _transforms(folder)
    views = load(folder).views
    save_scene(Scene(frame=Frame((0.0, 0.0, 0.0), 1.0), views=views, gaussians=sample()), folder, key="k")


def _yaml(folder: Path) -> None:
    (folder / "a.yaml").write_text(
        "preset: quick\ndata: {path: capture, max_size: 400}\noutput: out\nseed: 3\nstages:\n"
        "  - radiance: {iterations: 300, sh_degree: 2}\n  - distill\n  - compress: {max_psnr_drop: 0.5}\n"
    )


def _load(root: int) -> Callable[[Path], object]:
    """Of the folder so many above the first file; its pictures are decoded too."""

    def read(path: Path) -> object:
        scene = load(path.parents[root])
        return [scene.views.photo(i) for i in range(min(3, len(scene.views)))] if scene.views else None

    return read


PICTURES = {
    "png": _picture("a.png", 4), "png16": _deep_picture, "jpeg": _picture("a.jpg", quality=80),
    "progressive_jpeg": _picture("b.jpg", progressive=True), "webp": _picture("a.webp", 4, lossless=True),
    "bmp": _picture("a.bmp"), "tiff": _picture("a.tif", compression="tiff_lzw"),
    "exr": _exr, "hdr": _hdr,
}  # fmt: skip
_NAMES = {
    "png": "a.png", "png16": "deep.png", "jpeg": "a.jpg", "progressive_jpeg": "b.jpg", "webp": "a.webp",
    "bmp": "a.bmp", "tiff": "a.tif", "exr": "a.exr", "hdr": "a.hdr",
}  # fmt: skip


def _film(folder: Path) -> None:
    write_film(folder / "a.mp4", (torch.full((32, 48, 3), 0.1 * i) for i in range(8)), Fraction(30))


def _read_film(path: Path) -> object:
    """One frame is held at a time; a film that claims to be long isn't read to its end."""
    return sum(len(frame) for frame in islice(open_clip(path).frames(), 32))


SPLATS = {
    "ply": Reader(_splat("a.ply"), ("a.ply",), read_splat),
    "compressed_ply": Reader(_splat("a.compressed.ply"), ("a.compressed.ply",), read_splat),
    "splat": Reader(_splat("a.splat"), ("a.splat",), read_splat),
    "spz": Reader(_splat("a.spz"), ("a.spz",), read_splat),
    "spz3": Reader(_splat("b.spz", version=3), ("b.spz",), read_splat, _in_gzip),
    "sog": Reader(_splat("a.sog"), ("a.sog",), read_splat, _in_zip),
    "gltf": Reader(_splat("a.glb"), ("a.glb",), read_splat, _in_glb),
    "ksplat": Reader(_ksplat, ("a.ksplat",), read_splat),
}
MODELS = {
    "model_glb": Reader(_gltf(True), ("a.glb",), load_model, _in_glb),
    "model_gltf": Reader(_gltf(False), ("a.gltf", "a.bin", "a.png"), load_model),
    "obj": Reader(_obj, ("a.obj", "a.mtl", "a.png"), load_model),
    **{f"model_{s}": Reader(_by_trimesh(f"a.{s}"), (f"a.{s}",), load_model) for s in ("ply", "stl", "off")},
}
CAPTURES = {
    "transforms": Reader(_transforms, ("transforms.json", "points.ply", "images/0.png"), _load(0)),
    "colmap": Reader(_colmap(True), tuple(f"sparse/0/{n}.bin" for n in ("cameras", "images", "points3D")), _load(2)),
    "colmap_text": Reader(
        _colmap(False), tuple(f"sparse/0/{n}.txt" for n in ("cameras", "images", "points3D")), _load(2)
    ),
    "llff": Reader(_llff, ("poses_bounds.npy",), _load(0)),
    "tensoir": Reader(_tensoir, ("train_000/metadata.json", "train_000/rgba.png"), _load(1)),
    "scene": Reader(
        _scene, ("scene.json", "cameras.json", "gaussians.safetensors"), lambda path: load_scene(path.parent)
    ),
    "yaml": Reader(_yaml, ("a.yaml",), partial(load_config)),
}
READERS: dict[str, Reader] = {
    **SPLATS,
    **{name: Reader(make, (_NAMES[name],), _read_picture) for name, make in PICTURES.items()},
    **MODELS,
    **CAPTURES,
    "mp4": Reader(_film, ("a.mp4",), _read_film),
}
