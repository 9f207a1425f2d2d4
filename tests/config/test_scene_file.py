"""Scene files: what is accepted, and what every mistake is answered with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fake_stages import Count

from relight.config import Config, load_config, resolved_text
from relight.errors import ConfigError

MINIMAL = "data: capture\nstages:\n  - use: fake_stages:Count\n"


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Loads text as ./scene.yaml of an empty folder."""
    monkeypatch.chdir(tmp_path)

    def load(text: str, *words: str, name: str = "scene.yaml") -> Config:
        Path(name).write_text(text, encoding="utf-8")
        return load_config(name, words)

    return load


@pytest.fixture
def problems(load):
    """The problems of a text, which has some."""

    def problems(text: str, *words: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(text, *words)
        assert str(caught.value) == "\n".join(caught.value.problems)
        return caught.value.problems

    return problems


def count_of(config: Config) -> Count:
    (stage,) = config.stages
    assert isinstance(stage.stage, Count)
    return stage.stage


def test_defaults(load, tmp_path):
    config = load(MINIMAL)
    assert config.data.path == tmp_path / "capture"
    assert (config.data.format, config.data.test_every, config.data.max_size) == ("auto", 8, None)
    assert (config.seed, config.device, config.backend) == (0, "auto", "auto")
    assert config.output == tmp_path / "runs" / tmp_path.name, "a scene.yaml is named after its folder"
    assert config.source == tmp_path / "scene.yaml"
    assert count_of(config) == Count()
    assert [(s.name, s.target) for s in config.stages] == [("count", "fake_stages:Count")]


def test_the_run_is_named_after_a_file_that_has_a_name(load, tmp_path):
    assert load(MINIMAL, name="fox.yaml").output == tmp_path / "runs" / "fox"


def test_a_folder_stands_for_the_scene_file_in_it(load, tmp_path):
    load(MINIMAL)
    assert load_config(tmp_path).data.path == tmp_path / "capture"


def test_paths_are_relative_to_the_file_and_output_to_where_the_command_runs(load, tmp_path):
    (tmp_path / "sub").mkdir()
    config = load(MINIMAL.replace("capture", "../photos") + "output: out\n", name="sub/a.yaml")
    assert config.data.path == tmp_path / "photos"
    assert config.output == tmp_path / "out"
    assert load(MINIMAL + "output: .\n", name="sub/a.yaml").output == tmp_path / "sub"


READ = "data: capture\nstages:\n  - use: fake_stages:Read\n"


def test_files_of_options_are_relative_to_what_names_them(load, tmp_path, monkeypatch):
    for name in ("sub/table.txt", "sub/known", "sub/prior.safetensors", "here/table.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    text = READ + "    table: table.txt\n"
    read = load(text + "    prior: prior.safetensors\n", name="sub/a.yaml").stages[0].options
    assert read == {"table": str(tmp_path / "sub/table.txt"), "prior": str(tmp_path / "sub/prior.safetensors")}
    for prior, meant in {"known": "known", "./known": str(tmp_path / "sub/known"), "hub/model": "hub/model"}.items():
        assert load(f"{text}    prior: {prior}\n", name="sub/a.yaml").stages[0].options["prior"] == meant
    monkeypatch.chdir(tmp_path / "here")
    config = load_config("../sub/a.yaml", ["read.table=table.txt"])
    assert config.stages[0].options["table"] == str(tmp_path / "here/table.txt")


def test_a_file_that_an_option_names_and_that_is_not_there(problems, tmp_path):
    assert problems(READ + "    table: none.txt\n") == [
        f"scene.yaml:4:12: read.table: no such file: {tmp_path / 'none.txt'}; correct the path"
    ]


def test_every_problem_at_once_in_the_order_of_the_lines(problems):
    text = """\
data: {path: c, test_evry: 3, max_size: 2}
seed: true
sed: 3
device: gpu
backend: splat_cpuu
stages:
  - radiance:
      itertions: 5
      iterations: abc
      sh_degree: true
      density: mcm
  - radiace
  - use: nonsense
  - use: no_such_package.module:Thing
  - use: fake_stages:Cuont
  - use: fake_stages:NotAStage
  - use: fake_stages:Unfinished
  - use: fake_stages:Count
    steps: 0
    inner: {gian: 2, count: true}
    tags: [a, 1]
"""
    expected = [
        "scene.yaml:1:17: data.test_evry: unknown option, did you mean 'test_every'? (got 3)",
        "scene.yaml:1:41: data.max_size: expected at least 8 pixels (got 2)",
        "scene.yaml:2:7: seed: expected a number (got true)",
        "scene.yaml:3:1: sed: unknown option, did you mean 'seed'? (got 3)",
        "scene.yaml:4:9: device: expected 'auto', 'cpu' or 'cuda' (got 'gpu')",
        "scene.yaml:5:10: backend: unknown splat backend 'splat_cpuu', did you mean 'splat_cpu'?",
        "scene.yaml:8:7: radiance.itertions: unknown option, did you mean 'iterations'? (got 5)",
        "scene.yaml:9:19: radiance.iterations: expected a valid integer (got 'abc')",
        "scene.yaml:10:18: radiance.sh_degree: expected a number (got true)",
        "scene.yaml:11:16: radiance.density: expected 'default' or 'mcmc' (got 'mcm')",
        "scene.yaml:12:5: unknown stage 'radiace', did you mean 'radiance'?",
        "scene.yaml:13:10: use: expected package.module:Class (got 'nonsense')",
        "scene.yaml:14:10: use: no_such_package.module:Thing: no module 'no_such_package' in this Python; "
        "install its package, or put its folder on PYTHONPATH",
        "scene.yaml:15:10: use: fake_stages:Cuont: fake_stages has no 'Cuont', did you mean 'Count'?",
        "scene.yaml:16:10: fake_stages:NotAStage: is not a stage; expected a class derived from Stage",
        "scene.yaml:17:10: fake_stages:Unfinished: is not a stage; expected a class derived from Stage",
        "scene.yaml:19:12: count.steps: expected 1 or more (got 0)",
        "scene.yaml:20:13: count.inner.gian: unknown option, did you mean 'gain'? (got 2)",
        "scene.yaml:20:29: count.inner.count: expected a number (got true)",
        "scene.yaml:21:15: count.tags.1: expected a valid string (got 1)",
    ]
    assert problems(text) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("seed: -1", "2:7: seed: expected 0 or more (got -1)"),
        ("seed: 9223372036854775808", "2:7: seed: expected 0 or more"),
        ("seed: 1.5", "2:7: seed: expected a valid integer"),
        ("seed: [1]", "2:7: seed: expected a valid integer (got [1])"),
        ("output: 3", "2:9: output: expected a valid string (got 3)"),
        ("backend: null", "2:10: backend: expected a valid string (got null)"),
        ("device: null", "2:9: device: expected 'auto', 'cpu' or 'cuda' (got null)"),
    ],
)
def test_wrong_values_at_the_top(problems, line, expected):
    (problem,) = problems(f"data: capture\n{line}\nstages:\n  - use: fake_stages:Count\n")
    assert problem.startswith(f"scene.yaml:{expected}")


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("steps: -3", "count.steps: expected 1 or more (got -3)"),
        ("steps: 1e3.5", "count.steps: expected a valid integer (got '1e3.5')"),
        ("steps: null", "count.steps: expected a valid integer (got null)"),
        ("steps: {a: 1}", "count.steps: expected a valid integer (got {'a': 1})"),
        ("size: .nan", "count.size: expected a finite number (got nan)"),
        ("size: -.inf", "count.size: expected a finite number (got -inf)"),
        ("size: false", "count.size: expected a number (got false)"),
        ("limit: true", "count.limit: expected a number (got true)"),
        ("limit: many", "count.limit: expected a valid integer (got 'many')"),
        ("mode: yes", "count.mode: expected 'even' or 'odd' (got 'yes')"),
        ("mode: true", "count.mode: expected 'even' or 'odd' (got true)"),
        ("inner: 3", "count.inner: expected `option: value` lines (got 3)"),
        ("tags: one", "count.tags: expected a valid tuple (got 'one')"),
        ("needs: [views]", "count.needs: unknown option"),
        ("version: 7", "count.version: unknown option"),
        ("run: 7", "count.run: unknown option"),
    ],
)
def test_wrong_values_of_a_stage(problems, option, expected):
    (problem,) = problems(f"{MINIMAL}    {option}\n")
    column = 5 if "unknown" in expected else 5 + option.index(":") + 2
    assert problem.startswith(f"scene.yaml:4:{column}: {expected}")


