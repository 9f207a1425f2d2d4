"""A tree of regions: what belongs together at every scale, and the scales that last.

Regions that meet are merged, the pair between which there is least of a border first, so each region is a node of a
binary tree.  A region that is a thing is complete long before it is merged with another: its border is much stronger
than any inside it.  That difference is its persistence (Edelsbrunner, Letscher and Zomorodian, Topological Persistence
and Simplification, 2002), and clusters that persist are chosen as in HDBSCAN (Campello, Moulavi and Sander,
Density-Based Clustering Based on Hierarchical Density Estimates, PAKDD 2013).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from relight.fit.graph import Graph

LEAST = 0.002
"""Share of all size below which a region is small: noise of its neighbours."""
MOST = 0.9
"""Share of all size that a thing has at most."""


@dataclass(frozen=True)
class Hierarchy:
    """Nodes 0 to N - 1 are the graph's, and the rest regions, in the order in which they came about.

    children: (M, 2) of region N + m.  height: (M,) mean cost of the border between the two; never less than inside
    them.  size: (N,) of the graph's nodes.  rounds: how many regions there were after each round; those of one do not
    depend on each other.  least: share of all size below which a region is small.
    """

    children: Tensor
    height: Tensor
    size: Tensor
    rounds: tuple[int, ...]
    least: float = LEAST

    @property
    def leaves(self) -> int:
        return len(self.size)

    @cached_property
    def parent(self) -> Tensor:
        """(N + M,); -1 for the last, which holds all."""
        out = torch.full((self.leaves + len(self.children),), -1)
        out[self.children] = torch.arange(self.leaves, len(out))[:, None]
        return out

    @cached_property
    def total(self) -> Tensor:
        """(N + M,) size of all nodes, float64."""
        return self.summed(self.size.double())

    def summed(self, values: Tensor) -> Tensor:
        """(N + M, ...) sums over the leaves in each node, of (N, ...) values."""
        out = torch.cat([values, values.new_zeros(len(self.children), *values.shape[1:])])
        for start, stop in self._steps():
            out[self.leaves + start : self.leaves + stop] = out[self.children[start:stop]].sum(1)
        return out

    def inherited(self, values: Tensor) -> Tensor:
        """(N,) for each leaf, the first value of (N + M,) that isn't -1 among its nodes from the root down."""
        out = values.clone()
        for start, stop in reversed(self._steps()):
            above = out[self.leaves + start : self.leaves + stop, None].expand(-1, 2)
            below = self.children[start:stop]
            out[below] = torch.where(above >= 0, above, out[below])
        return out[: self.leaves]

    @cached_property
    def _spans(self) -> tuple[Tensor, Tensor]:
        """(N + M,) first place and number of the leaves of each node, in an order in which they stand together."""
        count = self.summed(torch.ones(self.leaves, dtype=torch.long))
        first = torch.zeros_like(count)
        for start, stop in reversed(self._steps()):
            left, right = self.children[start:stop].T
            first[left] = first[self.leaves + start : self.leaves + stop].clone()
            first[right] = first[left] + count[left]
        return first, count

    def inside(self, node: int) -> Tensor:
        """(N,) bool: the leaves of a node."""
        first, count = self._spans
        return (first[: self.leaves] >= first[node]) & (first[: self.leaves] < first[node] + count[node])

    @cached_property
    def great(self) -> Tensor:
        """(N + M,) whether a node is not small."""
        return self.total >= self.least * float(self.size.double().sum())

    @cached_property
    def things(self) -> Tensor:
        """Regions worth a choice: those that end by merging with one that isn't small either."""
        below = self.children[self.great[self.children].all(1)].flatten()
        return below[self.total[below] < MOST * float(self.size.double().sum())].sort().values

    @cached_property
    def persistence(self) -> Tensor:
        """(N + M,) from the cost of the strongest border inside, between regions that aren't small, to that of the
        weakest around; 0 of all but `things`."""
        born = torch.zeros(len(self.parent), dtype=torch.float64)
        for start, stop in self._steps():
            two = self.great[self.children[start:stop]].all(1)
            inside = born[self.children[start:stop]].amax(1)
            born[self.leaves + start : self.leaves + stop] = torch.where(two, self.height[start:stop], inside)
        out = torch.zeros_like(born)
        ends = self.height[self.parent[self.things] - self.leaves]
        out[self.things] = ends - born[self.things]
        return out

    def _steps(self) -> list[tuple[int, int]]:
        return list(zip((0, *self.rounds), self.rounds, strict=False))

    def around(self, weight: Tensor) -> Tensor:
        """`things` that hold more than half of (N,) weight, from small to large: each is within the next."""
        held = self.summed(weight.double())[self.things]
        return self.things[held > 0.5 * float(weight.sum())]

    def partition(self) -> Tensor:
        """(N,) numbers from 0: disjoint `things` that hold together best, by HDBSCAN's excess of mass over logarithms
        of height; -1 of what is in none."""
        events, top = self._fallen()
        best: dict[int, float] = {}
        within: dict[int, list[int]] = {}
        chosen = torch.full((len(self.parent),), -1)
        for thing in self.things.tolist():  # from the smallest to the largest
            inner = within.get(thing, [])
            together, apart = float(events[thing]), sum(best[i] for i in inner)
            best[thing] = max(together, apart)
            if not inner or together >= apart:
                chosen[thing] = thing
            within.setdefault(int(top[self.parent[thing]]), []).append(thing)
        return torch.unique(self.inherited(chosen), return_inverse=True)[1] - int((self.inherited(chosen) < 0).any())

    def _fallen(self) -> tuple[Tensor, Tensor]:
        """(N + M,) sum of size x how long it stayed, of each of `things`; and (N + M,) the smallest thing around each
        region that isn't small."""
        top = torch.full((len(self.parent),), -1)
        top[self.things] = self.things
        for start, stop in reversed(self._steps()):
            below = self.children[start:stop]
            above = top[self.leaves + start : self.leaves + stop, None].expand(-1, 2)
            top[below] = torch.where(top[below] < 0, above, top[below])
        log = torch.cat([self.height.new_zeros(self.leaves), self.height]).clamp_min(1e-9).log()
        # A part leaves when it merges with something great, or as a small one with the rest.
        region = torch.arange(self.leaves, len(self.parent)).repeat_interleave(2)
        part = self.children.flatten()
        splits = self.great[self.children].all(1).repeat_interleave(2)
        leaves = self.great[region] & (~self.great[part] | splits) & (top[region] >= 0)
        region, part = region[leaves], part[leaves]
        end = log[self.parent[top[region]]]
        out = torch.zeros(len(self.parent), dtype=torch.float64)
        return out.index_add_(0, top[region], self.total[part] * (end - log[region])), top


