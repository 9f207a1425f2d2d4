"""From a click, a box, a Gaussian or words to a share of each Gaussian that is meant."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath

import torch
from torch import Tensor
from torch.nn.functional import normalize

from relight.errors import MissingPartError, RelightError
from relight.fit.feature_space import likeness
from relight.fit.graph import Graph, Surface, build, connected, evident, nearest, seen_surface
from relight.fit.hierarchy import Hierarchy, merged
from relight.fit.teachers import TextExtractor
from relight.fit.uplift import SEEN, gathered
from relight.fit.words import speaker
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.plugins import did_you_mean
from relight.render.protocol import RasterOptions, SplatRasterizer
from relight.render.splats import create_rasterizer
from relight.scene import Scene
from relight.views import View

PATCH = 3
"""Side, in pixels, of what a click means."""
LARGER = 1.25
"""Times, of what a thing covers, from which on another is larger."""
FAINT = 1e-3
"""Share of the strongest seed below which a Gaussian is none."""
NEGATIVES = ("object", "things", "stuff", "texture")
"""What words must beat, as in LERF (Kerr et al., ICCV 2023)."""
SHARP = 10.0
"""Of that comparison (LERF)."""


@dataclass(frozen=True)
class Prompt:
    """What is meant: exactly one of point, box, like and text.

    point: "view,x,y", pixels of that photograph from its corner.  box: "view,x0,y0,x1,y1".  like: number of a Gaussian.
    text: words for a teacher that knows text.
    """

    point: str | None = None
    box: str | None = None
    like: int | None = None
    text: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("point", "box", "like", "text") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected one of point, box, like and text (got {', '.join(given) or 'none'})")


@dataclass(frozen=True)
class Selection:
    """share: (N,) 0 to 1, above 1/2 where a Gaussian is meant.  seeds: (N,) of what the prompt hit, summing to 1."""

    share: Tensor
    seeds: Tensor


class Selector:
    """Answers prompts about one scene; what doesn't depend on the prompt is worked out once, when it is needed."""

    def __init__(self, scene: Scene, rasterizer: SplatRasterizer | None = None):
        """Raises MissingPartError without views or Gaussians."""
        if scene.gaussians is None or len(scene.gaussians) == 0:
            raise MissingPartError("select: the scene has no splat")
        if scene.views is None or len(scene.views) == 0:
            raise MissingPartError("select: the scene has no views, which say what Gaussians look like")
        self.scene, self.gaussians, self.views = scene, scene.gaussians.detach(), scene.views
        self.rasterizer = rasterizer or create_rasterizer(device=scene.gaussians.means.device)
        self.options = RasterOptions.for_extent(scene.frame.radius)
        self._speaker: TextExtractor | None = None

    @cached_property
    def _graphs(self) -> tuple[Graph, ...]:
        return build(self._surface)

    @cached_property
    def hierarchies(self) -> tuple[Hierarchy, ...]:
        """Of different opinions of what a border is."""
        size = evident(self._surface.seen)
        return tuple(merged(graph, size) for graph in self._graphs)

    @cached_property
    def _surface(self) -> Surface:
        views = self.views.train if len(self.views.train) else self.views
        return seen_surface(self.rasterizer, self.gaussians, views, self.options)

    def select(
        self,
        prompt: Prompt | Tensor,
        *,
        by: str = "object",
        threshold: float = 0.6,
        whole: bool = False,
        step: int = 0,
    ) -> Selection:
        """prompt: or (N,) seeds, which sum to 1, as `seeds_at` finds them.
        by: "object", what hangs together and ends at borders; "similarity", by features alone, then `threshold` is the
        least cosine.  whole: of similar things, those that don't touch the seeds count too.  step: of objects, so many
        sizes larger than what is most likely meant, or smaller.

        Raises RelightError for a prompt that hits nothing, MissingPartError for similarity without features.
        """
        if isinstance(prompt, Prompt) and prompt.text is not None:
            return self._named(prompt.text)
        seeds, outside = self._seeds(prompt)
        if by == "similarity":
            return self._similar(seeds, threshold, whole)
        shown = torch.where(self._surface.seen > SEEN, seeds, 0.0)
        nodes = [(i, int(node)) for i, tree in enumerate(self.hierarchies) for node in tree.around(shown)]
        if not nodes:
            return Selection(self._softened(seeds > FAINT * seeds.max()), seeds)
        inside = torch.stack([self.hierarchies[i].inside(node) for i, node in nodes]).float()
        persistence = torch.tensor([float(self.hierarchies[i].persistence[node]) for i, node in nodes])
        of = torch.tensor([i for i, _ in nodes])
        size = self.hierarchies[0].size
        if outside is None:
            score = _agreed(inside * size, inside, of) * persistence
        else:
            score = inside @ outside[:, 0] / (outside[:, 0].sum() + inside @ outside[:, 1])
        chosen = _stepped(score, inside @ size, step)
        return Selection(self._softened(inside[chosen] > 0), seeds)

    def seeds_at(self, camera: Camera, x: float, y: float, drawn: Gaussians | None = None) -> Tensor:
        """(N,) what shows at pixel (x, y) of any camera.  Raises RelightError where nothing does.

        drawn: the scene's Gaussians as that picture has them, some of them hidden, say; None for as they are.
        """
        return self._hit(camera, _patch(camera, x, y), f"{x:g},{y:g}", drawn)

    def _softened(self, inside: Tensor) -> Tensor:
        """(N,) shares of (N,) bool: above 2/3 inside, and less the more neighbours are outside.  Hidden Gaussians,
        which no picture shows, go with the nearest that one does."""
        graph = self._graphs[0]
        ends, weight = graph.edges, graph.weight / (1 + graph.cost)
        total = torch.zeros(2, len(inside))
        for one, other in (ends.T, ends.T.flip(0)):
            total.index_add_(1, one, torch.stack([weight * inside[other], weight]))
        share = (2 * inside + total[0] / total[1].clamp_min(1e-9)) / 3
        seen = self._surface.seen > SEEN
        if not bool(seen.all()):
            known, means = seen.nonzero().squeeze(1), self.gaussians.means.cpu()
            share[~seen] = share[known[nearest(means[known], means[~seen])]]
        return share

    def _similar(self, seeds: Tensor, threshold: float, whole: bool) -> Selection:
        if "feature" not in self.gaussians.channels:
            raise MissingPartError("select: similarity needs the channel `feature`; run the stage features first")
        share = torch.sigmoid(SHARP * (likeness(self.gaussians.channels["feature"], seeds) - threshold))
        if not whole:
            share = share * connected(self._graphs[0], share > 0.5, seeds > FAINT * seeds.max())
        return Selection(share, seeds)

    def _named(self, text: str) -> Selection:
        """By LERF's relevancy, the least probable win of the words over a negative, in shares of the most there is, as
        in LangSplat (Qin et al., CVPR 2024)."""
        basis, feature = self.scene.feature_basis, self.gaussians.channels.get("feature")
        if basis is None or feature is None:
            raise MissingPartError("select: text needs features; run the stage features with a teacher that knows text")
        if self._speaker is None:
            self._speaker = speaker(basis)
        words = normalize(self._speaker.text([text, *NEGATIVES]), dim=1)
        cosine = normalize(basis.widened(feature), dim=1) @ words.T
        wins = torch.sigmoid(SHARP * (cosine[:, :1] - cosine[:, 1:])).amin(1) - 0.5
        share = (wins / wins.amax().clamp_min(1e-6)).clamp(0, 1)
        return Selection(share, torch.nn.functional.one_hot(share.argmax(), len(share)).float())

    def _seeds(self, prompt: Prompt | Tensor) -> tuple[Tensor, Tensor | None]:
        """(N,) what the prompt hits, summing to 1, and of a box, (N, 2) pixels in it and outside."""
        if isinstance(prompt, Tensor):
            return prompt, None
        n = len(self.gaussians)
        if prompt.like is not None:
            if not 0 <= prompt.like < n:
                raise RelightError(f"like: {prompt.like}: expected the number of a Gaussian, 0 to {n - 1}")
            return torch.nn.functional.one_hot(torch.tensor(prompt.like), n).float(), None
        if prompt.point is not None:
            camera, (x, y) = self._place("point", prompt.point, 2)
            return self._hit(camera, _patch(camera, x, y), f"point: {prompt.point}"), None
        assert prompt.box is not None
        camera, (x0, y0, x1, y1) = self._place("box", prompt.box, 4)
        x0, x1, y0, y1 = *sorted((x0, x1)), *sorted((y0, y1))
        margin = 0.25
        core = _rectangle(camera, x0 + margin * (x1 - x0), y0 + margin * (y1 - y0), x1 - margin * (x1 - x0),
                          y1 - margin * (y1 - y0))  # fmt: skip
        inside = _rectangle(camera, x0, y0, x1, y1)
        both = torch.stack([inside, 1 - inside], 2)
        shows = gathered(self.rasterizer, self.gaussians, camera, both, self.options)
        return self._hit(camera, core, f"box: {prompt.box}"), shows

    def _hit(self, camera: Camera, where: Tensor, what: str, drawn: Gaussians | None = None) -> Tensor:
        drawn = self.gaussians if drawn is None else drawn
        weight = gathered(self.rasterizer, drawn, camera, where[..., None], self.options)[:, 0]
        if float(weight.sum()) < 0.05:
            raise RelightError(f"{what}: nothing of the splat is there; choose a pixel that shows the subject")
        weight = torch.where(weight > 0.02 * weight.max(), weight, 0.0)
        return weight / weight.sum()

    def _place(self, kind: str, text: str, count: int) -> tuple[Camera, list[float]]:
        """Camera and numbers of "view,n,n..."."""
        name, *numbers = text.rsplit(",", count)
        form = {2: "view,x,y", 4: "view,x0,y0,x1,y1"}[count]
        try:
            values = [float(n) for n in numbers]
        except ValueError:
            values = []
        if len(values) != count:
            raise RelightError(f"{kind}: {text!r}: expected {form}, for instance {self.views[0].name},100,80"
                               + (",160,140" if count == 4 else ""))  # fmt: skip
        view = find_view(self.scene, name)
        camera = view.camera_at(self.views.max_size)
        for value, size in zip(values, (camera.width, camera.height) * 2, strict=False):
            if not 0 <= value <= size:
                raise RelightError(f"{kind}: {text!r}: {value:g} is outside {view.name}, which is {camera.width} x "
                                   f"{camera.height} pixels")  # fmt: skip
        return camera.to(self.gaussians.means.device), values


