"""Scene files: YAML, one preset, and `key=value` words, merged and then validated once into frozen dataclasses.

    preset: fast                  # optional: defaults for everything
    data: ../capture              # or {path: ..., max_size: 800, ...}; relative to this file
    output: runs/fox              # relative to where the command runs; `.` is the folder of this file
    seed: 0
    device: auto                  # auto, cpu, cuda
    backend: auto                 # see `relight doctor`
    stages:
      - radiance: {iterations: 3000}
      - use: my_package.my_module:MyStage
        strength: 2.0

This package is the only user of YAML and pydantic.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from relight import plugins
from relight.config.merge import Problems, Raw, StageNode, apply, over, read_overrides, take_apart
from relight.config.tree import Node, Position, inline_text, read_file, read_text, to_text
from relight.config.validate import plain_options, validated
from relight.errors import ConfigError

if TYPE_CHECKING:
    from relight.stages.base import Stage

GENERIC_NAMES = ("scene", "config", "relight")
"""File names that say nothing; the run is then named after the folder."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which capture, and how it is read: the arguments of `relight.data.load`."""

    path: Path
    """Folder or file of the capture, relative to the scene file."""
    format: str = "auto"
    """Name of the reader; auto looks at the files."""
    test_every: int = 8
    """Every n-th photograph is held out for testing where the capture has no split of its own; 0 for none."""
    max_size: int | None = None
    """Longest side in pixels that photographs are reduced to; null keeps them."""
    masks: str | None = None
    """Folder of masks, relative to the capture; white is the object."""
    masks_are_alpha: bool = True
    """Masks cut the object out; false: they mark pixels to use, and the background stays."""
    light: str | None = None
    """What lit the photographs, if it was measured: an equirectangular .hdr or .exr, or a folder with one for each
    light that photographs name; relative to the capture.  Stages then keep it as it is."""
    light_turn: float = 0.0
    """Degrees that the given light is turned by about the vertical."""
    light_frame: Literal["world", "camera"] = "world"
    """What the light stands still with; camera: on a turntable, where the object turns and camera and lamps do not."""
    mesh: str | None = None
    """A model of the subject (.glb, .gltf, .obj, .ply), relative to the capture, in the frame of its cameras: for the
    stage materials."""

    def __post_init__(self) -> None:
        if self.test_every < 0:
            raise ValueError(f"test_every: expected 0 or more (got {self.test_every})")
        if self.max_size is not None and self.max_size < 8:
            raise ValueError(f"max_size: expected at least 8 pixels (got {self.max_size})")


@dataclass(frozen=True)
class StageConfig:
    """name: of overrides and of its folder.  target: "module:Class" where it was given by `use:`.
    stage: the validated options, ready to run.
    """

    name: str
    stage: Stage
    target: str | None = None

    @property
    def options(self) -> dict[str, object]:
        """All options as JSON-like values."""
        return plain_options(self.stage)


@dataclass(frozen=True)
class Config:
    """A validated scene file.  output: absolute path of the run folder.  source: the file."""

    data: DataConfig
    output: Path
    stages: tuple[StageConfig, ...]
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    backend: str = "auto"
    source: Path = field(default=Path("scene.yaml"), compare=False)


@dataclass(frozen=True, kw_only=True)
class _Top:
    """The part of a scene file that has the same options for everybody."""

    data: DataConfig
    output: str | None = None
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    backend: str = "auto"

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed: expected 0 or more (got {self.seed})")


OPTIONS = tuple(f.name for f in fields(_Top))


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read and validate a scene file, or the one in a folder.

    overrides: words like "radiance.iterations=500".  Raises ConfigError with every problem there is.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "scene.yaml"
    problems: Problems = []
    root = read_file(path, str(path))
    words = read_overrides(overrides, problems)
    raw = take_apart(root, problems)
    presets = [o.value for o in words if o.keys == ("preset",)]
    preset = presets[-1] if presets else raw.preset
    if preset is not None and preset.value is not None:
        raw = over(_preset(preset, problems), raw)
    raw = apply(raw, [o for o in words if o.keys != ("preset",)], OPTIONS, problems)
    config = _validated(raw, root, path, problems)
    if problems or config is None:
        # A file's problems in the order of its lines; the command line's after them.
        ordered = sorted(dict.fromkeys(problems), key=lambda p: (p[0].line == 0, p[0].source != str(path), p[0]))
        raise ConfigError([f"{at}: {text}" for at, text in ordered])
    return config


def stage_alone(name: str, overrides: Sequence[str] = ()) -> StageConfig:
    """A stage outside of a scene file.  overrides: words like "iterations=500".  Raises ConfigError."""
    problems: Problems = []
    words = read_overrides([f"{name}.{word}" for word in overrides], problems)
    raw = take_apart(read_text(f"stages: [{name}]", "the command line", Path.cwd()), problems)
    stage = _stage((apply(raw, words, OPTIONS, problems).stages or [])[0], problems)
    if problems or stage is None:
        raise ConfigError([f"{at}: {text}" for at, text in dict.fromkeys(problems)])
    return stage


