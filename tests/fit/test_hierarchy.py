"""The tree of regions: against average linkage one merge after the other, and on parts that are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from relight.fit.graph import Graph, neighbours
from relight.fit.hierarchy import Hierarchy, merged


@pytest.fixture
def graph() -> Graph:
    g = torch.Generator().manual_seed(0)
    edges = neighbours(torch.randn(40, 3, generator=g), 4)
    return Graph(40, edges, torch.rand(len(edges), generator=g), 0.1 + torch.rand(len(edges), generator=g))


def merged_slowly(graph: Graph) -> set[frozenset[int]]:
    """The regions of average linkage, the best pair at a time."""
    regions = [frozenset([i]) for i in range(graph.count)]
    found: set[frozenset[int]] = set()
    while True:
        of = {leaf: i for i, region in enumerate(regions) for leaf in region}
        border: dict[tuple[int, int], Tensor] = {}
        for (i, j), cost, weight in zip(graph.edges.tolist(), graph.cost.double(), graph.weight.double(), strict=True):
            pair = (min(of[i], of[j]), max(of[i], of[j]))
            if pair[0] != pair[1]:
                border[pair] = border.get(pair, torch.zeros(2).double()) + torch.stack([cost * weight, weight])
        if not border:
            return found
        one, other = min(border, key=lambda pair: float(border[pair][0] / border[pair][1]))
        found.add(regions[one] | regions[other])
        regions = [r for i, r in enumerate(regions) if i not in (one, other)] + [regions[one] | regions[other]]


def test_merging_many_at_once_is_merging_one_after_the_other(graph):
    tree = merged(graph, torch.ones(40))
    found = {frozenset(tree.inside(40 + m).nonzero().squeeze(1).tolist()) for m in range(len(tree.children))}
    assert found == merged_slowly(graph)
    assert len(tree.rounds) < 39
    above = tree.parent[40:-1] - 40
    assert (tree.height[above] >= tree.height[:-1]).all()
    torch.testing.assert_close(tree.total[-1], torch.tensor(40.0).double())


def clusters() -> tuple[Hierarchy, Tensor]:
    """Four lines of ten: two are near each other, and one hangs on nothing."""
    of = torch.arange(40) // 10
    chain = torch.stack([torch.arange(39), torch.arange(1, 40)], 1)
    chain = chain[chain[:, 1] != 30]
    cost = torch.where(of[chain[:, 0]] == of[chain[:, 1]], 0.1 + 0.01 * (chain[:, 0] % 7), 5.0)
    cost[chain[:, 1] == 10] = 1.0
    return merged(Graph(40, chain, cost, torch.ones(len(chain))), torch.ones(40), least=0.15), of


def test_what_persists_is_a_thing():
    tree, of = clusters()
    for leaf in (3, 15, 25, 35):
        around = tree.around(torch.nn.functional.one_hot(torch.tensor(leaf), 40).float())
        best = int(around[tree.persistence[around].argmax()])
        both = (of == 0) | (of == 1)
        assert torch.equal(tree.inside(best), both if leaf < 20 else of == of[leaf])
    smallest = tree.around(torch.nn.functional.one_hot(torch.tensor(3), 40).float())[0]
    assert torch.equal(tree.inside(int(smallest)), of == 0)


def test_a_partition_has_every_cluster_once():
    tree, of = clusters()
    part = tree.partition()
    assert (part >= 0).all() and part.max() == 3
    for i in range(4):
        assert len(part[of == i].unique()) == 1


def test_a_graph_without_edges_is_a_tree_too():
    tree = merged(Graph(5, torch.zeros(0, 2, dtype=torch.long), torch.zeros(0), torch.zeros(0)), torch.ones(5))
    assert len(tree.children) == 4 and tree.inside(8).all()
