"""What is behind something that is taken away: the surface that it stood on goes on."""

from __future__ import annotations

import torch
from torch import Tensor

from relight.geometry.gaussians import Gaussians

CELL = 4.0
"""Side of what is copied in one piece, in distances between Gaussians."""
NEAR = 3.0
"""Of the same: how near to what is gone the border is, and how far from its plane."""
FULL = 0.4
"""Share of the usual opacity in a cell from which on it is no hole."""
FEWEST = 12
"""Gaussians that make a border."""


def patched(gaussians: Gaussians, gone: Tensor, *, seed: int = 0) -> Gaussians:
    """Without those of (N,) bool `gone`; where they stood on something flat, it is continued below them.

    The plane is that of the border, the Gaussians beside those that are gone.  Its cells inside the border that hold
    little are filled with copies of what one of the nearest full cells holds.  New Gaussians come last.
    """
    from scipy.spatial import Delaunay, KDTree, QhullError

    left = gaussians[~gone]
    solid = left.opacities > 0.02
    points = left.means[solid].double()
    if len(points) < FEWEST:
        return left
    tree = KDTree(points.numpy())
    spacing = float(torch.from_numpy(tree.query(points.numpy(), k=4)[0][:, 3]).median())
    away = KDTree(gaussians.means[gone].double().numpy()).query(points.numpy())[0]
    border = points[torch.from_numpy(away) < NEAR * spacing]
    plane = _plane(border, NEAR * spacing)
    if plane is None:
        return left
    middle, axes = plane
    flat = (left.means.double() - middle) @ axes
    ring = (border - middle) @ axes
    ring = ring[ring[:, 2].abs() < NEAR * spacing][:, :2]
    side = CELL * spacing
    try:
        hull = Delaunay(ring.numpy())
    except (QhullError, ValueError):
        return left
    low, high = ring.amin(0) - 2 * side, ring.amax(0) + 2 * side
    count = ((high - low) / side).ceil().long()
    on = (flat[:, 2].abs() < NEAR * spacing) & (flat[:, :2] > low).all(1) & (flat[:, :2] < high).all(1)
    cell = ((flat[:, :2] - low) / side).long().clamp_min(0).minimum(count - 1)
    number = torch.where(on, cell[:, 0] * count[1] + cell[:, 1], -1)
    mass = torch.zeros(int(count.prod()), dtype=torch.float64)
    mass.index_add_(0, number[on], left.opacities[on].double())
    grid = torch.cartesian_prod(torch.arange(int(count[0])), torch.arange(int(count[1])))
    centers = low + (grid + 0.5) * side
    full = mass > FULL * mass[mass > 0].median() if bool(on.any()) else mass > 0
    inside = torch.from_numpy(hull.find_simplex(centers.numpy()) >= 0)
    holes, donors = (inside & ~full).nonzero().squeeze(1), full.nonzero().squeeze(1)
    if not len(holes) or not len(donors):
        return left
    near = KDTree(centers[donors].numpy()).query(centers[holes].numpy(), k=min(6, len(donors)))[1]
    generator = torch.Generator().manual_seed(seed)
    options = torch.from_numpy(near).reshape(len(holes), -1)
    taken = options.gather(1, torch.randint(options.shape[1], (len(holes), 1), generator=generator)).squeeze(1)
    rows, shift = [], []
    for hole, donor in zip(holes.tolist(), donors[taken].tolist(), strict=True):
        members = (number == donor).nonzero().squeeze(1)
        rows.append(members)
        shift.append((axes[:, :2] @ (centers[hole] - centers[donor])).expand(len(members), 3))
    copies = left[torch.cat(rows)].tensors()
    copies["means"] = copies["means"] + torch.cat(shift).to(copies["means"])
    if "channels.selection" in copies:
        copies["channels.selection"] = torch.zeros_like(copies["channels.selection"])
    return joined(left, Gaussians.from_tensors(copies, **left.flags))


def joined(one: Gaussians, other: Gaussians) -> Gaussians:
    """Both, of the same kind."""
    more = other.tensors()
    return Gaussians.from_tensors({k: torch.cat([v, more[k]]) for k, v in one.tensors().items()}, **one.flags)


def _plane(points: Tensor, thickness: float) -> tuple[Tensor, Tensor] | None:
    """A point (3,) and axes (3, 3), columns, the last of them normal, of the plane most of (M, 3) are near; or None."""
    kept, middle, axes = points, points.new_zeros(3), torch.eye(3).to(points)
    for _ in range(6):
        if len(kept) < FEWEST:
            return None
        middle = kept.median(0).values
        axes = torch.linalg.eigh((kept - middle).T @ (kept - middle)).eigenvectors.flip(1)
        height = ((points - middle) @ axes[:, 2]).abs()
        kept = points[height < max(thickness, float(height.median()))]
    return middle, axes
