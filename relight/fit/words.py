"""Words as the teacher of a scene's features puts them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from relight.errors import MissingPartError
from relight.fit.teachers import TextExtractor, create
from relight.scene import FeatureBasis


def text_of(basis: FeatureBasis, prompts: Sequence[str]) -> Tensor:
    """(T, C).  Raises MissingPartError where the teacher knows no words, RelightError where it can't be made."""
    teacher = create(basis.teacher, basis.source)
    if not isinstance(teacher, TextExtractor):
        raise MissingPartError(
            f"text: the features are {basis.teacher}'s, which knows no words; run the stage features with "
            "teacher=clip or efficientnet-lite0-classes"
        )
    return teacher.text(prompts)
