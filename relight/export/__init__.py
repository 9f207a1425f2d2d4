"""Results for other programs and for people: one writer a format, and `export`, which chooses by file name.

A writer is a function `write(run: Path, output: Path) -> None` of a run or stage folder; other packages add theirs
through the entry point group `relight.exports` (name = the format, which is also the file suffix).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from relight.errors import MissingPartError, RelightError

OWN = {
    "glb": ("relight.export.gltf:export_glb", "the mesh with its materials, for Blender, three.js and engines"),
    "obj": ("relight.export.texture_files:export_obj", "the mesh as OBJ, MTL and textures"),
    "usdz": ("relight.export.usd:export_usd", "the mesh as USD in one file, for Apple's and NVIDIA's programs"),
    "usdc": ("relight.export.usd:export_usd", "the mesh as USD, binary, textures beside"),
    "usda": ("relight.export.usd:export_usd", "the mesh as USD, readable, textures beside"),
    "textures": ("relight.export.texture_files:export_textures", "a folder of textures as PNG and EXR, and the light"),
    "html": ("relight.export.report:export_report", "the report: test pictures, curves, settings, in one page"),
}
"""Formats that are no splat: name, which is also the suffix, to the writer and what it is."""


def formats() -> dict[str, str]:
    """Every format that can be written, with what it is; imports no writer."""
    from relight import plugins
    from relight.formats import FORMATS

    found = {name: f"from {offers[0].origin}" for name, offers in plugins.offered("exports").items()}
    found |= {f.name: f"the splat as {f.what} ({', '.join(f.suffixes)})" for f in FORMATS.values() if f.writes}
    return found | {name: what for name, (_, what) in OWN.items()}


def export(run: str | Path, output: str | Path, format: str | None = None, **options: Any) -> None:
    """Write `output` from a run or stage folder.  format: one of `formats`; None for the suffix of `output`.

    options: of a splat format, see `relight.formats`.
    Replaces an existing `output`.  Raises `RelightError` for an unknown format or a run without what it needs.
    """
    from relight import plugins
    from relight.export.splats import export_splat
    from relight.formats import find

    run, output = Path(run), Path(output)
    name = format or output.suffix.lower().lstrip(".")
    splat = find(output, format)
    if splat is not None and not splat.writes:
        splat = None
    if name in OWN:
        module, _, attribute = OWN[name][0].partition(":")
        writer = getattr(import_module(module), attribute)
    elif splat is not None:
        export_splat(run, output, splat.name, **options)
        return
    elif name in plugins.offered("exports"):
        writer = cast("Callable[[Path, Path], None]", plugins.load("exports", name))
    else:
        hint = plugins.did_you_mean(name, formats())
        raise RelightError(f"{output}: {name or 'no suffix'!r} is not a format that can be exported{hint}")
    if options and splat is None:
        raise RelightError(f"{output}: {name} has no options; found {', '.join(options)}")
    try:
        writer(run, output)
    except MissingPartError as error:
        if splat is None:
            raise
        # A suffix of meshes and of splats: a run without a mesh means its splat.
        try:
            export_splat(run, output, splat.name, **options)
        except MissingPartError:
            raise error from None
