"""The Gaussians of a splat on the mesh that stands for it, where light and shadow are worked out for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from relight.fit.places import Places
from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.geometry.mesh import Mesh
from relight.render.protocol import RasterOptions, SplatRasterizer
from relight.render.proxy import Proxy
from relight.render.splats import render
from relight.render.transfer import Transfer, bake

MESH = ("vertices", "faces", "normals", "colors")


@dataclass(frozen=True)
class OnProxy:
    """points: (N, 3) places above the proxy that are nearest to N Gaussians.  normals: (N, 3) unit, the proxy's there.
    transfer: what of the light they see.
    """

    points: Tensor
    normals: Tensor
    proxy: Proxy
    transfer: Transfer

    @staticmethod
    def of(proxy: Proxy, points: Tensor, normals: Tensor, rotation: Tensor, *, seed: int) -> OnProxy:
        """rotation: see `bake`.  Not differentiated."""
        return OnProxy(points, normals, proxy, bake(proxy, points, normals, rotation, seed=seed))

    def places(self, rasterizer: SplatRasterizer, splat: Gaussians, options: RasterOptions) -> Places:
        """They are where photographs show the splat as it is now."""

        def depth(camera: Camera) -> Tensor:
            return render(rasterizer, splat, camera, options=options).median_depth

        return Places(self.points, self.normals, self.proxy, self.transfer, depth)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint needs; the rest is worked out again."""
        mesh = {f"mesh.{name}": getattr(self.proxy.mesh, name) for name in MESH}
        return {**mesh, "places": self.points, "normals": self.normals, "rotation": self.transfer.rotation}

    @staticmethod
    def restored(saved: Mapping[str, Tensor], *, seed: int) -> OnProxy | None:
        """Inverse of `state`; None if there is none."""
        if "places" not in saved:
            return None
        vertices, faces, normals, colors = (saved[f"mesh.{name}"] for name in MESH)
        proxy = Proxy(Mesh(vertices, faces, normals=normals, colors=colors))
        return OnProxy.of(proxy, saved["places"], saved["normals"], saved["rotation"], seed=seed)
