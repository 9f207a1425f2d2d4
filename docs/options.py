"""Write what the code says of stages into docs/stages/, and the pages there are into mkdocs.yml, between comment lines.

Options go between `<!-- options:begin STAGE -->` and `<!-- options:end -->`.  A stage that no page names gets a page
with the parts that somebody has to write.

python -m docs.options            rewrite
python -m docs.options --check    exit with 1 if something is out of date
"""

from __future__ import annotations

import argparse
import re
import sys
import typing
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path

from docs.pages import rewrite
from relight.config import stage_class
from relight.config.options import Option, options_of, summary
from relight.plugins import BUILTIN

ROOT = Path(__file__).parents[1]
INDEX = "docs/stages/index.md"
SITE = "mkdocs.yml"
OPTIONS = re.compile(r"(<!-- options:begin (\w+) -->\n).*?(?=<!-- options:end -->)", re.DOTALL)
STAGES = re.compile(r"(<!-- stages:begin -->\n).*?(?=<!-- stages:end -->)", re.DOTALL)
CONTENTS = re.compile(r"( *# stages:begin\n).*?(?= *# stages:end)", re.DOTALL)
RESULTS = re.compile(r"( *# results:begin\n).*?(?= *# results:end)", re.DOTALL)
TODO = "To be written."
"""Stands where a person has to say something."""
PAGE = """\
# {name}

{summary}

## Idea

{todo}

## Here

{todo}

## Options

<!-- options:begin {name} -->
<!-- options:end -->

## What it can't do

{todo}
"""


def updated(root: Path = ROOT, stages: typing.Iterable[str] = tuple(BUILTIN["stages"])) -> dict[Path, str]:
    """Every file that shows something of stages, and its text as it should be.

    Raises ValueError for a page that names an unknown stage, and where the comment lines are missing.
    """
    pages = {page: page.read_text(encoding="utf-8") for page in sorted((root / "docs/stages").glob("*.md"))}
    places = {found[2]: page for page, text in pages.items() for found in OPTIONS.finditer(text)}
    for name in set(places) - set(stages):
        raise ValueError(f"{places[name]}: there is no stage {name!r}; remove its options")
    for name in stages:
        if name not in places:
            places[name] = root / f"docs/stages/{name}.md"
            pages[places[name]] = PAGE.format(name=name, summary=summary(stage_class(name)), todo=TODO)
    for page, text in pages.items():
        pages[page] = OPTIONS.sub(lambda found: f"{found[1]}{options_text(found[2])}\n", text)
    ordered = {name: places[name] for name in stages}
    index, site = root / INDEX, root / SITE
    pages[index] = _filled(STAGES, pages[index], stages_text(ordered), index)
    contents = _filled(CONTENTS, site.read_text(encoding="utf-8"), contents_text(ordered, root / "docs"), site)
    pages[site] = _filled(RESULTS, contents, results_text(contents, root / "docs"), site)
    return pages


def options_text(stage: str) -> str:
    """Markdown: what a stage needs and gives, its options, and one table for all options that have options."""
    cls = stage_class(stage)
    hints = typing.get_type_hints(cls)
    options = options_of(cls)
    groups = {option.name: hints[option.name] for option in options if is_dataclass(hints[option.name])}
    needs, gives = (", ".join(f"`{part}`" for part in getattr(cls, which)) or "nothing" for which in ("needs", "gives"))
    lines = [f"`{stage}` needs {needs}; gives {gives}.", "", "| option | type | default | meaning |"]
    lines += ["| --- | --- | --- | --- |"]
    for option in options:
        inside = option.name in groups
        kind, default = ("options", "see below") if inside else (f"`{option.type}`", _default(option))
        lines.append(f"| `{option.name}` | {_cell(kind)} | {_cell(default)} | {_cell(option.help)} |")
    return "\n".join([*lines, *(_within(groups) if groups else ())])


def _within(groups: dict[str, type]) -> Iterator[str]:
    """A table of the options within options: a column for the defaults of each."""
    tables = {name: {option.name: option for option in options_of(cls)} for name, cls in groups.items()}
    every = {name: option for table in tables.values() for name, option in table.items()}
    yield from ("", f"Within {', '.join(f'`{name}`' for name in groups)}:", "")
    yield f"| option | {' | '.join(groups)} | meaning |"
    yield "| --- |" + " --- |" * len(groups) + " --- |"
    for name, option in every.items():
        defaults = [_default(table[name]) if name in table else "" for table in tables.values()]
        yield f"| `{name}` | {' | '.join(map(_cell, defaults))} | {_cell(option.help)} |"


def stages_text(places: dict[str, Path]) -> str:
    """Markdown: a line a stage, with a link to its page."""
    lines = ["| stage | | needs | gives |", "| --- | --- | --- | --- |"]
    for name, page in places.items():
        cls = stage_class(name)
        anchor = "" if page.stem == name else f"#{name}"
        needs, gives = (", ".join(getattr(cls, which)) for which in ("needs", "gives"))
        lines.append(f"| [`{name}`]({page.name}{anchor}) | {_cell(summary(cls))} | {needs} | {gives} |")
    return "\n".join(lines)


def contents_text(places: dict[str, Path], docs: Path) -> str:
    """The pages of stages as mkdocs.yml lists them, in the stages' order."""
    pages = dict.fromkeys(page.relative_to(docs).as_posix() for page in places.values())
    return "\n".join(f"      - {page}" for page in pages)


def results_text(contents: str, docs: Path) -> str:
    """The pages at the top of docs/ that mkdocs.yml doesn't name elsewhere, as it lists them."""
    elsewhere = set(re.findall(r"- ([\w/]+\.md)", RESULTS.sub("", contents)))
    names = sorted({page.name for page in docs.glob("*.md")} - elsewhere)
    return "\n".join(f"      - {name}" for name in names)


def _filled(between: re.Pattern[str], text: str, new: str, path: Path) -> str:
    filled, count = between.subn(lambda found: f"{found[1]}{new}\n", text)
    if count != 1:
        raise ValueError(f"{path}: expected one pair of comment lines like {between.pattern}, found {count}")
    return filled


def _default(option: Option) -> str:
    return "required" if option.default is None else f"`{option.default}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if out of date")
    options = parser.parse_args(arguments)
    try:
        return rewrite(updated(), "docs.options", options.check)
    except (OSError, ValueError) as error:
        print(f"docs.options: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
