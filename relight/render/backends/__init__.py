"""Adapters from rasterisers to `relight.render.protocol`, and the list of them in order of preference."""

from __future__ import annotations

from importlib import import_module

from relight import plugins
from relight.plugins import PluginError
from relight.render.mesh_protocol import MeshBackend
from relight.render.protocol import Backend


def _backend(name: str, device: str, module: str, attribute: str) -> Backend:
    """A backend whose module is imported only when somebody asks about it."""
    return Backend(
        name,
        device,
        unavailable=lambda: import_module(module).unavailable(),
        create=lambda: getattr(import_module(module), attribute)(),
    )


BACKENDS: tuple[Backend, ...] = (
    _backend("splat_gsplat", "cuda", "relight.render.backends.splat_gsplat", "SplatGsplat"),
    _backend("splat_cpu", "cpu", "relight.render.backends.splat_cpu", "SplatCpu"),
    _backend("reference", "cpu", "relight.render.reference", "ReferenceRasterizer"),
)


MESH_BACKENDS: tuple[MeshBackend, ...] = tuple(
    MeshBackend(b.name, b.device, b.unavailable, b.create)  # type: ignore[arg-type]
    for b in (
        _backend("mesh_nvdiffrast", "cuda", "relight.render.backends.mesh_nvdiffrast", "MeshNvdiffrast"),
        _backend("mesh_pytorch3d", "cuda", "relight.render.backends.mesh_pytorch3d", "MeshPytorch3d"),
        _backend("mesh_cpu", "cpu", "relight.render.backends.mesh_cpu", "MeshCpu"),
        _backend("mesh_reference", "cpu", "relight.render.reference_mesh", "ReferenceMeshRasterizer"),
    )
)


def names() -> list[str]:
    """Of every backend, ours first; imports none."""
    return [*(b.name for b in BACKENDS), *plugins.offered("backends")]


def find(name: str) -> Backend:
    """One of ours, or what a package offers as entry point of `relight.backends`.  Raises PluginError."""
    for backend in BACKENDS:
        if backend.name == name:
            return backend
    found = plugins.load("backends", name)
    if not isinstance(found, Backend):
        raise PluginError(f"splat backend {name!r}: its entry point must be a Backend, found {type(found).__name__}")
    return found
