"""Splat files as channels of a rate: what each way of writing costs in bytes and in error, and the best of them.

Errors of attributes are independent and small, so that their squares add, and each attribute is coded by itself, so
that bytes add as well.  Each attribute's choices are measured once, alone; the best choice of all of them together
under a limit is then that of a Lagrange multiplier (Shoham and Gersho, "Efficient Bit Allocation for an Arbitrary Set
of Quantizers", IEEE TASSP 1988).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from torch import Tensor

from relight.formats import Format, morton, read_splat, write_splat
from relight.geometry.gaussians import Gaussians

Recipe: TypeAlias = "Mapping[str, int]"
"""Options of a format's writer; the others keep their defaults."""

CHOICES: Mapping[str, Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "sog": {
            "position_bits": (16, 15, 14, 13, 12, 11, 10, 9),
            "rotation_values": (256, 129, 65, 33, 17, 9),
            "scale_values": (256, 128, 64, 32, 16, 8),
            "color_values": (256, 128, 64, 32, 16),
            "opacity_values": (256, 64, 32, 16, 8, 4),
            "material_values": (256, 128, 64, 32, 16),
            "normal_values": (256, 128, 64, 32),
            "palette_size": (16384, 4096, 2048, 1024, 512, 256, 128, 64, 16),
        },
        "spz": {"fractional_bits": (14, 13, 12, 11, 10, 9, 8), "sh1_bits": (5, 4, 3), "sh_bits": (4, 3, 2)},
    }
)
"""What is tried, by format and option of its writer, finest first."""
USUAL: Mapping[str, Recipe] = MappingProxyType(
    {
        "sog": {
            "position_bits": 14, "rotation_values": 129, "scale_values": 128, "color_values": 128,
            "opacity_values": 64, "material_values": 64, "normal_values": 256, "palette_size": 4096,
        },
    }
)  # fmt: skip
"""What is about best for most."""
NEEDS = {
    "palette_size": "sh",
    "sh1_bits": "sh",
    "sh_bits": "sh",
    "material_values": "channels",
    "normal_values": "channels",
}
"""Options that do nothing for a splat without."""


def encode(splat: Gaussians, recipe: Recipe, format: Format, path: Path, importance: Tensor | None = None) -> Gaussians:
    """Write `path`, along a Morton curve, and read it again: what whoever gets the file sees, in the splat's own order.

    importance: (N,), what an error in a Gaussian's SH costs.
    """
    order = morton.order(splat.means).to(splat.means.device)
    options: dict[str, Any] = {k: v for k, v in recipe.items() if _matters(k, splat)}
    if importance is not None and format.name == "sog":
        options["importance"] = importance[order]
    with warnings.catch_warnings():  # whoever asked for the format was told once what it has no place for
        warnings.simplefilter("ignore")
        write_splat(splat[order], path, format=format.name, **options)
    return read_splat(path, format=format.name).to(splat.means.device)[order.argsort()]


