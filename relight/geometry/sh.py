"""Real spherical harmonics to degree 3, in the order and signs of the 3DGS file format.

Coefficient order within a band is m = -l .. l; the constants carry the Condon-Shortley phase as in Sloan,
"Efficient Spherical Harmonic Evaluation" (JCGT 2013), and Kerbl et al., 3D Gaussian Splatting (2023).
"""

from __future__ import annotations

import torch
from torch import Tensor

from relight.vectors import unit

C0 = 0.28209479177387814
C1 = 0.4886025119029199
C2 = (1.0925484305920792, -1.0925484305920792, 0.31539156525252005, -1.0925484305920792, 0.5462742152960396)
C3 = (
    -0.5900435899266435, 2.890611442640554, -0.4570457994644658, 0.3731763325901154,
    -0.4570457994644658, 1.445305721320277, -0.5900435899266435,
)  # fmt: skip


def count(degree: int) -> int:
    """Number of coefficients of all bands up to `degree`."""
    return (degree + 1) ** 2


def basis(directions: Tensor, degree: int) -> Tensor:
    """(..., 3) unit directions to (..., (degree + 1)^2) basis values; degree 0 to 3."""
    if not 0 <= degree <= 3:
        raise ValueError(f"sh.basis: degree must be 0 to 3, got {degree}")
    x, y, z = directions.unbind(-1)
    out = [torch.full_like(x, C0)]
    if degree >= 1:
        out += [-C1 * y, C1 * z, -C1 * x]
    if degree >= 2:
        xx, yy, zz = x * x, y * y, z * z
        out += [C2[0] * x * y, C2[1] * y * z, C2[2] * (2 * zz - xx - yy), C2[3] * x * z, C2[4] * (xx - yy)]
        if degree >= 3:
            out += [
                C3[0] * y * (3 * xx - yy),
                C3[1] * x * y * z,
                C3[2] * y * (4 * zz - xx - yy),
                C3[3] * z * (2 * zz - 3 * xx - 3 * yy),
                C3[4] * x * (4 * zz - xx - yy),
                C3[5] * z * (xx - yy),
                C3[6] * x * (xx - 3 * yy),
            ]
    return torch.stack(out, -1)


def evaluate(coefficients: Tensor, directions: Tensor, degree: int) -> Tensor:
    """(..., K, C) coefficients and (..., 3) unit directions to (..., C); bands above `degree` are ignored."""
    values = basis(directions, degree)
    return torch.einsum("...k,...kc->...c", values, coefficients[..., : values.shape[-1], :])


def radiance(sh: Tensor, means: Tensor, eye: Tensor, degree: int) -> Tensor:
    """Captured colour of each Gaussian seen from `eye`: (N, 3) = max(SH(direction) + 0.5, 0).

    sh: (N, K, 3).  means: (N, 3) world.  eye: (3,) world.  Differentiable in all three.
    The +0.5 offset and the clamp are part of the 3DGS file format.
    """
    directions = unit(means - eye)
    return (evaluate(sh, directions, degree) + 0.5).clamp_min(0.0)


def from_constant(rgb: Tensor) -> Tensor:
    """(..., 3) colour to the band-0 coefficient (..., 3) that `radiance` shows as this colour."""
    return (rgb - 0.5) / C0


def to_constant(coefficient: Tensor) -> Tensor:
    """Inverse of `from_constant`: (..., 3) mean colour over all directions of (..., 3) coefficients of band 0."""
    return coefficient * C0 + 0.5


def rotation_matrix(rotation: Tensor, degree: int) -> Tensor:
    """(3, 3) rotation R to (K, K) matrix M with basis(R d) @ (M c) = basis(d) @ c for every c and d.

    Solved per band from sampled directions rather than from Wigner recursions: exact to rounding for these low
    degrees, and free of sign conventions because it uses `basis` itself.
    """
    matrix = torch.zeros(count(degree), count(degree), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    d = unit(torch.randn(64, 3, generator=generator, dtype=torch.float64))
    before, after = basis(d, degree), basis(d @ rotation.detach().cpu().double().mT, degree)
    for band in range(degree + 1):
        s = slice(band * band, (band + 1) ** 2)
        matrix[s, s] = torch.linalg.lstsq(after[:, s], before[:, s]).solution
    return matrix.to(rotation)


def rotate(coefficients: Tensor, rotation: Tensor) -> Tensor:
    """Rotate a (..., K, C) signal by the (3, 3) rotation: the new signal at R d equals the old one at d."""
    degree = int(coefficients.shape[-2] ** 0.5) - 1
    return torch.einsum("jk,...kc->...jc", rotation_matrix(rotation, degree), coefficients)
