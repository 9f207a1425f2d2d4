"""Words as the teacher of a scene's features puts them."""

from __future__ import annotations

from relight.errors import MissingPartError
from relight.fit.teachers import BUILTIN, TextExtractor, create, named
from relight.scene import FeatureBasis


def may_know_words(basis: FeatureBasis) -> bool:
    """Whether the teacher is one that knows words, told without its weights; of another package's, nothing is known
    before it is made."""
    return basis.teacher not in BUILTIN or hasattr(named(basis.teacher), "text")


def speaker(basis: FeatureBasis) -> TextExtractor:
    """The teacher.  Raises MissingPartError where it knows no words, RelightError where it can't be made."""
    teacher = create(basis.teacher, basis.source)
    if not isinstance(teacher, TextExtractor):
        raise MissingPartError(
            f"text: the features are {basis.teacher}'s, which knows no words; run the stage features with "
            "teacher=clip or efficientnet-lite0-classes"
        )
    return teacher
