"""Preset, scene file and command line: who wins, and what a wrong word is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_stages import Count, Inner

from relight.config import Config, load_config, presets
from relight.errors import ConfigError

SCENE = """\
data: capture
stages:
  - use: fake_stages:Count
    steps: 3
  - use: fake_stages:Shift
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Loads text as ./scene.yaml of an empty folder."""
    monkeypatch.chdir(tmp_path)

    def load(text: str, *words: str) -> Config:
        Path("scene.yaml").write_text(text, encoding="utf-8")
        return load_config("scene.yaml", words)

    return load


@pytest.fixture
def problems(load):
    """The problems of SCENE with these words, without where they are."""

    def problems(*words: str, text: str = SCENE) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(text, *words)
        prefix = f"command line '{words[0]}': " if words else "scene.yaml:"
        assert all(p.startswith(prefix) for p in caught.value.problems), caught.value.problems
        return [p.removeprefix(prefix) for p in caught.value.problems]

    return problems


def count_of(config: Config, index: int = 0) -> Count:
    stage = config.stages[index].stage
    assert isinstance(stage, Count)
    return stage


@pytest.mark.parametrize(
    ("word", "option", "value"),
    [
        ("count.steps=9", "steps", 9),
        ("count.steps=0x10", "steps", 16),
        ("count.size=1e-3", "size", 1e-3),
        ("count.size=2", "size", 2.0),
        ("count.mode=odd", "mode", "odd"),
        ("count.mode='odd'", "mode", "odd"),
        ("count.tags=[a, 'b c']", "tags", ("a", "b c")),
        ("count.tags=[a=b]", "tags", ("a=b",)),
        ("count.limit=5", "limit", 5),
        ("count.limit=null", "limit", None),
        ("count.limit=", "limit", None),
        ("count.inner={gain: 3}", "inner", Inner(3.0)),
        ("count.inner.gain=3", "inner", Inner(3.0)),
        ("stages.0.steps=4", "steps", 4),
    ],
)
def test_a_word_sets_an_option(load, word, option, value):
    found = getattr(count_of(load(SCENE, word)), option)
    assert found == value and type(found) is type(value)


def test_words_at_the_top(load, tmp_path):
    config = load(SCENE, "seed=7", "output=out/x", "data.max_size=100", "data.test_every=0", "device=cpu")
    assert (config.seed, config.output, config.device) == (7, tmp_path / "out" / "x", "cpu")
    assert (config.data.path, config.data.max_size, config.data.test_every) == (tmp_path / "capture", 100, 0)


def test_data_of_the_command_line_is_relative_to_where_it_runs_and_keeps_the_other_options(load, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "s.yaml").write_text("data: {path: a, max_size: 50}\nstages:\n  - use: fake_stages:Count\n")
    load(SCENE)
    config = load_config("sub/s.yaml", ["data=other"])
    assert (config.data.path, config.data.max_size) == (tmp_path / "other", 50)
    assert load_config("sub/s.yaml", ["data.path=other"]).data.path == tmp_path / "other"
    assert load_config("sub/s.yaml").data.path == tmp_path / "sub" / "a"


def test_the_last_word_wins(load):
    assert count_of(load(SCENE, "count.steps=9", "count.steps=8")).steps == 8
    assert count_of(load(SCENE, "count.inner.gain=9", "count.inner={count: 2}")).inner == Inner(1.0, 2)


def test_stages_on_the_command_line_replace_the_list_and_keep_options_by_name(load):
    config = load(SCENE, "stages=[{use: fake_stages:Shift}, {use: fake_stages:Count, size: 2}]")
    assert [s.name for s in config.stages] == ["shift", "count"]
    assert (count_of(config, 1).steps, count_of(config, 1).size) == (3, 2.0)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("steps", "expected key=value, for instance radiance.iterations=500"),
        ("=3", "expected key=value, for instance radiance.iterations=500"),
        ("count..steps=3", "expected key=value, for instance radiance.iterations=500"),
        ("count=3", "count: name one of its options, as in count.option=value"),
        ("count.stps=3", "count.stps: unknown option, did you mean 'steps'? (got 3)"),
        ("count.steps=no", "count.steps: expected a valid integer (got 'no')"),
        ("count.steps=0", "count.steps: expected 1 or more (got 0)"),
        ("count.steps=true", "count.steps: expected a number (got true)"),
        ("count.steps.deep=3", "count.steps: is a single value and has no 'deep'"),
        ("count.tags=[a", None),
        ("count.tags=[a]\nb: c", None),
        ("cuont.steps=3", "cuont: neither an option nor a stage of this scene, did you mean 'count'?"),
        ("steps=3", "steps: neither an option nor a stage of this scene; there are: backend, count, data, device, "
            "output, seed, shift"),
        ("stages.2.steps=3", "there is no stage 2; there are 2, counted from 0"),
        ("stages.x.steps=3", "expected stages.NUMBER.option=value; stages count from 0"),
        ("stages.0=3", "expected stages.NUMBER.option=value; stages count from 0"),
        ("stages=3", "stages: expected a list, one `- name: {options}` a stage"),
        ("seed=x", "seed: expected a valid integer (got 'x')"),
        ("backend=spalt_cpu", "backend: unknown splat backend 'spalt_cpu', did you mean 'splat_cpu'?"),
        ("data.max_siz=3", "data.max_siz: unknown option, did you mean 'max_size'? (got 3)"),
        ("data.max_size=true", "data.max_size: expected a number (got true)"),
        ("preset=quik", "preset: unknown preset 'quik', did you mean 'quick'?"),
        ("preset=none.yaml", "preset: unknown preset 'none.yaml'; no such file"),
        ("preset=[quick]", "preset: expected a name or a path (got ['quick'])"),
    ],
)  # fmt: skip
def test_a_wrong_word(problems, word, expected):
    found = problems(word)
    if expected is None:
        assert found[0].startswith("not valid YAML: ")
    else:
        assert found[0] == expected


def test_wrong_words_come_after_the_files_problems(load):
    with pytest.raises(ConfigError) as caught:
        load("sed: 1\n" + SCENE, "count.stps=3", "x")
    assert [p.split(": ")[0] for p in caught.value.problems] == [
        "scene.yaml:1:1", "command line 'count.stps=3'", "command line 'x'",
    ]  # fmt: skip


def test_a_word_for_one_of_two_stages_of_a_name_must_say_which(problems, load):
    twice = SCENE.replace("fake_stages:Shift", "fake_stages:Count")
    (problem,) = problems("count.steps=9", text=twice)
    assert problem == "count: 2 stages have this name; write stages.0.steps or stages.1.steps"
    config = load(twice, "stages.1.steps=9")
    assert [count_of(config, i).steps for i in (0, 1)] == [3, 9]


def test_the_presets_that_come_with_relight_are_valid(load):
    assert {"quick", "full"} <= set(presets())
    for name in presets():
        config = load(f"preset: {name}\ndata: capture\n")
        assert config.stages[0].name == "radiance"
        assert config.stages[0].options["iterations"] == {"quick": 3000, "full": 30000}[name]


def test_preset_below_file_below_command_line(load, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "seed: 1\ndata: {max_size: 400, test_every: 4}\nstages:\n"
        "  - use: fake_stages:Count\n    steps: 30\n    size: 0.25\n    inner: {gain: 2, count: 5}\n"
    )
    text = "preset: mine.yaml\ndata: {path: c, test_every: 5}\n"
    config = load(text)
    assert (config.seed, config.data.max_size, config.data.test_every) == (1, 400, 5)
    assert count_of(config) == Count(steps=30, size=0.25, inner=Inner(2.0, 5))
    config = load(text + "stages:\n  - use: fake_stages:Count\n    size: 1\n    inner: {count: 6}\n", "count.steps=7")
    assert count_of(config) == Count(steps=7, size=1.0, inner=Inner(2.0, 6))
    config = load(text + "stages:\n  - use: fake_stages:Shift\n")
    assert [s.name for s in config.stages] == ["shift"], "a file's list of stages replaces the preset's"


def test_a_preset_on_the_command_line_replaces_the_files(load, tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        (tmp_path / f"{name}.yaml").write_text(f"seed: {seed}\nstages:\n  - use: fake_stages:Count\n")
    text = "preset: a.yaml\ndata: c\n"
    assert load(text).seed == 1
    assert load(text, "preset=b.yaml").seed == 2
    assert load(text, "seed=5", "preset=b.yaml").seed == 5
    with pytest.raises(ConfigError, match="stages: missing"):
        load(text, "preset=null")


def test_a_preset_without_the_files_stage_gives_nothing_to_it(load, tmp_path):
    (tmp_path / "mine.yaml").write_text("stages:\n  - radiance: {iterations: 10}\n")
    config = load("preset: mine.yaml\n" + SCENE)
    assert [s.name for s in config.stages] == ["count", "shift"]


def test_problems_of_a_preset_are_at_its_own_lines(load, tmp_path):
    (tmp_path / "mine.yaml").write_text("sed: 1\npreset: quick\nstages:\n  - use: fake_stages:Count\n    stps: 3\n")
    with pytest.raises(ConfigError) as caught:
        load("preset: mine.yaml\ndata: c\ndvice: cpu\n")
    assert caught.value.problems == [
        "scene.yaml:3:1: dvice: unknown option, did you mean 'device'? (got 'cpu')",
        "mine.yaml:1:1: sed: unknown option, did you mean 'seed'? (got 1)",
        "mine.yaml:2:1: preset: a preset can't have a preset",
        "mine.yaml:5:5: count.stps: unknown option, did you mean 'steps'? (got 3)",
    ]


def test_a_path_in_a_preset_is_relative_to_the_preset(load, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "mine.yaml").write_text("data: photos\nstages:\n  - use: fake_stages:Count\n")
    assert load("preset: sub/mine.yaml\n").data.path == tmp_path / "sub" / "photos"