def test_every_option_out_of_range_is_told_at_its_place(problems):
    text = "data: c\nstages:\n  - radiance:\n      iterations: 0\n      sh_degree: 4\n      dssim_weight: -0.1\n"
    assert problems(text + "      rate_sh: -1\n", "radiance.initial_opacity=1") == [
        "scene.yaml:4:19: radiance.iterations: expected 1 or more (got 0)",
        "scene.yaml:5:18: radiance.sh_degree: expected 0 to 3 (got 4)",
        "scene.yaml:6:21: radiance.dssim_weight: expected 0 to 1 (got -0.1)",
        "scene.yaml:7:16: radiance.rate_sh: expected 0 or more (got -1.0)",
        "command line 'radiance.initial_opacity=1': radiance.initial_opacity: expected 0.001 to 0.999 (got 1.0)",
    ]


def test_good_values_of_a_stage(load):
    options = ("steps: 0x10", "size: 1e-1", "limit: null", "tags: [a, b]", "inner: {gain: 2}")
    text = MINIMAL + "".join(f"    {option}\n" for option in options)
    count = count_of(load(text))
    assert (count.steps, count.size, count.limit, count.tags, count.inner.gain) == (16, 0.1, None, ("a", "b"), 2.0)


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ("stages: radiance", "1:9: stages: expected a list, one `- name: {options}` a stage"),
        ("stages:\n  radiance: {}", "2:3: stages: expected a list"),
        ("stages:\n  - 5", "2:5: stages: expected a name, `name: {options}` or `{use: module:Class, options}`"),
        ("stages:\n  - {}", "2:5: stages: expected a name"),
        ("stages:\n  - [radiance]", "2:5: stages: expected a name"),
        ("stages:\n  - radiance: 7", "2:15: radiance: expected `option: value` lines (got 7)"),
        ("stages:\n  - radiance:\n    iterations: 9", "3:5: iterations: indent this under `radiance:`"),
        ("stages:\n  - use: 3", "2:10: use: expected package.module:Class (got 3)"),
        ("stages:\n  - use: 'a:b:c'", "2:10: use: expected package.module:Class"),
        ("stages: []", "1:9: stages: is empty; list at least one"),
        ("stages:", "1:1: stages: missing; list stages, or name a preset; there are: full, quick"),
        ("seed: 1", "1:1: stages: missing"),
    ],
)
def test_stages_that_are_none(problems, stages, expected):
    (problem,) = problems(f"{stages}\ndata: capture\n")
    assert problem.startswith(f"scene.yaml:{expected}")


