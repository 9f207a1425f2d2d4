"""Gaussians as a graph of neighbours, and the part of it that belongs to a seed.

What stops a selection is the border of an object: where surfaces meet in a concave edge (Stein et al., Object
Partitioning using Local Convexity, CVPR 2014) *and* look or feel different.  Either alone is common within objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from relight.fit.uplift import SEEN

NEIGHBOURS = 12
FLAT = 0.15
"""Share of a difference that counts where surfaces don't meet in a concave edge."""
CONCAVE = 0.5
"""Of 2, where surfaces face each other, at which a difference counts in full; a right angle has 1.4."""
MOST = 8.0
"""Medians that a difference counts at most."""
WEAKEST = 1e-5
"""Of an edge: borders are never quite closed, so that everything has a place in the order."""


@dataclass(frozen=True)
class Surface:
    """What N Gaussians look like from where they are seen.

    position: (N, 3) world.  color: (N, 3) sRGB-encoded.  normal: (N, 3) world, outwards, not quite unit.
    feature: (N, F) or None.  seen: (N,) pixels covered in all pictures; with almost none a Gaussian is left out.
    """

    position: Tensor
    color: Tensor
    normal: Tensor
    feature: Tensor | None
    seen: Tensor


@dataclass(frozen=True)
class Graph:
    """count: N.  edges: (E, 2), each once.  weight: (E,), 0 to 1: how sure it is that both ends are of one thing."""

    count: int
    edges: Tensor
    weight: Tensor

    @property
    def degree(self) -> Tensor:
        """(N,) sum of the weights of its edges, float64."""
        total = torch.zeros(self.count, dtype=torch.float64)
        for end in (0, 1):
            total.index_add_(0, self.edges[:, end], self.weight.double())
        return total

    def matrix(self) -> Any:
        """(N, N) symmetric SciPy CSR matrix of the weights, float64."""
        from scipy.sparse import coo_matrix

        i, j = self.edges.T.numpy()
        w = self.weight.double().numpy()
        half = coo_matrix((w, (i, j)), shape=(self.count, self.count))
        return (half + half.T).tocsr()


def neighbours(position: Tensor, count: int = NEIGHBOURS) -> Tensor:
    """(E, 2) pairs of which one is among the `count` nearest of the other, each once, smaller index first."""
    from scipy.spatial import KDTree

    points = position.double().cpu().numpy()
    near = KDTree(points).query(points, k=min(count + 1, len(points)))[1].reshape(len(points), -1)
    pairs = torch.stack(
        [torch.arange(len(points)).repeat_interleave(near.shape[1]), torch.from_numpy(near).flatten()], 1
    )
    pairs = pairs.sort(1).values
    return torch.unique(pairs[pairs[:, 0] < pairs[:, 1]], dim=0)


def build(surface: Surface, *, count: int = NEIGHBOURS) -> Graph:
    """The graph of what is seen.  Differences are measured by their median, so nothing depends on units."""
    shown = (surface.seen > SEEN).nonzero().squeeze(1)
    pairs = neighbours(surface.position[shown], count)
    position, color, normal = (t[shown] for t in (surface.position, surface.color, surface.normal))
    i, j = pairs.T
    apart = position[j] - position[i]
    normal = normalize(normal, dim=1)
    meeting = -((normal[j] - normal[i]) * normalize(apart, dim=1)).sum(1)
    look = _measured((color[j] - color[i]).norm(dim=1))
    if surface.feature is not None:
        unit = normalize(surface.feature[shown].float(), dim=1)
        look = look + _measured(1 - (unit[i] * unit[j]).sum(1))
    distance = apart.norm(dim=1)
    evidence = look * (FLAT + (meeting / CONCAVE).clamp(0, 2)) + 0.5 * (_measured(distance) - 3).clamp_min(0)
    # What few pixels show is known badly, and lies between things: it must not join them.
    share = (surface.seen[shown] / (0.5 * surface.seen[shown].median())).clamp_max(1).sqrt()
    return Graph(len(surface.seen), shown[pairs], ((-evidence).exp() * share[i] * share[j]).clamp_min(WEAKEST))


