"""TensoIR's synthetic scenes (Jin et al., CVPR 2023): a folder a view with rgba.png and metadata.json.

`cam_transform_mat` is camera-to-world with OpenGL axes, sixteen numbers with commas between; `cam_angle_x` in radians.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from relight.data.common import OPENCV_FROM_OPENGL, Options, checked_pose, finish, number, pinhole, read_json
from relight.errors import DataError
from relight.scene import Scene
from relight.views import View

SPLITS = ("train", "test")


def sniff(path: Path) -> bool:
    """A folder with train_000/metadata.json."""
    return (path / "train_000" / "metadata.json").is_file()


def load(path: Path, options: Options) -> Scene:
    """Views train_NNN and test_NNN, lit by the light of rgba.png."""
    folders = sorted(p.parent for split in SPLITS for p in path.glob(f"{split}_*/metadata.json"))
    if not folders:
        raise DataError(f"{path}: no train_000/metadata.json; name the folder of one scene, such as lego")
    views = [_view(folder) for folder in folders]
    return finish(views, options, path, has_split=any(v.split == "test" for v in views))


def _view(folder: Path) -> View:
    file = folder / "metadata.json"
    data, where = read_json(file), str(file)
    try:
        numbers = [float(word) for word in str(data.get("cam_transform_mat")).split(",")]
        pose = checked_pose(np.array(numbers).reshape(4, 4).tolist(), where) @ OPENCV_FROM_OPENGL
    except ValueError as error:
        raise DataError(f"{file}: 'cam_transform_mat' should be 16 numbers with commas between ({error})") from error
    width, height, angle = (number(data, key, where) for key in ("imw", "imh", "cam_angle_x"))
    if not 0 < angle < math.pi:
        raise DataError(f"{file}: 'cam_angle_x' is {angle:g}; expected radians between 0 and pi")
    focal = 0.5 * width / math.tan(angle / 2)
    camera = pinhole(pose, focal, focal, width / 2, height / 2, width, height, where)
    return View(f"{folder.name}/rgba", folder / "rgba.png", camera, folder.name.split("_")[0])
