"""A model file that nobody photographed: a scene without views, for stages that need none."""

from __future__ import annotations

from pathlib import Path

from relight.data.common import Options
from relight.data.models import SUFFIXES, load_model
from relight.scene import Frame, Scene


def sniff(path: Path) -> bool:
    """A file with a model's suffix."""
    return path.is_file() and path.suffix.lower() in SUFFIXES


def load(path: Path, options: Options) -> Scene:
    """The model as the scene's asset, +y up, as glTF has it and most .obj do.  Raises DataError."""
    mesh = load_model(path)
    low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
    x, y, z = ((low + high) / 2).tolist()
    return Scene(Frame((x, y, z), max(float((high - low).norm()) / 2, 1e-6), (0.0, 1.0, 0.0)), asset=mesh)
