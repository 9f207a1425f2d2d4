"""The `relight` command: what each verb prints and writes, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

from relight.cli import VERBS, main
from relight.config import load_config, presets
from relight.scene_io import load_scene
from relight.testing.capture import write_capture

FIT = (
    "data: photos\nstages:\n  - radiance: {iterations: 60, initial_gaussians: 300, max_gaussians: 400, sh_degree: 1}\n"
)
COUNT = "data: photos\nstages:\n  - use: fake_stages:Count\n"


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> Path:
    """A folder with photos/, scene.yaml and the run runs/scene of the real stage."""
    folder = tmp_path_factory.mktemp("fitted")
    write_capture(folder / "photos", views=6, size=32)
    (folder / "scene.yaml").write_text(FIT + f"output: {folder}/runs/scene\n")
    assert main(["fit", str(folder / "scene.yaml"), "--quiet"]) == 0
    return folder


@pytest.fixture
def run(fitted) -> str:
    return str(fitted / "runs" / "scene")


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty working folder with photos/ and a scene of the millisecond stage."""
    monkeypatch.chdir(tmp_path)
    write_capture(tmp_path / "photos", views=4)
    (tmp_path / "scene.yaml").write_text(COUNT)
    return tmp_path


# --- all verbs


def test_help_says_what_a_verb_is_for_and_shows_examples(capsys):
    for verb in VERBS:
        with pytest.raises(SystemExit) as caught:
            main([verb, "--help"])
        text = capsys.readouterr().out
        assert caught.value.code == 0
        assert f"examples:\n  relight {verb}" in text
        assert re.search(r"\n\n[A-Z].+\.\n\n", text), text


