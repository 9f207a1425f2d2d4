"""What verbs share of reading their options, and of keeping what is there already."""

from __future__ import annotations

import argparse
from pathlib import Path

from relight.errors import RelightError

STILLS = (".png", ".jpg", ".jpeg", ".exr")
"""Suffixes of pictures that are written."""


def _number(name: str, kind: type, low: float, high: float):
    """A command line's number above `low` and at most `high`; argparse shows `name` in its message."""

    def parse(text: str):
        value = kind(text)
        if not low < value <= high or value == float("inf"):
            raise ValueError(text)
        return value

    parse.__name__ = name
    return parse


positive = _number("positive", float, 0, float("inf"))
finite = _number("finite", float, float("-inf"), 1e9)
angle = _number("angle", float, 0, 170)
count = _number("count", int, 0, 1 << 20)
whole = _number("whole", int, -1, 64)


def share(text: str) -> float:
    """An option's number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 0 to 1")
    return value


def size(text: str) -> tuple[int, int]:
    """Width and height of WIDTHxHEIGHT, pixels.  Raises RelightError."""
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) > 0 and int(height) > 0):
        raise RelightError(f"--size {text}: expected WIDTHxHEIGHT, e.g. 640x480")
    return int(width), int(height)


def key_values(words: list[str]) -> dict[str, object]:
    """Options of a writer, as whole numbers, numbers, true, false or text.  Raises RelightError for no `key=value`."""
    out: dict[str, object] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not (key and equals):
            raise RelightError(f"{word}: expected key=value")
        value: object = {"true": True, "false": False}.get(text.lower(), text)
        for kind in (int, float):
            if value is text:
                try:
                    value = kind(text)
                except ValueError:
                    continue
        out[key] = value
    return out


def keep_files(files: list[Path], force: bool) -> None:
    """Raise RelightError if one of the files exists; before any is written."""
    found = [file for file in files if file.exists()]
    if found and not force:
        raise RelightError(f"{found[0]}: exists; --force replaces it, or name another file")


def keep_folder(folder: Path, force: bool) -> None:
    """Raise RelightError if maps of a folder would be replaced, or if it is a file; before any is written."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not force:
        raise RelightError(f"{folder}: is not an empty folder; --force replaces maps in it, or name another")
    if folder.exists() and not folder.is_dir():
        raise RelightError(f"{folder}: is a file; name a folder")
