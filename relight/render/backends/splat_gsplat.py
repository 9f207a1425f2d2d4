"""gsplat behind the splat protocol: 3DGS and 2DGS on an NVIDIA GPU (Ye et al., gsplat, JMLR 2025).

Written for gsplat 1.5 and 1.6.  Not exercised by this project's CI, which has no GPU: `pytest -m gpu` runs the
conformance suite where there is one.  Known differences from the twin, besides what `capabilities` says:
* absolute gradients of surfels are those of the sum over pixels, a lower bound;
* with more than 63 channels, absolute gradients see the last 64 only; surfels take 511 channels at most.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.render.protocol import Capabilities, RasterOptions, ScreenStatistics, SplatImage

CHANNELS_AT_ONCE = 64
"""What the shared memory of any GPU since 2017 has room for."""


class SplatGsplat:
    """`SplatRasterizer` over gsplat; tensors live on the GPU."""

    name = "splat_gsplat"

    def __init__(self):
        self.capabilities = Capabilities(
            device="cuda",
            median_depth=False,
            absolute_gradients=False,
            # Gradients are summed with atomics.
            deterministic=False,
            alpha_max=_alpha_max(),
            floor_on_box=True,
        )

    def rasterize(
        self, gaussians: Gaussians, camera: Camera, features: Tensor, options: RasterOptions = RasterOptions()
    ) -> SplatImage:
        """See `SplatRasterizer.rasterize`."""
        if len(gaussians) == 0:
            return _nothing(camera, features)
        arguments = {
            "means": _broken_behind(gaussians, camera),
            "quats": gaussians.quats_wxyz,
            "scales": gaussians.scales,
            "opacities": gaussians.opacities,
            "viewmats": camera.camera_from_world[None],
            "Ks": gaussians.means.new_tensor([[[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]]]),
            "width": camera.width,
            "height": camera.height,
            "near_plane": options.near,
            "render_mode": "RGB+D",
            "packed": False,
            "absgrad": True,
        }
        channels = features.shape[1]
        if gaussians.surfels:
            from gsplat import rasterization_2dgs

            # 2DGS demands one row of colours a camera, and fills up channels with uninitialised memory.
            maps, alpha, *_, meta = rasterization_2dgs(**arguments, colors=_filled_up(features)[None])
            statistics = _surfel_statistics(meta)
        else:
            from gsplat import rasterization

            maps, alpha, meta = rasterization(
                **arguments,
                colors=features[None],
                eps2d=options.low_pass,
                rasterize_mode="antialiased" if gaussians.antialiased else "classic",
                channel_chunk=CHANNELS_AT_ONCE,
            )
            statistics = _ellipsoid_statistics(meta)
        alpha = alpha[0, ..., 0]
        return SplatImage(maps[0, ..., :channels], alpha, maps[0, ..., -1], torch.zeros_like(alpha), statistics)


def unavailable() -> str | None:
    """Why gsplat can't run here, or None."""
    if not torch.cuda.is_available():
        return "needs an NVIDIA GPU that PyTorch can use"
    if find_spec("gsplat") is None:
        return "gsplat is not installed; pip install 'relight[gsplat]'"
    return None


def _alpha_max() -> float:
    try:
        from gsplat.cuda._constants import MAX_ALPHA  # since 1.6
    except ImportError:
        return 0.999
    return float(MAX_ALPHA)


def _broken_behind(gaussians: Gaussians, camera: Camera) -> Tensor:
    """(N, 3) means; those of Gaussians with NaN or infinity are at the camera, where gsplat looks no further."""
    parts = [gaussians.means, gaussians.quats_wxyz, gaussians.scales, gaussians.logit_opacity[:, None]]
    whole = torch.isfinite(torch.cat(parts, 1).detach()).all(1, keepdim=True)
    return torch.where(whole, gaussians.means, camera.position.detach())


def _filled_up(features: Tensor) -> Tensor:
    """Zero channels added until there are, with depth, as many as gsplat's 2DGS has kernels for."""
    used = features.shape[1] + 1
    return torch.nn.functional.pad(features, (0, (1 << (used - 1).bit_length()) - used if used > 4 else 0))


def _ellipsoid_statistics(meta: dict) -> ScreenStatistics:
    """gsplat leaves absolute gradients at the screen means when autograd reaches them."""
    means = meta["means2d"]
    statistics = ScreenStatistics(meta["radii"][0].amax(-1).float(), means.detach()[0])

    def keep(gradient: Tensor) -> None:
        statistics.gradients, statistics.absolute_gradients = gradient[0], means.absgrad[0]

    if means.requires_grad:
        means.register_hook(keep)
    return statistics


def _surfel_statistics(meta: dict) -> ScreenStatistics:
    """A disc is drawn from its homography, rows x, y, w; a shift of the screen by d adds d times row w to row x."""
    homography, floor = meta["ray_transforms"], meta["means2d"]
    w = homography.detach()[0, :, 2]
    statistics = ScreenStatistics(meta["radii"][0].amax(-1).float(), homography.detach()[0, :, :2, 2] / w[:, 2:])

    def add(gradient: Tensor) -> None:
        total = gradient if statistics.gradients is None else statistics.gradients + gradient
        statistics.gradients, statistics.absolute_gradients = total, total.abs()

    if homography.requires_grad:
        homography.register_hook(lambda g: add((g[0, :, :2] @ w[..., None]).squeeze(-1)))
        floor.register_hook(lambda g: add(g[0]))
    return statistics


def _nothing(camera: Camera, features: Tensor) -> SplatImage:
    # Sums of nothing, so that autograd finds its way.
    empty = features.new_zeros(camera.height, camera.width) + features.sum()
    statistics = ScreenStatistics(features.new_zeros(0), features.new_zeros(0, 2))
    statistics.gradients = statistics.absolute_gradients = features.new_zeros(0, 2)
    maps = empty[..., None].expand(-1, -1, features.shape[1])
    return SplatImage(maps, empty, empty, empty.detach(), statistics)
