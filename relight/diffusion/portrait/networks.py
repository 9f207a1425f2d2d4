"""Three small published networks that come with relight: where people are, where faces are, and 468 points of a face.

Apache-2.0, by MediaPipe's authors; see weights/README.md.  OpenCV runs them on the CPU, in hundredths of a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from relight.errors import RelightError
from relight.resize import resized

WEIGHTS = Path(__file__).parent / "weights"
COVERAGE, FACES, POINTS = 256, 256, 192
"""Pixels a side that each network sees."""
SURE = 0.5
"""Least probability of a face, of its box and of its points."""
APART = 0.3
"""Boxes that share more of their union show one face."""
AROUND = 1.5
"""Sides of a face's box that the network of points sees."""
GRIDS = ((16, 2), (8, 6))
"""Cells a side and boxes a cell that the network of faces tells about (BlazeFace, Bazarevsky et al. 2019)."""


@dataclass(frozen=True)
class Face:
    """box: (4,) left, top, width, height in pixels.  points: (468, 3) pixels; z is away from the camera, on the scale
    of x and y, about 0 in the middle of the head.  sure: 0 to 1.
    """

    box: Tensor
    points: Tensor
    sure: float

    @property
    def middle(self) -> Tensor:
        """(2,) pixels."""
        return self.box[:2] + 0.5 * self.box[2:]

    @property
    def size(self) -> float:
        """Pixels, of the longer side of its box."""
        return float(self.box[2:].max())


def coverage(picture: Tensor) -> Tensor:
    """(H, W) 0 to 1: how sure it is that a pixel of (H, W, 3) sRGB shows a person.  Soft: seen at `COVERAGE` pixels."""
    height, width = picture.shape[:2]
    small = resized(picture, COVERAGE, COVERAGE)
    out = _run("selfie_segmentation", small, ("activation_10",))[0].reshape(1, 1, COVERAGE, COVERAGE)
    return torch.nn.functional.interpolate(out, (height, width), mode="bilinear").clamp(0, 1)[0, 0]


def faces(picture: Tensor) -> list[Face]:
    """Of (H, W, 3) sRGB, largest first.  Those under about a twentieth of the picture, and profiles, are missed."""
    return [face for box in _boxes(picture) if (face := _points(picture, *box)) is not None]


def _boxes(picture: Tensor) -> list[tuple[Tensor, float]]:
    """(4,) boxes with the angle in radians that the line between the eyes is turned by."""
    height, width = picture.shape[:2]
    side = max(height, width)
    shown = torch.nn.functional.pad(picture.permute(2, 0, 1), (0, side - width, 0, side - height)).permute(1, 2, 0)
    told, scores = _run("face_detection_back", resized(shown, FACES, FACES) * 2 - 1, ("regressors", "classificators"))
    told = told.reshape(-1, 16) / FACES
    places = torch.cat([_cells(n).repeat_interleave(many, 0) for n, many in GRIDS])
    # Of a box first its middle and size, then six points: the eyes lead.
    where = told.reshape(-1, 8, 2) + places[:, None] * told.new_tensor([1, 0, *[1] * 6])[None, :, None]
    where, scores = where * side, torch.sigmoid(scores.reshape(-1))
    found: list[tuple[Tensor, float]] = []
    for k in scores.argsort(descending=True).tolist():
        if float(scores[k]) < SURE:
            break
        middle, size = where[k, 0], where[k, 1]
        box = torch.cat([middle - size / 2, size])
        if all(_shared(box, other) < APART for other, _ in found):
            eyes = where[k, 3] - where[k, 2]
            found.append((box, math.atan2(float(eyes[1]), float(eyes[0]))))
    return sorted(found, key=lambda f: -float(f[0][2:].max()))


def _points(picture: Tensor, box: Tensor, angle: float) -> Face | None:
    height, width = picture.shape[:2]
    side = AROUND * float(box[2:].max())
    middle = box[:2] + box[2:] / 2
    c, s = math.cos(angle) * side, math.sin(angle) * side
    turn = torch.tensor([[c, -s], [s, c]])
    # From the square's -0.5 to 0.5 to pixels, and those to grid_sample's -1 to 1.
    scale = torch.tensor([[2 / width], [2 / height]])
    theta = torch.cat([turn * 0.5 * scale, middle[:, None] * scale - 1], 1)
    grid = affine_grid(theta[None], [1, 3, POINTS, POINTS], align_corners=False)
    # Smaller first, or thin things are lost.
    shrink = max(1, int(side / POINTS))
    planes = torch.nn.functional.avg_pool2d(picture.permute(2, 0, 1)[None], shrink, ceil_mode=True)
    shown = grid_sample(planes, grid, align_corners=False)[0].permute(1, 2, 0)
    told, flag = _run("face_landmark", shown, ("conv2d_20", "conv2d_30"))
    sure = float(torch.sigmoid(flag.reshape(-1)[0]))
    if sure < SURE:
        return None
    told = told.reshape(-1, 3) / POINTS
    flat = (told[:, :2] - 0.5) @ turn.mT + middle
    return Face(box, torch.cat([flat, told[:, 2:] * side], 1), sure)


def _cells(count: int) -> Tensor:
    """(count^2, 2) middles of cells, 0 to 1, row by row."""
    line = (torch.arange(count) + 0.5) / count
    return torch.cartesian_prod(line, line).flip(1)


def _shared(one: Tensor, two: Tensor) -> float:
    low, high = torch.maximum(one[:2], two[:2]), torch.minimum(one[:2] + one[2:], two[:2] + two[2:])
    both = float((high - low).clamp_min(0).prod())
    return both / max(float(one[2:].prod() + two[2:].prod()) - both, 1e-6)


@lru_cache
def _network(name: str):
    import cv2

    path = WEIGHTS / f"{name}.tflite"
    try:
        return cv2.dnn.readNetFromTFLite(str(path))
    except (cv2.error, AttributeError) as error:
        raise RelightError(
            f"{path}: OpenCV {cv2.__version__} can't read it ({error}); install opencv-python-headless 4.8 or newer"
        ) from error


def _run(name: str, picture: Tensor, outputs: tuple[str, ...]) -> list[Tensor]:
    """What a network says of a (h, w, 3) picture."""
    network = _network(name)
    network.setInput(np.ascontiguousarray(picture.permute(2, 0, 1)[None].numpy(), dtype=np.float32))
    return [torch.from_numpy(np.array(network.forward(output), dtype=np.float32)) for output in outputs]
