"""Content keys: what a result was made from.  Same key, same result, so it is not computed again."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from torch import Tensor

from relight.config import StageConfig
from relight.scene import Scene

BLOCK = 4096
BLOCKS = 16


def data_key(scene: Scene) -> str:
    """Of a capture as it was read: cameras, splits, sizes, points, and the content of its pictures.

    Where the capture lies and when its files were copied don't matter, and an option of the reader that changes
    nothing doesn't either.
    """
    digest = hashlib.sha256()

    def add(value: object) -> None:
        digest.update(json.dumps(value, sort_keys=True, default=str).encode())

    add(scene.frame.__dict__)
    if scene.views is not None:
        described = scene.views.to_json()
        frames = described.pop("frames")
        add({k: v for k, v in described.items() if k != "folder"})
        for view, frame in zip(scene.views, frames, strict=True):  # type: ignore[arg-type]
            add({k: v for k, v in frame.items() if k not in ("image", "mask")})
            for path in (view.image_path, view.mask_path):
                digest.update(b"-" if path is None else _sampled(path))
    if scene.light is not None:
        add([scene.light.follows_camera, scene.light.measured, list(scene.light.maps)])
        for light in scene.light.maps.values():
            digest.update(_bytes(light.radiance) + _bytes(light.rotation))
    if scene.points is not None:
        for tensor in (scene.points.positions, scene.points.colors):
            digest.update(_bytes(tensor))
    if scene.asset is not None:
        add(scene.asset.flags)
        for name, tensor in sorted(scene.asset.tensors().items()):
            add(name)
            digest.update(_bytes(tensor))
    return digest.hexdigest()


def stage_key(config: StageConfig, seed: int, input_key: str) -> str:
    """Of a stage's result."""
    described = {
        "stage": config.target or config.name,
        "version": config.stage.version,
        "options": config.options | _contents(config),
        "seed": seed,
        "input": input_key,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _contents(config: StageConfig) -> dict[str, str]:
    """Of the files that options name, instead of where they lie."""
    named = config.stage.paths(config.options)
    return {option: _content(Path(path)) for option, path in named.items() if os.path.exists(path)}


def _content(path: Path) -> str:
    if not path.is_dir():
        return _sampled(path).hex()
    files = sorted(p for p in path.rglob("*") if p.is_file())
    described = [(p.relative_to(path).as_posix(), _sampled(p).hex()) for p in files]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


def early_key(key: str, steps: int) -> str:
    """Of the result of a stage with this key that was ended after so many steps."""
    return hashlib.sha256(f"{key} ended after {steps}".encode()).hexdigest()


def _sampled(path: Path) -> bytes:
    """Hash of a file's size and of 16 blocks spread over it: all of a small file, 64 KiB of a large one.

    Reading every byte of a thousand photographs would make "nothing to do" slow.  A picture that is edited and saved
    again changes its size or, being compressed, nearly all that follows the edit, its last block included.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest.update(size.to_bytes(8, "little"))
        if size <= BLOCK * BLOCKS:
            digest.update(file.read())
        else:
            for i in range(BLOCKS):
                file.seek((size - BLOCK) * i // (BLOCKS - 1))
                digest.update(file.read(BLOCK))
    return digest.digest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()
