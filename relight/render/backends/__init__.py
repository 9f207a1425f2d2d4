"""Adapters from rasterisers to `relight.render.protocol`, and the list of them in order of preference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any, Protocol, TypeVar

from relight import plugins
from relight.errors import BackendUnavailableError
from relight.plugins import PluginError
from relight.render.mesh_protocol import MeshRasterizer
from relight.render.protocol import Backend, SplatRasterizer


class _Optional(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def unavailable(self) -> Callable[[], str | None]: ...


AnyBackend = TypeVar("AnyBackend", bound=_Optional)


def _backend(name: str, device: str, module: str, attribute: str) -> Backend[Any]:
    """A backend whose module is imported only when somebody asks about it."""
    return Backend(
        name,
        device,
        unavailable=lambda: import_module(module).unavailable(),
        create=lambda: getattr(import_module(module), attribute)(),
    )


BACKENDS: tuple[Backend[SplatRasterizer], ...] = (
    _backend("splat_gsplat", "cuda", "relight.render.backends.splat_gsplat", "SplatGsplat"),
    _backend("splat_cpu", "cpu", "relight.render.backends.splat_cpu", "SplatCpu"),
    _backend("reference", "cpu", "relight.render.reference", "ReferenceRasterizer"),
)


MESH_BACKENDS: tuple[Backend[MeshRasterizer], ...] = (
    _backend("mesh_nvdiffrast", "cuda", "relight.render.backends.mesh_nvdiffrast", "MeshNvdiffrast"),
    _backend("mesh_pytorch3d", "cuda", "relight.render.backends.mesh_pytorch3d", "MeshPytorch3d"),
    _backend("mesh_cpu", "cpu", "relight.render.backends.mesh_cpu", "MeshCpu"),
    _backend("mesh_reference", "cpu", "relight.render.reference_mesh", "ReferenceMeshRasterizer"),
)


def first_usable(
    candidates: Sequence[AnyBackend], what: str, name: str, device: str, known: Iterable[str]
) -> AnyBackend:
    """The first of these that can run here.

    what: a kind of backend, in words.  name, device: that were asked for.  known: every name there is.
    Raises BackendUnavailableError, with each one's reason.
    """
    if not candidates:
        raise BackendUnavailableError(f"{what} {name!r}: no such {what} for {device}; known: {', '.join(known)}")
    reasons = []
    for backend in candidates:
        reason = backend.unavailable()
        if reason is None:
            return backend
        reasons.append(f"{backend.name}: {reason}")
    raise BackendUnavailableError(f"no {what} can run on {device}: {'; '.join(reasons)}; see relight doctor")


def names() -> list[str]:
    """Of every backend, ours first; imports none."""
    return [*(b.name for b in BACKENDS), *plugins.offered("backends")]


def find(name: str) -> Backend[SplatRasterizer]:
    """One of ours, or what a package offers as entry point of `relight.backends`.  Raises PluginError."""
    for backend in BACKENDS:
        if backend.name == name:
            return backend
    found = plugins.load("backends", name)
    if not isinstance(found, Backend):
        raise PluginError(f"splat backend {name!r}: its entry point must be a Backend, found {type(found).__name__}")
    return found
