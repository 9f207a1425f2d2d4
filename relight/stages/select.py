"""Stage `select`: mark the Gaussians that are meant, for the stages that edit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from relight.fit.select import Prompt, Selector
from relight.render.splats import create_rasterizer
from relight.scene import Scene
from relight.stages.base import Job, Stage


@dataclass(frozen=True, kw_only=True)
class Select(Stage):
    """Mark what one click, box, Gaussian or text means, in the channel `selection`.

    `relight select` tries the same options on a run, with a picture, and prints the lines for a scene file.
    """

    needs: ClassVar[tuple[str, ...]] = ("views", "gaussians")
    gives: ClassVar[tuple[str, ...]] = ("gaussians",)
    version: ClassVar[int] = 2

    point: str | None = None
    """view,x,y: pixels from the corner of a photograph, whose name may go without folder or suffix."""
    box: str | None = None
    """view,x0,y0,x1,y1: around the thing that is meant."""
    like: int | None = None
    """Number of a Gaussian of it."""
    text: str | None = None
    """Words, where features are of a teacher that knows words (clip)."""
    by: Literal["object", "similarity"] = "object"
    """object: what hangs together and ends at borders.  similarity: whatever has features like those of the seed."""
    threshold: float = 0.6
    """similarity: least cosine.  -1 to 1."""
    whole: bool = False
    """similarity: all like things, also those that don't touch the seed."""
    step: int = 0
    """object: sizes larger than what is most likely meant (1: the next larger thing around it), or smaller (-1: a
    part of it).  -20 to 20."""
    add: Literal["replace", "union", "difference", "intersection"] = "replace"
    """With the selection that an earlier stage left."""

    def __post_init__(self) -> None:
        Prompt(self.point, self.box, self.like, self.text)
        self.check_ranges({"threshold": (-1, 1), "step": (-20, 20)})

    def run(self, scene: Scene, job: Job) -> Scene:
        """Raises MissingPartError without views, Gaussians or the features that are needed, RelightError for a prompt
        that hits nothing."""
        prompt = Prompt(self.point, self.box, self.like, self.text)
        selector = Selector(scene, create_rasterizer(job.backend, job.device))
        how = {name: getattr(self, name) for name in ("by", "threshold", "whole", "step")}
        share = selector.select(prompt, **how).share.float()
        assert scene.gaussians is not None
        before = scene.gaussians.channels.get("selection")
        if before is not None and self.add != "replace":
            other = {"union": share.maximum, "intersection": share.minimum}
            share = other[self.add](before) if self.add in other else before.minimum(1 - share)
        job.report(1, 1, {"selected": float((share > 0.5).sum()), "share": float((share > 0.5).float().mean())})
        channels = {**scene.gaussians.channels, "selection": share}
        return replace(scene, gaussians=replace(scene.gaussians, channels=channels))
