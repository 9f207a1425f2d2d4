"""The values that a file leaves a splat, so that a fit can take them into account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relight.geometry.gaussians import Gaussians

MOST_LEVELS = 1 << 14
"""Numbers that take more values than this are taken for free."""


@dataclass(frozen=True)
class Lattice:
    """levels: ascending values by attribute, of every column or of all.  palette: (K, R, 3) SH beyond the first, and
    labels: (N,) which of them each Gaussian has; None where they are numbers like the others.

    Found by looking at what was read, so that it is right for any format.
    """

    levels: Mapping[str, tuple[Tensor, ...]]
    palette: Tensor | None = None
    labels: Tensor | None = None

    @staticmethod
    def of(decoded: Gaussians) -> Lattice:
        """Of a splat that was read from a file."""
        levels = {"means": _columns(decoded.means)}
        levels["log_scales"] = (decoded.log_scales.unique(),)
        levels["opacities"] = (decoded.opacities.unique(),)
        levels["sh_constant"] = (decoded.sh[:, 0].unique(),)
        rotation = _upright(decoded.quats_wxyz)
        levels["quats_wxyz"] = (rotation[rotation.abs() < rotation.amax(1, keepdim=True)].unique(),)
        for name, value in decoded.channels.items():
            if name != "normal" and value.is_floating_point():
                levels[f"channels.{name}"] = (value.unique(),)
        palette = labels = None
        if decoded.sh_degree:
            palette, labels = torch.unique(decoded.sh[:, 1:], dim=0, return_inverse=True)
            if len(palette) > len(decoded) // 2:
                levels["sh_rest"], palette, labels = (decoded.sh[:, 1:].unique(),), None, None
        few = {name: rows for name, rows in levels.items() if all(1 < len(r) <= MOST_LEVELS for r in rows)}
        return Lattice(few, palette, labels)

    def snapped(self, splat: Gaussians) -> Gaussians:
        """Every number at its nearest level; gradients pass as if nothing had happened (the straight-through estimator
        of Bengio, Leonard and Courville, 2013).  SH of a palette are left alone: fit the palette itself."""
        channels = {name: self._snap(f"channels.{name}", value) for name, value in splat.channels.items()}
        opacity = self._snap("opacities", torch.sigmoid(splat.logit_opacity))
        means = splat.means
        if "means" in self.levels:
            columns = zip(means.unbind(1), self.levels["means"], strict=True)
            means = torch.stack([_nearest(x, levels) for x, levels in columns], 1)
        sh = [self._snap("sh_constant", splat.sh[:, :1])]
        if splat.sh_degree:
            sh.append(self._snap("sh_rest", splat.sh[:, 1:]))
        return replace(
            splat, means=means, log_scales=self._snap("log_scales", splat.log_scales),
            quats_wxyz=self._rotation(splat.quats_wxyz), channels=channels, sh=torch.cat(sh, 1),
            logit_opacity=torch.logit(opacity, eps=1e-6) if "opacities" in self.levels else splat.logit_opacity,
        )  # fmt: skip

    def _snap(self, name: str, value: Tensor) -> Tensor:
        return _nearest(value, self.levels[name][0]) if name in self.levels else value

    def _rotation(self, quats: Tensor) -> Tensor:
        """The three smaller components at their levels, the largest from them."""
        if "quats_wxyz" not in self.levels:
            return quats
        quats = _upright(quats)
        largest = quats.detach().argmax(1, keepdim=True)
        near = _nearest(quats.detach(), self.levels["quats_wxyz"][0]).scatter(1, largest, 0.0)
        rest = (1 - near.square().sum(1, keepdim=True)).clamp_min(0).sqrt()
        return quats + (near.scatter(1, largest, rest) - quats).detach()


def _upright(quats: Tensor) -> Tensor:
    """Unit, of the sign with a positive largest component."""
    quats = torch.nn.functional.normalize(quats, dim=1)
    largest = torch.take_along_dim(quats, quats.detach().abs().argmax(1, keepdim=True), 1)
    return quats * torch.where(largest.detach() < 0, -1.0, 1.0)


def _columns(values: Tensor) -> tuple[Tensor, ...]:
    return tuple(column.unique() for column in values.unbind(1))


def _nearest(values: Tensor, levels: Tensor) -> Tensor:
    between = (levels[1:] + levels[:-1]) / 2
    return values + (levels[torch.searchsorted(between, values.detach().contiguous())] - values).detach()
