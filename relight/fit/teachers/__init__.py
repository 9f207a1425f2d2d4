"""Teachers: networks that describe every place of a picture by a vector, so that like things have like vectors.

    extractor = create("efficientnet-lite0")
    values = extractor(photo)                    # (h, w, C)

None is needed to import relight.  Two come with their weights in a package; the others read a folder or a hub's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Protocol, runtime_checkable

from torch import Tensor

from relight.errors import RelightError
from relight.plugins import did_you_mean, load_target


@runtime_checkable
class FeatureExtractor(Protocol):
    """name: what it is, weights included, for the record.  levels: channels that belong together, (C1, C2, ...): of
    each level the direction counts and not the length.
    """

    name: str
    levels: tuple[int, ...]

    def __call__(self, rgb: Tensor) -> Tensor:
        """(h, w, C) float32 of a picture (H, W, 3), sRGB-encoded, 0 to 1; h and w are the extractor's own choice.

        The result covers the whole picture: its pixel (i, j) is about (i + 0.5) / h, (j + 0.5) / w of it.
        """
        ...


@runtime_checkable
class TextExtractor(Protocol):
    """A teacher that also puts words where it puts what they name."""

    def text(self, prompts: Sequence[str]) -> Tensor:
        """(T, C) of T prompts, to be compared with a picture's features by cosine.  Raises RelightError for words
        that it can't know."""
        ...


@runtime_checkable
class MaskExtractor(Protocol):
    """A teacher that takes pictures apart into masks, with no names for them: see `relight.fit.groups`."""

    name: str

    def masks(self, rgb: Tensor) -> Tensor:
        """(M, h, w) bool, M >= 0, of a picture (H, W, 3), sRGB-encoded, 0 to 1; they may overlap and leave gaps."""
        ...


BUILTIN: Mapping[str, str] = {
    "efficientnet-lite0": "relight.fit.teachers.efficientnet:EfficientNetLite",
    "efficientnet-lite0-classes": "relight.fit.teachers.efficientnet:EfficientNetClasses",
    "xfeat": "relight.fit.teachers.xfeat:XFeat",
    "clip": "relight.fit.teachers.transformer:Clip",
    "dino": "relight.fit.teachers.transformer:Dino",
    "sam": "relight.fit.teachers.transformer:Sam",
    "sam-masks": "relight.fit.teachers.transformer:SamMasks",
}
NEED_SOURCE = ("clip", "dino", "sam", "sam-masks")
"""Those whose weights don't come with a package."""


def create(name: str, source: str | None = None) -> FeatureExtractor:
    """A teacher by name, or "module:Class" of another package.

    source: folder, or name at a hub, of the weights of `NEED_SOURCE`.  Raises RelightError for an unknown name, a
    package or weights that are missing.
    """
    if name in NEED_SOURCE and not source:
        raise RelightError(f"teacher {name}: needs a source: a folder with its weights, or their name at a hub")
    if name not in NEED_SOURCE and name in BUILTIN and source:
        raise RelightError(f"teacher {name}: comes with its weights and takes no source (got {source!r})")
    made = named(name)
    return made(source) if source else made()


def named(name: str) -> Callable[..., FeatureExtractor]:
    """What makes a teacher.  Raises RelightError for an unknown name."""
    if name not in BUILTIN and ":" not in name:
        raise RelightError(f"unknown teacher {name!r}{did_you_mean(name, BUILTIN)}")
    if name not in BUILTIN:
        return load_target(name, f"teacher {name}")  # type: ignore[return-value]
    module, _, attribute = BUILTIN[name].partition(":")
    return getattr(import_module(module), attribute)
