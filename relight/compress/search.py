"""How far a splat is compressed: what to try next, and which of what was tried is the best."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from relight.compress.score import Score

FEWEST = 64
"""Gaussians, below which nothing is tried."""
DEEPER, LEFT = 4, 0.8
"""Prunings that may follow a polishing, each polished itself, and the share of the Gaussians that one leaves."""
NARROW = 1.3
"""Of `Target.drop`, what a trial loses at most that polishing is expected to mend."""
Kind: TypeAlias = Literal["prune", "degree", "between", "polish"]


@dataclass(frozen=True)
class Target:
    """One of them is set.  drop: decibels, at most.  size: bytes, at most.  count: of Gaussians, exactly."""

    drop: float | None = None
    size: int | None = None
    count: int | None = None

    def met(self, rung: Rung) -> bool:
        """Whether a trial keeps what was asked for."""
        if self.drop is not None:
            return rung.packed.drop <= self.drop
        return rung.size <= self.size if self.size is not None else rung.count == self.count

    def better(self, one: Rung, two: Rung) -> bool:
        """Whether `one` is worth more than `two`, both of which meet the target."""
        return one.size < two.size if self.drop is not None else one.packed.drop < two.packed.drop

    def best(self, rungs: Sequence[Rung]) -> Rung | None:
        """Of those that meet the target; None if none does."""
        found = None
        for rung in rungs:
            if self.met(rung) and (found is None or self.better(rung, found)):
                found = rung
        return found

    def narrow_miss(self, rungs: Sequence[Rung]) -> Rung | None:
        """The smallest of the trials that lose a little too much and are smaller than the best; None without one."""
        best, drop = self.best(rungs), self.drop or 0.0
        missed = [r for r in rungs if r.kind != "polish" and drop < r.packed.drop <= NARROW * drop]
        missed = [r for r in missed if best is None or r.size < best.size]
        return min(missed, key=lambda r: r.size, default=None)


@dataclass(frozen=True)
class Task:
    """A fit.  start: index of the trial whose result it begins with; None for the splat as it was."""

    kind: Kind
    count: int
    degree: int
    start: int | None


@dataclass(frozen=True)
class Rung:
    """A trial.  fitted: what the Gaussians look like; packed: the same from the file, which has `size` bytes."""

    index: int
    kind: Kind
    count: int
    degree: int
    fitted: Score
    packed: Score
    size: int
    recipe: dict[str, int]

    @staticmethod
    def from_json(data: dict) -> Rung:
        """Of `dataclasses.asdict`."""
        return Rung(**{**data, "fitted": Score(**data["fitted"]), "packed": Score(**data["packed"])})


def next_task(
    rungs: Sequence[Rung], target: Target, *, visible: int, degree: int, keep: float, between: int, lower_degree: bool,
    polish: int,
) -> Task | None:  # fmt: skip
    """What to try after `rungs`; None when nothing is left to try.

    visible: Gaussians that any camera sees, the most that are kept.  degree: of the splat's SH.  keep: share that a
    pruning leaves.  between: trials between the best and the next smaller one.  polish: trials of the
    best, until one keeps to the target; what is polished is pruned further while it does.  A narrow miss is polished
    before.
    """
    pruned = [r for r in rungs if r.kind == "prune"]
    if (task := _pruning(pruned, target, visible, degree, keep)) is not None:
        return task
    best = target.best(rungs)
    if best is not None:
        others = [r for r in rungs if r.kind == "degree"]
        if lower_degree and best.degree and (not others or others[-1] is best):
            return Task("degree", best.count, best.degree - 1, best.index)
        if target.count is None and sum(r.kind == "between" for r in rungs) < between:
            smaller = [r.count for r in rungs if r.count < best.count]
            middle = round(math.sqrt(best.count * max(smaller, default=max(1, round(keep * best.count)))))
            if FEWEST <= middle < best.count:
                return Task("between", middle, best.degree, best.index)
    polished = [r for r in rungs if r.kind == "polish"]
    if best is None or best.kind != "polish":
        for rung, most in ((target.narrow_miss(rungs), min(polish, 1)), (best, polish)):
            if rung is not None and polishings(rungs, rung) < most:
                return Task("polish", rung.count, rung.degree, rung.index)
        return None
    # It mends what was lost, so that more can go.
    goes_on = target.drop is not None and polished[-1] is best and len(polished) < polish + DEEPER
    fewer = round(LEFT * best.count)
    return Task("polish", fewer, best.degree, best.index) if goes_on and fewer >= FEWEST else None


def polishings(rungs: Sequence[Rung], of: Rung) -> int:
    """How often a trial was polished."""
    return sum(r.kind == "polish" and (r.count, r.degree) == (of.count, of.degree) for r in rungs)


def _pruning(pruned: Sequence[Rung], target: Target, visible: int, degree: int, keep: float) -> Task | None:
    first = round(keep * visible) if target.count is None else max(target.count, round(keep * visible))
    if not pruned:
        return Task("prune", min(first, visible), degree, None)
    last = pruned[-1]
    if target.count is not None:
        if last.count <= target.count:
            return None
        return Task("prune", max(target.count, round(keep * last.count)), degree, last.index)
    if target.drop is not None and len(pruned) == 1 and not target.met(last) and last.count < visible:
        return Task("prune", visible, degree, None)
    if last.count == visible and len(pruned) > 1:
        return None
    smaller = round(keep * last.count)
    if target.drop is not None:
        goes_on = target.met(last) and target.best(pruned) is last
    else:
        goes_on = not target.met(last) or target.best(pruned) is last
    return Task("prune", smaller, degree, last.index) if goes_on and smaller >= FEWEST else None


UNITS = {"": 1, "k": 1000, "m": 1000_000, "g": 1000_000_000}


def amount(text: str | int, unit: str = "") -> int:
    """A number as people write it: 200k, 5MB, 1.5 MB.  unit: that may follow.  Raises ValueError."""
    match = re.fullmatch(rf"\s*([0-9.]+)\s*([kmg]?)(?:{unit})?\s*", str(text).lower())
    try:
        value = round(float(match[1]) * UNITS[match[2]]) if match else 0
    except ValueError:
        value = 0
    if value < 1:
        raise ValueError(f"expected a number such as {'200k' if not unit else '5MB'} (got {text!r})")
    return value
