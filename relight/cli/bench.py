"""Score a model on scenes whose truth is known."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to score."""


def run(arguments: argparse.Namespace) -> int:
    """Score."""
    raise NotImplementedError
