"""A procedural capture: a coloured ball before nothing, seen from a ring of cameras."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def write_capture(
    folder: Path,
    *,
    views: int = 6,
    size: int = 16,
    alpha: bool = True,
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Path:
    """`folder`/transforms.json and images/000.png, ...: a ball of radius 1 at the origin, cameras 4 away, +Z up.

    size: pixels a side.  alpha: cut out, else before black.  The sRGB-encoded colour of a point of the ball is its
    position, halved and added to a half, times `tint`, so that views differ and a fit has something to do.
    """
    from PIL import Image

    (folder / "images").mkdir(parents=True, exist_ok=True)
    focal = 1.6 * size
    axis = (np.arange(size) + 0.5 - size / 2) / focal
    local = np.stack([*np.meshgrid(axis, axis), np.ones((size, size))], -1)
    frames = []
    for i in range(views):
        angle = 2 * np.pi * i / views
        position = 4 * np.array([np.cos(angle), np.sin(angle), 0.3 + 0.2 * (i % 2)])
        forward = -position / np.linalg.norm(position)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward], 1)
        rays = local @ rotation.T
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        along = -(rays @ position)
        square = along**2 - position @ position + 1
        hit = square > 0
        point = position + rays * (along - np.sqrt(np.where(hit, square, 0)))[..., None]
        picture = np.where(hit[..., None], tint * (0.5 + 0.5 * point), 0)
        if alpha:
            picture = np.dstack([picture, hit])
        Image.fromarray((255 * picture.clip(0, 1) + 0.5).astype(np.uint8)).save(folder / "images" / f"{i:03d}.png")
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation * [1, -1, -1], position  # transforms.json has OpenGL axes
        frames.append({"file_path": f"images/{i:03d}.png", "transform_matrix": pose.tolist()})
    head = {"fl_x": focal, "fl_y": focal, "cx": size / 2, "cy": size / 2, "w": size, "h": size}
    (folder / "transforms.json").write_text(json.dumps(head | {"frames": frames}))
    return folder
