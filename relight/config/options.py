"""What the options of a stage are: names, types, defaults and help, read from its class and its source."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from dataclasses import dataclass
from itertools import pairwise

from relight.config.tree import inline_text
from relight.config.validate import plain_options


@dataclass(frozen=True)
class Option:
    """type: as annotated; the words to choose from, joined by |, where it is a choice.  default: as a scene file says
    it, None if there is none.  help: "" without a docstring.
    """

    name: str
    type: str
    default: str | None
    help: str


def options_of(cls: type) -> list[Option]:
    """The options of a dataclass, in order, with the docstrings that follow its fields, its bases' included."""
    help_texts: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        help_texts |= _attribute_docstrings(base)
    return [
        Option(f.name, _type_text(f.type), _default(f), help_texts.get(f.name, ""))
        for f in dataclasses.fields(cls)
        if f.init
    ]


def summary(cls: type) -> str:
    """First paragraph of the docstring, on one line."""
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())


def _type_text(annotation: object) -> str:
    if isinstance(annotation, type):
        return annotation.__name__
    text = str(annotation).replace("typing.", "")
    return re.sub(
        r"Literal(\[[^\[\]]*\])", lambda m: " | ".join(map(inline_text, ast.literal_eval(m[1]))), text
    )  # fmt: skip


def _default(f: dataclasses.Field) -> str | None:
    value = f.default
    if f.default_factory is not dataclasses.MISSING:
        value = f.default_factory()
    if value is dataclasses.MISSING:
        return None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = plain_options(value)
    elif isinstance(value, tuple | set | frozenset):
        value = list(value)
    return inline_text(value) if isinstance(value, bool | int | float | str | list | dict | None) else str(value)


def _attribute_docstrings(cls: type) -> dict[str, str]:
    """The string that stands alone after `name: type = value` in the body of a class; none without its source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):
        return {}
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    found = {}
    for statement, following in pairwise(body):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
            and isinstance(following.value.value, str)
        ):
            found[statement.target.id] = " ".join(following.value.value.split())
    return found
