"""What the splat benchmarks draw, and how they time it."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from relight.geometry.camera import Camera
from relight.geometry.gaussians import Gaussians
from relight.render.protocol import SplatRasterizer


def random_splat(count: int, width: int, height: int, *, sigma: float = 2.0, seed: int = 0) -> tuple[Gaussians, Camera]:
    """`count` Gaussians spread over the picture, with a screen standard deviation of about `sigma` pixels."""
    generator = torch.Generator().manual_seed(seed)
    focal = float(width)
    depth = 2 + 4 * torch.rand(count, generator=generator)
    pixels = torch.rand(count, 2, generator=generator) * torch.tensor([width, height])
    center = torch.tensor([width / 2, height / 2])
    means = torch.cat([(pixels - center) / focal * depth[:, None], depth[:, None]], 1)
    spread = torch.exp(0.4 * torch.randn(count, 3, generator=generator))
    gaussians = Gaussians(
        means=means,
        quats_wxyz=torch.randn(count, 4, generator=generator),
        log_scales=((sigma / focal) * depth[:, None] * spread).log(),
        logit_opacity=torch.randn(count, generator=generator),
        sh=torch.zeros(count, 1, 3),
    )
    return gaussians, Camera(torch.eye(4), focal, focal, width / 2, height / 2, width, height)


def step(
    rasterizer: SplatRasterizer, gaussians: Gaussians, camera: Camera, channels: int, seed: int = 1
) -> Callable[[], Tensor]:
    """A function that runs forward and backward once, with gradients to every input."""
    generator = torch.Generator().manual_seed(seed)
    leaves = {name: t.clone().requires_grad_() for name, t in gaussians.tensors().items()}
    features = torch.rand(len(gaussians), channels, generator=generator).requires_grad_()
    weights = torch.rand(channels, camera.height, camera.width, generator=generator).permute(1, 2, 0)  # planar
    moved = Gaussians.from_tensors(leaves, surfels=gaussians.surfels)

    def run() -> Tensor:
        for leaf in (*leaves.values(), features):
            leaf.grad = None
        image = rasterizer.rasterize(moved, camera, features)
        loss = (image.features * weights).sum()
        loss.backward()
        return loss.detach()

    return run


def seconds(function: Callable[[], object], repeats: int = 15, warm_up: int = 2) -> list[float]:
    """Sorted wall times of `function`; the first is the quiet machine's, the middle one the usual."""
    for _ in range(warm_up):
        function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return sorted(times)
