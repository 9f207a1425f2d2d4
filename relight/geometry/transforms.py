"""Rotations and rigid motions.  Quaternions are (w, x, y, z); `a_from_b` maps coordinates of b to a."""

from __future__ import annotations

import torch
from torch import Tensor

from relight.vectors import unit


def rotation_from_quaternion(quats_wxyz: Tensor) -> Tensor:
    """(..., 4) quaternions of any non-zero length to (..., 3, 3) rotation matrices."""
    w, x, y, z = unit(quats_wxyz).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def quaternion_from_rotation(rotation: Tensor) -> Tensor:
    """(..., 3, 3) rotation matrices to (..., 4) unit quaternions with w >= 0.

    Shepperd's method (Journal of Guidance and Control 1(3), 1978): of four equivalent formulas, the one with
    the largest denominator is used, so that no rotation loses precision.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in rotation.unbind(-2))
    trace = xx + yy + zz
    # Row k: 4 * q_k * (w, x, y, z), where k is the component assumed to be largest.
    rows = (
        (1 + trace, zy - yz, xz - zx, yx - xy),
        (zy - yz, 1 + 2 * xx - trace, xy + yx, xz + zx),
        (xz - zx, xy + yx, 1 + 2 * yy - trace, yz + zy),
        (yx - xy, xz + zx, yz + zy, 1 + 2 * zz - trace),
    )
    candidates = torch.stack([torch.stack(row, -1) for row in rows], -2)
    largest = candidates.diagonal(dim1=-2, dim2=-1).argmax(-1)
    quats = torch.take_along_dim(candidates, largest[..., None, None], -2).squeeze(-2)
    quats = unit(quats)
    return torch.where(quats[..., :1] < 0, -quats, quats)


def quaternion_multiply(a_wxyz: Tensor, b_wxyz: Tensor) -> Tensor:
    """Hamilton product: the rotation that applies b first, then a.  (..., 4) each."""
    aw, ax, ay, az = a_wxyz.unbind(-1)
    bw, bx, by, bz = b_wxyz.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def skew(v: Tensor) -> Tensor:
    """(..., 3) to the (..., 3, 3) matrix of the cross product with v."""
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).unflatten(-1, (3, 3))


def rigid_from_twist(twist: Tensor) -> Tensor:
    """Exponential map of SE(3): (..., 6) = (translation part, rotation vector in radians) to (..., 4, 4).

    Smooth at zero, where its derivative is the identity: what camera refinement optimises.
    """
    generator = torch.zeros(*twist.shape[:-1], 4, 4, dtype=twist.dtype, device=twist.device)
    generator[..., :3, :3] = skew(twist[..., 3:])
    generator[..., :3, 3] = twist[..., :3]
    return torch.linalg.matrix_exp(generator)


def look_at(eye: Tensor, target: Tensor, up: Tensor) -> Tensor:
    """(3,) each, world frame, to the (4, 4) world_from_camera of an OpenCV camera (+x right, +y down, +z forward).

    `up` is the world direction that should point up in the picture; it may not be parallel to the view direction.
    """
    forward = unit(target - eye)
    right = torch.linalg.cross(forward, up)
    if float(right.norm()) < 1e-8:
        raise ValueError("look_at: `up` is parallel to the viewing direction; choose another up vector")
    right = unit(right)
    down = torch.linalg.cross(forward, right)
    world_from_camera = torch.eye(4, dtype=eye.dtype, device=eye.device)
    world_from_camera[:3, :3] = torch.stack([right, down, forward], -1)
    world_from_camera[:3, 3] = eye
    return world_from_camera
