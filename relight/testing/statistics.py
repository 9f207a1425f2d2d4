"""Do samples follow the density they claim?  Do two renderers agree but for noise?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Estimate:
    """A picture by Monte Carlo.  mean, variance: (H, W, C), of `count` independent estimates of each pixel; the
    variance is that of one of them."""

    mean: Tensor
    variance: Tensor
    count: int

    @staticmethod
    def of(samples: Tensor) -> Estimate:
        """(N, H, W, C) independent pictures."""
        samples = samples.double()
        return Estimate(samples.mean(0), samples.var(0), len(samples))

    def tiles(self, size: int) -> Estimate:
        """Means over size x size pixels: less noise, so that smaller differences show."""

        def pooled(t: Tensor) -> Tensor:
            return torch.nn.functional.avg_pool2d(t.permute(2, 0, 1)[None], size)[0].permute(1, 2, 0)

        return Estimate(pooled(self.mean), pooled(self.variance) / size**2, self.count)


def same_expectation(a: Estimate, b: Estimate, *, few: bool = False, rounding: float = 1e-5) -> float:
    """p-value of the hypothesis that two renderers' pictures differ by noise only: Welch's t-test at every pixel and
    channel, the smallest p corrected for their number by Šidák's rule (as Jung, Hanika and Dachsbacher, Detecting Bias
    in Monte Carlo Renderers using Welch's t-test, JCGT 9(2), 2020).

    few: pixels may be means of few estimates that all missed, or all hit, what makes them noisy: both pictures are
    given the larger of their variances.  Without, use `tiles`.  rounding: relative error that is nobody's fault.
    A correct pair of renderers falls below 1e-3 once in a thousand seeds.
    """
    from scipy.stats import t as student

    mean_a, mean_b = a.mean.double(), b.mean.double()
    variance_a, variance_b = a.variance.double(), b.variance.double()
    if few:
        variance_a = variance_b = torch.maximum(variance_a, variance_b)
    error_a, error_b = variance_a / a.count, variance_b / b.count
    exact = (rounding * torch.maximum(mean_a.abs(), mean_b.abs())) ** 2
    square = error_a + error_b + exact
    difference = (mean_a - mean_b).abs()
    statistic = torch.where(difference > 0, difference / square.sqrt().clamp_min(1e-300), 0.0)
    freedom = square**2 / (error_a**2 / (a.count - 1) + error_b**2 / (b.count - 1)).clamp_min(1e-300)
    p = 2 * student.sf(statistic.numpy(), freedom.clamp(1, 1e9).numpy())
    return float(-math.expm1(p.size * math.log1p(-min(float(p.min()), 1 - 1e-16))))
