"""Names to things: ours and other packages', without importing what nobody names."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest

from relight import plugins
from relight.errors import BackendUnavailableError, DataError
from relight.plugins import PluginError, did_you_mean, find, load, load_target, offered, problems
from relight.testing.capture import write_capture


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Installs distributions that offer entry points, for the length of a test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def package(name: str, points: str, module: str = "x = 1\nclass Thing: pass\n") -> None:
        (tmp_path / f"{name}_module.py").write_text(module)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(points)

    yield package
    for name in set(sys.modules) - before:
        if name.endswith("_module"):
            del sys.modules[name]


def test_ours():
    from relight.stages.radiance import Radiance

    assert load("stages", "radiance") is Radiance
    assert find("stages", "radiance").origin == "relight"


def test_every_name_of_ours_can_be_loaded():
    for kind, names in plugins.BUILTIN.items():
        assert kind in plugins.KINDS
        for name in names:
            assert load(kind, name)


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_another_package_offers_things_that_are_imported_when_named(package, kind):
    package("other", f"[relight.{kind}]\nthing = other_module:Thing\n")
    (plugin,) = offered(kind)["thing"]
    assert (plugin.target, plugin.origin) == ("other_module:Thing", "other")
    assert "other_module" not in sys.modules
    assert load(kind, "thing").__name__ == "Thing"  # type: ignore[attr-defined]
    assert problems(kind) == {}


def test_two_packages_that_offer_one_name_clash_only_for_who_uses_it(package):
    package("first", "[relight.stages]\nthing = first_module:Thing\nfine = first_module:Thing\n")
    package("second", "[relight.stages]\nthing = second_module:Thing\nradiance = second_module:Thing\n")
    with pytest.raises(PluginError, match=r"stage 'thing' is offered by .* and .*; uninstall one of them") as caught:
        load("stages", "thing")
    assert "first (first_module:Thing)" in str(caught.value) and "second (second_module:Thing)" in str(caught.value)
    with pytest.raises(PluginError, match=r"relight .* and second"):
        load("stages", "radiance")
    assert load("stages", "fine")
    assert set(problems("stages")) == {"thing", "radiance"}


def test_an_entry_point_that_is_listed_twice_is_one(package, monkeypatch):
    package("other", "[relight.stages]\nthing = other_module:Thing\n")
    real = metadata.entry_points
    monkeypatch.setattr(metadata, "entry_points", lambda group: [*real(group=group), *real(group=group)])
    assert len(offered("stages")["thing"]) == 1


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (
            "import not_installed_at_all",
            "importing other_module failed with ModuleNotFoundError: No module named 'not_",
        ),
        ("1 / 0", "importing other_module failed with ZeroDivisionError: division by zero"),
        ("def f(:", "importing other_module failed with SyntaxError"),
        ("class Thnig: pass", "other_module has no 'Thing', did you mean 'Thnig'?"),
    ],
)
def test_a_broken_plugin_is_explained_and_hurts_only_who_names_it(package, module, expected):
    package("other", "[relight.stages]\nthing = other_module:Thing\n", module)
    with pytest.raises(PluginError) as caught:
        load("stages", "thing")
    assert str(caught.value).startswith(f"stage 'thing' of other: {expected}")
    assert list(problems("stages")) == ["thing"]
    assert load("stages", "radiance")


def test_an_unknown_name():
    with pytest.raises(PluginError, match=r"unknown stage 'radience', did you mean 'radiance'"):
        find("stages", "radience")
    with pytest.raises(PluginError, match=r"unknown stage 'xyz'; there are: .*radiance"):
        find("stages", "xyz")


def test_targets():
    assert load_target("pathlib:Path", "x") is Path
    assert load_target("pathlib:Path.exists", "x") is Path.exists
    assert load_target("os.path", "x").__name__ == "posixpath" or sys.platform == "win32"  # type: ignore[attr-defined]
    with pytest.raises(PluginError, match=r"here: pathlib has no 'exist', did you mean 'exists'\?"):
        load_target("pathlib:Path.exist", "here")
    with pytest.raises(PluginError, match=r"here: no module 'nowhere_at_all' in this Python; install its package"):
        load_target("nowhere_at_all.module:Thing", "here")
    with pytest.raises(PluginError, match=r"importing pathlib\.nowhere failed with ModuleNotFoundError"):
        load_target("pathlib.nowhere:Thing", "here")


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [
        ("itertions", ["iterations", "seed"], ", did you mean 'iterations'?"),
        ("SEED", ["iterations", "seed"], ", did you mean 'seed'?"),
        ("colmap", ["COLMAP"], ", did you mean 'COLMAP'?"),
        ("xyz", ["b", "a"], "; there are: a, b"),
        ("xyz", [], ""),
        ("", ["a"], "; there are: a"),
    ],
)
def test_did_you_mean(word, known, expected):
    assert did_you_mean(word, known) == expected
    if expected.startswith(";"):
        assert did_you_mean(word, known, list_all=False) == ""


BACKEND = """
from relight.render.protocol import Backend
from relight.render.reference import ReferenceRasterizer
theirs = Backend("theirs", "cpu", unavailable=lambda: None, create=ReferenceRasterizer)
absent = Backend("absent", "cpu", unavailable=lambda: "it is not there", create=ReferenceRasterizer)
wrong = 3
"""


def test_a_backend_of_another_package(package):
    from relight.render.reference import ReferenceRasterizer
    from relight.render.splats import available_backends, create_rasterizer

    points = "".join(f"{name} = other_module:{name}\n" for name in ("theirs", "absent", "wrong"))
    package("other", f"[relight.backends]\n{points}broken = nowhere_at_all:x\n", BACKEND)
    assert isinstance(create_rasterizer("theirs"), ReferenceRasterizer)
    assert type(create_rasterizer("auto")) is not ReferenceRasterizer, "ours come first"
    with pytest.raises(BackendUnavailableError, match=r"absent: it is not there; see relight doctor"):
        create_rasterizer("absent")
    with pytest.raises(PluginError, match=r"splat backend 'wrong': its entry point must be a Backend, found int"):
        create_rasterizer("wrong")
    with pytest.raises(BackendUnavailableError, match=r"no such splat backend .*splat_cpu.*theirs"):
        create_rasterizer("other")
    found = available_backends()
    assert (found["theirs"], found["absent"], found["splat_cpu"]) == (None, "it is not there", None)
    assert "nowhere_at_all" in str(found["broken"])


READER = """
from relight.data import transforms
def sniff(path):
    return (path / "theirs.txt").is_file()
