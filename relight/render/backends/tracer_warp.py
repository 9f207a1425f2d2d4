"""NVIDIA Warp as a tracer.  Tested on Warp's CPU device; its CUDA device has not been tried."""

from __future__ import annotations

# pyright: reportInvalidTypeForm=false
# Kernels are annotated with values, as Warp wants it.
from functools import cache
from typing import Any

import torch
from torch import Tensor

from relight.errors import BackendUnavailableError
from relight.geometry.mesh import Mesh
from relight.render.tracing import MeshTracer


class WarpTracer(MeshTracer):
    """Warp's hierarchy and triangle test, on the mesh's device; one thread on the CPU.

    Its triangles are watertight, its boxes are not quite: of rays aimed to the last bit at a vertex or an edge of its
    boxes, some 0.3 % slip through; of a million others, none did.

    Also raises BackendUnavailableError without Warp.
    """

    devices = ("cuda", "cpu")

    def __init__(self, mesh: Mesh):
        reason = unavailable()
        if reason is not None:
            raise BackendUnavailableError(f"rays: {reason}")
        super().__init__(mesh)

    def _build(self, vertices: Tensor, faces: Tensor) -> None:
        warp = _warp()
        self._device = warp.device_from_torch(vertices.device)
        # The arrays share the tensors' memory, which they don't keep alive.
        self._held = vertices, faces
        with self._stream():
            self._mesh = warp.Mesh(warp.from_torch(vertices, dtype=warp.vec3), warp.from_torch(faces.view(-1)))

    def _blocked(self, start: Tensor, along: Tensor, length: Tensor) -> Tensor:
        hit = torch.zeros(len(start), dtype=torch.bool, device=start.device)
        self._launch(_kernels()[0], start, along, length, _warp().from_torch(hit))
        return hit

    def _nearest(self, start: Tensor, along: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        face = torch.full((len(start),), -1, dtype=torch.int32, device=start.device)
        uv = torch.zeros(len(start), 2, device=start.device)
        warp = _warp()
        self._launch(_kernels()[1], start, along, length, warp.from_torch(face), warp.from_torch(uv, dtype=warp.vec2))
        return face, uv

    def _launch(self, kernel: Any, start: Tensor, along: Tensor, length: Tensor, *outputs: Any) -> None:
        if not len(start):
            return
        warp = _warp()
        rays = [warp.from_torch(t.contiguous(), dtype=warp.vec3) for t in (start, along)]
        with self._stream():
            warp.launch(
                kernel,
                dim=len(start),
                inputs=[self._mesh.id, *rays, warp.from_torch(length.contiguous()), *outputs],
                device=self._device,
            )

    def _stream(self) -> Any:
        """Work joins PyTorch's queue, so that neither has to wait for the device."""
        warp = _warp()
        return warp.ScopedStream(warp.stream_from_torch() if self._device.is_cuda else None)


@cache
def _kernels() -> tuple[Any, Any]:
    """Any hit, and the nearest; compiled at first launch and kept in Warp's cache on disk."""
    wp = _warp()

    @wp.kernel
    def occluded(
        mesh: wp.uint64,
        start: wp.array(dtype=wp.vec3),
        along: wp.array(dtype=wp.vec3),
        length: wp.array(dtype=wp.float32),
        hit: wp.array(dtype=wp.bool),
    ):
        i = wp.tid()
        hit[i] = wp.mesh_query_ray_anyhit(mesh, start[i], along[i], length[i])

    @wp.kernel
    def nearest(
        mesh: wp.uint64,
        start: wp.array(dtype=wp.vec3),
        along: wp.array(dtype=wp.vec3),
        length: wp.array(dtype=wp.float32),
        face: wp.array(dtype=wp.int32),
        uv: wp.array(dtype=wp.vec2),
    ):
        i = wp.tid()
        found = wp.mesh_query_ray(mesh, start[i], along[i], length[i])
        if found.result:
            face[i] = found.face
            # Its u and v weigh the first two corners.
            uv[i] = wp.vec2(found.v, 1.0 - found.u - found.v)

    return occluded, nearest


@cache
def _warp() -> Any:
    import warp

    if hasattr(warp.config, "log_level"):
        warp.config.log_level = max(warp.config.log_level, warp.LOG_WARNING)
    warp.init()
    return warp


def unavailable() -> str | None:
    """Why it can't run here, or None if it can.  Doesn't start Warp, which complains about machines without CUDA."""
    try:
        import warp
    except Exception as error:  # its shared library may be missing
        return f'warp cannot be imported ({error}); pip install "relight[warp]"'
    if not hasattr(warp, "Mesh"):
        return 'what is installed as "warp" is not NVIDIA\'s; pip uninstall it, then pip install "relight[warp]"'
    return None