def _measured(difference: Tensor) -> Tensor:
    """In medians, and at most `MOST`."""
    return (difference / difference.median().clamp_min(1e-9)).clamp_max(MOST)


class Walks:
    """Walks along edges that end at each step with probability `far`, and where `against` (N,) is above zero.

    The linear system (D - (1 - far) W) x = far seeds is factored once, which takes seconds for a million Gaussians;
    then each answer takes milliseconds.
    """

    def __init__(self, graph: Graph, far: float, against: Tensor | None = None):
        from scipy.sparse import diags
        from scipy.sparse.linalg import splu

        degree = graph.degree
        self.count, self.far = graph.count, far
        self.inside = (degree > 0).nonzero().squeeze(1).numpy()
        if len(self.inside):
            d = degree.numpy()[self.inside]
            ground = 0 if against is None else 10 * d * against.double().numpy()[self.inside]
            system = diags(d + ground) - (1 - far) * graph.matrix()[self.inside][:, self.inside]
            symmetric = {"SymmetricMode": True}
            self.factors = splu(
                system.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=symmetric
            )  # fmt: skip

    def reach(self, seeds: Tensor) -> Tensor:
        """(N,) how strongly each Gaussian belongs to `seeds` (N,), float64: personalised PageRank over degree."""
        out = torch.zeros(self.count, dtype=torch.float64)
        if len(self.inside):
            found = self.factors.solve(self.far * seeds.double().numpy()[self.inside])
            out[self.inside] = torch.from_numpy(found).clamp_min(0)
        return out


def sweep(graph: Graph, order: Tensor, *, detail: float, most: float = 0.95) -> tuple[Tensor, float]:
    """(N,) the Gaussians of the smallest good cut among those that take the first k of an order, and its conductance.

    order: (N,) larger is earlier (Andersen, Chung and Lang, Local Graph Partitioning using PageRank Vectors, FOCS
    2006).  detail: how many times the least conductance a cut may have; all but another object is as good a cut as
    that object, so the least alone would not do.  most: share of all edges' weight that may be inside.
    """
    rank = torch.empty(graph.count, dtype=torch.long)
    sequence = order.argsort(descending=True, stable=True)
    rank[sequence] = torch.arange(graph.count)
    volume = graph.degree[sequence].cumsum(0)
    first, last = rank[graph.edges].sort(1).values.T
    change = torch.zeros(graph.count, dtype=torch.float64)
    change.index_add_(0, first, graph.weight.double())
    change.index_add_(0, last, -graph.weight.double())
    cut, total = change.cumsum(0), float(volume[-1])
    conductance = cut / torch.minimum(volume, total - volume).clamp_min(1e-12)
    allowed = (order[sequence] > 0) & (volume < most * total) & (volume > 0)
    if not bool(allowed.any()):
        return order > 0, 0.0
    conductance = torch.where(allowed, conductance, torch.inf)
    good = conductance <= detail * conductance.min()
    start = int(good.int().argmax())
    worse = (~good[start:]).nonzero()
    end = start + int(worse[0]) if len(worse) else len(good)
    best = start + int(conductance[start:end].argmin())
    return rank <= best, float(conductance[best])


def connected(graph: Graph, inside: Tensor, seeds: Tensor) -> Tensor:
    """(N,) the parts of `inside` (N,) bool that touch a seed (N,) bool through neighbours that are inside too."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    both = inside[graph.edges].all(1)
    i, j = graph.edges[both].T.numpy()
    links = coo_matrix(([1] * len(i), (i, j)), shape=(graph.count, graph.count))
    label = torch.from_numpy(connected_components(links, directed=False)[1]).long()
    touched = torch.zeros(graph.count, dtype=torch.bool)
    touched[label[seeds & inside]] = True
    return inside & touched[label]


def nearest(points: Tensor, to: Tensor) -> Tensor:
    """(M,) numbers of the nearest of (N, 3) `points` to each of (M, 3)."""
    from scipy.spatial import KDTree

    return torch.from_numpy(KDTree(points.double().cpu().numpy()).query(to.double().cpu().numpy())[1])
