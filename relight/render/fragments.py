"""What every mesh backend shares: interpolation, blending at silhouettes, fragments from visible faces.

Plain torch on any device, in the dtype of its inputs.  On the CPU `interpolate` uses kernels.
"""

from __future__ import annotations

# pyright: reportCallIssue=false
# Kernels take unpacked lists of arrays, whose length it can't know.
import numpy as np
import torch
from torch import Tensor

from relight.errors import ShapeError
from relight.geometry.camera import Camera
from relight.render.mesh_protocol import Fragments


def homogeneous_pixels(vertices: Tensor, camera: Camera) -> Tensor:
    """(V, 3) world positions to (pixel x times depth, pixel y times depth, depth).  float64, differentiable.

    Written out in the kernels' order of operations, so that ties at edges fall the same way.
    """
    pose = camera.camera_from_world.to(vertices.device, torch.float64)
    a, b, c = vertices.double().unbind(-1)
    x, y, z = (pose[i, 0] * a + pose[i, 1] * b + pose[i, 2] * c + pose[i, 3] for i in range(3))
    return torch.stack([camera.fx * x + camera.cx * z, camera.fy * y + camera.cy * z, z], -1)


def edge_functions(corners: Tensor) -> Tensor:
    """(..., 3, 3) homogeneous corners to (..., 3, 3) coefficients (x, y, 1) of the edges facing corners 0, 1, 2."""
    ax, ay, az = corners.roll(-1, -2).unbind(-1)
    bx, by, bz = corners.roll(-2, -2).unbind(-1)
    # Not torch's cross product, which may contract: swapping a and b must change the sign alone.
    return torch.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], -1)


def fragments_of_faces(face: Tensor, vertices: Tensor, faces: Tensor, camera: Camera) -> Fragments:
    """Barycentrics, depth and derivatives where `face` (H, W) is already known.

    Worked out in float64 and returned in the vertices' dtype: in float32, edge functions of small triangles cancel.
    """
    drawn = face >= 0
    y, x = drawn.nonzero(as_tuple=True)
    seen = vertices.index_select(0, faces.long()[face[y, x].long()].flatten())
    corners = homogeneous_pixels(seen, camera).view(-1, 3, 3)
    n = edge_functions(corners)
    center = torch.stack([x + 0.5, y + 0.5, torch.ones_like(x)], -1).double()
    e = (n * center[:, None]).sum(-1)
    total = e.sum(-1, keepdim=True)
    barycentrics = e / total
    depth = (n[:, 0] * corners[:, 0]).sum(-1) / total[:, 0]
    with torch.no_grad():
        # d(e / total) = (de - b d(total)) / total; de is the edge function's own coefficient.
        dx = (n[..., 0] - barycentrics * n[..., 0].sum(-1, keepdim=True)) / total
        dy = (n[..., 1] - barycentrics * n[..., 1].sum(-1, keepdim=True)) / total
    index = y * face.shape[1] + x

    def spread(values: Tensor) -> Tensor:
        blank = values.new_zeros((face.numel(), *values.shape[1:]))
        return blank.index_copy(0, index, values).view(*face.shape, *values.shape[1:]).to(vertices.dtype)

    return Fragments(face, spread(barycentrics), spread(depth), spread(dx), spread(dy))


def interpolate(attributes: Tensor, faces: Tensor, fragments: Fragments) -> Tensor:
    """(V, C) attributes to (H, W, C); 0 where there is no face.  Differentiable in attributes and barycentrics.

    Raises ShapeError if attributes are not (V, C).
    """
    return weighted_corners(attributes, faces, fragments.face, fragments.barycentrics)


def interpolate_derivatives(attributes: Tensor, faces: Tensor, fragments: Fragments) -> tuple[Tensor, Tensor]:
    """How attributes change to the right and downwards, per pixel: two (H, W, C).  Not differentiated in vertices."""
    return (
        weighted_corners(attributes, faces, fragments.face, fragments.barycentrics_dx),
        weighted_corners(attributes, faces, fragments.face, fragments.barycentrics_dy),
    )


def weighted_corners(attributes: Tensor, faces: Tensor, face: Tensor, weights: Tensor) -> Tensor:
    """(V, C) attributes at points on faces: face (...,) indices, -1 for none; weights (..., 3).  Returns (..., C)."""
    if attributes.ndim != 2:
        raise ShapeError.expected("attributes", "(V, C)", tuple(attributes.shape))
    if attributes.device.type == "cpu":
        return _Interpolate.apply(attributes, weights, faces, face)  # type: ignore[return-value]
    return interpolate_torch(attributes, faces, face, weights)


