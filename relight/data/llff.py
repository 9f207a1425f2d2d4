"""LLFF's poses_bounds.npy (Mildenhall et al., SIGGRAPH 2019): per picture a 3x5 matrix and two depths.

Columns of the matrix: the camera's down, right and backward axes and its centre in the world; height, width, focal.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from relight.data.common import Options, checked_pose, finish, pictures_in, pinhole
from relight.errors import DataError
from relight.scene import Scene
from relight.views import View


def sniff(path: Path) -> bool:
    """A folder with poses_bounds.npy."""
    return (path / "poses_bounds.npy").is_file()


def load(path: Path, options: Options) -> Scene:
    """Pictures in images/ (or a reduced images_N/), in the order of their names."""
    file = path / "poses_bounds.npy"
    try:
        # Mapped, so that a header that claims terabytes is compared with the file instead of allocated.
        rows = np.lib.format.open_memmap(file, mode="r")
    except Exception as error:  # a damaged header can raise anything
        raise DataError(f"{file}: not a NumPy array ({error}); export it again") from error
    if rows.ndim != 2 or rows.shape[1] != 17 or rows.dtype.kind != "f":
        raise DataError(
            f"{file}: expected an array of N x 17 numbers, found {rows.shape} of {rows.dtype}; export it again"
        )
    folders = [path / "images", *sorted(path.glob("images_*"))]
    pictures = next((p for p in map(pictures_in, folders) if p), [])
    if len(pictures) != len(rows):
        raise DataError(
            f"{file}: {len(rows)} poses, but {len(pictures)} pictures in {path / 'images'}; "
            "they belong together by order, so add or remove what does not match"
        )
    views = []
    for picture, row in zip(pictures, rows, strict=True):
        matrix = row[:15].reshape(3, 5)
        where = f"{file}: {picture.name}"
        down, right, backward, center = matrix[:, 0], matrix[:, 1], matrix[:, 2], matrix[:, 3]
        pose = checked_pose(np.stack([right, down, -backward, center], 1).tolist(), where)
        height, width, focal = (float(v) for v in matrix[:, 4])
        if not np.isfinite([height, width, focal]).all():
            raise DataError(f"{where}: size or focal length is not finite; export it again")
        views.append(
            View(picture.name, picture, pinhole(pose, focal, focal, width / 2, height / 2, width, height, where))
        )
    return finish(views, options, path)
