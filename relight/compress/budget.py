"""How much error, or how many bytes, a file may take, and the recipe that stays within."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relight.compress.codec import Recipe, Table
from relight.compress.score import Judge, Score
from relight.compress.search import Rung, Target, polishings
from relight.geometry import sh

QUANTISED = 0.1
"""Decibels that writing may cost where no other target says."""
BOLD = (1.8, 1.0)
"""Error that polishing is begun with, of what may be added: one after the other, until one keeps to the target."""
SAFE_SIZE = 0.98
"""Of `max_size`, what is planned with for the last polishing."""
SAFETY = 0.8
"""Share of the error that is left to writing by `max_psnr_drop` which is planned with, as the plan is an estimate."""


@dataclass
class Budget:
    """table: what bits are worth, once that was measured."""

    target: Target
    judge: Judge
    table: Table | None = None

    @property
    def before(self) -> float:
        """Mean squared error of the splat as it was against photographs."""
        return 10 ** (-(self.judge.before.psnr if self.judge.photos is not None else self.judge.assumed) / 10)

    @property
    def allowed(self) -> float:
        """Mean squared error that compression may add."""
        return (10 ** ((self.target.drop or QUANTISED) / 10) - 1) * self.before

    def recipe(self, count: int, degree: int, fitted: Score, slack: float) -> Recipe:
        """Of a splat that was fitted.  slack: factor on what is allowed."""
        if self.table is None:
            return {}
        rest = sh.count(degree) - 1
        if self.target.size is not None:
            # A polished file that was too large by a little is tried once more, a little smaller.
            return self.table.within_bytes(self.target.size * min(SAFE_SIZE * slack, 1.0), count, rest)
        taken = (10 ** (fitted.drop / 10) - 1) * self.before if self.target.drop is not None else 0.0
        left = max(SAFETY * (self.allowed - taken), 0.1 * self.allowed)
        return self.table.within_error(slack * left, count, rest)

    def polished(self, rungs: Sequence[Rung], index: int) -> Recipe:
        """Of a trial that is to be polished: more error than fits at first, as some is mended; then no more.  Of one
        that missed its target, or was polished, what it has."""
        start = rungs[index]
        if self.table is None or start.kind == "polish" or not self.target.met(start):
            return start.recipe
        bold = BOLD[min(polishings(rungs, start), len(BOLD) - 1)]
        return self.recipe(start.count, start.degree, start.fitted, bold)
