"""Do samples follow the density they claim?"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def sphere_chi_square(
    directions: Tensor,
    pdf: Callable[[Tensor], Tensor],
    *,
    total: int | None = None,
    rows: int = 20,
    columns: int = 40,
    inside: int = 12,
) -> float:
    """p-value of a chi-square test of (N, 3) unit directions against a density over the sphere, 1/sr.

    pdf: (M, 3) to (M,).  total: samples drawn, if some were thrown away.  Cells are equal in cosine (about z) and
    angle; the density is integrated in each by `inside` squared midpoints.  Cells that expect fewer than 5 are pooled.
    A tiny value means that they differ; a correct sampler falls below 1e-4 once in ten thousand seeds.
    """
    from scipy.stats import chi2

    total = total or len(directions)
    z, phi = directions[:, 2].clamp(-1, 1), torch.atan2(directions[:, 1], directions[:, 0])
    row = ((z + 1) / 2 * rows).long().clamp(0, rows - 1)
    column = ((phi / (2 * math.pi)) % 1 * columns).long().clamp(0, columns - 1)
    found = torch.bincount(row * columns + column, minlength=rows * columns).double()
    fine_z = (torch.arange(rows * inside, dtype=torch.float64) + 0.5) / (rows * inside) * 2 - 1
    fine_phi = (torch.arange(columns * inside, dtype=torch.float64) + 0.5) / (columns * inside) * 2 * math.pi
    zz, pp = torch.meshgrid(fine_z, fine_phi, indexing="ij")
    r = (1 - zz * zz).clamp_min(0).sqrt()
    points = torch.stack([r * pp.cos(), r * pp.sin(), zz], -1).reshape(-1, 3).to(directions)
    density = pdf(points).double().reshape(rows, inside, columns, inside).mean((1, 3)).reshape(-1)
    expected = density * (4 * math.pi / (rows * columns)) * total
    # What was thrown away is a cell of its own.
    expected = torch.cat([expected, (total - expected.sum()).clamp_min(0)[None]])
    found = torch.cat([found, torch.tensor([float(total - len(directions))], dtype=torch.float64)])
    small = expected < 5
    pooled_expected = torch.cat([expected[~small], expected[small].sum()[None]])
    pooled_found = torch.cat([found[~small], found[small].sum()[None]])
    keep = pooled_expected > 1e-9
    if bool((pooled_found[~keep] > 0).any()):
        return 0.0
    difference = (pooled_found - pooled_expected)[keep]
    statistic = float((difference**2 / pooled_expected[keep]).sum())
    return float(chi2.sf(statistic, max(int(keep.sum()) - 1, 1)))


def sphere_integral(function: Callable[[Tensor], Tensor], count: int = 512) -> Tensor:
    """Integral over the sphere of (M, 3) directions to (M, ...), by midpoints: count x 2 count."""
    z = (torch.arange(count, dtype=torch.float64) + 0.5) / count * 2 - 1
    phi = (torch.arange(2 * count, dtype=torch.float64) + 0.5) / (2 * count) * 2 * math.pi
    zz, pp = torch.meshgrid(z, phi, indexing="ij")
    r = (1 - zz * zz).sqrt()
    values = function(torch.stack([r * pp.cos(), r * pp.sin(), zz], -1).reshape(-1, 3))
    return values.mean(0) * 4 * math.pi
