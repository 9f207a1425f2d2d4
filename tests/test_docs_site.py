"""The documentation: what is generated is fresh, every stage has a page, and the recipes' code runs."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from docs import options
from relight.plugins import BUILTIN

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "docs/examples").glob("*.py"))
GENERATED = [ROOT / options.SITE, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs/stages").glob("*.md"))]


def example(path: Path) -> ModuleType:
    """Imported once, under a name of its own."""
    name = f"relight_example_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def named_tests(path: Path) -> list[str]:
    return re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)


RECIPES = [(p, t) for p in EXAMPLES for t in named_tests(p)]


@pytest.mark.parametrize(("path", "test"), RECIPES, ids=lambda v: str(v)[-40:])
def test_a_recipe_runs(path, test, tmp_path):
    function = getattr(example(path), test)
    function(*[tmp_path] * len(inspect.signature(function).parameters))


def test_every_recipe_shows_an_example_that_has_a_test():
    pages = [page for page in (ROOT / "docs/recipes").glob("*.md") if page.stem != "index"]
    assert {page.stem for page in pages} == {path.stem for path in EXAMPLES}
    for page in pages:
        assert f'--8<-- "examples/{page.stem}.py"' in page.read_text("utf-8")
    assert all(named_tests(path) for path in EXAMPLES)


def test_options_are_fresh_and_every_stage_has_a_page_that_somebody_wrote():
    pages = options.updated()
    stale = [str(page) for page, text in pages.items() if not page.exists() or page.read_text("utf-8") != text]
    assert not stale, f"out of date: {stale}; run: python -m docs.options"
    assert [str(page) for page, text in pages.items() if options.TODO in text] == []


def planted(tmp_path: Path) -> Path:
    for path in GENERATED:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text("utf-8"), "utf-8")
    return tmp_path


def test_a_new_stage_gets_a_page(tmp_path, monkeypatch):
    root = planted(tmp_path)
    monkeypatch.setitem(options.stage_class.__globals__["plugins"].BUILTIN["stages"], "count", "fake_stages:Count")
    pages = options.updated(root, [*BUILTIN["stages"]])
    page = pages[root / "docs/stages/count.md"]
    assert "A random walk of four Gaussians" in page and "| `steps` | `int` | `6` | How far it walks." in page
    assert "Within `inner`:" in page and "| `gain` | `1.0` | A factor. |" in page and options.TODO in page
    assert "stages/count.md" in pages[root / options.SITE] and "(count.md)" in pages[root / options.INDEX]


def test_stale_options_are_found_and_repaired(tmp_path):
    root = planted(tmp_path)
    page = root / "docs/stages/radiance.md"
    text = page.read_text("utf-8")
    page.write_text(text.replace("`7000`", "`8000`"), "utf-8")
    assert page.read_text("utf-8") != text and options.updated(root)[page] == text


def test_a_new_page_is_listed(tmp_path):
    root = planted(tmp_path)
    (root / "docs/zebra.md").write_text("# Zebra", "utf-8")
    assert "      - zebra.md\n" in options.updated(root)[root / options.SITE]


def test_options_of_a_stage_that_is_gone_are_a_mistake(tmp_path):
    root = planted(tmp_path)
    with pytest.raises(ValueError, match=r"there is no stage 'paint'"):
        options.updated(root, [name for name in BUILTIN["stages"] if name != "paint"])