def load(path, options):
    return transforms.load(path / "inner", options)
wrong = 3
"""


def test_a_reader_of_another_package(package, tmp_path):
    from relight import data

    points = "[relight.data]\nbroken = nowhere_at_all:x\nwrong = other_module:wrong\ntheirs = other_module\n"
    package("other", points, READER)
    folder = tmp_path / "capture"
    write_capture(folder / "inner", views=3)
    (folder / "theirs.txt").write_text("")
    assert data.detect(folder) == "theirs" and data.detect(folder / "inner") == "transforms"
    views = data.load(folder).views
    assert views is not None and len(views) == 3
    assert data.load(folder, format="theirs").views is not None
    with pytest.raises(PluginError, match=r"data format 'wrong': its entry point has no functions sniff and load"):
        data.load(folder, format="wrong")
    with pytest.raises(DataError, match=r"'thiers' is not known; expected auto, transforms, .*theirs"):
        data.load(folder, format="thiers")
    (folder / "theirs.txt").unlink()
    assert data.detect(folder) is None


def test_an_export_of_another_package(package, tmp_path):
    from relight.export import export, formats

    module = "def write(run, output):\n    output.write_text(run.name)\n"
    package("other", "[relight.exports]\nabc = other_module:write\nply = other_module:write\n", module)
    assert formats()["abc"] == "from other" and "INRIA" in formats()["ply"], "ours come first"
    export(tmp_path / "run", tmp_path / "a.abc")
    assert (tmp_path / "a.abc").read_text() == "run"