def test_missing_data(problems):
    assert problems("stages:\n  - use: fake_stages:Count\n") == ["scene.yaml:1:1: data: missing; it has no default"]
    assert problems("data: {test_every: 2}\nstages:\n  - use: fake_stages:Count\n") == [
        "scene.yaml:1:7: data.path: missing; it has no default"
    ]


def test_a_misread_required_option_is_one_problem(problems):
    (problem,) = problems("data: {path: true}\nstages:\n  - use: fake_stages:Count\n")
    assert problem.startswith("scene.yaml:1:14: data.path: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data: [1\nstages: x", r"scene\.yaml:2:\d+: not valid YAML: .*expected ',' or ']'"),
        ("data: 'open\n", r"scene\.yaml:2:1: not valid YAML: .*unexpected end of stream"),
        ("data: c\n\tstages: x\n", r"scene\.yaml:2:1: not valid YAML: .*found character '\\t'"),
        ("data: c\n  stages: x\n", r"scene\.yaml:2:9: not valid YAML: mapping values are not allowed here"),
        ("a: b\n---\nc: d\n", r"scene\.yaml:2:1: not valid YAML: .*expected a single document"),
        ("data: \x07\n", r"scene\.yaml:1:7: not valid YAML: character .* is not allowed"),
        ("- data\n", r"scene\.yaml:1:1: expected `name: value` lines at the top of the file"),
        ("just words\n", r"scene\.yaml:1:1: expected `name: value` lines"),
        ("", r"scene\.yaml: is empty; `relight new FOLDER` writes a scene file to start from"),
        ("# only a comment\n", r"scene\.yaml: is empty"),
        ("data: *nobody\n", r"scene\.yaml:1:7: not valid YAML: found undefined alias 'nobody'"),
        ("data: &a [*a]\n", r"scene\.yaml:1:\d+: an alias \(\*name\) contains itself"),
        ("a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
            f"{chr(ord(c) + 1)}: &{chr(ord(c) + 1)} [{','.join([f'*{c}'] * 10)}]\n" for c in "abcdefgh"
        ), r"scene\.yaml:\d+:\d+: more than 20000 values once aliases"),
        ("[" * 5000, r"scene\.yaml:1:1: nested too deeply"),
    ],
)  # fmt: skip
def test_not_yaml(problems, text, expected):
    (problem,) = problems(text)
    assert re.match(expected, problem), problem