def merged(graph: Graph, size: Tensor, *, least: float = LEAST) -> Hierarchy:
    """Average linkage: the cost of a border is the mean of its edges', weighted by their `weight`.

    size: (N,).  All pairs of regions that are each other's best are merged at once, which for average linkage is the
    same tree as one after the other.
    """
    n = graph.count
    ends, weight = graph.edges, graph.weight.double()
    cost = graph.cost.double() * weight
    node = torch.arange(n)  # of the regions that there are now
    inner = torch.zeros(n, dtype=torch.float64)  # height of each of them
    none = torch.zeros(0, 2, dtype=torch.long)
    children, heights, rounds, made = [], [], [], 0
    while len(ends):
        mean, pair = cost / weight, torch.arange(len(ends))
        best = torch.full((len(node),), torch.inf, dtype=torch.float64)
        best.scatter_reduce_(0, ends.flatten(), mean.repeat_interleave(2), "amin")
        # Of equals the first, so that two regions mean the same edge.
        first = torch.full((len(node),), len(ends))
        is_best = mean[:, None] == best[ends]
        first.scatter_reduce_(0, ends[is_best], pair[:, None].expand(-1, 2)[is_best], "amin")
        both = (first[ends] == pair[:, None]).all(1)
        kept, gone = ends[both].T
        height = torch.stack([mean[both], inner[kept], inner[gone]]).amax(0)
        children.append(node[torch.stack([kept, gone], 1)])
        heights.append(height)
        node[kept] = n + made + torch.arange(len(kept))
        inner[kept] = height
        made += len(kept)
        rounds.append(made)
        now = torch.arange(len(node))
        now[gone] = kept
        ends = now[ends].sort(1).values
        outside = ends[:, 0] != ends[:, 1]
        ends, cost, weight = ends[outside], cost[outside], weight[outside]
        there, ends = torch.unique(ends, return_inverse=True)
        node, inner = node[there], inner[there]
        code, same = torch.unique(ends[:, 0] * max(len(there), 1) + ends[:, 1], return_inverse=True)
        cost, weight = (torch.zeros(len(code), dtype=torch.float64).index_add_(0, same, t) for t in (cost, weight))
        ends = torch.stack([code // max(len(there), 1), code % max(len(there), 1)], 1)
    alone = torch.ones(n + made, dtype=torch.bool)
    alone[torch.cat([none, *children]).flatten()] = False
    roots = alone.nonzero().squeeze(1)
    # What doesn't hang together at all, as if the strongest of all borders were between.
    beyond = max((float(h.max()) for h in heights), default=1.0)
    while len(roots) > 1:
        half = len(roots) // 2
        children.append(roots[: 2 * half].view(half, 2))
        heights.append(torch.full((half,), beyond, dtype=torch.float64))
        roots = torch.cat([n + made + torch.arange(half), roots[2 * half :]])
        made += half
        rounds.append(made)
    return Hierarchy(torch.cat([none, *children]), torch.cat([cost.new_zeros(0), *heights]), size, tuple(rounds), least)
