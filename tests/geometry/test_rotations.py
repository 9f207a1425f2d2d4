"""Rotations, rigid motions and spherical harmonics obey their laws."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import sph_harm_y

from relight.geometry import sh
from relight.geometry.gaussians import Gaussians
from relight.geometry.transforms import (
    quaternion_from_rotation,
    quaternion_multiply,
    rigid_from_twist,
    rotation_from_quaternion,
)

numbers = st.floats(-1, 1).filter(lambda x: abs(x) > 1e-3)
quaternions = st.tuples(numbers, numbers, numbers, numbers).map(lambda q: torch.tensor(q, dtype=torch.float64))


@given(quaternions, quaternions)
@settings(max_examples=50, deadline=None)
def test_quaternions_are_a_group(a, b):
    ra, rb = rotation_from_quaternion(a), rotation_from_quaternion(b)
    assert torch.allclose(ra @ ra.mT, torch.eye(3).double(), atol=1e-12) and torch.linalg.det(ra) > 0
    product = quaternion_multiply(torch.nn.functional.normalize(a, dim=0), torch.nn.functional.normalize(b, dim=0))
    assert torch.allclose(rotation_from_quaternion(product), ra @ rb, atol=1e-12)
    assert torch.allclose(rotation_from_quaternion(quaternion_from_rotation(ra)), ra, atol=1e-12)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("angle", [0.0, 1e-8, 3.0, np.pi - 1e-9, np.pi])
def test_quaternion_from_half_turns(axis, angle):
    twist = torch.zeros(6, dtype=torch.float64)
    twist[3 + axis] = angle
    rotation = rigid_from_twist(twist)[:3, :3]
    assert torch.allclose(rotation_from_quaternion(quaternion_from_rotation(rotation)), rotation, atol=1e-12)


def test_twist_is_the_matrix_exponential():
    twist = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    v, w = twist[:3], twist[3:]
    generator = torch.zeros(4, 4, dtype=torch.float64)
    generator[:3, :3] = torch.tensor([[0, -w[2], w[1]], [w[2], 0, -w[0]], [-w[1], w[0], 0]])
    generator[:3, 3] = v
    assert torch.allclose(rigid_from_twist(twist), torch.linalg.matrix_exp(generator), atol=1e-12)
    assert torch.autograd.gradcheck(rigid_from_twist, twist.requires_grad_())
    zero = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rigid_from_twist, zero)


def directions(n: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(n, 3, generator=torch.Generator().manual_seed(1)).double(), dim=1)


def test_harmonics_span_those_of_scipy():
    """The same functions up to sign and order within a band, which is a matter of convention."""
    d = directions(400)
    basis = sh.basis(d, 3).numpy()
    theta, phi = np.arccos(d[:, 2].numpy()), np.arctan2(d[:, 1].numpy(), d[:, 0].numpy())
    for band in range(4):
        ours = basis[:, band**2 : (band + 1) ** 2]
        for m in range(-band, band + 1):
            y = sph_harm_y(band, abs(m), theta, phi)
            real = y.real if m == 0 else np.sqrt(2) * (y.real if m > 0 else y.imag)
            match = np.abs(ours - real[:, None]).max(0).min(), np.abs(ours + real[:, None]).max(0).min()
            assert min(match) < 1e-6, (band, m)


def test_turned_splat_looks_the_same_from_turned_eyes():
    g = torch.Generator().manual_seed(2)
    n = 20
    gaussians = Gaussians(
        means=torch.randn(n, 3, generator=g),
        quats_wxyz=torch.randn(n, 4, generator=g),
        log_scales=torch.randn(n, 3, generator=g),
        logit_opacity=torch.randn(n, generator=g),
        sh=torch.randn(n, 16, 3, generator=g),
        channels={"normal": torch.nn.functional.normalize(torch.randn(n, 3, generator=g), dim=1)},
    )
    rotation = rotation_from_quaternion(torch.randn(4, generator=g))
    translation, scale = torch.tensor([0.3, -1.0, 2.0]), 1.7
    moved = gaussians.transformed(rotation, translation, scale)
    eye = torch.tensor([3.0, 1.0, -2.0])
    new_eye = scale * rotation @ eye + translation
    before, after = (sh.radiance(x.sh, x.means, e, 3) for x, e in ((gaussians, eye), (moved, new_eye)))
    assert torch.allclose(before, after, atol=1e-4)
    assert torch.allclose(
        moved.covariances, scale**2 * rotation @ gaussians.covariances @ rotation.mT, rtol=1e-3, atol=1e-4
    )
    assert torch.allclose(moved.channels["normal"], gaussians.channels["normal"] @ rotation.mT, atol=1e-5)
    assert torch.allclose(moved.normals(new_eye), gaussians.normals(eye) @ rotation.mT, atol=1e-4)
