"""Rays against a mesh: visibility and surfaces for `shade`.  Embree, through Open3D, on the CPU; Warp on CUDA."""

from __future__ import annotations

import ctypes
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relight.errors import BackendUnavailableError, ShapeError
from relight.geometry.mesh import Mesh
from relight.render.backends import first_usable
from relight.render.meshes import surface_at
from relight.shading.surface import Surface
from relight.shading.tracing import Tracer

OFFSET = 1e-4
"""Of the mesh's radius: how far along a ray its first hit may lie.  Well above float32's rounding, below detail."""


@dataclass(frozen=True)
class TracerBackend:
    """A name, the devices that "auto" takes it for, why it can't run here (None if it can), and how to make it."""

    name: str
    devices: tuple[str, ...]
    unavailable: Callable[[], str | None]
    create: Callable[[Mesh], Tracer]


def available_tracers() -> dict[str, str | None]:
    """Every tracer by name, with the reason why it can't run here, or None if it can."""
    return {tracer.name: tracer.unavailable() for tracer in TRACERS}


def create_tracer(mesh: Mesh, name: str = "auto") -> Tracer:
    """Rays against the mesh, on its device; "auto" takes the first usable tracer made for that device.

    Raises BackendUnavailableError; ShapeError for a mesh without faces, or on a device that the tracer can't use.
    """
    kind = mesh.vertices.device.type
    candidates = [t for t in TRACERS if t.name == name or (name == "auto" and kind in t.devices)]
    return first_usable(candidates, "tracer", name, kind, (t.name for t in TRACERS)).create(mesh)


