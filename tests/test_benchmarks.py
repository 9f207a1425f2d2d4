"""The benchmark frame: committed results are valid, and the README shows them."""

import json
from pathlib import Path

import pytest

from benchmarks import tables
from benchmarks.record import RESULTS, problems, record


@pytest.fixture
def written(tmp_path, capsys):
    detail = {
        "title": "splat | forward",
        "milliseconds": {"gaussians": {"3000": 1.5, "30000": 12.25}, "size": {"100": 3}},
    }
    result = record("splat_speed", 12.25, "ms", peer="the twin", ratio=310.4, detail=detail, folder=tmp_path)
    return tmp_path, result, capsys.readouterr().out


def test_record_prints_a_line_and_writes_a_valid_file(written):
    folder, result, printed = written
    assert json.loads(printed)["ratio"] == 310.4 and printed.count("\n") == 1
    assert json.loads((folder / "splat_speed.json").read_text()) == result
    assert problems(result) == []
    assert result["machine"]["cores"] >= 1 and result["machine"]["cpu"]
    assert tables.load(folder) == [result]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": float("nan")}, "not finite"),
        ({"value": 3}, "wrong type"),
        ({"ratio": -1.0}, "positive"),
        ({"ratio": 2.0, "peer": None}, "needs a peer"),
        ({"name": "Splat-Speed"}, "lower-case"),
        ({"unit": " "}, "unit"),
        ({"schema": 2}, "schema"),
        ({"date": "yesterday"}, "ISO"),
        ({"machine": {}}, "machine.cpu"),
        ({"detail": {"x": float("inf")}}, "detail"),
        ({"surprise": 1}, "unknown field"),
    ],
)
def test_invalid_results_are_found(written, change, message):
    assert any(message in p for p in problems(written[1] | change))


def test_missing_fields_are_found(written):
    for key in written[1]:
        assert problems({k: v for k, v in written[1].items() if k != key}) == [f"{key}: missing"]
    assert problems([]) == ["expected a JSON object"]


def test_record_refuses_nonsense(tmp_path):
    with pytest.raises(ValueError, match="not finite"):
        record("x", float("inf"), "ms", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_tables_go_between_the_markers_and_nowhere_else(written, tmp_path, capsys):
    folder = written[0]
    record("lonely", 1.0, "ms", folder=folder)
    readme = tmp_path / "README.md"
    readme.write_text(f"# before\n{tables.BEGIN}\nold\n{tables.END}\n# after\n")
    page = tmp_path / "pages" / "speed.md"
    page.parent.mkdir()
    page.write_text(f"# before\n<!-- benchmarks:begin splat_speed -->\n{tables.END}\nafter\n")
    options = ["--readme", str(readme), "--results", str(folder), "--docs", str(page.parent)]
    assert tables.main([*options, "--check"]) == 1
    assert tables.main(options) == 0 and tables.main([*options, "--check"]) == 0
    text = readme.read_text()
    assert text.startswith("# before\n<!-- ") and text.endswith(" -->\n# after\n") and "old" not in text
    assert "| splat \\| forward | 12.2 ms | the twin | 310x |" in text
    assert "gaussians" not in text and "lonely" not in text  # it has no peer
    one = page.read_text()
    assert one.startswith("# before\n<!-- benchmarks:begin splat_speed -->\n| |") and one.endswith("-->\nafter\n")
    assert "| gaussians | 3000: 1.50 | 30000: 12.2 |" in one
    page.write_text(one.replace("12.2", "99.9"))
    assert tables.main([*options, "--check"]) == 1 and "speed.md is out of date" in capsys.readouterr().err
    page.write_text(one.replace("begin splat_speed", "begin all"))
    assert tables.main(options) == 0
    assert "| gaussians | 3000: 1.50 | 30000: 12.2 |" in page.read_text() and "lonely" in page.read_text()
    page.write_text(one.replace("begin splat_speed", "begin splat_sped"))
    assert tables.main(options) == 2 and "splat_sped" in capsys.readouterr().err
    page.unlink()
    readme.write_text("# no markers\n")
    assert tables.main(options) == 2 and "expected one line" in capsys.readouterr().err


def test_a_damaged_result_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match=r"a\.json: not JSON"):
        tables.load(tmp_path)
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ValueError, match=r"a\.json: schema: missing"):
        tables.load(tmp_path)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.00"), (1.5, "1.50"), (99.94, "99.9"), (12345.6, "12346"), (0.012345, "0.0123"), (1e-9, "1.00e-09")],
)
def test_numbers_are_readable(value, text):
    assert tables._number(value) == text


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda p: p.stem)
def test_committed_results_are_valid(path: Path):
    result = json.loads(path.read_text(encoding="utf-8"))
    assert problems(result) == [] and result["name"] == path.stem


def test_pages_show_the_committed_results():
    if not tables.README.exists() or tables.BEGIN not in tables.README.read_text(encoding="utf-8"):
        pytest.skip("README.md has no benchmark tables")
    assert tables.main(["--check"]) == 0, "run: python -m benchmarks.tables"
