"""Preset, scene file and command line to one tree, before anything is validated.

So precedence (preset < scene file < command line) holds by construction, and each value still knows its origin.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from relight.config.tree import Node, Position, read_text
from relight.errors import ConfigError
from relight.plugins import did_you_mean

Problems = list[tuple[Position, str]]


@dataclass(frozen=True)
class StageNode:
    """One entry of `stages`, not yet validated.

    name: what overrides and folders call it.  target: "module:Class" if it was given by `use:`.
    """

    name: str
    target: str | None
    options: Node
    at: Position


@dataclass
class Raw:
    """A file taken apart: everything but `stages` and `preset`, with `data` as a mapping; and the stages."""

    top: Node
    stages: list[StageNode] | None
    preset: Node | None = None


@dataclass(frozen=True)
class Override:
    """A `dotted.key=value` word."""

    word: str
    keys: tuple[str, ...]
    value: Node

    @property
    def at(self) -> Position:
        return self.value.at


def take_apart(root: Node, problems: Problems) -> Raw:
    """Normalise the short forms: `data: PATH`, and stages given by a bare name."""
    top = dict(_mapping(root))
    stages, preset = top.pop("stages", None), top.pop("preset", None)
    data = top.get("data")
    if data is not None and isinstance(data.value, str):
        top["data"] = data.with_value({"path": data})
    return Raw(
        root.with_value(top), None if stages is None or stages.value is None else _stages(stages, problems), preset
    )


def _mapping(node: Node) -> dict[str, Node]:
    return node.value if isinstance(node.value, dict) else {}


def _stages(node: Node, problems: Problems) -> list[StageNode]:
    if not isinstance(node.value, list):
        problems.append((node.at, "stages: expected a list, one `- name: {options}` a stage"))
        return []
    if not node.value:
        problems.append((node.at, "stages: is empty; list at least one"))
    return [stage for entry in node.value if (stage := _stage(entry, problems)) is not None]


def _stage(entry: Node, problems: Problems) -> StageNode | None:
    empty = entry.with_value({})
    if isinstance(entry.value, str):
        return StageNode(entry.value, None, empty, entry.at)
    if not isinstance(entry.value, dict) or not entry.value:
        problems.append((entry.at, "stages: expected a name, `name: {options}` or `{use: module:Class, options}`"))
        return None
    if "use" in entry.value:
        options = {k: v for k, v in entry.value.items() if k != "use"}
        use = entry.value["use"]
        if not isinstance(use.value, str) or not re.fullmatch(r"[\w.]+:[\w.]+", use.value):
            problems.append((use.at, f"use: expected package.module:Class (got {use.plain()!r})"))
            return None
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", use.value.split(":")[1].split(".")[-1]).lower()
        return StageNode(name, use.value, entry.with_value(options), use.at)
    (name, options), *rest = entry.value.items()
    if rest:
        extra = ", ".join(key for key, _ in rest)
        problems.append((rest[0][1].key, f"{extra}: indent this under `{name}:`; a stage's options belong to its name"))
        return None
    if options.value is None:
        return StageNode(name, None, options.with_value({}), options.key)
    if not isinstance(options.value, dict):
        problems.append((options.at, f"{name}: expected `option: value` lines (got {options.plain()!r})"))
        return None
    return StageNode(name, None, options, options.key)


def over(below: Raw, above: Raw) -> Raw:
    """`above` wins.  Its list of stages replaces the one below, but an entry inherits the options of the stage of
    the same name (the n-th of a name from the n-th)."""
    top = _merged(below.top, above.top)
    if above.stages is None:
        return Raw(top, below.stages, above.preset)
    waiting = list(below.stages or [])
    stages = []
    for stage in above.stages:
        twin = next((s for s in waiting if (s.name, s.target) == (stage.name, stage.target)), None)
        if twin is not None:
            waiting.remove(twin)
            stage = replace(stage, options=_merged(twin.options, stage.options))
        stages.append(stage)
    return Raw(top, stages, above.preset)


def _merged(below: Node, above: Node) -> Node:
    if not (isinstance(below.value, dict) and isinstance(above.value, dict)):
        return above
    out = dict(below.value)
    for name, node in above.value.items():
        out[name] = _merged(out[name], node) if name in out else node
    return above.with_value(out)


def read_overrides(words: Sequence[str], problems: Problems) -> list[Override]:
    """The `key=value` words that can be read."""
    overrides = []
    for word in words:
        at = Position(f"command line '{word}'")
        key, equals, text = word.partition("=")
        keys = tuple(key.split("."))
        if not equals or not all(keys):
            problems.append((at, "expected key=value, for instance radiance.iterations=500"))
            continue
        try:
            value = read_text(text, "", Path.cwd(), word=word)
        except ConfigError as error:
            problems += [(at, line.removeprefix(f"{at}: ")) for line in error.problems]
            continue
        overrides.append(Override(word, keys, value))
    return overrides


@dataclass
class _Addresses:
    """What the first key of an override can mean."""

    options: tuple[str, ...]
    stages: list[StageNode] = field(default_factory=list)

    def index(self, override: Override) -> tuple[int, tuple[str, ...]] | str:
        """(index of the stage, keys of the option), or what is wrong."""
        head, *rest = override.keys
        if head == "stages":
            if len(rest) < 2 or not rest[0].isdigit():
                return "expected stages.NUMBER.option=value; stages count from 0"
            if int(rest[0]) >= len(self.stages):
                return f"there is no stage {rest[0]}; there are {len(self.stages)}, counted from 0"
            return int(rest[0]), tuple(rest[1:])
        places = [i for i, stage in enumerate(self.stages) if stage.name == head]
        if not places:
            known = [*self.options, *(s.name for s in self.stages)]
            return f"{head}: neither an option nor a stage of this scene{did_you_mean(head, known)}"
        if len(places) > 1:
            ways = " or ".join(f"stages.{i}.{'.'.join(rest)}" for i in places)
            return f"{head}: {len(places)} stages have this name; write {ways}"
        if not rest:
            return f"{head}: name one of its options, as in {head}.option=value"
        return places[0], tuple(rest)


def apply(raw: Raw, overrides: Sequence[Override], options: tuple[str, ...], problems: Problems) -> Raw:
    """Set each override, in order.  options: the names that are allowed at the top."""
    top, stages = raw.top, list(raw.stages or [])
    for o in overrides:
        head = o.keys[0]
        if o.keys == ("stages",):
            stages = over(Raw(top, stages), Raw(top, _stages(o.value, problems))).stages or []
        elif o.keys == ("data",) and isinstance(o.value.value, str):
            top = _set(top, ("data", "path"), o, problems)
        elif head in options:
            top = _set(top, o.keys, o, problems)
        else:
            address = _Addresses(options, stages).index(o)
            if isinstance(address, str):
                problems.append((o.at, address))
                continue
            index, keys = address
            stages[index] = replace(stages[index], options=_set(stages[index].options, keys, o, problems))
    return Raw(top, stages if raw.stages is not None or stages else None, raw.preset)


def _set(node: Node, keys: tuple[str, ...], override: Override, problems: Problems) -> Node:
    """The tree with the value at `keys` replaced; missing mappings on the way are made."""
    if not keys:
        return override.value
    head, *rest = keys
    if isinstance(node.value, list):
        if not head.isdigit() or int(head) >= len(node.value):
            problems.append((override.at, f"{head}: expected the number of an item, 0 to {len(node.value) - 1}"))
            return node
        items = list(node.value)
        items[int(head)] = _set(items[int(head)], tuple(rest), override, problems)
        return node.with_value(items)
    if node.value is not None and not isinstance(node.value, dict):
        way = ".".join(override.keys[: -len(keys)])
        problems.append((override.at, f"{way}: is a single value and has no {head!r}"))
        return node
    below = _mapping(node)
    child = below.get(head, override.value.with_value(None))
    return node.with_value({**below, head: _set(child, tuple(rest), override, problems)})
