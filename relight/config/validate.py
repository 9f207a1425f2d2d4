"""A tree of plain values to a frozen dataclass: the one place that knows pydantic."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

import pydantic

from relight.config.merge import Problems
from relight.config.tree import Node, Position
from relight.errors import RelightError
from relight.plugins import did_you_mean

T = TypeVar("T")
Keys: TypeAlias = "tuple[str | int, ...]"
MISSING = "missing; it has no default"


@lru_cache(maxsize=256)
def _adapter(cls: type) -> pydantic.TypeAdapter:
    # Dataclasses nested in `cls` inherit this.
    if "__pydantic_config__" not in cls.__dict__:
        pydantic.with_config(pydantic.ConfigDict(extra="forbid", allow_inf_nan=False))(cls)
    return pydantic.TypeAdapter(cls)


def validated(cls: type[T], node: Node, path: str, problems: Problems) -> T | None:
    """An instance of the dataclass `cls`, or None after adding to `problems` everything that is wrong.

    path: dotted name of `node` in messages, "" at the top.
    """
    misread = list(_misread_booleans(node, cls))
    found = [(n.at, f"{_joined(path, keys)}: expected a number (got {_short(n.plain())})") for keys, n in misread]
    value, more, wrong = _attempt(cls, _without(node, [keys for keys, _ in misread]), path)
    if more:
        # A dataclass's own checks run only when all else is right: ask again without what is known to be wrong.
        rest = _without(node, [*(keys for keys, _ in misread), *wrong])
        more += [p for p in _attempt(cls, rest, path)[1] if not p[1].endswith(MISSING)]
    gone = {_joined(path, keys) for keys, _ in misread}
    found += [p for p in more if not (p[1].endswith(MISSING) and p[1].split(":")[0] in gone)]
    problems += found
    return None if found else value


def _attempt(cls: type[T], node: Node, path: str) -> tuple[T | None, Problems, list[Keys]]:
    """The instance, or problems and the keys of the values that cause them."""
    try:
        value = _adapter(cls).validate_python(node.plain())
    except pydantic.ValidationError as error:
        return None, *_explained(cls, error, node, path)
    except RelightError as error:  # from the dataclass's own __post_init__
        return None, [_located(node, str(error), path)], []
    except pydantic.errors.PydanticUserError as error:
        return None, [(node.at, f"{path}: the options of {cls.__qualname__} have types no file can give: {error}")], []
    return value, [], []


def plain_options(value: Any) -> dict[str, object]:
    """A dataclass as JSON-like values, which `validated` turns into an equal instance."""
    return _adapter(type(value)).dump_python(value, mode="json")


def _explained(cls: type, error: pydantic.ValidationError, node: Node, path: str) -> tuple[Problems, list[Keys]]:
    """One problem a place: the branches of a union are joined."""
    problems: Problems = []
    unions: dict[Keys, list[str]] = {}
    wrong: list[Keys] = []
    for detail in error.errors(include_url=False):
        keys, place = _place(node, detail["loc"])
        kind = detail["type"]
        if kind == "unexpected_keyword_argument":
            message = f"unknown option{did_you_mean(str(keys[-1]), _fields_at(cls, keys[:-1]))}"
            problems.append((place.key, f"{_joined(path, keys)}: {message} (got {_short(place.plain())})"))
        elif kind.startswith("missing"):
            problems.append((place.at, f"{_joined(path, (*keys, detail['loc'][-1]))}: {MISSING}"))
            continue
        elif kind == "value_error":
            lines = str(detail.get("ctx", {}).get("error")).splitlines()
            problems += [_located(place, line, _joined(path, keys)) for line in lines]
        elif kind == "dataclass_type":
            unions.setdefault(keys, []).append("expected `option: value` lines")
        else:
            message = detail["msg"].replace("Input should be", "expected").split(", unable to")[0]
            unions.setdefault(keys, []).append(message)
        if keys:
            wrong.append(keys)
    for keys, messages in unions.items():
        place = _place(node, keys)[1]
        text = " or ".join(dict.fromkeys(messages))
        problems.append((place.at, f"{_joined(path, keys)}: {text} (got {_short(place.plain())})"))
    return problems, wrong


def _without(node: Node, wrong: Iterable[Keys]) -> Node:
    """The tree without the values at `wrong`."""
    for head, *rest in wrong:
        if not isinstance(node.value, dict) or head not in node.value:
            continue
        others = {k: v for k, v in node.value.items() if k != head}
        if rest and isinstance(node.value[str(head)].value, dict):
            others[str(head)] = _without(node.value[str(head)], [tuple(rest)])
        node = node.with_value(others)
    return node


def _located(node: Node, message: str, path: str) -> tuple[Position, str]:
    """A message of a dataclass's own check, at the option it names first."""
    first = message.split(":")[0].split(" ")[0]
    children = node.value if isinstance(node.value, dict) else {}
    return (children[first].at if first in children else node.at), f"{path}.{message}" if path else message


def _place(node: Node, loc: Keys) -> tuple[Keys, Node]:
    """The deepest node on the way to `loc`.  Names of union branches, which pydantic puts between, are passed over."""
    keys: Keys = ()
    for step in loc:
        value = node.value
        if isinstance(value, dict) and step in value:
            node = value[str(step)]
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            node = value[step]
        else:
            continue
        keys = (*keys, step)
    return keys, node


def _fields_at(cls: type, keys: Keys) -> list[str]:
    """Names of the options of the dataclass found by following `keys` from `cls`."""
    for key in keys:
        nested = [c for c in _choices(_hints(cls).get(str(key))) if dataclasses.is_dataclass(c)]
        if not nested:
            return []
        cls = nested[0]
    return [f.name for f in dataclasses.fields(cls) if f.init] if dataclasses.is_dataclass(cls) else []


def _hints(cls: type) -> dict[str, object]:
    try:
        return typing.get_type_hints(cls)
    except NameError:  # a type that is imported for type checkers only; pydantic says so
        return {}


def _choices(hint: object) -> list[type]:
    """The types that `hint` allows: itself, or the branches of a union."""
    branches = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    return [c for c in branches if isinstance(c, type)]


def _misread_booleans(node: Node, cls: type) -> Iterator[tuple[tuple[str, ...], Node]]:
    """`iterations: true`, which Python reads as 1."""
    hints, children = _hints(cls), node.value if isinstance(node.value, dict) else {}
    for name, child in children.items():
        choices = _choices(hints.get(name))
        if isinstance(child.value, bool) and bool not in choices and (int in choices or float in choices):
            yield (name,), child
        for nested in (c for c in choices if dataclasses.is_dataclass(c)):
            yield from (((name, *keys), place) for keys, place in _misread_booleans(child, nested))


def _joined(path: str, keys: Keys) -> str:
    return ".".join(filter(None, (path, *map(str, keys))))


def _short(value: object) -> str:
    text = {None: "null", True: "true", False: "false"}[value] if isinstance(value, bool | None) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