def find_view(scene: Scene, name: str) -> View:
    """A view by its name, or by the name without folder, suffix or both if that is enough.  Raises RelightError."""
    assert scene.views is not None
    same = [v for v in scene.views if v.name == name]
    same = same or [v for v in scene.views if name in (v.name.rsplit(".", 1)[0], (p := PurePath(v.name)).name, p.stem)]
    if len(same) == 1:
        return same[0]
    if same:
        raise RelightError(f"view {name!r}: {', '.join(v.name for v in same)} match; write one of them")
    names = [v.name for v in scene.views]
    raise RelightError(f"view {name!r}: no such view{did_you_mean(name, names, list_all=len(names) < 20)}")


def _agreed(sized: Tensor, inside: Tensor, of: Tensor) -> Tensor:
    """(R,) of regions, (R, N) 0 or 1 and times size: the square of how well each is found in all of the hierarchies,
    which `of` (R,) numbers."""
    both = sized @ inside.T
    each = both.diagonal()
    overlap = both / (each[:, None] + each - both).clamp_min(1e-9)
    return torch.stack([overlap[:, of == i].amax(1) for i in of.unique()]).mean(0).square()


def _stepped(score: Tensor, size: Tensor, step: int) -> int:
    """The best of (R,) regions, or the best of those that are so many sizes, each `LARGER` or more, away from it."""
    chosen = int(score.argmax())
    for _ in range(abs(step)):
        farther = size > LARGER * size[chosen] if step > 0 else size < size[chosen] / LARGER
        if not bool(farther.any()):
            break
        near = size[farther].min() if step > 0 else size[farther].max()
        level = farther & (size <= LARGER * near) & (size >= near / LARGER)
        chosen = int(torch.where(level, score, -torch.inf).argmax())
    return chosen


def _patch(camera: Camera, x: float, y: float) -> Tensor:
    """(H, W) ones at the pixel and around it."""
    half = PATCH / 2
    column, row = min(int(x), camera.width - 1) + 0.5, min(int(y), camera.height - 1) + 0.5
    return _rectangle(camera, column - half, row - half, column + half, row + half)


def _rectangle(camera: Camera, x0: float, y0: float, x1: float, y1: float) -> Tensor:
    """(H, W) ones where a pixel's centre is inside."""
    x, y = camera.pixel_grid().unbind(-1)
    return ((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)).float()
