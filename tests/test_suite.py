"""The benchmark set at a small size: it runs scripts as they are, keeps to its folder, and says what failed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import suite
from benchmarks.record import RESULTS
from relight.cli import main

SCRIPTS = {p.stem for p in Path(suite.__file__).parent.glob("*.py")}


def test_the_set_names_scripts_that_there_are():
    assert {small.script for small in suite.SUITE} <= SCRIPTS
    others = {name.strip() for names in suite.ELSEWHERE for name in names.split(",")}
    assert {n for n in others if n not in SCRIPTS and n != "headless"} == set()


def test_every_figure_is_in_the_set_or_said_not_to_be():
    recorded = {p.stem for p in Path(suite.__file__).parent.glob("*.py") if "record(" in p.read_text("utf-8")}
    others = {name.strip() for names in suite.ELSEWHERE for name in names.split(",")}
    assert recorded - {small.script for small in suite.SUITE} - others - {"record"} == set()


def test_smoke(tmp_path: Path, capsys):
    kept = {p: p.stat().st_mtime_ns for p in RESULTS.glob("*.json")}
    assert main(["bench", "--smoke", "--only", "shading_furnace", "format_speed", "-o", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "shading_furnace" in shown and "format_speed" in shown and "not in this set" in shown
    assert json.loads((tmp_path / "shading_furnace.json").read_text())["value"] < 1
    assert {p: p.stat().st_mtime_ns for p in RESULTS.glob("*.json")} == kept


def test_a_script_that_fails_is_told_and_the_others_run(tmp_path: Path, monkeypatch, capsys):
    failing = suite.Small("shading_furnace", ("--samples", "many"))
    lacking = suite.Small("splat_speed", needs="a_program_that_is_nowhere")
    monkeypatch.setattr(suite, "SUITE", (failing, lacking))
    assert main(["bench", "-o", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "exit code 2" in shown and "skipped: needs a_program_that_is_nowhere" in shown
    assert "invalid" in (tmp_path / "shading_furnace.log").read_text()


@pytest.mark.parametrize(
    "said, error",
    [
        (["--only", "splat_sped"], "did you mean 'splat_speed'"),
        (["--smoke", "--only", "soak"], "none of --only"),
    ],
)
def test_what_is_refused(said, error, capsys):
    assert main(["bench", *said]) == 2
    assert error in capsys.readouterr().err
