"""Tables that are worked out once, and that torch.compile does not look into."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, update_wrapper

from torch import Tensor


def constant(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """`function`, called once; compiled graphs hold its result as a constant."""
    cached = lru_cache(maxsize=1)(function)

    def remembered() -> Tensor:
        return cached()

    # Graphs tell constants apart by the names of functions.
    remembered.__code__ = remembered.__code__.replace(co_name=function.__name__)
    # What torch.compiler.assume_constant_result sets, which would import the compiler and take a second.
    remembered._dynamo_marked_constant = True  # type: ignore[attr-defined]
    update_wrapper(remembered, function)
    return remembered
