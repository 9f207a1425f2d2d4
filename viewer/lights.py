"""The lights there are to choose from, and from a `Lighting` to what `shade` takes."""

from __future__ import annotations

import base64
import math
import re
import tempfile
import threading
from pathlib import Path

import torch
from torch.nn.functional import adaptive_avg_pool2d, normalize

from relight.data.environments import load_environment
from relight.errors import RelightError
from relight.export.images import encoded_bytes
from relight.scene import Scene
from relight.shading.color import linear_to_srgb, srgb_to_linear
from relight.shading.environment import WORKED_OUT, Environment
from relight.shading.lights import Light, Point, Sun
from relight.shading.studio import studio
from relight.shading.tonemap import reinhard

from .display import ESTIMATED, PHOTOGRAPHED, STUDIO, Lamp, Lighting

SUFFIXES = (".hdr", ".exr")
ROWS = 256
"""Lights are reduced to this height: finer detail is seen in no rough surface, and costs at every change."""
THUMBNAIL = 96
LARGEST_UPLOAD = 256 << 20
SUN_RADIUS = math.radians(0.5)


class Library:
    """Lights in a folder and those that clients brought.  Usable from several threads.

    folder: None for none.  up: of the world, see `Environment.upright`.
    """

    def __init__(self, folder: Path | None = None, up: tuple[float, float, float] | None = None):
        self.up = up
        self._lock = threading.Lock()
        self._files: dict[str, Path] = {}
        self._loaded: dict[str, Environment] = {}
        self._thumbnails: dict[str, str] = {}
        if folder is not None:
            if not folder.is_dir():
                raise RelightError(f"{folder}: no such folder; --lights names a folder of .hdr and .exr files")
            self._files = _in_folder(folder)

    def beside(self, scene: Scene) -> None:
        """Unless there are files already: those of a folder `lights` beside the photographs' folder."""
        if self._files or scene.views is None or not len(scene.views):
            return
        folder = scene.views[0].image_path.parent.parent / "lights"
        if folder.is_dir():
            with self._lock:
                self._files = _in_folder(folder)

    def names(self) -> list[str]:
        """The studio's, files', uploads'."""
        with self._lock:
            return [STUDIO, *dict.fromkeys([*self._files, *(n for n in self._loaded if n != STUDIO)])]

    def get(self, name: str) -> Environment:
        """A light, standing upright.  Raises RelightError for an unknown name or a broken file."""
        with self._lock:
            if name not in self._loaded:
                if name == STUDIO:
                    light = studio(128)
                elif name in self._files:
                    light = load_environment(self._files[name])
                else:
                    raise RelightError(f"light {name!r}: no such light; there are {', '.join([STUDIO, *self._files])}")
                self._loaded[name] = _reduced(light).upright(self.up)
            return self._loaded[name]

    def add(self, file_name: str, content: bytes) -> str:
        """A client's file; returns the name it has from now on.  Raises RelightError for anything but a light."""
        suffix = Path(file_name).suffix.lower()
        if suffix not in (*SUFFIXES, ".png", ".jpg", ".jpeg") or len(content) > LARGEST_UPLOAD:
            raise RelightError(f"{file_name}: expected a .hdr or .exr file of at most {LARGEST_UPLOAD >> 20} MB")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"light{suffix}"
            path.write_bytes(content)
            light = _reduced(load_environment(path)).upright(self.up)
        stem = re.sub(r"[^\w .-]", "_", Path(file_name).stem) or "light"
        with self._lock:
            taken = {*self._files, *self._loaded}
            name = next(n for i in range(len(taken) + 2) if (n := stem if i == 0 else f"{stem} {i + 1}") not in taken)
            self._loaded[name] = light
        return name

    def thumbnail(self, name: str) -> str:
        """See the function of this name; kept.  Raises RelightError as `get` does."""
        if name not in self._thumbnails:
            self._thumbnails[name] = thumbnail(self.get(name))
        return self._thumbnails[name]


class Lamps:
    """From a `Lighting` to the lights of a scene; keeps what is slow to prepare."""

    def __init__(self, library: Library):
        self.library = library
        self._turned: dict[tuple[str, float], Environment] = {}

    def environment(self, lighting: Lighting, scene: Scene) -> Environment | None:
        """Light from all around, turned; None where there is none."""
        name = lighting.environment
        if not name:
            return None
        if name in (PHOTOGRAPHED, ESTIMATED):
            light = None if scene.light is None else scene.light.of_world
            if light is None:
                return self._at(STUDIO, lighting.rotation)
            # Not kept: a fit has another in every snapshot.
            return light.turned(math.radians(lighting.rotation)) if lighting.rotation else light
        return self._at(name, lighting.rotation)

    def others(self, lighting: Lighting, scene: Scene) -> list[Light]:
        """Point and sun lights."""
        return [_light(lamp, scene) for lamp in lighting.lamps]

    def _at(self, name: str, rotation: float) -> Environment:
        key = (name, round(rotation, 2))
        if key not in self._turned:
            if len(self._turned) > 64:
                self._turned.clear()
            self._turned[key] = sharing_maps(self.library.get(name), math.radians(rotation))
        return self._turned[key]


def sharing_maps(light: Environment, angle: float) -> Environment:
    """`light.turned(angle)`, after all that does not depend on the rotation has been worked out for it to share."""
    for name in WORKED_OUT:
        getattr(light, name)
    return light.turned(angle)


def _light(lamp: Lamp, scene: Scene) -> Light:
    color = srgb_to_linear(torch.tensor(lamp.color)) * lamp.strength
    place = torch.tensor(lamp.place)
    if lamp.kind == "sun":
        towards = place - torch.tensor(scene.frame.center)
        return Sun(normalize(towards, dim=0), color, SUN_RADIUS)
    return Point(place, color * scene.frame.radius**2)


def _in_folder(folder: Path) -> dict[str, Path]:
    return {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES}


def thumbnail(light: Environment) -> str:
    """A small picture as a data: address, exposed so that its mean is a middle grey."""
    small = adaptive_avg_pool2d(light.radiance.permute(2, 0, 1)[None], (THUMBNAIL // 2, THUMBNAIL))[0].permute(1, 2, 0)
    exposed = linear_to_srgb(reinhard(small * (0.5 / small.mean().clamp_min(1e-6))))
    return f"data:image/jpeg;base64,{base64.b64encode(encoded_bytes(exposed, 'jpeg')).decode()}"


def _reduced(light: Environment) -> Environment:
    height = light.radiance.shape[0]
    if height <= ROWS:
        return light
    small = adaptive_avg_pool2d(light.radiance.permute(2, 0, 1)[None], (ROWS, 2 * ROWS))[0]
    return Environment(small.permute(1, 2, 0).contiguous(), light.rotation)
