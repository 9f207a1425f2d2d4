"""The CPU rasteriser: Numba kernels behind the splat protocol."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.render.kernels import bin as binning
from relight.render.kernels import composite, project
from relight.render.protocol import Capabilities, RasterOptions, ScreenStatistics, SplatImage


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().numpy(), dtype=np.float32)


@dataclass(frozen=True)
class _Lens:
    """The camera and options as the kernels take them."""

    lens: np.ndarray
    size: np.ndarray
    tiles_x: int
    tiles_y: int
    near: np.float32
    low_pass: np.float32
    antialiased: bool
    surfel: bool
    workers: int

    @staticmethod
    def of(camera: Camera, options: RasterOptions, gaussians: Gaussians) -> _Lens:
        return _Lens(
            lens=np.array([camera.fx, camera.fy, camera.cx, camera.cy], np.float32),
            size=np.array([camera.width, camera.height], np.float32),
            tiles_x=-(-camera.width // composite.TILE),
            tiles_y=-(-camera.height // composite.TILE),
            near=np.float32(options.near),
            low_pass=np.float32(options.low_pass),
            antialiased=gaussians.antialiased,
            surfel=gaussians.surfels,
            workers=torch.get_num_threads(),
        )

    @property
    def padded(self) -> tuple[int, int]:
        """Rows and columns of the image rounded up to whole tiles."""
        return self.tiles_y * composite.TILE, self.tiles_x * composite.TILE


class _Rasterize(torch.autograd.Function):
    """features (C planes, the last user channel followed by depth), alpha, median depth, radii, screen means."""

    @staticmethod
    def forward(ctx, means, quats, scales, opacities, features, pose, lens: _Lens, statistics: ScreenStatistics):
        n, user = features.shape
        means, quats, scales, opacities = inputs = tuple(_array(t) for t in (means, quats, scales, opacities))
        pose12 = np.concatenate([_array(pose[:3, :3]).reshape(9), _array(pose[:3, 3])])
        records = np.empty((n, composite.RECORD), np.float32)
        project.forward(
            means, quats, scales, opacities, lens.surfel, pose12, lens.lens, lens.size, lens.near, lens.low_pass,
            lens.antialiased, lens.workers, records,
        )  # fmt: skip
        packed = np.zeros((n, -(-(user + 1) // 4) * 4), np.float32)
        packed[:, :user] = features.detach().numpy()
        packed[:, user] = records[:, 10]
        order = binning.depth_order(records[:, 10].copy().view(np.uint32))
        bins = binning.bin_tiles(records, lens.surfel, order, lens.tiles_x, lens.tiles_y, lens.workers)
        hits, _, tile_start, _ = bins
        rows, columns = lens.padded
        image = np.empty((packed.shape[1], rows, columns), np.float32)
        final = np.empty((rows, columns), np.float32)
        median = np.empty((rows, columns), np.float32)
        used = np.empty(lens.tiles_x * lens.tiles_y, np.int64)
        composite.forward(
            records.reshape(-1), packed.reshape(-1), packed.shape[1], lens.surfel, hits, tile_start,
            lens.tiles_x, lens.tiles_y, lens.workers, image.reshape(-1), final.reshape(-1), median.reshape(-1), used,
        )  # fmt: skip
        ctx.saved = (inputs, pose12, records, packed, order, bins, image, final, used)
        ctx.lens, ctx.statistics, ctx.user = lens, statistics, user
        drawn = records[:, 11] > 0
        statistics.radii = torch.from_numpy(np.where(drawn, np.maximum(records[:, 3], records[:, 11]), np.float32(0)))
        statistics.means = torch.from_numpy(records[:, :2].copy())
        height, width = int(lens.size[1]), int(lens.size[0])
        planes = torch.from_numpy(image)[: user + 1, :height, :width]
        alpha = 1 - torch.from_numpy(final)[:height, :width]
        median_depth = torch.from_numpy(median)[:height, :width]
        ctx.mark_non_differentiable(median_depth)
        return planes, alpha, median_depth

    @staticmethod
    def backward(ctx, *gradients):
        planes_gradient, alpha_gradient, _ = gradients
        (means, quats, scales, opacities), pose12, records, packed, order, bins, image, final, used = ctx.saved
        hits, slots, tile_start, slot_start = bins
        lens: _Lens = ctx.lens
        n, channels = packed.shape
        height, width = planes_gradient.shape[1:]
        image_gradient = np.zeros_like(image)
        image_gradient[: ctx.user + 1, :height, :width] = planes_gradient.numpy()
        final_gradient = np.zeros_like(final)
        final_gradient[:height, :width] = alpha_gradient.numpy()
        rows = np.empty((hits.size, composite.GRADIENT + channels), np.float32)
        composite.backward(
            records.reshape(-1), packed.reshape(-1), channels, lens.surfel, hits, slots, tile_start,
            lens.tiles_x, lens.tiles_y, lens.workers, used, image.reshape(-1), final.reshape(-1),
            image_gradient.reshape(-1), final_gradient.reshape(-1), rows.reshape(-1),
        )  # fmt: skip
        g_means, g_quats, g_scales, g_opacities = out = tuple(
            np.zeros_like(a) for a in (means, quats, scales, opacities)
        )
        g_features = np.zeros((n, channels), np.float32)
        g_pose = np.zeros((lens.workers, project.POSE), np.float32)
        screen = np.zeros((n, 2), np.float32)
        screen_absolute = np.zeros((n, 2), np.float32)
        project.backward(
            means, quats, scales, opacities, lens.surfel, pose12, lens.lens, lens.size, lens.low_pass,
            lens.antialiased, records, order, slot_start, rows, ctx.user, lens.workers, g_means, g_quats, g_scales,
            g_opacities, g_features, g_pose, screen, screen_absolute,
        )  # fmt: skip
        ctx.statistics.gradients = torch.from_numpy(screen)
        ctx.statistics.absolute_gradients = torch.from_numpy(screen_absolute)
        pose_sum = g_pose.sum(0)
        pose_gradient = np.zeros((4, 4), np.float32)
        pose_gradient[:3, :3] = pose_sum[:9].reshape(3, 3)
        pose_gradient[:3, 3] = pose_sum[9:]
        means_, quats_, scales_, opacities_ = (torch.from_numpy(a) for a in out)
        features_ = torch.from_numpy(g_features[:, : ctx.user])
        return means_, quats_, scales_, opacities_, features_, torch.from_numpy(pose_gradient), None, None


class SplatCpu:
    """`SplatRasterizer` on the CPU, float32.  Deterministic: the same input gives the same bits."""

    name = "splat_cpu"
    capabilities = Capabilities(device="cpu")

    def rasterize(
        self, gaussians: Gaussians, camera: Camera, features: Tensor, options: RasterOptions = RasterOptions()
    ) -> SplatImage:
        """See `SplatRasterizer.rasterize`."""
        statistics = ScreenStatistics(torch.empty(0), torch.empty(0))
        planes, alpha, median_depth = _Rasterize.apply(
            gaussians.means, gaussians.quats_wxyz, gaussians.scales, gaussians.opacities, features,
            camera.camera_from_world, _Lens.of(camera, options, gaussians), statistics,
        )  # fmt: skip
        return SplatImage(planes[:-1].permute(1, 2, 0), alpha, planes[-1], median_depth, statistics)


def unavailable() -> str | None:
    """None: needs nothing but Numba, which is a dependency."""
    return None