def resolved_text(config: Config, folder: Path) -> str:
    """The scene file that says all of `config`, for writing to `folder`: a valid input with every default filled in."""
    data = {**plain_options(config.data), "path": _relative(config.data.path, folder)}
    output = "." if config.output == folder.resolve() else str(config.output)
    stages = [
        {s.name: s.options} if s.target is None else {"use": s.target, **s.options} for s in config.stages
    ]  # fmt: skip
    top = {"data": data, "output": output, "seed": config.seed, "device": config.device, "backend": config.backend}
    return to_text({**top, "stages": stages})


def presets() -> dict[str, Path]:
    """Presets that come with relight, by name."""
    package = Path(__file__).resolve().parents[1]
    # In an installed package they lie inside it, in a checkout beside it.
    folders = [package / "configs", package.parent / "configs"]
    found = [p for folder in reversed(folders) if folder.is_dir() for p in sorted(folder.glob("*.yaml"))]
    return {p.stem: p for p in found}


def _preset(node: Node, problems: Problems) -> Raw:
    """The preset that `node` names.  It can't name another."""
    name = node.value
    nothing = Raw(node.with_value({}), None)
    if not isinstance(name, str):
        problems.append((node.at, f"preset: expected a name or a path (got {node.plain()!r})"))
        return nothing
    known = presets()
    is_path = "/" in name or os.sep in name or name.endswith((".yaml", ".yml"))
    file = node.base / Path(name).expanduser() if is_path else known.get(name)
    if file is None or not file.is_file():
        hint = "; no such file" if is_path else plugins.did_you_mean(name, known)
        problems.append((node.at, f"preset: unknown preset {name!r}{hint}"))
        return nothing
    raw = take_apart(read_file(file, os.path.relpath(file)), problems)
    if raw.preset is not None:
        problems.append((raw.preset.key, "preset: a preset can't have a preset"))
    return raw


def _validated(raw: Raw, root: Node, path: Path, problems: Problems) -> Config | None:
    top = validated(_Top, raw.top, "", problems)
    if raw.stages is None:
        problems.append(
            (root.at, f"stages: missing; list stages, or name a preset{plugins.did_you_mean('', presets())}")
        )
    stages = [_stage(node, problems) for node in raw.stages or []]
    _check_backend(raw.top, problems)
    if top is None or not all(stages):
        return None
    data_node = cast("dict[str, Node]", raw.top.value)["data"]
    return Config(
        data=_data_at(top.data, cast("dict[str, Node]", data_node.value)["path"].base),
        output=_output(top.output, path),
        stages=tuple(s for s in stages if s is not None),
        seed=top.seed,
        device=top.device,
        backend=top.backend,
        source=path.resolve(),
    )


def stage_class(name: str) -> type[Stage]:
    """The class of a stage by its name or "module:Class".  Raises PluginError."""
    from relight.stages.base import Stage

    cls = plugins.load_target(name, f"use: {name}") if ":" in name else plugins.load("stages", name)
    if not (isinstance(cls, type) and issubclass(cls, Stage)) or inspect.isabstract(cls):
        raise plugins.PluginError(f"{name}: is not a stage; expected a class derived from Stage")
    return cls


def _stage(node: StageNode, problems: Problems) -> StageConfig | None:
    name, options = node.name, node.options
    try:
        cls = stage_class(node.target or name)
        given = options.value if isinstance(options.value, dict) else {}
        other = cls.by_renderer.get(str(given["renderer"].value)) if "renderer" in given else None
        if other is not None:
            name, cls = other, stage_class(other)
            options = options.with_value({key: value for key, value in given.items() if key != "renderer"})
    except plugins.PluginError as error:
        problems.append((node.at, str(error)))
        return None
    stage = validated(cls, _files_found(cls, options, name, problems), name, problems)
    return None if stage is None else StageConfig(name, stage, node.target)


def _files_found(cls: type[Stage], options: Node, name: str, problems: Problems) -> Node:
    """The options with absolute paths: a path is relative to the file that says it."""
    found = dict(options.value) if isinstance(options.value, dict) else {}
    for option, text in cls.paths({key: node.value for key, node in found.items()}).items():
        node = found[option]
        path = os.path.normpath(node.base / Path(text).expanduser())
        if os.path.exists(path):
            found[option] = node.with_value(path)
        elif option in cls.files:
            problems.append((node.at, f"{name}.{option}: no such file: {path}; correct the path"))
    return options.with_value(found) if found else options


def _check_backend(top: Node, problems: Problems) -> None:
    from relight.render import backends

    known = ["auto", *backends.names()]
    node = cast("dict[str, Node]", top.value).get("backend")
    if node is not None and isinstance(node.value, str) and node.value not in known:
        hint = plugins.did_you_mean(node.value, known)
        problems.append((node.at, f"backend: unknown splat backend {node.value!r}{hint}"))


def _data_at(data: DataConfig, base: Path) -> DataConfig:
    return replace(data, path=Path(os.path.normpath(base / data.path.expanduser())))


def _output(written: str | None, path: Path) -> Path:
    folder = path.resolve().parent
    if written == ".":
        return folder
    name = folder.name if path.stem in GENERIC_NAMES else path.stem
    return Path(os.path.normpath(Path.cwd() / Path(written or f"runs/{name}").expanduser()))


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive on Windows
        return str(path)


__all__ = [
    "Config", "ConfigError", "DataConfig", "Position", "StageConfig", "inline_text", "load_config", "presets",
    "resolved_text", "stage_alone", "stage_class",
]  # fmt: skip
