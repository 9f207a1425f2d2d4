"""What holds for the viewer's source as a whole."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VIEWER = ROOT / "viewer"


def test_viser_is_imported_in_one_place_inside_a_function():
    found = []
    for path in VIEWER.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        found += [
            (path.name, node in tree.body)
            for node in ast.walk(tree)
            if isinstance(node, ast.Import) and any(a.name.split(".")[0] == "viser" for a in node.names)
        ]
    assert found == [("server.py", False)]


def test_every_file_is_short_and_explained():
    for path in VIEWER.rglob("*.py"):
        text = path.read_text("utf-8")
        assert ast.get_docstring(ast.parse(text)), path
        assert text.count("\n") <= 450, path


def test_all_of_it_is_installed():
    text = (ROOT / "setup.py").read_text("utf-8")
    packages = {"relight.viewer" + "".join(f".{p}" for p in path.parent.relative_to(VIEWER).parts)
                for path in VIEWER.rglob("__init__.py")}  # fmt: skip
    assert packages == set(re.findall(r'"(relight\.viewer[\w.]*)"', text))
    kinds = {p.suffix for p in VIEWER.rglob("*") if p.is_file() and "__pycache__" not in p.parts} - {".py", ".md"}
    assert kinds == {f".{k}" for k in re.findall(r'"\*\.(\w+)"', text)}
