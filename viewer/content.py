"""What is shown: a splat or a textured mesh, of a stage folder or a file, or a capture before any stage."""

from __future__ import annotations

import hashlib
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from relight.config import load_config
from relight.data.models import SUFFIXES, load_model
from relight.errors import DataError, RelightError
from relight.export.gltf import write_glb
from relight.export.runs import last_stage
from relight.formats import detect, read_splat
from relight.geometry import sh
from relight.geometry.gaussians import Gaussians
from relight.pipeline import load_data
from relight.scene import Frame, Points, Scene
from relight.scene_io import load_scene, save_scene, stage_folders
from relight.shading.environment import Environment

SCENE_FILES = (".yaml", ".yml")
PARTS = ".safetensors"
DOT = 0.003
"""Standard deviation of the dots that stand for points, scene radii."""


MESH = " (mesh)"
"""Behind the name of a stage: its textured mesh instead of its splat."""


@dataclass(frozen=True)
class Content:
    """name: for people.  folder: stage folder or file it came from; None for the state of a fit.
    captured: nothing was fitted yet: the splat is a dot for each point.  mesh: it is the scene's textured mesh that is
    looked at, otherwise its splat.
    """

    name: str
    scene: Scene
    folder: Path | None = None
    captured: bool = False
    mesh: bool = False


@dataclass(frozen=True)
class Source:
    """mesh: of a stage with both, its textured mesh instead of its splat."""

    path: Path
    mesh: bool = False


def find(path: str | Path) -> Path:
    """What to look at: of a scene file, or a folder with one, its run if that has something to see, else the scene file
    itself; anything else as it is.  Raises RelightError for a scene file with mistakes.
    """
    path = Path(path)
    file = path / "scene.yaml" if path.is_dir() and not _to_see(path) else path
    if file.suffix.lower() not in SCENE_FILES or not file.is_file():
        return path
    run = load_config(file).output
    return run if _to_see(run) else file


def load(path: str | Path, *, mesh: bool | None = None) -> Content:
    """A run's last stage, a stage folder, a splat or model file, or the capture of a scene file.

    mesh: its textured mesh, or its splat; None for the mesh if there is one.  Raises RelightError for anything else.
    """
    path = Path(path)
    if path.suffix.lower() in SCENE_FILES:
        return capture(path.name, load_data(load_config(path)), path)
    if path.is_file():
        if detect(path) is None and path.suffix.lower() in SUFFIXES:
            return Content(path.name, model_scene(path), path, mesh=True)
        return Content(path.name, splat_scene(path), path)
    folder = last_stage(path)
    scene = load_scene(folder)
    mesh = scene.asset is not None if mesh is None else mesh
    if (scene.asset if mesh else scene.gaussians) is None:
        raise DataError(f"{folder}: holds no {'mesh' if mesh else 'splat'} to look at; run a stage that makes one")
    name = f"{folder.parent.resolve().name} / {folder.name}{MESH if mesh else ''}"
    return Content(name, scene, folder, mesh=mesh)


def gallery(path: str | Path) -> dict[str, Source]:
    """What a run has to see, by the names of its finished stages; of a stage folder, that of its run."""
    path = Path(path)
    if path.is_file():
        return {path.name: Source(path)}
    found: dict[str, Source] = {}
    last: Path | None = None
    for folder in _to_see(last_stage(path).parent):
        splat, asset = folder / f"gaussians{PARTS}", folder / f"asset{PARTS}"
        if splat.is_file():
            found[folder.name] = Source(folder)
        # What a stage left as it was is the same file.
        if asset.is_file() and (last is None or not asset.samefile(last)):
            found[folder.name + MESH] = Source(folder, mesh=True)
            last = asset
    return found


def _to_see(run: Path) -> list[Path]:
    """Finished stages with a splat or a mesh; a stage folder has none of its own."""
    parts = ("gaussians", "asset")
    return [p for p in stage_folders(run) if any((p / f"{part}{PARTS}").is_file() for part in parts)]


def capture(name: str, scene: Scene, folder: Path | None = None) -> Content:
    """Cameras, photographs, and a dot for each point, if there are any."""
    points = scene.points or Points(torch.empty(0, 3), torch.empty(0, 3))
    count = len(points.positions)
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(count, 4)
    scales = torch.full((count, 3), math.log(DOT * scene.frame.radius))
    look = sh.from_constant(points.colors.float())[:, None]
    dots = Gaussians(points.positions.float(), quats, scales, torch.full((count,), 4.0), look)
    return Content(name, replace(scene, gaussians=dots), folder, captured=True)


def save_selection(content: Content, gaussians: Gaussians) -> Path:
    """Write some of a content's Gaussians as a scene of its own beside where it came from; returns its run folder.

    Views and light stay, the mesh does not: it is that of everything.  Nothing is replaced.
    Raises RelightError for a fit that goes on, which lies nowhere yet.
    """
    if content.folder is None:
        raise RelightError("the fit lies in no folder yet: download the selection, or wait until the fit has ended")
    source = content.folder if content.folder.is_file() else content.folder.resolve().parent
    run = next(
        place for i in range(1, 1000) if not (place := source.with_name(f"{source.stem}-selection-{i}")).exists()
    )
    data = b"".join(t.detach().contiguous().numpy().tobytes() for t in gaussians.tensors().values())
    temporary = run.with_name(f".{run.name}.writing")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        stage = temporary / "01-selection"
        stage.mkdir(parents=True)
        scene = replace(content.scene, gaussians=gaussians, mesh=None)
        save_scene(scene, stage, key=hashlib.sha256(data).hexdigest())
        temporary.rename(run)
    except OSError as error:
        raise RelightError(f"{run}: cannot be written ({error.strerror or error}); download the selection") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return run


def write_mesh(content: Content, path: Path) -> None:
    """A content's textured mesh as a .glb file."""
    assert content.scene.asset is not None
    upright = Environment(torch.ones(2, 4, 3)).upright(content.scene.frame.up)
    write_glb(path, content.scene.asset, turn=upright.rotation)


def splat_scene(path: Path) -> Scene:
    """A splat file as a scene; its size is that of the middle nine tenths, and up is -y, as most captures have it."""
    gaussians = read_splat(path, drop_invalid=True)
    if len(gaussians) == 0:
        raise DataError(f"{path}: holds no Gaussians")
    center = gaussians.means.median(0).values
    distance = (gaussians.means - center).norm(dim=1)
    radius = max(float(torch.quantile(distance[:: max(1, len(distance) // 100_000)], 0.9)), 1e-6)
    return Scene(Frame(tuple(center.tolist()), radius, (0.0, -1.0, 0.0)), gaussians=gaussians)  # type: ignore[arg-type]


def model_scene(path: Path) -> Scene:
    """A model as a scene around its bounding box; up is +y, as glTF has it.  Raises DataError."""
    mesh = load_model(path)
    used = mesh.vertices[mesh.faces.long().flatten()]
    center = (used.amin(0) + used.amax(0)) / 2
    radius = max(float((used - center).norm(dim=1).max()), 1e-6)
    return Scene(Frame(tuple(center.tolist()), radius, (0.0, 1.0, 0.0)), asset=mesh)  # type: ignore[arg-type]
