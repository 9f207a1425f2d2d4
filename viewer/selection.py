"""What one client has selected: by clicks, boxes and words, on one path, each a step that can be taken back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from relight.errors import RelightError
from relight.fit.select import Prompt, Selector
from relight.fit.words import may_know_words
from relight.geometry.camera import Camera
from relight.scene import Scene

from .document import box, pick, window

if TYPE_CHECKING:
    from .app import Shown

NEAR, OBJECT, TOUCHING, ALIKE = "what is near", "the whole thing", "what is alike and touches", "all that is alike"
"""What a click means."""
HOW = ("replace", "add", "subtract")
"""What becomes of what was selected before."""
STEPS_BACK = 20
LONGEST = 480
"""Pixels of the longer side of the pictures that tell things apart; a click waits for them."""
THINGS = "Finding out what belongs together"
NO_WORDS = "Words need features of a teacher that knows them: run the stage `features` with `teacher: clip`."


@dataclass(frozen=True)
class Click:
    """means: one of the above.  reach: scene radii, of NEAR.  step: of OBJECT, sizes larger than what is likely.
    threshold: least cosine of TOUCHING and ALIKE.
    """

    means: str = NEAR
    reach: float = 0.03
    step: int = 0
    threshold: float = 0.6


def selector_of(scene: Scene) -> Selector | None:
    """What knows the things of a scene; None where no photographs were taken of it, or there is nothing to see."""
    if scene.gaussians is None or len(scene.gaussians) == 0 or scene.views is None or len(scene.views) == 0:
        return None
    size = min(scene.views.max_size or LONGEST, LONGEST)
    return Selector(replace(scene, views=replace(scene.views, max_size=size)))


class Selection:
    """shown, camera: asked each time; None for nothing yet.  changed: called after every change.  say: to the client.

    Lives as long as the client looks at scenes with the same Gaussians: see `keep_for`.
    """

    def __init__(
        self,
        shown: Callable[[], Shown | None],
        camera: Callable[[], Camera | None],
        changed: Callable[[], None],
        say: Callable[[str], None],
    ):
        self._shown, self._camera, self._changed, self._say = shown, camera, changed, say
        self.mask: Tensor | None = None
        """(N,) bool; None for nothing."""
        self._before: list[Tensor | None] = []

    def keep_for(self, count: int) -> None:
        """Forget everything if it is of another number of Gaussians."""
        if any(m is not None and len(m) != count for m in (self.mask, *self._before)):
            self.forget()

    def forget(self) -> None:
        """As for a client that has just come."""
        self.mask, self._before = None, []

    def clear(self) -> None:
        """Select nothing."""
        self._set(None)

    def back(self) -> bool:
        """What was selected before; False if there was nothing before."""
        if not self._before:
            return False
        self.mask = self._before.pop()
        self._changed()
        return True

    def meanings(self) -> list[str]:
        """What a click can mean in this scene, the best first."""
        shown = self._shown()
        selector = None if shown is None else shown.selector
        if selector is None:
            return [NEAR]
        return [OBJECT, *([TOUCHING, ALIKE] if "feature" in selector.gaussians.channels else []), NEAR]

    def knows_words(self) -> bool:
        """Whether `words` can be asked, as far as can be told without loading anything."""
        shown = self._shown()
        if shown is None or shown.selector is None or "feature" not in shown.selector.gaussians.channels:
            return False
        basis = shown.selector.scene.feature_basis
        return basis is not None and may_know_words(basis)

    def prepare(self) -> None:
        """Find out what belongs together, so that the first click need not wait for it."""
        shown = self._shown()
        if shown is not None and shown.selector is not None:
            with self._alone(shown, THINGS):
                _ = shown.selector.hierarchies

    def click(self, x: float, y: float, click: Click, *, how: str = "replace") -> None:
        """Select what is at (x, y), 0 to 1.  Raises RelightError."""
        shown, camera = self._shown(), self._camera()
        if shown is None or shown.document is None or camera is None:
            return
        drawn, extent = shown.document.gaussians, shown.content.scene.frame.radius
        found = pick(drawn, camera, x, y, reach=click.reach * extent, extent=extent)
        if click.means in self.meanings() and click.means != NEAR and bool(found.any()):
            assert shown.selector is not None
            near, by = window(camera, x, y), "object" if click.means == OBJECT else "similarity"
            with self._alone(shown, THINGS):
                seeds = shown.selector.seeds_at(near, near.width / 2, near.height / 2, drawn)
                selection = shown.selector.select(
                    seeds, by=by, step=click.step, threshold=click.threshold, whole=click.means == ALIKE
                )
            found = selection.share > 0.5
        self._take(found, how)

    def drag(self, low: tuple[float, float], high: tuple[float, float], *, through: bool, how: str = "replace") -> None:
        """Select what is within a rectangle, corners 0 to 1."""
        shown, camera = self._shown(), self._camera()
        if shown is None or shown.document is None or camera is None:
            return
        extent = shown.content.scene.frame.radius
        self._take(box(shown.document.gaussians, camera, low, high, through=through, extent=extent), how)

    def words(self, text: str, *, how: str = "replace") -> None:
        """Select what they name.  Raises RelightError where features know no words, and for words that name nothing."""
        shown = self._shown()
        if not text.strip():
            raise RelightError("write what to select, for instance: a wooden chair")
        if shown is None or shown.selector is None or not self.knows_words():
            raise RelightError(NO_WORDS)
        with self._alone(shown, "Loading the teacher"):
            found = shown.selector.select(Prompt(text=text.strip())).share > 0.5
        if not bool(found.any()):
            raise RelightError(f"nothing here is more like {text.strip()!r} than like anything else")
        self._take(found, how)

    def _alone(self, shown: Shown, for_what: str) -> threading.Lock:
        """One client at a time; says so the first time, when what all others then have is worked out."""
        if for_what not in shown.asked:
            shown.asked.add(for_what)
            self._say(f"{for_what}: this once, it takes some seconds")
        return shown.asking

    def _take(self, found: Tensor, how: str) -> None:
        shown = self._shown()
        if shown is None or shown.document is None:
            return
        found = found & shown.document.visible
        before = torch.zeros_like(found) if self.mask is None else self.mask
        self._set({"replace": found, "add": before | found, "subtract": before & ~found}[how])

    def _set(self, mask: Tensor | None) -> None:
        self._before = [*self._before, self.mask][-STEPS_BACK:]
        self.mask = mask
        self._changed()
