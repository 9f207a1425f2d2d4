"""Names to things: stages, splat backends, data readers and exports, ours and those of installed packages.

A package offers its own through entry points of the groups `relight.stages`, `relight.backends`, `relight.data` and
`relight.exports`.  A module is imported when somebody names what is in it, so a broken plugin hurts only who uses it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from types import MappingProxyType

from relight.errors import RelightError

KINDS: Mapping[str, str] = MappingProxyType(
    {"stages": "stage", "backends": "splat backend", "data": "data format", "exports": "export format"}
)
"""Kinds of plugin, and what one of them is called in messages.  The entry point group is `relight.KIND`."""

_EDITS = {
    "extract": "Extract", "delete": "Delete", "recolour": "Recolour", "set_material": "SetMaterial",
    "transform": "Transform", "duplicate": "Duplicate",
}  # fmt: skip
BUILTIN: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "stages": {
            "radiance": "relight.stages.radiance:Radiance",
            "distill": "relight.stages.distill:Distill",
            "mesh": "relight.stages.mesh:MeshAsset",
            "materials": "relight.stages.materials:MeshMaterials",
            "paint": "relight.stages.paint:Paint",
            "compress": "relight.stages.compress:Compress",
            "features": "relight.stages.features:Features",
            "select": "relight.stages.select:Select",
            "relight_video": "relight.stages.relight_video:RelightVideo",
            "panorama": "relight.stages.panorama:Panorama",
            "portrait": "relight.stages.portrait:Portrait",
            **{name: f"relight.stages.edits:{cls}" for name, cls in _EDITS.items()},
        },
        "backends": {},
        "data": {},
        "exports": {},
    }
)
"""Built-in stages.  Splat backends, readers and exports have their own ordered lists in `relight.render.backends`,
`relight.data` and `relight.export`; here they only get what other packages add."""


class PluginError(RelightError):
    """A name that nobody offers, that two packages offer, or whose module cannot be imported."""


@dataclass(frozen=True)
class Plugin:
    """target: "module:attribute".  origin: the distribution that offers it; "relight" for ours."""

    name: str
    target: str
    origin: str = "relight"


def offered(kind: str) -> dict[str, list[Plugin]]:
    """All plugins of a kind by name, ours first; a list longer than one is a clash.  Imports none of them."""
    found = {name: [Plugin(name, target)] for name, target in BUILTIN[kind].items()}
    for point in metadata.entry_points(group=f"relight.{kind}"):
        origin = point.dist.name if point.dist is not None else point.value
        same = found.setdefault(point.name, [])
        # An editable install and its build folder on the path list the same entry point twice.
        if all(p.target != point.value for p in same):
            same.append(Plugin(point.name, point.value, origin))
    return found


def find(kind: str, name: str) -> Plugin:
    """The one plugin of that name.  Raises PluginError; imports nothing."""
    plugins = offered(kind)
    if name not in plugins:
        raise PluginError(f"unknown {KINDS[kind]} {name!r}{did_you_mean(name, plugins)}")
    same = plugins[name]
    if len(same) > 1:
        both = " and ".join(f"{p.origin} ({p.target})" for p in same)
        raise PluginError(f"{KINDS[kind]} {name!r} is offered by {both}; uninstall one of them")
    return same[0]


def load(kind: str, name: str) -> object:
    """What `name` stands for.  Raises PluginError, with the cause when its module cannot be imported."""
    plugin = find(kind, name)
    return load_target(plugin.target, f"{KINDS[kind]} {name!r} of {plugin.origin}")


def load_target(target: str, what: str) -> object:
    """The attribute "package.module:Name".  `what` starts the message of the PluginError."""
    module_name, _, attribute = target.partition(":")
    try:
        value: object = import_module(module_name)
    except Exception as error:  # a plugin's module may fail in any way while it is imported
        missing = isinstance(error, ModuleNotFoundError) and error.name == module_name.partition(".")[0]
        why = (
            f"no module {error.name!r} in this Python; install its package, or put its folder on PYTHONPATH"
            if missing and isinstance(error, ModuleNotFoundError)
            else f"importing {module_name} failed with {type(error).__name__}: {error}"
        )
        raise PluginError(f"{what}: {why}") from error
    for part in filter(None, attribute.split(".")):
        if not hasattr(value, part):
            names = [n for n in dir(value) if not n.startswith("_")]
            raise PluginError(f"{what}: {module_name} has no {part!r}{did_you_mean(part, names, list_all=False)}")
        value = getattr(value, part)
    return value


def problems(kind: str) -> dict[str, str]:
    """Why a plugin of another package can't be used, by name: for `relight doctor`.  Imports them all."""
    found = {}
    for name, same in offered(kind).items():
        if all(plugin.origin == "relight" for plugin in same):
            continue
        try:
            load(kind, name)
        except PluginError as error:
            found[name] = str(error)
    return found


def did_you_mean(word: str, known: Iterable[str], *, list_all: bool = True) -> str:
    """ ", did you mean 'iterations'?", or the names there are if none is near; the end of a message."""
    names = sorted(known)
    near = difflib.get_close_matches(word.lower(), [n.lower() for n in names], n=1, cutoff=0.6)
    if near:
        return f", did you mean {next(n for n in names if n.lower() == near[0])!r}?"
    return f"; there are: {', '.join(names)}" if list_all and names else ""
