"""Tasks over processes: retries, refusals, kills, the report, and the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Literal

import pytest

from relight.batch.engines import create_engine, gpus_of
from relight.batch.report import write_batch_report
from relight.batch.scenes import scene_tasks
from relight.batch.schedule import run_tasks
from relight.batch.tasks import Ending, Event, Outcome, Task, perform
from relight.cli import main
from relight.errors import RelightError
from relight.scene_io import load_scene
from relight.testing.capture import write_capture

TESTS = Path(__file__).parents[1]
REMEMBER = "fake_stages:remember"
TWO = "stages:\n  - use: fake_stages:Count\n  - use: fake_stages:Shift\n"


class InThreads:
    """An engine without processes: `answers` says how each try ends."""

    def __init__(self, answers: dict[str, list[str]], slots: int = 2):
        self.answers, self.slots, self.running, self.most = answers, slots, [], 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def start(self, task):
        self.running.append(task.key)
        self.most = max(self.most, len(self.running))

    def ended(self, seconds):
        key = self.running.pop(0)
        return [(key, Ending(self.answers[key].pop(0), 1.0, "why"))]  # type: ignore[arg-type]

    def progress(self):
        return {}

    def stop(self):
        self.answers = {key: ["stopped"] for key in self.answers}


@pytest.fixture
def workers(monkeypatch):
    """Processes that find the modules of the tests."""
    paths = [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


def statuses(outcomes: list[Outcome]) -> list[tuple[str, int]]:
    return [(o.ending.status, o.tries) for o in outcomes]


def test_what_breaks_is_tried_again_and_what_is_refused_is_not():
    engine = InThreads({"a": ["broken", "done"], "b": ["refused"], "c": ["broken"] * 3, "d": ["done"]})
    tasks = [Task(key, "x:y") for key in "abcd"]
    assert statuses(run_tasks(tasks, engine)) == [("done", 2), ("refused", 1), ("broken", 3), ("done", 1)]
    assert engine.most == 2


def test_what_cannot_be_tried_is_not():
    (found,) = run_tasks([Task("a", "x:y", refused="a mistake")], InThreads({}))
    assert statuses([found]) == [("refused", 0)] and found.ending.message == "a mistake"
    with pytest.raises(RelightError, match="more than one task"):
        run_tasks([Task("a", "x:y"), Task("a", "x:y")], InThreads({}))


def test_stopping_begins_nothing_more():
    stop = threading.Event()
    engine = InThreads({"a": ["done"], "b": ["done"], "c": ["done"]}, slots=1)
    tasks = [Task(key, "x:y") for key in "abc"]

    def listen(event: Event) -> None:
        if isinstance(event, Outcome):
            stop.set()

    found = run_tasks(tasks, engine, stop=stop, on_event=listen)
    assert statuses(found) == [("done", 1), ("stopped", 0), ("stopped", 0)]


def mixed(folder: Path) -> list[Task]:
    """One that is killed once, one that raises twice, one that is refused, one whose module is missing."""
    return [
        Task("killed", REMEMBER, {"file": str(folder / "killed"), "bad": 1, "how": "kill"}),
        Task("raises", REMEMBER, {"file": str(folder / "raises"), "bad": 9, "how": "raise"}),
        Task("refused", REMEMBER, {"file": str(folder / "refused"), "how": "refuse"}),
        Task("missing", "no_such_module:f"),
    ]


def check(endings: list[Ending]) -> None:
    assert [e.status for e in endings] == ["done", "broken", "refused", "refused"]
    assert endings[0].result == {"tries": 2}
    assert all(words in e.message for words, e in zip(["it broke", "not this one", "no_such_module"], endings[1:],
                                                      strict=True))  # fmt: skip


def test_endings_of_tasks(tmp_path):
    (tmp_path / "killed").write_text("tried\n")
    told = []
    check([perform(t, lambda *news: told.append(news), threading.Event()) for t in mixed(tmp_path)])
    assert told[0] == (0.5, "half")


def on(engine_name: Literal["local", "ray"], folder: Path) -> None:
    with create_engine(engine_name, workers=2) as engine:
        outcomes = run_tasks(mixed(folder), engine, retries=1)
    check([o.ending for o in outcomes])
    assert [o.tries for o in outcomes] == [2, 2, 1, 1]


@pytest.mark.slow
def test_processes_that_die_take_nothing_with_them(workers, tmp_path):
    on("local", tmp_path)


@pytest.mark.slow
def test_the_same_on_ray(workers, tmp_path):
    pytest.importorskip("ray")
    on("ray", tmp_path)


def scenes(folder: Path, count: int = 2, stages: str = TWO) -> list[Path]:
    write_capture(folder / "photos", views=4)
    files = [folder / f"scene{i}.yaml" for i in range(count)]
    for file in files:
        file.write_text(f"data: photos\noutput: {folder}/runs/{file.stem}\n{stages}")
    return files


def killed_half_way(folder: Path, engine_name: Literal["local", "ray"]) -> None:
    """The worker dies in its second stage: the first one isn't computed again."""
    (scene,) = scenes(folder, 1)
    (task,) = scene_tasks([scene], ["shift.pause=1"])
    first, work = folder / "runs/scene0/01-count/scene.json", folder / "runs/scene0/.work/02-shift"
    killed, made = [], []

    def kill() -> None:
        deadline = time.monotonic() + 180
        while not work.is_dir() and time.monotonic() < deadline:
            time.sleep(0.01)
        made.append(first.stat().st_mtime_ns)
        (lock,) = folder.glob("runs/scene0/.lock")
        killed.append(int(lock.read_text().split()[1]))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with create_engine(engine_name, workers=1) as engine:
        (outcome,) = run_tasks([task], engine)
    killer.join()
    assert killed and statuses([outcome]) == [("done", 2)]
    assert first.stat().st_mtime_ns == made[0], "the finished stage was kept"
    assert [r.name for r in load_scene(folder / "runs/scene0/02-shift").history] == ["count", "shift"]