def interpolate_torch(attributes: Tensor, faces: Tensor, face: Tensor, weights: Tensor) -> Tensor:
    """The twin of the kernels, on any device.  face: (...,).  weights: (..., 3).  Returns (..., C)."""
    corners = attributes.index_select(0, faces.long()[face.clamp_min(0).long()].flatten())
    blended = (corners.view(*face.shape, 3, attributes.shape[1]) * weights[..., None]).sum(-2)
    return blended * (face >= 0)[..., None]


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, attributes, weights, faces, face):
        from relight.render.kernels import interpolate as kernels

        ctx.save_for_backward(attributes, weights, faces, face)
        out = torch.empty(face.numel(), attributes.shape[1], dtype=attributes.dtype)
        kernels.forward(*_arrays(attributes, faces, face, weights), torch.get_num_threads(), out.numpy())
        return out.view(*face.shape, attributes.shape[1])

    @staticmethod
    def backward(ctx, *gradients):
        from relight.render.kernels import interpolate as kernels
        from relight.render.kernels.triangles import pixels_by_face

        attributes, weights, faces, face = ctx.saved_tensors
        workers = torch.get_num_threads()
        arrays = _arrays(attributes, faces, face, weights)
        gradient = gradients[0].reshape(-1, attributes.shape[1]).contiguous().numpy()
        to_attributes = to_weights = None
        if ctx.needs_input_grad[1]:
            to_weights = torch.empty(weights.shape, dtype=weights.dtype)
            kernels.weights_backward(*arrays[:3], gradient, workers, to_weights.view(-1, 3).numpy())
        if ctx.needs_input_grad[0]:
            order, start = pixels_by_face(arrays[2], len(faces))
            corners = np.empty((len(faces), 3, attributes.shape[1]), gradient.dtype)
            kernels.corners_backward(order, start, arrays[3], gradient, workers, corners)
            to_attributes = torch.zeros(attributes.shape, dtype=attributes.dtype)
            kernels.sum_corners(arrays[1], start, corners, workers, to_attributes.numpy())
        return to_attributes, to_weights, None, None


def _arrays(attributes: Tensor, faces: Tensor, face: Tensor, weights: Tensor) -> tuple[np.ndarray, ...]:
    """As the kernels take them: contiguous, pixels flattened, indices int32."""
    return (
        attributes.detach().contiguous().numpy(),
        faces.to(torch.int32).contiguous().numpy(),
        face.to(torch.int32).reshape(-1).contiguous().numpy(),
        weights.detach().reshape(-1, 3).contiguous().numpy(),
    )


def blend_crossings(color: Tensor, near: Tensor, far: Tensor, edge: Tensor, vertices: Tensor, camera: Camera) -> Tensor:
    """Blend pixel pairs by where a silhouette edge crosses between their centres.

    color: (H, W, C).  near, far: (K,) flat indices of neighbouring pixels, the edge belonging to what `near` shows.
    edge: (K, 2) vertices.  An edge halfway between the centres changes nothing; one nearer to a centre means that the
    other pixel's surface covers up to half of that pixel.  Differentiable in colour, vertices and pose.
    """
    height, width, channels = color.shape
    if not len(near):
        return color
    ends = homogeneous_pixels(vertices.index_select(0, edge.flatten()), camera).view(-1, 2, 3)
    line = torch.linalg.cross(ends[:, 0], ends[:, 1])
    e_near, e_far = ((line * _centers(p, width)).sum(-1) for p in (near, far))
    share = (e_near / (e_near - e_far) - 0.5).to(color.dtype)
    flat = color.reshape(-1, channels)
    to_far = flat.index_select(0, near) - flat.index_select(0, far)
    receiver = torch.where(share > 0, far, near)
    return flat.index_add(0, receiver, to_far * share[:, None]).view(height, width, channels)


def _centers(pixels: Tensor, width: int) -> Tensor:
    """(K,) flat indices to (K, 3) homogeneous pixel centres, float64."""
    y = torch.div(pixels, width, rounding_mode="floor")
    return torch.stack([pixels - y * width + 0.5, y + 0.5, torch.ones_like(pixels)], -1).double()
