"""Where the subject is and how large it is, from the cameras alone."""

from __future__ import annotations

import torch
from torch import Tensor

from relight.scene import Frame, Points
from relight.views import Views


def look_at_point(positions: Tensor, directions: Tensor) -> Tensor | None:
    """(3,) the point nearest to all viewing axes, (N, 3) each, or None when the axes are nearly parallel."""
    projector = torch.eye(3) - directions[:, :, None] * directions[:, None, :]
    matrix = projector.mean(0)
    if torch.linalg.eigvalsh(matrix)[0] < 1e-3:
        return None
    return torch.linalg.solve(matrix, (projector @ positions[:, :, None]).mean(0))[:, 0]


def estimate_frame(views: Views, points: Points | None = None) -> Frame:
    """Centre: where the cameras look, if that is in front of them; else the middle of the points or of the cameras.

    Radius: 1.1 x the largest camera distance from the mean camera position, as 3DGS scales its learning rates; for
    cameras in one place, the distance to the subject.  Up: mean of the cameras' up if they agree.
    """
    poses = torch.stack([v.camera.world_from_camera for v in views]).float()
    positions, forward = poses[:, :3, 3], poses[:, :3, 2]
    middle = positions.mean(0)
    center = look_at_point(positions, forward)
    if center is None or bool((((center - positions) * forward).sum(-1) <= 0).float().mean() > 0.2):
        center = middle if points is None or len(points.positions) == 0 else points.positions.median(0).values
    radius = 1.1 * float((positions - middle).norm(dim=1).max())
    if radius < 1e-6:
        radius = float((center - middle).norm()) or 1.0
    up = -poses[:, :3, 1].mean(0)
    agreed = float(up.norm()) > 0.5
    x, y, z = torch.nn.functional.normalize(up, dim=0).tolist()
    cx, cy, cz = center.tolist()
    return Frame(center=(cx, cy, cz), radius=radius, up=(x, y, z) if agreed else None)