def test_help_and_mistakes_on_the_command_line_load_no_torch():
    code = f"""
import sys
from relight.cli import main
for words in [["--help"], ["--version"], ["ftt"], [], ["fit"], *([v, "--help"] for v in {VERBS!r})]:
    try:
        main(words)
    except SystemExit:
        pass
heavy = {{"torch", "numpy", "numba", "pydantic", "yaml", "rich", "PIL", "scipy", "cv2"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: VERB"),
        (["ftt"], "invalid choice: 'ftt'"),
        (["fit"], "required: scene"),
        (["fit", "a.yaml", "--fast"], "unrecognized arguments: --fast"),
        (["fit", "a.yaml", "--quiet", "word"], "unrecognized arguments: word"),
        (["eval", "a", "x=1"], "unrecognized arguments: x=1"),
        (["eval", "a", "--split", "all"], "invalid choice: 'all'"),
        (["render", "a", "--orbit", "0"], "--orbit: invalid positive value: '0'"),
        (["render", "a", "--orbit", "nan"], "--orbit: invalid positive value: 'nan'"),
        (["render", "a", "--fps", "-1"], "--fps: invalid positive value: '-1'"),
        (["render", "a", "--orbit", "2", "--views", "test"], "not allowed with argument"),
        (["export", "a"], "required: -o/--output"),
    ],
)
def test_usage_mistakes(words, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["fit", "check"])
def test_overrides_may_stand_anywhere(here, verb, fails):
    for words in (
        ["a.b=1", "scene.yaml"],
        ["scene.yaml", "--fast", "a.b=1"],
        ["scene.yaml", "a.b=1", "--fast", "c.d=2"],
    ):
        words = [w.replace("--fast", "--quiet") if verb == "fit" else w for w in words]
        if words[0] == "a.b=1":
            assert "a.b=1: cannot be read" in fails(verb, *words)
        else:
            assert re.findall(r"command line '(.+?)'", fails(verb, *words)) == [w for w in words[1:] if "=" in w]


@pytest.mark.parametrize("verb", ["fit", "check", "eval", "render", "export", "new"])
def test_what_is_not_there(here, verb, fails):
    words = {"export": ["-o", "x.ply"]}.get(verb, [])
    (here / "scene.yaml").rename(here / "s.yaml")
    assert "none" in fails(verb, "none", *words)
    assert sorted(p.name for p in here.iterdir()) == ["photos", "s.yaml"]


@pytest.mark.parametrize("verb", ["eval", "render", "export"])
def test_a_run_without_a_finished_stage_or_a_splat(here, verb, fails):
    words = {"export": ["-o", "x.ply"]}.get(verb, [])
    (here / "empty").mkdir()
    assert "no finished stage there; run `relight fit` first" in fails(verb, "empty", *words)
    (here / "scene.yaml").write_text(COUNT.replace("Count", "Keep"))
    assert main(["fit", "scene.yaml", "--quiet", "output=plain"]) == 0


def test_a_bug_is_reported_as_one(here, capsys):
    assert main(["fit", "scene.yaml", "count.fail_at=2"]) == 1
    err = capsys.readouterr().err
    assert "RuntimeError: the fault that fail_at asks for" in err and "This is a bug in relight" in err


def test_a_closed_pipe_is_no_error(here):
    command = f"{sys.executable} -m relight options radiance | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True)
    assert done.stderr == "" and done.stdout.startswith("Fit Gaussians")


# --- new and check


def test_new_writes_a_scene_file_that_check_accepts(here, capsys):
    assert main(["new", "photos"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "4 photographs up to 16 pixels, read as transforms\nwrote photos/scene.yaml; next: relight fit"
    )
    assert "relight options radiance" in (here / "photos" / "scene.yaml").read_text()
    assert main(["check", "photos/scene.yaml"]) == 0
    out = capsys.readouterr().out
    assert f"capture:  {here}/photos (transforms)" in out
    assert "views:    3 to fit, 1 held out, 16x16" in out
    assert f"output:   {here}/runs/photos" in out
    assert "stage:    radiance gives gaussians" in out
    assert main(["check", "photos", "data.format=transforms", "--fast", "backend=reference"]) == 0
    assert "backend:  reference" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["my #1 photos", "a: b", "- x", "'quoted\"", "null", "1e3", "été", "[list]", "a\\b"])
def test_new_copes_with_any_folder_name(here, name):
    shutil.move(here / "photos", here / name)
    assert main(["new", name]) == 0
    assert main(["new", name, "-o", "elsewhere.yaml"]) == 0
    for file in (here / name / "scene.yaml", here / "elsewhere.yaml"):
        config = load_config(file)
        assert (config.data.path, config.output) == (here / name, here / "runs" / name)
    assert main(["check", "--fast", "elsewhere.yaml"]) == 0


def test_new_takes_the_file_of_a_capture(here):
    assert main(["new", "photos/transforms.json"]) == 0
    assert main(["check", "--fast", "photos"]) == 0


def test_new_keeps_an_existing_file(here, fails):
    (here / "photos" / "scene.yaml").write_text("mine")
    assert "photos/scene.yaml: exists; --force replaces it, or name another file" in fails("new", "photos")
    assert (here / "photos" / "scene.yaml").read_text() == "mine"
    assert main(["new", "photos", "--force"]) == 0
    assert main(["check", "--fast", "photos"]) == 0


def test_new_for_what_is_no_capture(here, fails):
    (here / "empty").mkdir()
    assert "not a capture that is recognised" in fails("new", "empty")
    (here / "photos" / "transforms.json").unlink()
    assert "photos without cameras; `relight new --sfm photos` solves them" in fails("new", "photos")


def test_check_reports_every_mistake_of_the_file(here, fails):
    (here / "scene.yaml").write_text("dta: x\nstages:\n  - radiance: {itertions: 3}\n")
    err = fails("check", "scene.yaml")
    assert [line.split(": ")[1] for line in err.splitlines()] == ["scene.yaml:1:1", "scene.yaml:1:1", "scene.yaml:3:16"]


def test_check_reports_every_picture_that_cannot_be_read(here, fails):
    for name, content in (("001", b"no picture"), ("003", b"")):
        (here / "photos" / "images" / f"{name}.png").write_bytes(content)
    err = fails("check", "scene.yaml")
    assert "001.png" in err
    image = here / "photos" / "images" / "000.png"
    for name in ("001", "003"):
        shutil.copy(image, image.with_name(f"{name}.png"))
    picture = bytearray(image.read_bytes())
    for name in ("001", "003"):
        image.with_name(f"{name}.png").write_bytes(picture[: len(picture) // 2])
    err = fails("check", "scene.yaml")
    assert "001.png" in err and "003.png" in err
    assert main(["check", "scene.yaml", "--fast"]) == 0


def test_a_missing_picture_is_a_warning_without_our_line_numbers(here, capsys):
    (here / "photos" / "images" / "002.png").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["check", "scene.yaml"]) == 0
    err = capsys.readouterr().err
    assert re.fullmatch(r"warning: .*1 of 4 pictures are missing: 002\.png\n", err), err


def test_check_follows_what_stages_need(here, fails):
    (here / "scene.yaml").write_text(COUNT.replace("Count", "Shift"))
    assert "shift: needs gaussians, which neither the capture nor an earlier stage gives" in fails(
        "check", "scene.yaml"
    )


def test_check_asks_for_the_backend(here, fails):
    message = fails("check", "scene.yaml", "backend=splat_gsplat")
    assert "splat_gsplat" in message and "relight doctor" in message
    if not torch.cuda.is_available():
        assert "PyTorch finds no CUDA device" in fails("check", "scene.yaml", "device=cuda")


# --- options and doctor


def test_options_lists_stages_and_their_options(here, capsys):
    assert main(["options"]) == 0
    assert re.search(r"^radiance +Fit Gaussians", capsys.readouterr().out, re.M)
    assert main(["options", "radiance"]) == 0
    out = capsys.readouterr().out
    assert "Needs views, points; gives gaussians." in out
    assert "\niterations: int, default 7000\n    Steps of one photograph each." in out
    assert "\nprimitive: ellipsoid | surfel, default ellipsoid\n" in out
    assert main(["options", "fake_stages:Count"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("A random walk of four Gaussians: its end depends on every step before it.\nNeeds views;")
    assert "\nlimit: int | None, default null\n" in out


def test_options_of_what_is_no_stage(here, fails):
    assert "unknown stage 'radince', did you mean 'radiance'?" in fails("options", "radince")
    assert "fake_stages:NotAStage: is not a stage" in fails("options", "fake_stages:NotAStage")
    assert "no module 'nowhere_at_all' in this Python" in fails("options", "nowhere_at_all:Thing")


def test_options_lists_the_other_stages_when_one_is_broken(here, capsys, monkeypatch):
    from relight import plugins

    broken = {"stages": {"broken": "fake_stages:Nothing", **plugins.BUILTIN["stages"]}}
    monkeypatch.setattr(plugins, "BUILTIN", {**plugins.BUILTIN, **broken})
    assert main(["options"]) == 0
    out = capsys.readouterr().out
    assert "can't be used: stage 'broken' of relight: fake_stages has no 'Nothing'" in out and "\nradiance " in out


def test_doctor(here, capsys, monkeypatch):
    from relight import plugins

    monkeypatch.setattr(plugins, "problems", lambda kind: {"theirs": "is broken [x]"} if kind == "exports" else {})
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for word in ("splat_cpu", "splat_gsplat", "torch", "mitsuba", "relight 0.", "export format theirs: is broken [x]"):
        assert word in out
    for name in ("mesh_cpu", "mesh_nvdiffrast", "embree", "warp"):
        assert re.search(rf"│ {name} +│ (meshes|rays) +│ (yes|no)", out), name


# --- fit


def test_fit_writes_a_report_and_says_where(fitted, capsys):
    assert main(["fit", str(fitted / "scene.yaml")]) == 0
    out, err = capsys.readouterr()
    assert "01-radiance: already done" in err
    lines = dict(line.split(": ", 1) for line in out.splitlines())
    assert Path(lines["result"].strip()) == fitted / "runs" / "scene" / "01-radiance"
    assert Path(lines["report"].strip()).is_file() and Path(lines["picture"].strip()).is_file()
    assert float(lines["test_psnr"]) > 12
    assert {p.name for p in (fitted / "runs" / "scene").iterdir()} == {
        "01-radiance", "scene.yaml", "report.html", "report.png",
    }  # fmt: skip


def test_fit_of_a_stage_without_a_splat_has_no_report(here, capsys):
    (here / "scene.yaml").write_text(COUNT.replace("Count", "Keep"))
    assert main(["fit", "scene.yaml"]) == 0
    out, err = capsys.readouterr()
    assert out == f"result:  {here}/runs/{here.name}/01-keep\n"
    assert "3 photographs to fit, 1 held out" in err and "01-keep: done in 0 s" in err


def test_quiet_fit_prints_the_result_only(here, capsys):
    (here / "scene.yaml").write_text(COUNT.replace("Count", "Keep"))
    assert main(["fit", "scene.yaml", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_fit_until(here, fails, capsys):
    (here / "scene.yaml").write_text(COUNT.replace("Count", "Keep") + "  - use: fake_stages:Count\n")
    assert main(["fit", "scene.yaml", "--until", "keep", "--quiet"]) == 0
    assert "01-keep" in capsys.readouterr().out
    assert "--until kep: no stage of this scene, did you mean 'keep'?" in fails("fit", "scene.yaml", "--until", "kep")


def when(path: Path, do) -> threading.Thread:
    """Does something as soon as a file is there."""

    def wait() -> None:
        end = time.monotonic() + 30
        while not (path.is_file() and path.stat().st_size) and time.monotonic() < end:
            time.sleep(0.01)
        do()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_the_same_command_continues(here, capsys, number):
    work = here / "out" / ".work" / "01-count"
    before = signal.getsignal(number)
    thread = when(work / "folder" / "metrics.jsonl", lambda: os.kill(os.getpid(), number))
    command = ["fit", "scene.yaml", "count.steps=30", "count.pause=0.05", "output=out"]
    assert main(command) == 130
    thread.join()
    assert "stopped and saved; the same command continues" in capsys.readouterr().err
    assert (work / "checkpoint.safetensors").is_file() and signal.getsignal(number) is before
    step = json.loads((work / "folder" / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    assert main(command) == 0
    err = capsys.readouterr().err
    assert f"count: continuing at step {step}\n" in err and "01-count: done in" in err


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
def test_the_second_ctrl_c_doesn_t_wait(here):
    metrics = here / "out" / ".work" / "01-count" / "folder" / "metrics.jsonl"

    def twice() -> None:
        # A signal between Python's last look and the system's sleep goes unnoticed: people press again, and so do we.
        os.kill(os.getpid(), signal.SIGINT)
        while not ended.wait(1.0):
            os.kill(os.getpid(), signal.SIGINT)

    # Shells start what runs in the background with Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    ended = threading.Event()
    thread = when(metrics, twice)
    begun = time.monotonic()
    # Its second step takes a minute, and it saves after a step only.
    try:
        assert main(["fit", "scene.yaml", "count.steps=3", "count.late=60", "output=out"]) == 130
    finally:
        ended.set()
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - begun < 30
    assert not (here / "out" / ".lock").exists()


# --- eval, render, export


def test_eval_prints_what_it_writes(run, tmp_path, capsys, fails):
    scores = tmp_path / "scores.json"
    assert main(["eval", run, "--json", str(scores)]) == 0
    out = capsys.readouterr().out
    written = json.loads(scores.read_text())
    (view,) = written["views"]
    numbers = [line.split() for line in out.splitlines()[1:]]
    scored = {view["name"]: view, "mean": written["mean"]}
    assert numbers == [[name, f"{s['psnr']:.2f}", f"{s['ssim']:.4f}"] for name, s in scored.items()]
    history = load_scene(Path(run) / "01-radiance").history[-1].metrics
    assert history["test_psnr"] == pytest.approx(written["mean"]["psnr"], abs=1e-3)
    assert "scores.json: exists; --force replaces it" in fails("eval", run, "--json", scores)
    assert main(["eval", run, "--split", "train", "--json", str(scores), "--force"]) == 0
    assert len(json.loads(scores.read_text())["views"]) == 5


def test_eval_without_held_out_views(here, fails, capsys):
    assert main(["fit", "scene.yaml", "data.test_every=0", "output=out", "--quiet"]) == 0
    capsys.readouterr()
    assert "no test views; set data.test_every and fit again" in fails("eval", "out")


def test_render_stills(run, tmp_path, capsys, fails):
    assert main(["render", run, "-o", str(tmp_path / "stills"), "--views", "train"]) == 0
    assert "wrote 5 stills" in capsys.readouterr().out
    stills = sorted((tmp_path / "stills").iterdir())
    assert len(stills) == 5 and all(s.suffix == ".png" for s in stills)
    with Image.open(stills[0]) as image:
        assert image.size == (32, 32)
        assert image.getextrema() != ((0, 0),) * 3
    # One that exists is seen before any is written.
    for still in stills[:-1]:
        still.unlink()
    assert f"{stills[-1]}: exists; --force" in fails("render", run, "-o", tmp_path / "stills", "--views", "train")
    assert list((tmp_path / "stills").iterdir()) == [stills[-1]]
    assert main(["render", run, "-o", str(tmp_path / "stills"), "--size", "40x24", "--force"]) == 0
    (test,) = set((tmp_path / "stills").iterdir()) - set(stills)
    with Image.open(test) as image:
        assert image.size == (40, 24)
    assert "--views night: no such views" in fails("render", run, "--views", "night")
    assert "--size 40: expected WIDTHxHEIGHT" in fails("render", run, "--size", "40", "-o", tmp_path / "x")


def test_stills_have_names_of_their_own():
    from relight.cli.render_run import still_names

    assert still_names(["a.png", "b.jpg"]) == ["a.png", "b.png"]
    assert still_names(["left/a.png", "right/a.png"]) == ["left_a.png", "right_a.png"]
    assert still_names(["a.png", "a.jpg"]) == ["a.png.png", "a.jpg.png"]
    assert still_names(["/abs/a", "../b"]) == ["abs_a.png", "b.png"]
    assert still_names(["cam.1/f.0001", "ä b\\c.JPG"]) == ["cam.1_f.0001.png", "ä_b_c.png"]
    assert still_names(["a/b", "a_b"]) == ["0000_a_b.png", "0001_a_b.png"]


def test_render_a_film(run, tmp_path, fails):
    film = tmp_path / "turn.mp4"
    words = ["render", run, "--orbit", "0.5", "--fps", "8", "-o", str(film)]
    assert main(words) == 0
    content = film.read_bytes()
    assert content[4:8] == b"ftyp" and len(content) > 500
    assert "turn.mp4: exists; --force" in fails(*words)
    assert film.read_bytes() == content
    assert main([*words, "--force", "--background", "white", "--size", "16x16"]) == 0
    assert film.read_bytes() != content


def test_export(run, tmp_path, capsys, fails):
    from relight.formats.ply import read as read_ply

    ply, page = tmp_path / "fox.ply", tmp_path / "fox.html"
    (tmp_path / "fox.png").write_text("mine")
    assert main(["export", run, "-o", str(ply)]) == 0
    assert main(["export", run, "-o", str(page)]) == 0
    assert f"wrote {ply}" in capsys.readouterr().out
    gaussians = load_scene(Path(run) / "01-radiance").gaussians
    assert gaussians is not None
    assert torch.equal(read_ply(ply).means, gaussians.means)
    assert page.read_text().startswith("<!doctype html>")
    assert (tmp_path / "fox.png").read_text() == "mine"
    content = ply.read_bytes()
    assert "fox.ply: exists; --force replaces it" in fails("export", run, "-o", ply)
    assert ply.read_bytes() == content
    ply.write_bytes(b"")
    assert main(["export", run, "-o", str(ply), "--force"]) == 0
    assert ply.read_bytes() == content
    assert main(["export", run + "/01-radiance", "-o", str(tmp_path / "splat.bin"), "--format", "ply"]) == 0
    assert (tmp_path / "splat.bin").read_bytes() == content


@pytest.mark.parametrize(
    ("name", "word"), [("a.plx", "did you mean 'ply'"), ("a", "no suffix"), ("a.xyz", "there are")]
)
def test_export_of_an_unknown_format(run, tmp_path, fails, name, word):
    assert word in fails("export", run, "-o", tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_presets_come_with_the_command(here):
    for name in presets():
        assert main(["check", "scene.yaml", "--fast", f"preset={name}"]) == 0
