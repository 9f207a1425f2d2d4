"""The harness of ablations: what it keeps over a kill, and its sums."""

import json

import pytest

from benchmarks.relightable_ablation import DEFAULT, SHOWN, Case, Results, show, summary, wins


def case(variant: str, seed: int, capture: str = "spot") -> Case:
    return Case(capture, variant, seed, ("a=1", "b=2"))


def row(decibels: float, light: float = 0.1) -> dict[str, float]:
    return dict.fromkeys(SHOWN, 0.0) | {"relit, per channel, dB": decibels, "baked light, share": light}


def test_results_are_kept_and_a_cut_line_is_not_believed(tmp_path):
    path = tmp_path / "results.jsonl"
    results = Results(path, "code")
    results.add(case("x", 0), row(20))
    results.add(case("x", 1), row(21))
    path.write_text(path.read_text()[:-9])
    again = Results(path, "code")
    assert again.rows == {case("x", 0): row(20)}
    again.add(case("x", 1), row(22))
    assert Results(path, "code").rows == {case("x", 0): row(20), case("x", 1): row(22)}
    assert Results(path, "other code").rows == {}
    assert all(json.loads(line)["code"] for line in path.read_text().splitlines()[1:2])


def test_differences_are_of_the_same_captures_and_seeds():
    rows = {
        case(DEFAULT, 0): row(20), case(DEFAULT, 1): row(30), case("less", 0): row(19), case("less", 1): row(28.8),
        case("more", 0): row(21, -0.02), case("more", 1): row(31, -0.02),
    }  # fmt: skip
    table = summary(rows)
    found = table["less"]["relit, per channel, dB"]
    assert found["mean"] == pytest.approx(23.9) and found["spread"] == pytest.approx(9.8 / 2**0.5)
    assert found["difference"] == pytest.approx(-1.1) and found["spread of difference"] == pytest.approx(0.2 / 2**0.5)
    better = wins(table)
    assert [text.split(" by ")[0] for text in better] == [
        "more: relit, per channel, dB", "more: baked light, share",
    ]  # fmt: skip
    assert "more" in show(table) and "+1.000" in show(table)


def test_captures_count_alike():
    rows = {case(DEFAULT, 0): row(20), case(DEFAULT, 0, "sample"): row(30)}
    cell = summary(rows)[DEFAULT]["relit, per channel, dB"]
    assert cell["mean"] == 25 and cell["spread"] == 0
