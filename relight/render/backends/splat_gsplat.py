"""gsplat behind the splat protocol: 3DGS and 2DGS on an NVIDIA GPU (Ye et al., gsplat, JMLR 2025).

Not run by this project's CI, which has no GPU: `pytest -m gpu` runs the conformance suite where there is one.
Known differences from the twin: alpha is clamped at 0.999, and there is no median depth for ellipsoids.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.render.protocol import Capabilities, RasterOptions, ScreenStatistics, SplatImage


class SplatGsplat:
    """`SplatRasterizer` over gsplat; tensors live on the GPU."""

    name = "splat_gsplat"
    capabilities = Capabilities(device="cuda", median_depth=False)

    def rasterize(
        self, gaussians: Gaussians, camera: Camera, features: Tensor, options: RasterOptions = RasterOptions()
    ) -> SplatImage:
        """See `SplatRasterizer.rasterize`."""
        statistics = ScreenStatistics(gaussians.means.new_zeros(len(gaussians)), gaussians.means.new_zeros(0, 2))
        if len(gaussians) == 0:
            return _nothing(camera, features, statistics)
        arguments = {
            "means": gaussians.means,
            "quats": gaussians.quats_wxyz,
            "scales": gaussians.scales,
            "opacities": gaussians.opacities,
            "colors": features,
            "viewmats": camera.camera_from_world[None],
            "Ks": _intrinsics(camera, gaussians.means)[None],
            "width": camera.width,
            "height": camera.height,
            "near_plane": options.near,
            "render_mode": "RGB+D",
            "packed": False,
            "absgrad": True,
        }
        if gaussians.surfels:
            from gsplat import rasterization_2dgs

            maps, alpha, _, _, _, median, meta = rasterization_2dgs(**arguments)
            median = median[0, ..., 0]
        else:
            from gsplat import rasterization

            mode = "antialiased" if gaussians.antialiased else "classic"
            maps, alpha, meta = rasterization(**arguments, eps2d=options.low_pass, rasterize_mode=mode)
            median = torch.zeros_like(alpha[0, ..., 0])
        _watch(meta, statistics)
        maps = maps[0]
        return SplatImage(maps[..., :-1], alpha[0, ..., 0], maps[..., -1], median.detach(), statistics)


def unavailable() -> str | None:
    """Why gsplat can't run here, or None."""
    if not torch.cuda.is_available():
        return "needs an NVIDIA GPU that PyTorch can use"
    if find_spec("gsplat") is None:
        return "gsplat is not installed; pip install 'relight[gsplat]'"
    return None


def _intrinsics(camera: Camera, like: Tensor) -> Tensor:
    return like.new_tensor([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])


def _watch(meta: dict, statistics: ScreenStatistics) -> None:
    """Radii now; gradients when autograd reaches the screen means, where gsplat leaves the absolute ones too."""
    means, radii = meta["means2d"], meta["radii"]
    # gsplat gives one radius an axis since 1.5, one a Gaussian before.
    statistics.radii = (radii.amax(-1) if radii.ndim == 3 else radii)[0].float()
    statistics.means = means.detach()[0]

    def keep(gradient: Tensor) -> None:
        statistics.gradients = gradient[0]
        statistics.absolute_gradients = means.absgrad[0]

    if means.requires_grad:
        means.register_hook(keep)


def _nothing(camera: Camera, features: Tensor, statistics: ScreenStatistics) -> SplatImage:
    empty = features.new_zeros(camera.height, camera.width)
    return SplatImage(empty[..., None].expand(-1, -1, features.shape[1]), empty, empty, empty, statistics)
