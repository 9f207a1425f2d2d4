"""Write the measured numbers into README.md and docs/*.md, between comment lines, from the files under results/.

README.md gets a line for each result that has a peer, between BEGIN and END.  Between `<!-- benchmarks:begin NAME -->`
and END of a page goes all of one result, or with the name `all` of every one.

python -m benchmarks.tables            rewrite the tables
python -m benchmarks.tables --check    exit with 1 if they are out of date
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.record import RESULTS, problems
from docs.pages import rewrite

README = Path(__file__).parents[1] / "README.md"
DOCS = README.parent / "docs"
BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
ALL = "all"
ONE = re.compile(r"(<!-- benchmarks:begin (\w+) -->\n).*?(?=" + re.escape(END) + ")", re.DOTALL)


def load(folder: Path = RESULTS) -> list[dict]:
    """All results, by name.  Raises `ValueError` naming the file that is invalid."""
    results = []
    for path in sorted(folder.glob("*.json")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: not JSON: {error}") from None
        found = problems(result)
        if not found and result["name"] != path.stem:
            found = [f"name: {result['name']!r} differs from the file's"]
        if found:
            raise ValueError(f"{path}: {'; '.join(found)}")
        results.append(result)
    return results


def summary(results: list[dict]) -> str:
    """Markdown: one line a result."""
    if not results:
        return "No benchmark has been run yet."
    lines = ["| | measured | against | better by |", "| --- | ---: | --- | ---: |"]
    for r in results:
        ratio = "" if r["ratio"] is None else f"{_number(r['ratio'])}x"
        lines.append(f"| {_title(r)} | {_number(r['value'])} {_cell(r['unit'])} | {_cell(r['peer'] or '')} | {ratio} |")
    return "\n".join(lines)


def tables(results: list[dict]) -> str:
    """The summary, a small table for each mapping of mappings in a result's detail, and where it was measured."""
    lines = [summary(results)]
    for r in results:
        for key, table in r["detail"].items():
            if _is_table(table):
                lines += ["", f"{_title(r)}, {_words(key)}:", "", *_small_table(table)]
    return "\n".join([*lines, "", *_provenance(results)])


def replaced(readme: str, results: list[dict]) -> str:
    """The README's text with a fresh summary.  Raises `ValueError` if the two comment lines are not there once each."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or readme.index(BEGIN) > readme.index(END):
        raise ValueError(f"expected one line {BEGIN} and, after it, one line {END}")
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{summary([r for r in results if r['peer']])}\n{END}{rest.split(END)[1]}"


def replaced_one(page: str, results: list[dict]) -> str:
    """The page's text with fresh tables of the results that it names.  Raises `ValueError` for an unknown one."""
    known = {r["name"]: r for r in results}

    def fresh(found: re.Match[str]) -> str:
        if found[2] == ALL:
            return f"{found[1]}{tables(results)}\n"
        if found[2] not in known:
            raise ValueError(f"{found[1].strip()}: expected the name of a result; known: {', '.join(known)}")
        return f"{found[1]}{tables([known[found[2]]])}\n"

    return ONE.sub(fresh, page)


def _title(result: dict) -> str:
    return _cell(str(result["detail"].get("title") or _words(result["name"])))


def _is_table(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(
            isinstance(row, Mapping) and row and all(type(number) in (int, float) for number in row.values())
            for row in value.values()
        )
    )


def _small_table(table: Mapping[str, Mapping[str, float]]) -> list[str]:
    columns, width = list(dict.fromkeys(key for row in table.values() for key in row)), max(map(len, table.values()))
    if len(columns) == width:  # one row at least has them all
        lines = ["| | " + " | ".join(map(_cell, columns)) + " |", "| --- |" + " ---: |" * width]
        rows = [(name, [_number(row[c]) if c in row else "" for c in columns]) for name, row in table.items()]
    else:
        lines = ["| |" + " |" * width, "| --- |" + " ---: |" * width]
        rows = [
            (name, [f"{_cell(key)}: {_number(value)}" for key, value in row.items()] + [""] * (width - len(row)))
            for name, row in table.items()
        ]
    return lines + [f"| {_cell(name)} | " + " | ".join(cells) + " |" for name, cells in rows]


def _provenance(results: list[dict]) -> list[str]:
    """One line for each machine and state of the code that results come from."""
    groups: dict[str, list[str]] = {}
    for r in results:
        m, v = r["machine"], r["versions"]
        simd = "AVX-512" if "avx512f" in m["simd"] else "AVX2" if "avx2" in m["simd"] else ", ".join(m["simd"])
        place = f"{m['cpu']}, {m['cores']} cores, {simd}" + (f", {m['gpu']}" if m.get("gpu") else "")
        text = f"{place}; torch {v['torch']}, Python {v['python']}; commit {r['commit'] or 'unknown'}, {r['date'][:10]}"
        groups.setdefault(text, []).append(_title(r))
    if len(groups) == 1:
        return [f"Measured on {text}." for text in groups]
    return [f"* {', '.join(names)}: {text}." for text, names in groups.items()]


def _number(value: float) -> str:
    """Three significant digits, without an exponent where people read none."""
    if value != 0 and not 1e-3 <= abs(value) < 1e7:
        return f"{value:.2e}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:#.3g}".rstrip(".")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if out of date")
    parser.add_argument("--readme", type=Path, default=README)
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of further pages")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    try:
        results = load(options.results)
        pages = {options.readme: replaced(options.readme.read_text(encoding="utf-8"), results)}
        for page in sorted(options.docs.glob("*.md")):
            pages[page] = replaced_one(page.read_text(encoding="utf-8"), results)
        return rewrite(pages, "benchmarks.tables", options.check)
    except (OSError, ValueError) as error:
        print(f"benchmarks.tables: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