def test_a_killed_worker_loses_no_finished_stage(workers, tmp_path):
    killed_half_way(tmp_path, "local")


@pytest.mark.slow
def test_a_killed_worker_of_ray_loses_no_finished_stage(workers, tmp_path):
    pytest.importorskip("ray")
    killed_half_way(tmp_path, "ray")


def test_scenes_become_tasks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    a, b = scenes(tmp_path)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/scene.yaml").write_text("data: x\nstages: [{radianc: {}}]\n")
    tasks = scene_tasks([a, b, a, "bad"], ["seed=3"])
    assert [t.key for t in tasks] == ["scene0", "scene1", "bad"]
    assert tasks[2].refused is not None and "radianc" in tasks[2].refused
    assert tasks[0].arguments["overrides"][-1] == f"output={tmp_path}/runs/scene0"
    with pytest.raises(RelightError, match="both write to"):
        scene_tasks([a, b], [f"output={tmp_path}/same"])


@pytest.mark.slow
def test_the_command_fits_all_but_the_broken_one_and_continues(workers, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    good, bad = scenes(tmp_path)
    bad.write_text(bad.read_text().replace("fake_stages:Shift", "fake_stages:Shft"))
    words = ["batch", str(good), str(bad), "--workers", "2", "count.steps=3"]
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert "scene0  done" in out and "scene1  refused" in out and "Shft" in err
    document = json.loads(Path("runs/batch.json").read_text())
    assert (document["done"], document["tasks"]) == (1, 2)
    page = Path("runs/batch.html").read_text()
    assert "scene0" in page and "Shft" in page
    stage = Path("runs/scene0/02-shift/scene.json")
    before = stage.stat().st_mtime_ns
    assert main(["batch", str(good), "--quiet", "count.steps=3"]) == 0
    assert stage.stat().st_mtime_ns == before


def test_a_report_replaces_its_like_alone(tmp_path):
    outcome = Outcome(Task("<a>", "x:y"), Ending("broken", 1.0, "<why>"), 3, 2.0)
    page = write_batch_report(tmp_path / "b.html", [outcome], engine="local", seconds=1.0)
    assert "<why>" not in page.read_text() and "&lt;why&gt;" in page.read_text()
    write_batch_report(page, [outcome], engine="local", seconds=1.0)
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(RelightError, match=r"mine\.json: is no report"):
        write_batch_report(tmp_path / "mine.html", [outcome], engine="local", seconds=1.0)


@pytest.mark.slow
def test_ctrl_c_saves_and_says_so(workers, tmp_path):
    (scene,) = scenes(tmp_path, 1)
    command = [sys.executable, "-m", "relight", "batch", str(scene), "count.pause=0.05", "count.steps=2000"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    checkpoint = tmp_path / "runs/scene0/.work/01-count/folder"
    deadline = time.monotonic() + 60
    while not checkpoint.is_dir() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "scene0  stopped" in out
    assert (tmp_path / "runs/scene0/.work/01-count/checkpoint.safetensors").is_file()


def test_workers_share_gpus():
    assert [gpus_of(i, 1) for i in range(3)] == [[0], [1], [2]]
    assert [gpus_of(i, 0.5) for i in range(4)] == [[0], [0], [1], [1]]
    assert gpus_of(1, 2) == [2, 3]


def test_mistakes_are_explained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (scene,) = scenes(tmp_path, 1)
    assert main(["batch", str(scene), "--address", "auto"]) == 2
    assert "--engine ray" in capsys.readouterr().err