class MeshTracer(ABC):
    """`relight.shading.Tracer` over a mesh as it is now; make another after the mesh has moved.

    The hit surface's material is looked up at full texture resolution, both sides of
    faces are hit, and masked or blending alpha blocks like the rest.  Not differentiated in positions; the surface that
    `trace` returns is, in material values.

    Raises ShapeError for a mesh without faces or on another device than `devices`.
    """

    devices: tuple[str, ...]

    def __init__(self, mesh: Mesh):
        if mesh.vertices.device.type not in self.devices or not len(mesh.faces):
            found = f"{len(mesh.faces)} faces on {mesh.vertices.device}"
            wanted = f"a mesh with faces on {' or '.join(self.devices)}"
            raise ShapeError(f"{type(self).__name__}: expected {wanted}, found {found}; Mesh.to moves it")
        self.mesh = mesh
        vertices = mesh.vertices.detach().float()
        used = vertices[mesh.faces.long().flatten()]
        low, high = used.min(0).values, used.max(0).values
        self._center, self._radius = (low + high) / 2, float((high - low).norm()) / 2
        self._offset = OFFSET * self._radius
        self._build(vertices.contiguous(), mesh.faces.to(torch.int32).contiguous())

    def occluded(self, origins: Tensor, directions: Tensor, far: Tensor) -> Tensor:
        """See `Tracer.occluded`.  What is closer to an end than the offset doesn't count: both may lie on surfaces."""
        with torch.no_grad():
            start, along = self._leave(origins, directions)
            length = torch.minimum(far.float() - 2 * self._offset, self._reach(start))
            return self._blocked(start, along, length) & (length > 0)

    def trace(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Surface]:
        """See `Tracer.trace`.  Where nothing is hit the surface is 0."""
        face, weights = self.nearest(origins, directions, torch.full_like(origins[:, 0], math.inf))
        hits = face >= 0
        index = hits.nonzero()[:, 0]
        weights = weights[index].to(self.mesh.vertices.dtype)
        surface, _ = surface_at(self.mesh, face[index], weights, origins[index].to(weights))
        count = len(origins)
        return hits, surface.map(lambda t: t.new_zeros(count, *t.shape[1:]).index_copy(0, index, t))

    def nearest(self, origins: Tensor, directions: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
        """For rays as of `occluded`: (N,) int64, the first face that each hits, -1 for none; (N, 3) weights of its
        corners, anything where there is none.  Not differentiated."""
        with torch.no_grad():
            start, along = self._leave(origins, directions)
            length = torch.minimum(far.float() - 2 * self._offset, self._reach(start))
            face, uv = self._nearest(start, along, length)
            face = torch.where(length > 0, face.long(), -1)
            return face, torch.cat([1 - uv.sum(1, keepdim=True), uv], 1)

    def _leave(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        along = directions.float()
        return (origins.float() + self._offset * along).contiguous(), along.contiguous()

    def _reach(self, start: Tensor) -> Tensor:
        """(N,) lengths beyond which there is nothing to hit, whatever the direction."""
        return (start - self._center).norm(dim=-1) + 2 * self._radius

    @abstractmethod
    def _build(self, vertices: Tensor, faces: Tensor) -> None:
        """From contiguous (V, 3) float32 and (F, 3) int32."""

    @abstractmethod
    def _blocked(self, start: Tensor, along: Tensor, length: Tensor) -> Tensor:
        """(N,) bool: whether rays, all contiguous float32, hit anything within `length`; anything if it is negative."""

    @abstractmethod
    def _nearest(self, start: Tensor, along: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) integer index of the first face hit within `length`, -1 if none; (N, 2) weights of its corners 1, 2."""


class EmbreeTracer(MeshTracer):
    """Embree through Open3D, on all cores of the CPU; watertight.

    Also raises BackendUnavailableError without Open3D.
    """

    devices = ("cpu",)

    def _build(self, vertices: Tensor, faces: Tensor) -> None:
        reason = unavailable()
        if reason is not None:
            raise BackendUnavailableError(f"rays: {reason}")
        open3d = load_open3d()
        # Its stubs know no arrays.
        self._tensor: Any = open3d.core.Tensor
        self._scene: Any = open3d.t.geometry.RaycastingScene(nthreads=torch.get_num_threads())
        self._scene.add_triangles(self._tensor(vertices.numpy()), self._tensor(faces.numpy().astype(np.uint32)))

    def _blocked(self, start: Tensor, along: Tensor, length: Tensor) -> Tensor:
        # Its rays end where one number for all says; so each gets its direction's length.
        rays = torch.cat([start, along * length[:, None]], 1)
        shared = self._tensor.from_numpy(rays.numpy())
        return torch.from_numpy(self._scene.test_occlusions(shared, tnear=0.0, tfar=1.0).numpy())

    def endless_blocked(self, rays: Tensor) -> Tensor:
        """(N,) bool: `occluded` of (N, 6) contiguous float32 rays without end, origin and direction side by side."""
        shared = self._tensor.from_numpy(rays.numpy())
        return torch.from_numpy(self._scene.test_occlusions(shared, tnear=self._offset, tfar=math.inf).numpy())

    def _nearest(self, start: Tensor, along: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        rays = torch.cat([start, along], 1).numpy()
        found = self._scene.cast_rays(self._tensor.from_numpy(rays))
        hits = found["t_hit"].numpy() <= length.numpy()
        face = np.where(hits, found["primitive_ids"].numpy().astype(np.int64), -1)
        return torch.from_numpy(face), torch.from_numpy(found["primitive_uvs"].numpy())

    def closest(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3) nearest places on the mesh to (N, 3) points; (N,) their faces; (N, 3) weights of the faces' corners.

        Not differentiated.
        """
        found = self._scene.compute_closest_points(self._tensor(points.detach().float().contiguous().numpy()))
        uv = torch.from_numpy(found["primitive_uvs"].numpy())
        face = torch.from_numpy(found["primitive_ids"].numpy().astype(np.int64))
        return torch.from_numpy(found["points"].numpy()), face, torch.cat([1 - uv.sum(1, keepdim=True), uv], 1)


class Glowing:
    """`relight.shading.tracing.RadianceTracer` over a mesh whose surface sends (V, 3) linear radiance, given for its
    vertices, in all directions alike.
    """

    def __init__(self, tracer: MeshTracer, radiance: Tensor):
        if radiance.shape != tracer.mesh.vertices.shape:
            raise ShapeError.expected("radiance", str(tuple(tracer.mesh.vertices.shape)), tuple(radiance.shape))
        self.tracer = tracer
        self._corners = radiance.detach().float()[tracer.mesh.faces.long()]

    def occluded(self, origins: Tensor, directions: Tensor, far: Tensor) -> Tensor:
        """See `Tracer.occluded`."""
        return self.tracer.occluded(origins, directions, far)

    def trace(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Surface]:
        """See `Tracer.trace`."""
        return self.tracer.trace(origins, directions)

    def incoming(self, origins: Tensor, directions: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
        """See `RadianceTracer.incoming`."""
        face, weights = self.tracer.nearest(origins, directions, far)
        hits = face >= 0
        index = hits.nonzero()[:, 0]
        found = torch.einsum("nck,nc->nk", self._corners[face[index]], weights[index])
        return hits, torch.zeros_like(directions).index_copy(0, index, found.to(directions))


def unavailable() -> str | None:
    """Why Embree can't be used here, or None if it can."""
    try:
        load_open3d()
    except Exception as error:  # its shared libraries may be missing
        return f'open3d cannot be imported ({error}); pip install "relight[mesh]", on Linux also libGL and libX11'
    return None


def load_open3d() -> Any:
    """Open3D, after our own threads have started.  Raises ImportError and what else its libraries raise."""
    from relight.render import kernels

    kernels.start_threads()
    try:
        # Open3D links to the USB library of a camera driver that we never call and that fresh machines lack; one that
        # has been loaded under the same name satisfies it.
        libusb_package = import_module("libusb_package")
        ctypes.CDLL(str(libusb_package.get_library_path()), mode=ctypes.RTLD_GLOBAL)
    except (ImportError, OSError):
        pass  # the system's own, or the error of the import below
    import open3d

    return open3d


def _warp(attribute: str) -> Any:
    """Of a module that is imported only when somebody asks for it."""
    return getattr(import_module("relight.render.backends.tracer_warp"), attribute)


TRACERS: tuple[TracerBackend, ...] = (
    TracerBackend("embree", ("cpu",), unavailable, EmbreeTracer),
    TracerBackend("warp", ("cuda", "cpu"), lambda: _warp("unavailable")(), lambda mesh: _warp("WarpTracer")(mesh)),
)
"""In order of preference."""
