"""Splat files: every format that people ship, behind `read_splat` and `write_splat`.

One module a format, each with `sniff(path, head)`, `read(path, *, drop_invalid)`, `sizes(path)` and, but for those that
are only read, `write(gaussians, path, **options)`.

Axes.  Positions are those of the file, never re-oriented: .ply, compressed .ply, .splat, .ksplat, .spz and .sog hold
the numbers of the capture, usually COLMAP's (x right, y down, z forward).  glTF and USD have a convention of their
own, y up; there a splat is turned by 180 degrees about z, as other converters do, and turned back when read.  An .spz
may say that it holds other axes (Niantic's own tools: y up, z back); where it says nothing, nothing is turned.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from relight.errors import MALFORMED, DataError, RelightError

if TYPE_CHECKING:
    from relight.geometry.gaussians import Gaussians

HEAD = 4096
"""Bytes that are read to find out a format."""


@dataclass(frozen=True)
class Format:
    """name: its module.  suffixes: the first is written by default.  what: for people.  lossy: what a round trip
    changes.

    keeps: of what not every format has a place for, "sh", "materials", "channels", "surfels", "antialiased".
    """

    name: str
    suffixes: tuple[str, ...]
    what: str
    lossy: str
    keeps: frozenset[str]
    writes: bool = True

    @property
    def module(self) -> Any:
        """Where its functions are; imported when asked for."""
        return import_module(f"relight.formats.{self.name}")


def _table(*formats: Format) -> Mapping[str, Format]:
    return MappingProxyType({f.name: f for f in formats})


_ALL = frozenset({"sh", "materials", "channels", "surfels", "antialiased"})
FORMATS = _table(
    Format("compressed_ply", (".compressed.ply",), "PlayCanvas compressed .ply",
           "position, scale and colour 8 to 11 bits within 256 neighbours, rotation 10, SH 8 (-4 to 4)",
           frozenset({"sh", "surfels", "antialiased"})),
    Format("ply", (".ply",), "INRIA .ply, with material columns", "nothing", _ALL),
    Format("splat", (".splat",), ".splat of antimatter15", "colour, opacity and rotation 8 bits; no SH beyond colour",
           frozenset()),
    Format("spz", (".spz",), "Niantic .spz",
           "position 24 bits, scale, colour and opacity 8, rotation 10, SH 4 to 5 (-1 to 1), materials 8",
           frozenset({"sh", "materials", "antialiased"})),
    Format("sog", (".sog", "meta.json"), "PlayCanvas SOG, bundled (.sog) or a folder (meta.json)",
           "position 16 bits of a logarithm, rotation 8, scale and colour 256 values, SH a palette, materials 8",
           frozenset({"sh", "materials", "surfels", "antialiased"})),
    Format("gltf", (".glb",), "glTF KHR_gaussian_splatting", "rounding of scale and opacity to float32",
           frozenset({"sh", "materials", "surfels", "antialiased"})),
    Format("usd", (".usdc", ".usda", ".usdz", ".usd"), "USD ParticleField3DGaussianSplat",
           "rounding of scale and opacity to float32", frozenset({"sh", "materials"})),
    Format("ksplat", (".ksplat",), ".ksplat of GaussianSplats3D", "not written", frozenset({"sh"}), writes=False),
)  # fmt: skip
"""In the order in which they are asked whether a file is theirs."""


def detect(path: str | Path) -> Format | None:
    """The format of an existing file, or of a folder with an unbundled SOG, by content; None if it is no splat."""
    path = Path(path)
    if path.is_dir():
        path = path / "meta.json"
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return None
    return next((f for f in FORMATS.values() if f.module.sniff(path, head)), None)


def read_splat(path: str | Path, *, format: str | None = None, drop_invalid: bool = False) -> Gaussians:
    """Read a splat of any of `FORMATS`, found out by content unless `format` names it.

    drop_invalid: leave out Gaussians with values that are not finite instead of raising.
    Raises `DataError` for what is missing, of another kind, damaged or hostile.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file; check the path")
    found = detect(path) if format is None else find(path, format)
    if found is None:
        names = ", ".join(s for f in FORMATS.values() for s in f.suffixes)
        raise DataError(f"{path}: not a Gaussian splat that is recognised; expected one of {names}")
    with_meta = path / "meta.json" if path.is_dir() else path
    try:
        return found.module.read(with_meta, drop_invalid=drop_invalid)
    except RelightError:
        raise
    # Whatever a parser trips over that it didn't check for.
    except MALFORMED as error:
        raise DataError(f"{path}: damaged {found.what} ({error}); copy or export it again") from error


def write_splat(gaussians: Gaussians, path: str | Path, *, format: str | None = None, **options: Any) -> None:
    """Write a splat, atomically, in the format of the suffix unless `format` names it.

    options: keyword arguments of that format's `write`.  Warns of what the format has no place for.
    Raises `RelightError` for an unknown format or option and for values that are not finite.
    """
    path = Path(path)
    target = writable(path, format)
    known = options_of(target)
    for name in options:
        if name not in known:
            from relight.plugins import did_you_mean

            hint = did_you_mean(name, known) or f"; {target.what} has no options"
            raise RelightError(f"{path}: unknown option {name!r}{hint}")
    if missing := lost(gaussians, target):
        warnings.warn(f"{path}: {target.what} has no place for {', '.join(missing)}: left out", stacklevel=2)
    target.module.write(gaussians, path, **options)


def find(path: Path, format: str | None = None) -> Format | None:
    """The format of that name, or of the path's suffix; None if there is none."""
    if format is not None:
        return FORMATS.get(format) or next((f for f in FORMATS.values() if f".{format}" in f.suffixes), None)
    return next((f for f in FORMATS.values() if path.name.lower().endswith(f.suffixes)), None)


def writable(path: Path, format: str | None = None) -> Format:
    """What `write_splat` would write.  Raises `RelightError`."""
    target = find(path, format)
    if target is None or not target.writes:
        what = f"{path}: not a splat format that is written" if format is None else f"{format!r} is none"
        suffixes = ", ".join(s for f in FORMATS.values() if f.writes for s in f.suffixes)
        raise RelightError(f"{what}; expected one of {suffixes}")
    return target


def options_of(format: Format) -> dict[str, Any]:
    """Options of its `write` and their defaults."""
    if not format.writes:
        return {}
    parameters = inspect.signature(format.module.write).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def lost(gaussians: Gaussians, format: Format) -> list[str]:
    """What of this splat the format has no place for, in words; empty for nothing."""
    from relight.geometry.gaussians import CHANNELS

    materials = [name for name in gaussians.channels if name in CHANNELS]
    others = [name for name in gaussians.channels if name not in CHANNELS]
    wanted = {
        "sh": [f"SH of degree {gaussians.sh_degree}"] if gaussians.sh_degree else [],
        "materials": materials,
        "channels": others,
        "surfels": ["that it is made of surfels"] if gaussians.surfels else [],
        "antialiased": ["that it was fitted with antialiasing"] if gaussians.antialiased else [],
    }
    return [word for need, words in wanted.items() if need not in format.keeps for word in words]
