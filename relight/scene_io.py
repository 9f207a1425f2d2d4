"""A scene as a folder: scene.json, cameras.json, safetensors.  Never pickle.

A folder is complete by itself.  A part that a stage left as it was is a hard link to the file of the stage before
(a copy where the file system has no links): files of a scene folder are replaced, never written into.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

import torch
from torch import Tensor

from relight.atomic import replacing
from relight.errors import MALFORMED, DataError
from relight.geometry.gaussians import Gaussians
from relight.geometry.mesh import Mesh
from relight.scene import FeatureBasis, Frame, Points, Scene, StageRecord
from relight.shading.environment import Environment
from relight.shading.lighting import Lighting
from relight.views import Views

SCHEMA = 3
"""The newest.  A folder says the oldest that describes it: assets came with 2, a basis of features with 3."""
MANIFEST = "scene.json"
_CAMERAS = "cameras.json"
_PACKED: Mapping[str, type[Gaussians] | type[Mesh] | type[FeatureBasis]] = {
    "gaussians": Gaussians, "mesh": Mesh, "asset": Mesh, "feature_basis": FeatureBasis,
}  # fmt: skip


def save_scene(scene: Scene, folder: Path, *, key: str, earlier: tuple[Scene, Path] | None = None) -> None:
    """Write every part, then the manifest, into an existing folder.

    key: content key.  earlier: a scene and its folder, whose files are used for the parts that are the same object.
    """
    parts: dict[str, dict[str, object]] = {}
    if scene.views is not None:
        parts["views"] = {"file": _CAMERAS}
        _write_json(folder / _CAMERAS, scene.views.to_json())
    for name in ("points", "gaussians", "light", "mesh", "asset", "feature_basis"):
        part = getattr(scene, name)
        if part is None:
            continue
        file = f"{name}.safetensors"
        if earlier is not None and part is getattr(earlier[0], name):
            _link(earlier[1] / file, folder / file)
        else:
            write_tensors(folder / file, _tensors(part))
        if isinstance(part, Lighting):
            flags = {"names": list(part.maps), "follows_camera": part.follows_camera, "measured": part.measured}
        else:
            flags = getattr(part, "flags", {})
        parts[name] = {"file": file, "sha256": _digest(folder / file), "flags": flags}
    document = {
        "schema": 3 if "feature_basis" in parts else 2 if "asset" in parts else 1,
        "key": key,
        "frame": asdict(scene.frame),
        "parts": parts,
        "history": [asdict(record) for record in scene.history],
    }
    _write_json(folder / MANIFEST, document)


def load_scene(folder: Path) -> Scene:
    """Read a stage folder.  Raises DataError for a missing, newer or damaged one."""
    document = read_manifest(folder)
    try:
        found: dict[str, object] = {}
        for name, part in document["parts"].items():
            path = _within(folder, part["file"])
            if name == "views":
                found[name] = Views.from_json(json.loads(path.read_text(encoding="utf-8")))
                continue
            if _digest(path) != part["sha256"]:
                raise DataError(f"{path}: changed or damaged since it was written; move {folder} away and fit again")
            tensors = read_tensors(path)[0]
            if name in _PACKED:
                found[name] = _PACKED[name].from_tensors(tensors, **part["flags"])
            elif name == "light":
                found[name] = _lighting(tensors, **part["flags"])
            else:
                found[name] = Points(**tensors)
        frame = document["frame"]
        up = tuple(frame["up"]) if frame["up"] else None
        history = tuple(StageRecord(**record) for record in document["history"])
        return Scene(Frame(tuple(frame["center"]), frame["radius"], up), history=history, **found)  # type: ignore[arg-type]
    except MALFORMED as error:
        raise DataError(
            f"{folder}: not a scene folder that can be read ({error}); move it away and fit again"
        ) from error


def _within(folder: Path, file: str) -> Path:
    """A part's file.  Who sends a folder must not choose what else is read: of a device, without end."""
    path = folder / file
    if Path(file).name != file or not path.is_file():
        raise DataError(
            f"{folder}: {MANIFEST} names {file!r}, which is no file of this folder; move it away and fit again"
        )
    return path


def point_to_pictures(folder: Path, views: Views) -> None:
    """Say in a stage folder where the pictures of `views` are now, if they were moved since it was written."""
    path = folder / _CAMERAS
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        now = views.to_json()
        places = {f["name"]: {k: f[k] for k in ("image", "mask") if k in f} for f in now["frames"]}  # type: ignore[attr-defined]
        frames = [frame | places.get(frame["name"], {}) for frame in document["frames"]]
        # A stage may have dropped views; one that none of `views` explains is not ours to move.
        if {frame["name"] for frame in frames} <= set(places):
            moved = document | {"folder": now["folder"], "frames": frames}
            if moved != document:
                _write_json(path, moved)
    except MALFORMED:
        return  # damaged: `load_scene` explains it


def read_manifest(folder: Path) -> dict:
    """What scene.json says: key, history and parts.  Raises DataError."""
    path = folder / MANIFEST
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        schema = document["schema"]
        complete = isinstance(document["parts"], dict) and isinstance(document["history"], list) and document["key"]
        if not (complete and isinstance(schema, int)):
            raise ValueError("incomplete")
    except MALFORMED as error:
        raise DataError(f"{path}: missing or damaged ({error}); move {folder} away and fit again") from error
    if schema > SCHEMA:
        raise DataError(f"{path}: written by a newer relight (schema {schema}); update relight to read it")
    return document


def stage_folders(run: Path) -> list[Path]:
    """Finished stage folders of a run, first to last."""
    return sorted(p.parent for p in run.glob(f"*/{MANIFEST}") if re.fullmatch(r"\d\d-.+", p.parent.name))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """One safetensors file, on the device when this returns."""
    from safetensors.torch import save

    path.unlink(missing_ok=True)  # it may be a link to another folder's file
    data = save({k: t.detach().cpu().contiguous().clone() for k, t in tensors.items()}, dict(metadata or {}))
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata.  Raises DataError for anything unreadable."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {k: file.get_tensor(k) for k in file.keys()}, file.metadata() or {}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not a readable safetensors file ({error})") from error


def flush(path: Path) -> None:
    """Force a file's content, or a folder's list of names, onto the device."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_json(path: Path, document: object) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _lighting(
    tensors: Mapping[str, Tensor], names: list[str], follows_camera: bool, measured: bool = False
) -> Lighting:
    maps = {n: Environment(tensors[f"{i}.radiance"], tensors[f"{i}.rotation"]) for i, n in enumerate(names)}
    return Lighting(maps, follows_camera, measured)


def _tensors(part: Gaussians | Points | Lighting | Mesh | FeatureBasis) -> dict[str, Tensor]:
    if isinstance(part, Gaussians | Mesh | FeatureBasis):
        return part.tensors()
    if isinstance(part, Lighting):
        lights = enumerate(part.maps.values())
        # A file of no tensors at all can be written but not read.
        return {"count": torch.tensor(len(part.maps))} | {
            f"{i}.{k}": getattr(light, k) for i, light in lights for k in ("radiance", "rotation")
        }
    values = {f.name: getattr(part, f.name) for f in fields(part)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
