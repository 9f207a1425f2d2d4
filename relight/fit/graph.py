"""Gaussians as a graph of neighbours: how much of a border is between any two of them.

The border of a thing is where surfaces meet in a concave edge (Stein et al., Object Partitioning using Local Convexity,
CVPR 2014) *and* look or feel different.  Either alone is common within things.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from relight.fit.uplift import SEEN, Seen, uplift
from relight.geometry.camera import evenly
from relight.geometry.gaussians import Gaussians
from relight.render.protocol import RasterOptions, SplatRasterizer
from relight.render.splats import render
from relight.views import Views

NEIGHBOURS = 12
FLAT = 0.15
"""Share of a difference that counts where surfaces don't meet in a concave edge."""
CONCAVE = 0.5
"""Of 2, where surfaces face each other, at which a difference counts in full; a right angle has 1.4."""
MOST = 8.0
"""Medians that a difference counts at most."""
PICTURES = 24
"""At most, that tell what Gaussians look like."""


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
    """count: N.  edges: (E, 2), each once.  cost: (E,), 0 or more: how much of a border is between both ends.
    weight: (E,), above 0: how far that counts.
    """

    count: int
    edges: Tensor
    cost: Tensor
    weight: Tensor


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


def build(surface: Surface, *, count: int = NEIGHBOURS) -> tuple[Graph, ...]:
    """Graphs of what is seen, which differ in `cost`: opinions that agree on borders of things, and less on others.

    Differences are measured by their median, so nothing depends on units.
    """
    shown = (surface.seen > SEEN).nonzero().squeeze(1)
    pairs = neighbours(surface.position[shown], count)
    position, color, normal = (t[shown] for t in (surface.position, surface.color, surface.normal))
    known = evident(surface.seen)[shown]
    i, j = pairs.T
    towards = normalize(position[j] - position[i], dim=1)
    meeting, normal = [], normalize(normal, dim=1)
    for _ in range(3):
        meeting.append((-((normal[j] - normal[i]) * towards).sum(1) / CONCAVE).clamp(0, 2))
        summed = normal * known[:, None]
        summed = summed.index_add(0, i, normal[j] * known[j, None]).index_add(0, j, normal[i] * known[i, None])
        normal = normalize(summed, dim=1)
    exact, smooth, smoother = meeting
    look = _measured((color[j] - color[i]).norm(dim=1))
    if surface.feature is not None:
        unit = normalize(surface.feature[shown].float(), dim=1)
        feel = _measured(1 - (unit[i] * unit[j]).sum(1))
        looks, concave, flat = (feel, feel + 0.3 * look), (exact, smooth, (exact + smooth) / 2), FLAT
    else:
        # Colour alone has patterns, so that a difference says less, and none says nothing.
        looks, concave, flat = (look + 0.5, look + 1, look + 2), (smooth, smoother, (exact + smooth) / 2), FLAT / 3
    # What few pixels show is known badly: it says little of borders.
    weight = known[pairs].amin(1).clamp_min(SEEN)
    return tuple(Graph(len(surface.seen), shown[pairs], a * (flat + b), weight) for a in looks for b in concave)


def evident(seen: Tensor) -> Tensor:
    """(N,) pixels covered, of (N,), as far as more of them say more."""
    return seen.clamp_max(float(seen[seen > SEEN].median()) if bool((seen > SEEN).any()) else SEEN)


def _measured(difference: Tensor) -> Tensor:
    """In medians, and at most `MOST`."""
    return (difference / difference.median().clamp_min(1e-9)).clamp_max(MOST)


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


def seen_surface(rasterizer: SplatRasterizer, gaussians: Gaussians, views: Views, options: RasterOptions) -> Surface:
    """Colours, normals and positions of the surface that each Gaussian shows, by uplifting pictures of them; features
    are the channel `feature`, if there is one."""
    gaussians, device = gaussians.detach(), gaussians.means.device
    pictures = []
    with torch.no_grad():
        for index in evenly(len(views), PICTURES):
            camera = views.camera(index).to(device)
            image = render(rasterizer, gaussians, camera, options=options, normals=True)
            assert image.normals is not None
            # The look is rendered, not photographed: it is there when the photographs are not.
            color = image.color / image.alpha.clamp_min(1e-3)[..., None]
            values = torch.cat([color, image.normals, camera.unproject(image.depth)], 2)
            pictures.append(Seen(camera, values, (image.alpha > 0.5).float()))
    values, seen = (t.cpu() for t in uplift(rasterizer, gaussians, pictures, options=options))
    feature = gaussians.channels.get("feature")
    return Surface(values[:, 6:], values[:, :3], values[:, 3:6], None if feature is None else feature.cpu(), seen)
