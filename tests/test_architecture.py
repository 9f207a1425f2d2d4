"""What ARCHITECTURE.md promises about the source: direction of imports, heavy libraries, sizes, names.

Every rule is tried on a planted fault as well as on relight itself.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
from collections import Counter

import pytest
from architecture_rules import (
    ALLOWED,
    DISTRIBUTIONS,
    LIBRARIES,
    LIGHT,
    MAY_IMPORT,
    MEDIAN_LINES,
    MOST_LINES,
    NOT_DECLARED,
    ROOT,
    Source,
    forbidden_calls,
    misplaced_libraries,
    undocumented,
    unnamed_parts,
    wrong_directions,
)


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    package = ROOT / "relight"
    paths = [p for p in sorted(package.rglob("*.py")) if "__pycache__" not in p.parts]
    found = [Source(p.relative_to(package).as_posix(), p.read_text("utf-8")) for p in paths]
    assert len(found) > 50
    return found


# --- relight keeps them


@pytest.mark.parametrize("rule", [wrong_directions, misplaced_libraries, forbidden_calls, undocumented])
def test_the_source_keeps_the_rule(sources, rule):
    assert rule(sources) == []


def test_files_are_short(sources):
    lengths = {s.path: s.text.count("\n") for s in sources}
    assert {path: n for path, n in lengths.items() if n > MOST_LINES} == {}
    assert statistics.median(n for path, n in lengths.items() if n > 5) <= MEDIAN_LINES


def test_annotations_are_not_evaluated(sources):
    for source in sources:
        first = [f.name for f in source.imports()]
        assert source.path == "__init__.py" or "__future__.annotations" in first or not first, source.path


def test_the_map_is_up_to_date():
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    assert len(text.splitlines()) <= 150
    entries = [p for p in (ROOT / "relight").iterdir() if not p.name.startswith(("_", "py.typed"))]
    parts = {f"relight/{p.name}" for p in entries if p.suffix == ".py" or (p.is_dir() and any(p.glob("*.py")))}
    assert len(parts) > 15
    assert unnamed_parts(text, parts) == []


def test_files_that_the_map_mentions_exist():
    """Anywhere in it, such as `kernels/simd.py`."""
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8").split("## A run on disk")
    text = text[0] + "\n## ".join(text[1].split("\n## ")[1:])
    mentioned = set(re.findall(r"[\w/]+\.(?:py|md|yaml)\b", text))
    assert len(mentioned) > 10
    there = {p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*") if not {".git", ".venv"} & set(p.parts)}
    gone = {m for m in mentioned if not any(t == m or t.endswith("/" + m) for t in there)}
    assert gone == set()


def test_every_library_is_declared(sources):
    declared = re.findall(r'"([\w.-]+?)(?:\[.*?\])?(?:[><=;! ].*?)?"', (ROOT / "pyproject.toml").read_text("utf-8"))
    used = {f.name.split(".")[0] for s in sources for f in s.imports()} - set(sys.stdlib_module_names) - {"relight"}
    assert {u for u in used if DISTRIBUTIONS.get(u, u) not in declared and u not in NOT_DECLARED} == set()


def test_the_tables_name_files_that_exist(sources):
    paths = {s.path for s in sources}
    for table in (LIBRARIES, LIGHT):
        for name, places in table.items():
            for place in places:
                assert place in paths or place == "" or any(p.startswith(place) for p in paths), (name, place)
    assert set(MAY_IMPORT) == {s.part for s in sources} - {""}
    for importer, imported in ALLOWED:
        source = next(s for s in sources if s.module == importer)
        assert any(f.name.startswith(f"relight.{imported}") for f in source.imports()), "no longer needed"


def test_the_table_has_no_way_round():
    """No part is allowed to import, through others, a part that is allowed to import it."""

    def reached(part: str, seen: frozenset[str]) -> set[str]:
        below = {m.split(".")[0] for m in MAY_IMPORT[part]} - {part}
        return below.union(*(reached(b, seen | {b}) for b in below - seen)) if below else set()

    for part in MAY_IMPORT:
        assert part not in reached(part, frozenset({part})), part


@pytest.mark.parametrize("code", ["import relight", "import relight.plugins, relight.errors, relight.atomic",
                                  "from relight.cli import build_parser; build_parser().format_help()"])  # fmt: skip
def test_nothing_heavy_is_loaded_before_it_is_needed(code):
    check = "import sys; print(*sorted({'torch', 'numpy', 'numba', 'pydantic', 'yaml', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{check}"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_modules_of_tests_have_names_of_their_own():
    """pytest imports them by their base name."""
    names = Counter(p.name for p in (ROOT / "tests").rglob("*.py"))
    assert {n for n, count in names.items() if count > 1 and n != "conftest.py"} == set()


# --- and would notice if it didn't

DOC = '"""Doc."""\n'


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("geometry/a.py", "import relight.shading.color", "geometry may not import shading"),
        ("geometry/a.py", "from relight import scene", "geometry may not import scene"),
        ("shading/a.py", "from relight.geometry import sh", "shading may not import geometry"),
        ("render/a.py", "def f():\n    from relight.scene import Scene", "render may not import scene"),
        ("render/a.py", "if TYPE_CHECKING:\n    from relight.views import Views", "render may not import views"),
        ("fit/a.py", "import relight.stages.radiance", "fit may not import stages.radiance"),
        ("stages/a.py", "from relight.stages.b import x", "stages never import each other"),
        ("stages/a.py", "from relight.stages import b", "stages never import each other"),
        ("stages/a.py", "import relight.pipeline", "stages may not import pipeline"),
        ("data/a.py", "import relight.export.images", "data may not import export"),
        ("formats/a.py", "import relight.data.gltf", "formats may not import data"),
        ("config/a.py", "import relight.stages.b", "config may not import stages.b"),
        ("cli/a.py", "import relight.viewer", "relight never imports the viewer"),
        ("cli/a.py", "import viewer.app", "relight never imports the viewer"),
        ("novelty.py", "import relight.errors", "novelty may not import errors"),
    ],
)
def test_wrong_directions_are_noticed(path, text, complaint):
    others = (
        "shading/color geometry/sh scene views errors pipeline/__init__ stages/__init__ stages/b stages/base "
        "stages/radiance export/__init__"
    )
    found = wrong_directions([Source(path, text), *(Source(f"{o}.py", "") for o in others.split())])
    assert found and any(complaint in f for f in found), found


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("stages/a.py", "from relight.stages.base import Stage\nimport relight.fit.losses"),
        ("cli/a.py", "from relight import __version__, data"),
        ("scene.py", "import relight.views"),
    ],
)
def test_right_directions_are_not(path, text):
    others = [Source(o, "") for o in ("stages/__init__.py", "stages/base.py", "data/__init__.py", "views.py")]
    assert wrong_directions([Source(path, text), *others]) == []


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("views.py", "import cv2", "heavy"),
        ("views.py", "class A:\n    from cv2 import remap", "heavy"),
        ("fit/a.py", "def f():\n    import cv2", "in another file"),
        ("fit/a.py", "def f():\n    import trimesh", "or nowhere"),
        ("cli/fit.py", "def f():\n    import yaml", "in another file"),
        ("fit/a.py", "def f():\n    import pandas", "in no table"),
        ("stages/a.py", "from numba import njit", "in another file"),
    ],
)
def test_misplaced_libraries_are_noticed(path, text, complaint):
    (found,) = misplaced_libraries([Source(path, text)])
    assert complaint in found


@pytest.mark.parametrize(
    "text",
    ["import pickle", "from torch import load", "torch.load('x')", "def f():\n    torch.save(1, 'x')", "eval('1')",
     "np.save('a', b)", "np.load('x', allow_pickle=True)", "print('x')"],
)  # fmt: skip
def test_forbidden_calls_are_noticed(text):
    assert len(forbidden_calls([Source("fit/a.py", text)])) == 1


def test_weights_that_are_tensors_alone_may_be_loaded():
    assert forbidden_calls([Source("fit/a.py", "torch.load('x', weights_only=True)")]) == []
    assert forbidden_calls([Source("fit/a.py", "torch.load('x', weights_only=False)")]) != []


def test_print_is_for_the_command_line():
    assert forbidden_calls([Source("cli/a.py", "print('x')")]) == []


def test_missing_docstrings_are_noticed():
    text = DOC + "def f(): pass\nclass A: pass\ndef _g(): pass\ndef h():\n    'Doc.'\n"
    assert undocumented([Source("a.py", text)]) == ["a.py:2: f has no docstring", "a.py:3: A has no docstring"]
    assert undocumented([Source("a.py", "x = 1")]) == ["a.py: no docstring"]


def test_a_stale_map_is_noticed():
    lines = ("relight/", "  errors.py   e", "  gone.py     g; cli.py too", "lost/  l")
    text = "# x\n## Where things are\n\n" + "".join(f"    {line}\n" for line in lines) + "\n## y\n"
    assert unnamed_parts(text, {"relight/errors.py", "relight/cli.py", "relight/new"}) == [
        "ARCHITECTURE.md names relight/gone.py, which is not there",
        "ARCHITECTURE.md names lost, which is not there",
        "ARCHITECTURE.md doesn't name relight/new",
    ]
