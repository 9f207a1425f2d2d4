"""The narrow YAML: what is written is read back, and the core schema is followed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relight.config.tree import inline_text, read_text, to_text
from relight.errors import ConfigError

# Control characters and lone surrogates can't be in a text file of YAML; PyYAML escapes the former when it writes.
words = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)
tricky = st.sampled_from([
    "no", "yes", "null", "~", "1e3", "0o7", "0x1f", "1_000", ".5", "-.inf", "<<", "=", "- a", "a: b", "#", " a ", "'",
    '"', "true", "True", "", "?", "|", ">", "&a", "*a", "!x", "%", "@", "`", "12:30",
])  # fmt: skip
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), words, tricky)
names = words.filter(lambda word: word != "<<")
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=3), max_leaves=10
)
documents = st.dictionaries(names, values, max_size=4)


def same(a: object, b: object) -> bool:
    """Equal, and of the same types: 1 is neither true nor 1.0."""
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b)))  # type: ignore[arg-type]


def read(text: str) -> object:
    return read_text(text, "x.yaml", Path("/")).plain()


@settings(deadline=None)
@given(documents)
@example({"a": [], "b": {}, "c": [[]], "d": 1e300, "e": 5e-324, "f": math.inf, "g": -math.inf, "h": -0.0})
def test_documents_are_read_back(document):
    assert same(read(to_text(document)), document)


@settings(deadline=None)
@given(values)
@example(math.nan)
def test_a_value_after_a_name_is_read_back(value):
    text = inline_text(value)
    assert same(read(f"name: {text}\nnext: 1\n"), {"name": value, "next": 1})


@settings(deadline=None)
@given(st.text(max_size=60))
@example("a: &x [*x]")
@example("? ? a")
@example("\ufeffa: b")
def test_any_text_is_read_or_explained(text):
    try:
        read(text)
    except ConfigError as error:
        assert error.problems and all(p.startswith("x.yaml:") for p in error.problems)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1.", 1.0), (".5", 0.5), ("+1", 1), ("-1.5E+3", -1500.0), ("1_000", 1000), ("0x1F", 31),
        ("0o17", 15), ("017", 17), (".inf", math.inf), ("-.Inf", -math.inf), ("~", None), ("Null", None), ("", None),
        ("TRUE", True), ("False", False), ("tRUE", "tRUE"), ("yes", "yes"), ("off", "off"), ("12:30:45", "12:30:45"),
        ("2001-12-14", "2001-12-14"), ("0b11", "0b11"), ("1e", "1e"), (".", "."), ("-", None), ("'1'", "1"),
        ("=", "="), ("1_", "1_"), ("1__0", "1__0"), ("_1", "_1"), ("1_0.5", 10.5), ("1_.5", "1_.5"),
    ],
)  # fmt: skip
def test_scalars_of_the_core_schema(text, value):
    if text in ("-",):
        assert read(text) == [None]
    else:
        assert same(read(f"a: {text}"), {"a": value})


def test_every_value_knows_where_it_is():
    node = read_text("a:\n  - 1\n  - {b: x}\n", "f.yaml", Path("/here"))
    assert isinstance(node.value, dict)
    items = node.value["a"].value
    assert isinstance(items, list) and isinstance(items[1].value, dict)
    inner = items[1].value["b"]
    assert (str(items[0].at), str(inner.key), str(inner.at)) == ("f.yaml:2:5", "f.yaml:3:6", "f.yaml:3:9")
    assert inner.base == Path("/here")
