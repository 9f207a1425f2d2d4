"""Writers of tiny captures in every format we read, written from the formats' definitions, not with our readers."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

MODEL_IDS = {
    "SIMPLE_PINHOLE": 0, "PINHOLE": 1, "SIMPLE_RADIAL": 2, "RADIAL": 3, "OPENCV": 4, "OPENCV_FISHEYE": 5,
    "FULL_OPENCV": 6, "FOV": 7, "SIMPLE_RADIAL_FISHEYE": 8, "RADIAL_FISHEYE": 9, "THIN_PRISM_FISHEYE": 10,
}  # fmt: skip
LENSES = {
    "SIMPLE_PINHOLE": (40.0, 24.5, 15.5),
    "PINHOLE": (40.0, 42.0, 24.5, 15.5),
    "SIMPLE_RADIAL": (40.0, 24.5, 15.5, -0.12),
    "RADIAL": (40.0, 24.5, 15.5, -0.12, 0.03),
    "OPENCV": (40.0, 42.0, 24.5, 15.5, -0.12, 0.03, 0.004, -0.006),
    "OPENCV_FISHEYE": (40.0, 42.0, 24.5, 15.5, 0.05, -0.02, 0.004, -0.001),
    "FULL_OPENCV": (40.0, 42.0, 24.5, 15.5, 0.3, 0.05, 0.004, -0.006, 0.01, 0.25, 0.06, 0.002),
    "SIMPLE_RADIAL_FISHEYE": (40.0, 24.5, 15.5, 0.05),
    "RADIAL_FISHEYE": (40.0, 24.5, 15.5, 0.05, -0.02),
}
"""Parameters for a picture of 48x32, in COLMAP's order."""
SIZE = (48, 32)
"""Width and height of the pictures."""


def project(model: str, params: tuple[float, ...], points: np.ndarray) -> np.ndarray:
    """(N, 3) points in camera coordinates to (N, 2) pixels, by COLMAP's description of each model, in float64."""
    p = np.array(params)
    single = model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
    focal, center, k = (p[[0, 0]], p[1:3], p[3:]) if single else (p[0:2], p[2:4], p[4:])
    u = points[:, :2] / points[:, 2:]
    r2 = (u**2).sum(1, keepdims=True)
    if "FISHEYE" in model:
        theta = np.arctan(np.sqrt(r2))
        polynomial = 1 + sum(c * theta ** (2 * i + 2) for i, c in enumerate(k))
        u = u * theta * polynomial / np.sqrt(r2)
    elif model in ("SIMPLE_RADIAL", "RADIAL"):
        u = u * (1 + sum(c * r2 ** (i + 1) for i, c in enumerate(k)))
    elif model in ("OPENCV", "FULL_OPENCV"):
        k1, k2, p1, p2, k3, k4, k5, k6 = (*k, 0, 0, 0, 0)[:8]
        radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
        xy = u[:, :1] * u[:, 1:]
        tangential = np.hstack(
            [2 * p1 * xy + p2 * (r2 + 2 * u[:, :1] ** 2), 2 * p2 * xy + p1 * (r2 + 2 * u[:, 1:] ** 2)]
        )
        u = u * radial + tangential
    return u * focal + center


