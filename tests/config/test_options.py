"""The options of a stage, read from its class."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from fake_stages import Count, Inner

from relight.config import load_config
from relight.config.options import Option, options_of, summary
from relight.plugins import load, offered


def test_names_types_defaults_and_help():
    options = {o.name: o for o in options_of(Count)}
    assert list(options) == [
        "steps", "size", "mode", "inner", "tags", "limit", "pause", "late", "nan_at", "fail_at", "fill",
    ]  # fmt: skip
    assert options["steps"] == Option("steps", "int", "6", "How far it walks. At least 1.")
    assert options["size"] == Option("size", "float", "0.5", "")
    assert options["mode"] == Option("mode", "even | odd", "even", "")
    assert options["inner"].default == "{gain: 1.0, count: 1}"
    assert options["tags"] == Option("tags", "tuple[str, ...]", "[]", "")
    assert options["limit"].default == "null"


@dataclass(frozen=True)
class Base:
    """A base."""

    first: int = 1
    """Of the base."""
    second: str = "no"
    """Of the base, too."""


@dataclass(frozen=True)
class Derived(Base):
    """A class
    derived.

    More.
    """

    second: str = "null"
    """Again."""
    path: Path = Path("a/b")
    word: Literal["a", "1"] | None = None
    names: list[str] = field(default_factory=lambda: ["x", "y z"])
    hidden: int = field(default=3, init=False)
    """Not an option."""


def test_bases_come_first_and_defaults_are_what_a_scene_file_says():
    assert options_of(Derived) == [
        Option("first", "int", "1", "Of the base."),
        Option("second", "str", "'null'", "Again."),
        Option("path", "Path", "a/b", ""),
        Option("word", "a | '1' | None", "null", ""),
        Option("names", "list[str]", "[x, y z]", ""),
    ]
    assert summary(Derived) == "A class derived."


def test_required_options_have_no_default():
    @dataclass
    class Needs:
        value: int

    assert options_of(Needs) == [Option("value", "int", None, "")]


def test_a_class_without_source_has_options_without_help():
    namespace: dict = {"dataclass": dataclass}
    exec("@dataclass\nclass Made:\n    a: int = 1\n    'help'\n", namespace)
    assert options_of(namespace["Made"]) == [Option("a", "int", "1", "")]


NEEDED = {
    "select": {"like": 3},
    "recolour": {"color": (1.0, 0.5, 0.0)},
    "set_material": {"roughness": 0.5},
    "relight_video": {"text": "warm light from the left"},
}
"""Of stages that do nothing without being told what."""


@pytest.mark.parametrize("name", offered("stages"))
def test_every_option_of_our_stages_is_explained_and_its_default_is_accepted(name, tmp_path):
    cls = load("stages", name)
    assert isinstance(cls, type)
    options = options_of(cls)
    assert options and summary(cls)
    assert [o.name for o in options if not o.help] == []
    needed = NEEDED.get(name, {})
    values = {o.name: o.default for o in options} | {
        k: list(v) if isinstance(v, tuple) else v for k, v in needed.items()
    }
    lines = "".join(f"      {k}: {v}\n" for k, v in values.items())
    (tmp_path / "scene.yaml").write_text(f"data: c\nstages:\n  - {name}:\n{lines}")
    assert load_config(tmp_path).stages[0].stage == cls(**needed)


def test_nested_options_are_shown():
    assert [o.name for o in options_of(Inner)] == ["gain", "count"]
