"""YAML text to a tree that remembers where each value was written, and back.

A narrow YAML: one document, no tags, no merge keys, no duplicate keys.  Scalars follow YAML 1.2's core schema, so
`1e-4` is a number and `no` is a word.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import yaml

from relight.errors import ConfigError

MAX_BYTES = 1 << 20
MAX_VALUES = 20_000
"""A few lines of nested aliases expand to billions of values; no honest file has this many."""

Scalar: TypeAlias = "bool | int | float | str | None"
_STANDARD = "tag:yaml.org,2002:"


@dataclass(frozen=True, order=True)
class Position:
    """A place in a file (line and column from 1), or a word of the command line (line 0)."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True)
class Node:
    """A value and where it comes from.

    at: where the value starts.  key: where the key that leads to it starts; the same as `at` elsewhere.
    base: the folder that a relative path in this value is relative to.
    """

    value: Scalar | list[Node] | dict[str, Node]
    at: Position
    key: Position
    base: Path

    def plain(self) -> object:
        """Without positions."""
        if isinstance(self.value, dict):
            return {k: v.plain() for k, v in self.value.items()}
        return [v.plain() for v in self.value] if isinstance(self.value, list) else self.value

    def with_value(self, value: Scalar | list[Node] | dict[str, Node]) -> Node:
        return replace(self, value=value)


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """PyYAML's table: by first character, the tags a plain scalar may have and what it then looks like."""
    digits = "[0-9]+(?:_[0-9]+)*"
    number = rf"(\.[0-9]+|{digits}(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
    table: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for kind, pattern, first in (
        ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("int", rf"[-+]?{digits}|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
        ("float", rf"[-+]?{number}|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+.0123456789"),
    ):
        for character in first:
            table.setdefault(character, []).append((_STANDARD + kind, re.compile(f"^(?:{pattern})$")))
    return table


class _Core:
    """YAML 1.2's core schema in place of 1.1's, for reading and for writing."""

    yaml_implicit_resolvers = _resolvers()


class _Loader(_Core, yaml.SafeLoader):
    pass


class _Dumper(_Core, yaml.SafeDumper):
    def ignore_aliases(self, data) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # In other styles PyYAML writes these line breaks as they are, and folds them away when it reads.
        style = '"' if re.search("[\x85\u2028\u2029]", data) else None
        return self.represent_scalar(_STANDARD + "str", data, style)


_Dumper.add_representer(str, _Dumper.represent_str)


def read_file(path: Path, shown: str) -> Node:
    """A YAML file whose top is a mapping.  `shown` is its name in messages.  Raises ConfigError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError([f"{shown}: larger than {MAX_BYTES} bytes; this is not a scene file"])
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        hint = "; `relight new FOLDER` writes one" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError([f"{shown}: cannot be read ({error.strerror or error}){hint}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{shown}: not a text file in UTF-8 (byte {error.start}); save it as UTF-8"]) from error
    node = read_text(text, shown, path.resolve().parent)
    if node.value is None:
        raise ConfigError([f"{shown}: is empty; `relight new FOLDER` writes a scene file to start from"])
    if not isinstance(node.value, dict):
        raise ConfigError([f"{node.at}: expected `name: value` lines at the top of the file"])
    return node


def read_text(text: str, shown: str, base: Path, *, word: str | None = None) -> Node:
    """A tree from YAML text.  word: for a value of the command line, the whole word, which replaces positions."""

    def position(mark: yaml.Mark | None) -> Position:
        if word is not None:
            return Position(f"command line '{word}'")
        return Position(shown, mark.line + 1, mark.column + 1) if mark is not None else Position(shown, 1, 1)

    try:
        root = yaml.compose(text, Loader=_Loader)
        if root is None:
            return Node(None, position(None), position(None), base)
        return _Converter(position, base).convert(root)
    except yaml.MarkedYAMLError as error:
        what = " ".join(filter(None, (error.context, error.problem)))
        raise ConfigError([f"{position(error.problem_mark or error.context_mark)}: not valid YAML: {what}"]) from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - before.rfind("\n")
        where = position(None) if word is not None else Position(shown, line, column)
        raise ConfigError([f"{where}: not valid YAML: character {error.character!r} is not allowed"]) from error
    except RecursionError as error:
        raise ConfigError([f"{position(None)}: nested too deeply"]) from error


class _Converter:
    """YAML's node graph to our tree, with every problem of the file reported at once."""

    def __init__(self, position: Callable[[yaml.Mark | None], Position], base: Path):
        self.position, self.base = position, base
        self.count = 0
        self.open: set[int] = set()

    def convert(self, root: yaml.Node) -> Node:
        problems: list[tuple[Position, str]] = []
        node = self._node(root, self.position(root.start_mark), problems)
        if problems:
            raise ConfigError([f"{at}: {text}" for at, text in sorted(set(problems))])
        return node

    def _node(self, node: yaml.Node, key: Position, problems: list[tuple[Position, str]]) -> Node:
        at = self.position(node.start_mark)
        self.count += 1
        if self.count > MAX_VALUES:
            raise ConfigError([f"{at}: more than {MAX_VALUES} values once aliases (*name) are expanded; refused"])
        if id(node) in self.open:
            raise ConfigError([f"{at}: an alias (*name) contains itself"])
        self.open.add(id(node))
        value: Scalar | list[Node] | dict[str, Node] = None
        kind = node.tag.removeprefix(_STANDARD)
        if kind not in ("null", "bool", "int", "float", "str", "seq", "map"):
            problems.append((at, f"tags ({node.tag.replace(_STANDARD, '!!')}) are not allowed; write the plain value"))
        elif isinstance(node, yaml.MappingNode):
            value = self._mapping(node, problems)
        elif isinstance(node, yaml.SequenceNode):
            value = [self._node(child, self.position(child.start_mark), problems) for child in node.value]
        else:
            try:
                value = _scalar(kind, node.value)
            except ValueError:
                problems.append((at, f"{node.value!r} is not a value of the kind !!{kind}"))
        self.open.discard(id(node))
        return Node(value, at, key, self.base)

    def _mapping(self, node: yaml.MappingNode, problems: list[tuple[Position, str]]) -> dict[str, Node]:
        children: dict[str, Node] = {}
        for name, child in node.value:
            key = self.position(name.start_mark)
            if not isinstance(name, yaml.ScalarNode) or name.tag != _STANDARD + "str":
                shown = repr(name.value) if isinstance(name, yaml.ScalarNode) else "a list or a mapping"
                problems.append((key, f"names must be words, found {shown}"))
            elif name.value == "<<":
                problems.append((key, "merge keys (<<) are not supported; use `preset:`"))
            elif name.value in children:
                first = children[name.value].key
                problems.append((key, f"{name.value!r} is already given in line {first.line}; keep one"))
            else:
                children[name.value] = self._node(child, key, problems)
        return children


def _scalar(kind: str, text: str) -> Scalar:
    if kind == "null":
        return None
    if kind == "bool":
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if kind == "int":
        return int(text, 0 if text[:2] in ("0x", "0o") else 10)
    if kind == "float":
        return float(re.sub(r"\.(inf|nan)", r"\1", text.lower()))
    return text


def inline_text(value: object) -> str:
    """One value as it stands after `name: ` in a scene file, quoted where it must be; `read_text` gives it back."""
    text = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, default_flow_style=True, allow_unicode=True, width=math.inf
    )
    return text.removesuffix("...\n").strip()


def to_text(data: object) -> str:
    """Block-style YAML of plain values, in their order; `read_text` gives the same values back."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