def ring(count: int, distance: float = 3.0, target: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    """(count, 4, 4) world_from_camera, OpenCV axes, world +Z up, on a slightly uneven circle that looks at `target`."""
    poses = []
    for i in range(count):
        angle = 2 * np.pi * i / count
        offset = np.array([np.cos(angle), np.sin(angle), 0.4 + 0.1 * (i % 3)]) * distance
        forward = -offset / np.linalg.norm(offset)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
        pose[:3, 3] = offset + np.array(target)
        poses.append(pose)
    return np.array(poses)


def write_picture(path: Path, size: tuple[int, int] = SIZE, value: int = 128, alpha: int | None = None) -> Path:
    """A flat picture, with its parents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    color = (value,) * 3 if alpha is None else (value,) * 3 + (alpha,)
    Image.new("RGB" if alpha is None else "RGBA", size, color).save(path)
    return path


@dataclass
class ColmapModel:
    """What a sparse model says.  poses: (N, 4, 4) world_from_camera.  cameras: id to (model, width, height, params)."""

    names: list[str]
    poses: np.ndarray
    cameras: dict[int, tuple[str, int, int, tuple[float, ...]]]
    camera_ids: list[int]
    xyz: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    rgb: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.uint8))

    @staticmethod
    def ring(count: int = 4, lens: str = "PINHOLE", points: int = 5) -> ColmapModel:
        """Cameras on a ring that share one lens, and random points about the origin."""
        rng = np.random.default_rng(count)
        return ColmapModel(
            names=[f"{i:03d}.png" for i in range(count)],
            poses=ring(count),
            cameras={7: (lens, *SIZE, LENSES[lens])},
            camera_ids=[7] * count,
            xyz=rng.normal(size=(points, 3)) * 0.5,
            rgb=rng.integers(0, 256, (points, 3), np.uint8),
        )

    def rows(self) -> list[tuple[tuple[float, ...], int, str]]:
        """(qw, qx, qy, qz, tx, ty, tz), camera id and name of each image: world to camera."""
        rows = []
        for name, pose, camera_id in zip(self.names, self.poses, self.camera_ids, strict=True):
            inverse = np.linalg.inv(pose)
            x, y, z, w = Rotation.from_matrix(inverse[:3, :3]).as_quat()
            rows.append(((w, x, y, z, *inverse[:3, 3]), camera_id, name))
        return rows

    def write(self, root: Path, binary: bool, pictures: bool = True) -> Path:
        """sparse/0 and, unless told otherwise, images/.  Returns `root`."""
        folder = root / "sparse" / "0"
        folder.mkdir(parents=True, exist_ok=True)
        (self.write_binary if binary else self.write_text)(folder)
        if pictures:
            for name, camera_id in zip(self.names, self.camera_ids, strict=True):
                write_picture(root / "images" / name, self.cameras[camera_id][1:3])
        return root

    def write_text(self, folder: Path) -> None:
        lines = [f"{i} {m} {w} {h} {' '.join(map(repr, p))}" for i, (m, w, h, p) in self.cameras.items()]
        (folder / "cameras.txt").write_text("# Camera list\n" + "\n".join(lines) + "\n")
        lines = ["# Image list", "#   POINTS2D[] as (X, Y, POINT3D_ID)"]
        for i, (numbers, camera_id, name) in enumerate(self.rows()):
            track = "1.5 2.5 -1 3.5 4.5 1" if i % 2 else ""
            lines += [f"{i + 1} {' '.join(repr(float(v)) for v in numbers)} {camera_id} {name}", track]
        (folder / "images.txt").write_text("\n".join(lines) + "\n")
        lines = ["# 3D point list"]
        for i, (p, c) in enumerate(zip(self.xyz, self.rgb, strict=True)):
            numbers = " ".join(repr(float(v)) for v in p)
            lines.append(f"{i + 1} {numbers} {' '.join(str(int(v)) for v in c)} 0.5 1 0 2 1")
        (folder / "points3D.txt").write_text("\n".join(lines) + "\n")

    def write_binary(self, folder: Path) -> None:
        out = struct.pack("<Q", len(self.cameras))
        for i, (m, w, h, p) in self.cameras.items():
            out += struct.pack("<IiQQ", i, MODEL_IDS[m], w, h) + struct.pack(f"<{len(p)}d", *p)
        (folder / "cameras.bin").write_bytes(out)
        out = struct.pack("<Q", len(self.names))
        for i, (numbers, camera_id, name) in enumerate(self.rows()):
            out += struct.pack("<I7dI", i + 1, *numbers, camera_id) + name.encode() + b"\0"
            out += struct.pack("<Q", i) + struct.pack("<ddq", 1.5, 2.5, -1) * i
        (folder / "images.bin").write_bytes(out)
        out = struct.pack("<Q", len(self.xyz))
        for i, (p, c) in enumerate(zip(self.xyz, self.rgb, strict=True)):
            out += struct.pack("<Q3d3BdQ", i + 1, *p, *(int(v) for v in c), 0.5, 2) + struct.pack("<4I", 1, 0, 2, 1)
        (folder / "points3D.bin").write_bytes(out)


def opengl(pose: np.ndarray) -> list[list[float]]:
    """An OpenCV camera-to-world matrix as transforms.json stores it: the camera's y and z axes turned round."""
    turned = pose.copy()
    turned[:3, 1:3] *= -1
    return turned.tolist()


def write_transforms(file: Path, poses: np.ndarray, head: dict, frames: list[dict] | None = None, **picture) -> Path:
    """A transforms file, with the pictures its frames name (images/000.png, ... unless `frames` says otherwise)."""
    frames = [{} for _ in poses] if frames is None else frames
    entries = []
    for i, (pose, extra) in enumerate(zip(poses, frames, strict=True)):
        entry = {"file_path": f"images/{i:03d}.png", "transform_matrix": opengl(pose)} | extra
        image = file.parent / entry["file_path"]
        write_picture(image if image.suffix in (".png", ".jpg") else image.with_name(image.name + ".png"), **picture)
        entries.append(entry)
    file.write_text(json.dumps(head | {"frames": entries}))
    return file