def test_yaml_that_we_refuse_is_reported_all_at_once(problems):
    text = "data: c\ndata: d\n1: x\n? [a]\n: y\n<<: {seed: 1}\nseed: !!python/object:os.system x\nstages: !mine []\n"
    assert problems(text) == [
        "scene.yaml:2:1: 'data' is already given in line 1; keep one",
        "scene.yaml:3:1: names must be words, found '1'",
        "scene.yaml:4:3: names must be words, found a list or a mapping",
        "scene.yaml:6:1: merge keys (<<) are not supported; use `preset:`",
        "scene.yaml:7:7: tags (!!python/object:os.system) are not allowed; write the plain value",
        "scene.yaml:8:9: tags (!mine) are not allowed; write the plain value",
    ]


def test_duplicates_within_a_stage(problems):
    assert problems(MINIMAL + "    steps: 3\n    steps: 4\n") == [
        "scene.yaml:5:5: 'steps' is already given in line 4; keep one"
    ]


@pytest.mark.parametrize("make", [
    lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\xff\xfe"),
    lambda p: p.write_bytes("data: Höhle".encode("latin-1")),
    lambda p: p.write_bytes(b"#" * ((1 << 20) + 1)),
    lambda p: p.mkdir(),
    lambda p: None,
])  # fmt: skip
def test_files_that_are_no_text(tmp_path, make):
    path = tmp_path / "scene.yaml"
    make(path)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    (problem,) = caught.value.problems
    assert problem.startswith(str(path))
    expected = ("not a text file in UTF-8", "larger than", "cannot be read (No such file or directory)")
    assert any(e in problem for e in expected)


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path):
    path = tmp_path / "scene.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert count_of(load_config(path)) == Count()


def test_yes_is_a_word_and_1e_4_a_number(load):
    config = load("data: no\nstages:\n  - use: fake_stages:Count\n    size: 1e-4\n    tags: [on, 'true', ~x]\n")
    assert config.data.path.name == "no"
    assert count_of(config).size == 1e-4
    assert count_of(config).tags == ("on", "true", "~x")


def test_a_stage_by_another_renderer_has_its_name_and_options(load, problems):
    text = "data: capture\nstages:\n  - distill: {renderer: mesh, iterations: 7}\n"
    (stage,) = load(text, "distill.samples=3").stages
    assert stage.name == "materials" and stage.target is None
    assert (stage.options["iterations"], stage.options["samples"]) == (7, 3)
    assert load(text.replace("renderer: mesh, iterations: 7", "renderer: splat")).stages[0].name == "distill"
    (wrong,) = problems(text.replace("mesh, iterations: 7", "points"))
    assert "distill.renderer: expected 'splat' or 'mesh'" in wrong


def test_two_stages_of_one_name_keep_their_order(load):
    config = load(MINIMAL + "    steps: 3\n  - use: fake_stages:Count\n    steps: 4\n")
    assert [s.stage.steps for s in config.stages] == [3, 4]  # type: ignore[attr-defined]


SCENES = {
    "minimal": MINIMAL,
    "all": """\
data: {path: 'my #1: photos', format: colmap, test_every: 0, max_size: 300, masks: "m", masks_are_alpha: false}
output: elsewhere/deep
seed: 12
device: cpu
backend: reference
stages:
  - radiance: {iterations: 500, rate_means: 1e-5, background: white, exposure: true}
  - use: fake_stages:Count
    tags: ["on", "1", "", "a: b", "#", "é"]
    inner: {gain: 1e-30}
    limit: 3
  - use: fake_stages:Shift
    by: -0.1
""",
    "preset": "preset: quick\ndata: .\n",
}


@pytest.mark.parametrize("text", SCENES.values(), ids=SCENES)
def test_the_resolved_text_means_the_same(load, tmp_path, text):
    config = load(text)
    folder = tmp_path / "a" / "run"
    folder.mkdir(parents=True)
    (folder / "scene.yaml").write_text(resolved_text(config, folder), encoding="utf-8")
    again = load_config(folder)
    assert again == config
    assert resolved_text(again, folder) == resolved_text(config, folder)


def test_the_resolved_text_in_the_output_itself_says_so(load, tmp_path):
    config = load(MINIMAL + "output: out\n")
    assert "\noutput: .\n" in resolved_text(config, tmp_path / "out")