def usual(format: Format, count: int, finer: int = 0) -> Recipe:
    """Of `USUAL`, with no larger palette than so many Gaussians are worth.  finer: bits that each attribute gets more,
    negative for less, within what there is to choose from."""
    recipe = {}
    for name, value in USUAL.get(format.name, {}).items():
        value = value + finer if name.endswith("bits") else round(value * 2.0**finer)
        if name == "palette_size":
            value = min(value, count // 4)
        most, least = CHOICES[format.name][name][0], CHOICES[format.name][name][-1]
        recipe[name] = max(least, min(value, most))
    return recipe


@dataclass(frozen=True)
class Choice:
    """bytes: in all, and error: mean squared, more than the finest choice's.  fixed: of the bytes, what doesn't grow
    with the number of Gaussians, but with that of SH coefficients."""

    value: int
    bytes: float = 0.0
    error: float = 0.0
    fixed: float = 0.0


@dataclass(frozen=True)
class Table:
    """rows: choices by option, measured with `count` Gaussians of `rest` SH coefficients beyond the first.
    size: bytes with all choices at their finest.  fixed: see `Choice`."""

    count: int
    rest: int
    size: float
    fixed: float
    rows: Mapping[str, tuple[Choice, ...]]

    def within_error(self, error: float, count: int, rest: int) -> Recipe:
        """The smallest recipe that adds at most so much mean squared error; the finest if none does."""
        return self._recipe(count, rest, lambda bytes_, found: found <= error, smallest=True)

    def within_bytes(self, most: float, count: int, rest: int) -> Recipe:
        """The recipe with the least error of those of at most so many bytes; the smallest if none is."""
        return self._recipe(count, rest, lambda bytes_, error: bytes_ <= most, smallest=False)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Table:
        """Inverse of `to_json`."""
        rows = {name: tuple(Choice(**choice) for choice in row) for name, row in data["rows"].items()}
        return Table(**{**data, "rows": rows})

    def _recipe(self, count: int, rest: int, fits: Callable[[float, float], bool], *, smallest: bool) -> Recipe:
        """By bisection of the multiplier's logarithm: what a unit of error is worth in bytes."""
        low, high = -2.0, 24.0
        found = self._allocated(10.0 ** (high if smallest else low), count, rest)[0]
        for _ in range(40):
            middle = (low + high) / 2
            recipe, bytes_, error = self._allocated(10.0**middle, count, rest)
            ok = fits(bytes_, error)
            if ok:
                found = recipe
            low, high = (low, middle) if ok == smallest else (middle, high)
        return found

    def _allocated(self, worth: float, count: int, rest: int) -> tuple[Recipe, float, float]:
        """The recipe with the least bytes + `worth` x error; its bytes and its error."""
        scale, fixed = count / self.count, rest / self.rest if self.rest else 0.0

        def size(choice: Choice) -> float:
            return (choice.bytes - choice.fixed) * scale + choice.fixed * fixed

        chosen = {n: min(row, key=lambda c: size(c) + worth * c.error) for n, row in self.rows.items()}
        total = (self.size - self.fixed) * scale + self.fixed * fixed
        total += sum(size(c) for c in chosen.values())
        return {name: c.value for name, c in chosen.items()}, total, sum(c.error for c in chosen.values())


def measure(
    splat: Gaussians,
    format: Format,
    path: Path,
    error: Callable[[Gaussians], float],
    importance: Tensor | None = None,
    *,
    most_error: float = 1e-3,
    known: dict[str, tuple[int, float]] | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Table:
    """Every choice alone, the others at their finest.

    path: of a file that is written, and removed.  error: mean squared, of a decoded splat against this one.
    most_error: of one attribute; choices that are coarser still are not measured.
    known: bytes and errors of choices that were measured before; those measured now are added.
    advance: told how many of how many files are done.
    """
    options = {}
    for name, values in CHOICES.get(format.name, {}).items():
        if name == "palette_size":
            values = tuple(v for v in values if v <= max(len(splat) // 4, values[-1]))
        if _matters(name, splat):
            options[name] = values
    finest = {name: values[0] for name, values in options.items()}
    measured = {} if known is None else known
    total = sum(len(values) - 1 for values in options.values())

    def trial(splat: Gaussians, name: str, value: int) -> tuple[int, float]:
        choice = f"{name}={value}"
        if choice not in measured:
            decoded = encode(splat, {**finest, name: value}, format, path, importance)
            measured[choice] = path.stat().st_size, error(decoded)
        advance(len(measured), total)  # if all were known too: what is done counts in the steps to come
        return measured[choice]

    try:
        decoded = encode(splat, finest, format, path, importance)
        size, floor = path.stat().st_size, error(decoded)
        # What has been through a palette is its own, so that not every trial has to find one.
        own = replace(splat, sh=torch.cat([splat.sh[:, :1], decoded.sh[:, 1:]], 1))
        rest = splat.sh.shape[1] - 1
        rows = {}
        for name, values in options.items():
            row = [Choice(values[0])]
            for value in values[1:]:
                if row[-1].error < most_error:
                    bytes_, mse = trial(splat if name == "palette_size" else own, name, value)
                    labels = math.log2(value / values[0]) / 8 * len(splat) if name == "palette_size" else 0.0
                    fixed = bytes_ - size - labels if name == "palette_size" else 0.0
                    row.append(Choice(value, bytes_ - size, max(mse - floor, 0.0), fixed))
            rows[name] = tuple(row)
        # A palette of one entry would take nothing: what all but that takes is all of it.
        fixed = -min((c.fixed for c in rows.get("palette_size", ())), default=0.0)
        return Table(len(splat), rest, size, fixed, rows)
    finally:
        path.unlink(missing_ok=True)


def _matters(option: str, splat: Gaussians) -> bool:
    need = NEEDS.get(option)
    return not ((need == "sh" and not splat.sh_degree) or (need == "channels" and not splat.channels))
