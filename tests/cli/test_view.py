from __future__ import annotations

import sys

import pytest

from relight.cli import main
from relight.cli.view import viewer_module
from relight.errors import RelightError


def test_mistakes_are_explained(tmp_path, capsys):
    assert main(["view", str(tmp_path / "missing")]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    (tmp_path / "x.ply").write_text("ply")
    assert main(["view", str(tmp_path / "x.ply"), "--port", "70000"]) == 2
    assert "expected 0 to 65535" in capsys.readouterr().err


def test_without_viser_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(RelightError, match=r"pip install 'relight\[viewer\]'"):
        viewer_module("server").Server(port=0)


def test_without_the_viewer_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("relight.cli.view.find_spec", lambda name: None)
    with pytest.raises(RelightError, match=r"pip install 'relight\[viewer\]'"):
        viewer_module("app")
