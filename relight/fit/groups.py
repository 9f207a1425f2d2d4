"""Masks of photographs to things of a splat: which masks of different views are of the same thing.

No tracker and no training: two masks are of one thing if most views that could tell have a mask that holds both
(the view consensus of MaskClustering, Yan et al., CVPR 2024), where a mask is known by the Gaussians that show in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from relight.fit.uplift import SEEN, gathered
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.render.protocol import RasterOptions, SplatRasterizer

PLAIN = 0.2
"""Share, of the most pixels that a Gaussian covers in any view, from which on a view shows it.  What shines through
others a little is hidden."""
SHOWS = 0.3
"""Share of a thing's Gaussians that a view must show to be asked about it."""
HOLDS = 0.8
"""Share of what a view shows of a thing that a mask must hold, to hold the thing."""
CONSENSUS = 0.8
"""Share of the views asked that must hold two masks together (0.9 in the paper, whose masks don't overlap)."""
SPLIT = 0.5
"""Share of the views asked in which no mask holds it, from which on a mask is of several things."""
ROUNDS = (0.9, 0.7, 0.5, 0.3, 0.0)
"""Quantiles of how many views could tell of a pair, pairs with the most first."""


@dataclass(frozen=True)
class Masks:
    """Of one view.  held: (N, M) share, 0 to 1, of what is seen of each Gaussian that shows in each mask.
    seen: (N,) pixels it covers there.
    """

    held: Tensor
    seen: Tensor

    @staticmethod
    def of(
        rasterizer: SplatRasterizer, gaussians: Gaussians, camera: Camera, masks: Tensor, options: RasterOptions
    ) -> Masks:
        """masks: (M, H, W), 0 or 1, of the camera's size."""
        everything = torch.ones(1, camera.height, camera.width, device=masks.device)
        values = torch.cat([masks.float(), everything]).permute(1, 2, 0)
        weight = gathered(rasterizer, gaussians, camera, values, options)
        return Masks(weight[:, :-1] / weight[:, -1:].clamp_min(SEEN), weight[:, -1])


def grouped(views: Iterable[Masks], most: int) -> Tensor:
    """(N, G) share of each Gaussian in each of at most `most` groups, those of the most masks first; 0 to 1.

    A group is of masks of two views at least.  Masks may overlap: parts and wholes can both be groups.
    """
    views = list(views)
    of = torch.cat([torch.full((v.held.shape[1],), i) for i, v in enumerate(views)])
    if not len(of):
        return views[0].seen.new_zeros(len(views[0].seen), 0)
    seen, held = torch.stack([v.seen for v in views], 1), torch.cat([v.held for v in views], 1)
    visible = (seen > SEEN).float() * (seen > PLAIN * seen.amax(1, keepdim=True))
    inside = (held > 0.5) * visible[:, of]
    clusters = _undivided(inside, visible, of, [torch.tensor([i]) for i in range(len(of))])
    for quantile in ROUNDS:
        if not clusters:
            break
        together, asked = _consensus(inside, visible, of, clusters)
        pairs = asked[torch.triu(torch.ones_like(asked), 1).bool() & (asked > 0)]
        if not len(pairs):
            break
        # A single view's word is not enough.
        least = max(2.0, float(pairs.quantile(quantile)))
        clusters = _joined(clusters, (asked >= least) & (together >= CONSENSUS * asked))
    counted = [(len(of[c].unique()), c) for c in clusters]
    chosen = sorted((c for c in counted if c[0] >= 2), key=lambda c: -len(c[1]))[:most]
    # Views in which nothing of it is masked don't count: the mask may be missing, and not the thing.
    pixels = held * seen[:, of]
    shares = [pixels[:, c].sum(1) / seen[:, of[c].unique()].sum(1).clamp_min(SEEN) for _, c in chosen]
    return torch.stack(shares, 1).clamp(0, 1) if shares else inside.new_zeros(len(inside), 0)


def _holding(inside: Tensor, visible: Tensor, of: Tensor, clusters: list[Tensor]) -> tuple[Tensor, Tensor]:
    """(C, M) which masks hold which clusters, and (C, V) which views show enough of them."""
    members = torch.stack([inside[:, c].amax(1) for c in clusters])
    shown = members @ visible
    asked = shown >= SHOWS * members.sum(1, keepdim=True).clamp_min(1)
    holds = (members @ inside >= HOLDS * shown[:, of]) & asked[:, of]
    return holds, asked


def _undivided(inside: Tensor, visible: Tensor, of: Tensor, clusters: list[Tensor]) -> list[Tensor]:
    """Those that hold something, and that most views which show them have a mask for."""
    holds, asked = _holding(inside, visible, of, clusters)
    views = torch.stack([holds[:, of == v].any(1) for v in range(asked.shape[1])], 1)
    alone = 1 - views.sum(1) / asked.sum(1).clamp_min(1)
    return [c for c, share in zip(clusters, alone.tolist(), strict=True) if share < SPLIT and inside[:, c].any()]


def _consensus(inside: Tensor, visible: Tensor, of: Tensor, clusters: list[Tensor]) -> tuple[Tensor, Tensor]:
    """(C, C) views in which some mask holds both, and views that could tell."""
    holds, asked = _holding(inside, visible, of, clusters)
    shown = asked.float()
    together = torch.zeros(len(clusters), len(clusters))
    for view in range(asked.shape[1]):
        here = holds[:, of == view].float()
        together += (here @ here.T > 0).float()
    return together, shown @ shown.T


def _joined(clusters: list[Tensor], same: Tensor) -> list[Tensor]:
    """Clusters that are the same, directly or by way of others, as one."""
    label = torch.arange(len(clusters))
    while True:
        lower = torch.where(same, label[None], len(clusters)).amin(1).minimum(label)
        if torch.equal(lower, label):
            break
        label = lower
    return [torch.cat([clusters[i] for i in (label == k).nonzero()[:, 0].tolist()]) for k in label.unique().tolist()]
