"""Every error a user can cause.  The CLI prints these as one line (or a list) and exits with code 2."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping

MALFORMED = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError,
    struct.error,
)  # fmt: skip
"""What Python and torch raise, sooner or later, when a file is not what its reader took it for: a number too large for
a float, a list where a table should be.  A reader that goes through a whole document makes each of them a DataError.
"""


def outside(options: object, ranges: Mapping[str, tuple[float, float]]) -> list[str]:
    """A line for every option that is not within its range, as a scene file's mistakes are told.

    ranges: (lowest, highest) by attribute of `options`, infinity for no limit; NaN is outside of all.
    """
    return [
        f"{name}: expected {f'{low:g} or more' if high == math.inf else f'{low:g} to {high:g}'} (got {value})"
        for name, (low, high) in ranges.items()
        if not low <= (value := getattr(options, name)) <= high
    ]


class RelightError(Exception):
    """A mistake the user can fix.  The message says where, what was expected, what was found, what to do."""


class ConfigError(RelightError):
    """One or more errors in a scene file; `problems` holds one line each, with file, line and column."""

    def __init__(self, problems: list[str]):
        self.problems = problems
        super().__init__("\n".join(problems))


class DataError(RelightError):
    """A capture, image or splat file that cannot be read as what it claims to be."""


class ShapeError(RelightError):
    """A tensor of the wrong shape, dtype or device."""

    @classmethod
    def expected(cls, name: str, expected: str, found: object) -> ShapeError:
        return cls(f"{name}: expected shape {expected}, found {found}")


class MissingPartError(RelightError):
    """A stage needs a part of the scene (views, gaussians, ...) that no earlier stage provided."""


class BackendUnavailableError(RelightError):
    """The requested backend cannot run here; the message says why and how to get it."""
